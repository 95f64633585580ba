package lag

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkTracker measures one change of a Pod together with its publication in both APIs: three events. The cost must
// not depend on how many Pods and Services there are.
func BenchmarkTracker(b *testing.B) {
	for _, services := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("%d services of 10 pods", services), func(b *testing.B) {
			tr := NewTracker(Options{})
			ready := make([][]Address, services)
			labels := make([]map[string]string, services)
			for i := range services {
				name := fmt.Sprint("s", i)
				labels[i] = map[string]string{"app": name, "tier": "web"}
				tr.SetService(Service{Namespace: "ns", Name: name, Selector: labels[i]}, epoch)
				for j := range 10 {
					uid := fmt.Sprintf("%s-%d", name, j)
					ready[i] = append(ready[i], Address{uid, "10.0.0.1"})
					tr.SetPod(benchPod(uid, labels[i], true), epoch)
				}
				tr.SetSlice(Slice{Namespace: "ns", Name: name, Service: name, Ready: ready[i]}, epoch)
				tr.SetEndpoints(Endpoints{Namespace: "ns", Name: name, Ready: ready[i]}, epoch)
			}
			tr.Synced(epoch)
			b.ReportAllocs()
			now := epoch
			n := 0
			for b.Loop() {
				i, isReady := n/2%services, n%2 == 1
				n++
				name := fmt.Sprint("s", i)
				shown := ready[i]
				if !isReady {
					shown = shown[1:]
				}
				now = now.Add(time.Millisecond)
				tr.SetPod(benchPod(ready[i][0].PodUID, labels[i], isReady), now)
				tr.SetSlice(Slice{Namespace: "ns", Name: name, Service: name, Ready: shown}, now)
				tr.SetEndpoints(Endpoints{Namespace: "ns", Name: name, Ready: shown}, now)
			}
			b.ReportMetric(3*float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkSummary measures a full window.
func BenchmarkSummary(b *testing.B) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), epoch)
	tr.Synced(epoch)
	for i := range DefaultCapacity {
		tr.SetPod(web("a", func(p *Pod) { p.Ready = i%2 == 0 }), at(float64(i)/100))
		tr.SetSlice(webSlice("s", map[bool][]Address{true: {shown("a")}}[i%2 == 0]...), at(float64(i)/100+0.005))
	}
	for b.Loop() {
		tr.Summary(Query{Now: at(1e6)})
	}
}

func benchPod(uid string, labels map[string]string, ready bool) Pod {
	return Pod{
		Namespace: "ns", Name: uid, UID: uid, Labels: labels, IPs: []string{"10.0.0.1"}, Ready: ready, Included: true,
	}
}
