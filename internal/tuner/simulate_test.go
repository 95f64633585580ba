package tuner

import (
	"math"
	"slices"
	stdsync "sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// facts.md §4: lag(u) = (u·N - b)/qps - u·T for N changes spread over T.
func TestTheModelGivesTheFormulaOfALimitedBacklog(t *testing.T) {
	got := Predict(incident(1000, 5*time.Second), v1alpha1.DefaultFlags(), Parameters{Base: 5 * time.Millisecond})
	for _, tt := range []struct {
		name      string
		got, want time.Duration
	}{
		{"p50", got.EndpointSlices.P50, 21100 * time.Millisecond},
		{"p99", got.EndpointSlices.P99, 43100 * time.Millisecond},
		{"p99 of Endpoints", got.Endpoints.P99, 43100 * time.Millisecond},
	} {
		if off := (tt.got - tt.want).Abs(); off > tt.want/100 {
			t.Errorf("%s = %v, want %v within 1 %%", tt.name, tt.got, tt.want)
		}
	}
}

func TestTheModelGivesTheFormulaOfBusyWorkers(t *testing.T) {
	// Five workers at 40 ms a write serve 125 Services a second.
	got := Predict(incident(1000, time.Millisecond), flagsOf(1000, 2000, 5, 5), Parameters{Base: 40 * time.Millisecond})
	if want := 990 * time.Second / 125; (got.EndpointSlices.P99 - want).Abs() > want/100 {
		t.Errorf("p99 = %v, want %v within 1 %%", got.EndpointSlices.P99, want)
	}
}

func TestASaturatedServerTakesItsCapacity(t *testing.T) {
	model := Parameters{Base: time.Millisecond, Capacity: 400}
	r := newReplay(incident(1000, time.Millisecond), model, start)
	r.run(flagsOf(1000, 2000, 50, 50))
	// 1,000 Pods at half a write, and a write in either API.
	if want := 2500.0 / 400; math.Abs(r.sim.now-want) > want/10 {
		t.Errorf("all is published after %.2f s, want %.2f s within 10 %%", r.sim.now, want)
	}
}

func TestWhoWaitsForTheServerIsSlowedDownByIt(t *testing.T) {
	recorded := incident(1000, 2*time.Second)
	model := Parameters{Base: 5 * time.Millisecond, Capacity: 450, PodLatency: 60 * time.Millisecond, Writers: 32}
	waiting, paced := newReplay(recorded, model, start), newReplay(recorded, model.paced(), start)
	waiting.run(flagsOf(300, 325, 50, 50))
	paced.run(flagsOf(300, 325, 50, 50))
	if slow, fast := waiting.sim.changed[999], paced.sim.changed[999]; slow <= fast {
		t.Errorf("the last Pod changes after %.2f s where its writer waits for the server, %.2f s where it does not", slow, fast)
	}
	if waiting.worst(0.99) >= paced.worst(0.99) {
		t.Errorf("p99 = %.2f s where writers wait, %.2f s where they do not, want less", waiting.worst(0.99), paced.worst(0.99))
	}
}

func TestAServiceIsNeverInTwoHands(t *testing.T) {
	d := incident(100, 100*time.Millisecond)
	for i := range d.Changes {
		d.Changes[i].Service = 0
	}
	// One Service, 100 changes, 50 ms a write: the first write shows one change, the next all that came meanwhile.
	r := newReplay(d, Parameters{Base: 50 * time.Millisecond}, start)
	r.run(flagsOf(1000, 1000, 50, 50))
	if got := r.sim.kcm[sliceAPI].totals.syncs; got > 4 {
		t.Errorf("%d syncs of one Service within 150 ms at 50 ms each, want at most 4", got)
	}
	for i, late := range r.sim.lag[sliceAPI] {
		if late > 0.101 {
			t.Errorf("lag of change %d = %.3f s, want at most two writes", i, late)
		}
	}
}

// TestTheModelAgreesWithTheRealLimiterAndQueue replays demand through client-go's own limiter and work queue in virtual
// time.
func TestTheModelAgreesWithTheRealLimiterAndQueue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(50, 400).Draw(rt, "changes")
		d := scattered(rapid.Uint64().Draw(rt, "seed"), n, rapid.IntRange(1, n).Draw(rt, "services"),
			time.Duration(rapid.IntRange(1, 20_000).Draw(rt, "milliseconds"))*time.Millisecond)
		f := flagsOf(rapid.Int32Range(1, 300).Draw(rt, "qps"), rapid.Int32Range(1, 300).Draw(rt, "burst"), 5,
			rapid.Int32Range(1, 50).Draw(rt, "workers"))
		latency := time.Duration(rapid.IntRange(1, 200).Draw(rt, "latency")) * time.Millisecond
		r := newReplay(d, Parameters{Base: latency}, start)
		r.run(f)
		var want []float64
		synctest.Test(t, func(*testing.T) { want = realLags(r.trace.arrivals, f, latency) })
		got := slices.Clone(r.sim.lag[sliceAPI])
		for _, p := range []float64{0.5, 0.9, 0.99, 1} {
			g, w := quantile(got, p), quantile(want, p)
			if math.Abs(g-w) > max(0.01*w, 0.002) {
				rt.Fatalf("p%g = %.4f s, the real ones give %.4f s", 100*p, g, w)
			}
		}
	})
}

// realLags is the lag of each arrival with one controller's workers over the real queue and limiter.
func realLags(arrivals []arrival, f v1alpha1.Flags, latency time.Duration) []float64 {
	queue := workqueue.NewTyped[int32]()
	limiter := flowcontrol.NewTokenBucketRateLimiter(float32(f.KubeAPIQPS), int(f.KubeAPIBurst))
	lags := make([]float64, len(arrivals))
	var mu stdsync.Mutex
	open := map[int32][]int{}
	wall := clock.RealClock{} // of the bubble: virtual
	epoch := wall.Now()
	var workers stdsync.WaitGroup
	for range f.ConcurrentServiceEndpointSyncs {
		workers.Go(func() {
			for {
				service, shutdown := queue.Get()
				if shutdown {
					return
				}
				mu.Lock()
				changes := open[service]
				open[service] = nil
				mu.Unlock()
				limiter.Accept()
				wall.Sleep(latency)
				for _, i := range changes {
					lags[i] = wall.Since(epoch).Seconds() - arrivals[i].at
				}
				queue.Done(service)
			}
		})
	}
	for i, a := range arrivals {
		wall.Sleep(time.Duration(a.at*1e9) - wall.Since(epoch))
		mu.Lock()
		open[a.service] = append(open[a.service], i)
		mu.Unlock()
		queue.Add(a.service)
	}
	queue.ShutDownWithDrain()
	workers.Wait()
	return lags
}
