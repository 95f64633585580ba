package tuner

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// aDay is a day of a busy cluster: churn all the time, and rolling updates of all sizes.
func aDay(seed uint64) lag.Demand {
	const services = 10_000
	random := rand.New(rand.NewPCG(seed, 0))
	d := lag.Demand{Start: start}
	add := func(at time.Duration, service int32) {
		d.Changes = append(d.Changes, lag.Change{
			At: at, Service: service, Direction: []lag.Direction{lag.DirectionAddition, lag.DirectionRemoval}[random.IntN(2)], SliceClass: lag.Closed, EndpointsClass: lag.Closed,
		})
	}
	for range 20_000 {
		add(time.Duration(random.Int64N(int64(24*time.Hour))), random.Int32N(services))
	}
	for range 60 {
		at, over := time.Duration(random.Int64N(int64(24*time.Hour))), time.Duration(1+random.IntN(60))*time.Second
		for range 50 + random.IntN(900) {
			add(at+time.Duration(random.Int64N(int64(over))), random.Int32N(services))
		}
	}
	slices.SortFunc(d.Changes, func(a, b lag.Change) int { return int(a.At - b.At) })
	d.Changes = d.Changes[:min(len(d.Changes), lag.MaxDemand)]
	return d
}

// BenchmarkSizingForADay is a decision on a day of demand: calibrated, replayed, and the cheapest of all settings found.
func BenchmarkSizingForADay(b *testing.B) {
	w := world{demand: aDay(1), flags: v1alpha1.DefaultFlags(), truth: Parameters{Base: 8 * time.Millisecond, Capacity: 800}}
	e := w.evidence()
	space := spaceWithin(boundsTo(1000, 2000, 50), e.Flags)
	settings := len(steps(space.low.KubeAPIQPS, space.high.KubeAPIQPS)) * len(steps(space.low.KubeAPIBurst, space.high.KubeAPIBurst)) *
		len(steps(space.low.ConcurrentEndpointSyncs, space.high.ConcurrentEndpointSyncs))
	b.ReportMetric(float64(len(e.Demand.Changes)), "changes")
	b.ReportMetric(float64(settings), "settings")
	b.ResetTimer()
	for b.Loop() {
		s := newSizing(e, w.truth, objectiveOf(2*time.Second))
		found := s.cheapest(space)
		if found.lag > 2 {
			b.Fatalf("%v gives %.2f s", found.flags, found.lag)
		}
	}
}

// BenchmarkReplay is the model alone: an incident of 10,000 changes.
func BenchmarkReplay(b *testing.B) {
	r := newReplay(incident(10_000, 30*time.Second), Parameters{Base: 8 * time.Millisecond, Capacity: 800}, start)
	for b.Loop() {
		r.run(flagsOf(300, 325, 20, 20))
	}
}
