package kcm

import (
	"cmp"
	"math"
	"slices"
	stdsync "sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// TestTheModelAgreesWithTheRealLimiterAndQueue replays demand through client-go's own limiter, delaying work queue and
// retries in virtual time, with the syncs of the EndpointSlice controller: batch period, several writes, stale caches.
func TestTheModelAgreesWithTheRealLimiterAndQueue(t *testing.T) {
	worst := 0.0
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(50, 400).Draw(rt, "changes")
		trace := scattered(rapid.Uint64().Draw(rt, "seed"), n, rapid.IntRange(1, n).Draw(rt, "services"),
			rapid.Float64Range(0.001, 20).Draw(rt, "seconds"))
		flags := flagsOf(rapid.Int32Range(1, 300).Draw(rt, "qps"), rapid.Int32Range(1, 300).Draw(rt, "burst"), 5,
			rapid.Int32Range(1, 50).Draw(rt, "workers"))
		model := Parameters{
			Base:       time.Duration(rapid.IntRange(1, 200).Draw(rt, "latency")) * time.Millisecond,
			Writes:     [APIs]float64{EndpointSlices: float64(rapid.IntRange(1, 2).Draw(rt, "writes"))},
			Batch:      [APIs]time.Duration{EndpointSlices: time.Duration(rapid.SampledFrom([]int{0, 0, 100, 500}).Draw(rt, "batch")) * time.Millisecond},
			CacheDelay: time.Duration(rapid.SampledFrom([]int{0, 0, 5, 40}).Draw(rt, "cache")) * time.Millisecond,
		}
		var s Simulation
		s.Start(trace, flags, model)
		s.kcm[EndpointSlices].backOffBase = offRaster.Seconds()
		s.Run()
		got := s.Lags(EndpointSlices)
		var want []float64
		synctest.Test(t, func(*testing.T) { want = genuine{trace: trace, flags: flags, model: model}.lags() })
		for _, p := range []float64{0.5, 0.9, 0.99, 1} {
			g, w := percentile(got, p), percentile(want, p)
			worst = max(worst, math.Abs(g-w)/max(w, 0.2))
			if math.Abs(g-w) > max(0.01*w, 0.002) {
				rt.Fatalf("p%g = %.4f s, the real ones give %.4f s", 100*p, g, w)
			}
		}
	})
	t.Logf("largest difference from the real limiter and queue: %.2f %%", 100*worst)
}

// offRaster is the first wait of a retry on both sides: a second and a little, because tokens come at a raster that any
// whole second is on, and which of two things that happen at one instant comes first is nobody's to say.
const offRaster = time.Second + 730*time.Microsecond

// genuine is the EndpointSlice controller over client-go's limiter and queue, with a server that takes a fixed time.
type genuine struct {
	trace *Trace
	flags v1alpha1.Flags
	model Parameters
}

// lags is the lag of each arrival. It must run in a bubble of synctest.
func (g genuine) lags() []float64 {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedMaxOfRateLimiter(
		workqueue.NewTypedItemExponentialFailureRateLimiter[int32](offRaster, 1000*time.Second),
		&workqueue.TypedBucketRateLimiter[int32]{Limiter: rate.NewLimiter(rate.Limit(10), 100)},
	))
	limiter := flowcontrol.NewTokenBucketRateLimiter(float32(g.flags.KubeAPIQPS), int(g.flags.KubeAPIBurst))
	lags := make([]float64, len(g.trace.Arrivals))
	wall := clock.RealClock{} // of the bubble: virtual
	epoch := wall.Now()
	var mu stdsync.Mutex
	open, fresh, left := map[int32][]int{}, map[int32]time.Time{}, len(lags)
	sync := func(service int32) (stale bool) {
		mu.Lock()
		changes := open[service]
		stale = wall.Now().Before(fresh[service])
		if !stale {
			delete(open, service)
		}
		mu.Unlock()
		if stale || len(changes) == 0 {
			return stale
		}
		for range int(max(1, g.model.Writes[EndpointSlices])) {
			limiter.Accept()
			wall.Sleep(g.model.Base)
		}
		mu.Lock()
		defer mu.Unlock()
		fresh[service] = wall.Now().Add(g.model.CacheDelay)
		for _, i := range changes {
			lags[i] = wall.Since(epoch).Seconds() - g.trace.Arrivals[i].At
		}
		left -= len(changes)
		return false
	}
	var workers stdsync.WaitGroup
	for range g.flags.ConcurrentServiceEndpointSyncs {
		workers.Go(func() {
			for {
				service, shutdown := queue.Get()
				if shutdown {
					return
				}
				if sync(service) {
					queue.AddRateLimited(service)
				} else {
					queue.Forget(service)
				}
				queue.Done(service)
			}
		})
	}
	for i, a := range g.trace.Arrivals {
		wall.Sleep(time.Duration(a.At*1e9) - wall.Since(epoch))
		mu.Lock()
		open[a.Service] = append(open[a.Service], i)
		mu.Unlock()
		queue.AddAfter(a.Service, g.model.Batch[EndpointSlices])
	}
	for published := false; !published; {
		wall.Sleep(time.Second)
		mu.Lock()
		published = left == 0
		mu.Unlock()
	}
	queue.ShutDown()
	workers.Wait()
	return lags
}

// TestArrivalsAreInOrder guards what both sides of the comparison rest on.
func TestArrivalsAreInOrder(t *testing.T) {
	trace := scattered(1, 1000, 10, 5)
	if !slices.IsSortedFunc(trace.Arrivals, func(a, b Arrival) int { return cmp.Compare(a.At, b.At) }) {
		t.Error("scattered arrivals are not in order of time")
	}
}
