package lag

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// podsPerService is the size of the Services in benchmarks: 150,000 Pods make 10,000.
const podsPerService = 15

// shopper is a Service of a benchmark with everything that is told of it.
type shopper struct {
	pods      []Pod
	slice     [2]Slice // without and with the first Pod
	endpoints [2]Endpoints
}

// BenchmarkTracker measures one change of a Pod together with its publication in both APIs: three events. The cost does
// not depend on how many Pods and Services there are, but on how many of them change: what the processor's caches hold.
func BenchmarkTracker(b *testing.B) {
	for _, services := range []int{667, 3_333, 10_000} {
		for _, changing := range []int{100, services} {
			b.Run(fmt.Sprintf("pods=%d/changing=%d", services*podsPerService, changing*podsPerService), func(b *testing.B) {
				benchmarkChanges(b, services, changing)
			})
		}
	}
}

func benchmarkChanges(b *testing.B, services, changing int) {
	b.Helper()
	tr, all := NewTracker(Options{}), make([]shopper, services)
	for i := range all {
		all[i] = newShopper(i)
	}
	told := heap()
	for i := range all {
		all[i].tell(tr)
	}
	tr.Synced(epoch)
	perPod := float64(heap()-told) / float64(services*podsPerService)
	b.ReportAllocs()
	now, n := epoch, 0
	for b.Loop() {
		s, ready := &all[n/2%changing*(services/changing)], n%2
		n++
		now = now.Add(time.Millisecond)
		s.pods[0].Ready = ready == 1
		tr.SetPod(s.pods[0], now)
		tr.SetSlice(s.slice[ready], now)
		tr.SetEndpoints(s.endpoints[ready], now)
	}
	b.ReportMetric(3*float64(n)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(perPod, "B/pod")
}

// heap is the number of bytes in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func newShopper(i int) shopper {
	name := fmt.Sprintf("service-%d", i)
	labels := LabelsOf(map[string]string{"app": name, "tier": "web", "pod-template-hash": "5d4f8c7b9"})
	var s shopper
	var ready []Address
	for j := range podsPerService {
		p := Pod{
			Namespace: "ns", Name: fmt.Sprintf("%s-%d", name, j), Labels: labels, Node: "node", Ready: true, Included: true,
		}
		binary.BigEndian.PutUint64(p.UID[:], uint64(i*podsPerService+j)*0x9e3779b97f4a7c15)
		p.IPs[0] = ParseIP(fmt.Sprintf("10.%d.%d.%d", i>>12, i>>4&255, (i&15)<<4+j))
		s.pods = append(s.pods, p)
		ready = append(ready, Address{p.UID, p.IPs[0]})
	}
	for shown, addresses := range [][]Address{ready[1:], ready} {
		s.slice[shown] = Slice{Namespace: "ns", Name: name + "-x7k2p", Service: name, Ready: addresses}
		s.endpoints[shown] = Endpoints{Namespace: "ns", Name: name, Ready: addresses}
	}
	return s
}

// tell tells the tracker of everything, published as wanted.
func (s *shopper) tell(tr *Tracker) {
	service := s.slice[1].Service
	tr.SetNode("node", epoch)
	tr.SetService(Service{Namespace: "ns", Name: service, Selector: appIs(service)}, epoch)
	for _, p := range s.pods {
		tr.SetPod(p, epoch)
	}
	tr.SetSlice(s.slice[1], epoch)
	tr.SetEndpoints(s.endpoints[1], epoch)
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
		tr.Summary(Query{Now: at(1e6), Worst: 10})
	}
}
