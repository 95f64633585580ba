package tuner

import (
	"slices"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// margin is the part of the objective that is kept in reserve: a model that is right within 15 to 20 % then chooses
	// settings that meet it.
	margin = 0.20

	// plateau is how much worse than the best reachable lag a setting may be where the objective is out of reach: beyond
	// that point more requests buy nothing that could be measured.
	plateau = 0.03

	// refillSeconds is how long a bucket may take to fill again: a setting that needs longer helps once.
	refillSeconds = 60

	// stallSeconds of QPS is the least burst: tokens that arrive while the API server stalls for so long are not lost.
	stallSeconds = 1

	// steadyHeadroom is the least ratio of QPS to the rate of writes that the recording shows sustained.
	steadyHeadroom = 1.25

	// workersHeadroom is what is added to the fewest workers that do: they are nearly free, and write latency under a
	// rate that was never seen is the least certain number here.
	workersHeadroom = 1.3
)

// space is what a search may choose from: for each flag a closed range. low == high fixes a flag.
type space struct {
	low, high v1alpha1.Flags
}

// spaceWithin is what the bounds and the compiled-in limits leave above the running flags. A flag without a bound stays
// as it runs; a bounded one is never lowered, unless it runs above its bound.
func spaceWithin(b v1alpha1.Bounds, running v1alpha1.Flags) space {
	s := space{low: running, high: running}
	limit := func(low, high *int32, bottom, top, most int32) {
		if top == 0 {
			return
		}
		*high = min(top, most)
		*low = min(max(*low, bottom, 1), *high)
	}
	limit(&s.low.KubeAPIQPS, &s.high.KubeAPIQPS, b.KubeAPIQPS.Min, b.KubeAPIQPS.Max, v1alpha1.MaxKubeAPIQPS)
	limit(&s.low.KubeAPIBurst, &s.high.KubeAPIBurst, b.KubeAPIBurst.Min, b.KubeAPIBurst.Max, v1alpha1.MaxKubeAPIBurst)
	limit(&s.low.ConcurrentEndpointSyncs, &s.high.ConcurrentEndpointSyncs,
		b.ConcurrentEndpointSyncs.Min, b.ConcurrentEndpointSyncs.Max, v1alpha1.MaxWorkers)
	limit(&s.low.ConcurrentServiceEndpointSyncs, &s.high.ConcurrentServiceEndpointSyncs,
		b.ConcurrentServiceEndpointSyncs.Min, b.ConcurrentServiceEndpointSyncs.Max, v1alpha1.MaxWorkers)
	return s
}

// limits is the space that only the compiled-in limits bound.
func limits() v1alpha1.Bounds {
	return v1alpha1.Bounds{
		KubeAPIQPS:                     v1alpha1.QPSBound{Min: 1, Max: v1alpha1.MaxKubeAPIQPS},
		KubeAPIBurst:                   v1alpha1.BurstBound{Min: 1, Max: v1alpha1.MaxKubeAPIBurst},
		ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 1, Max: v1alpha1.MaxWorkers},
		ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 1, Max: v1alpha1.MaxWorkers},
	}
}

// choice is what a search found.
type choice struct {
	flags v1alpha1.Flags
	// lag at the percentile in the worst row, in seconds.
	lag float64
}

// search finds the cheapest setting of the space under which the recorded demand meets maxLag, in seconds, with margin;
// where even the best setting does not, the cheapest one that is as good as the best. The target that decides is a
// nondecreasing function of maxLag, and so a looser objective never costs more.
func (r *replay) search(s space, percentile, maxLag float64) choice {
	r.run(s.high)
	target := max(maxLag*(1-margin), r.worst(percentile)*(1+plateau))
	best, bestCost := s.high, Cost(s.high)
	for _, qps := range steps(max(s.low.KubeAPIQPS, min(r.steadyQPS(), s.high.KubeAPIQPS)), s.high.KubeAPIQPS) {
		f := s.high
		f.KubeAPIQPS = qps
		low := min(max(s.low.KubeAPIBurst, stallSeconds*qps), s.high.KubeAPIBurst)
		f.KubeAPIBurst = low
		if Cost(f) >= bestCost {
			break // QPS only rises from here on
		}
		bursts := steps(low, max(low, min(s.high.KubeAPIBurst, refillSeconds*qps)))
		i, _ := slices.BinarySearchFunc(bursts, true, func(burst int32, _ bool) int {
			f.KubeAPIBurst = burst
			if r.meets(f, percentile, target) {
				return 0
			}
			return -1
		})
		if i == len(bursts) {
			continue
		}
		f.KubeAPIBurst = bursts[i]
		if cost := Cost(f); cost < bestCost {
			best, bestCost = f, cost
		}
	}
	best = r.fewestWorkers(best, s, percentile, target)
	r.run(best)
	return choice{flags: best, lag: r.worst(percentile)}
}

// fewestWorkers lowers the worker counts of a setting as far as it still meets the target, and adds headroom. Both
// controllers get the same count where the space allows: they do the same work on the same Services.
func (r *replay) fewestWorkers(f v1alpha1.Flags, s space, percentile, target float64) v1alpha1.Flags {
	counts := steps(1, v1alpha1.MaxWorkers)
	i, _ := slices.BinarySearchFunc(counts, true, func(count int32, _ bool) int {
		if r.meets(s.withWorkers(f, count), percentile, target) {
			return 0
		}
		return -1
	})
	if i == len(counts) {
		return f
	}
	return s.withWorkers(f, int32(workersHeadroom*float64(counts[i])+0.999))
}

// withWorkers gives both controllers so many workers, as far as the space allows.
func (s space) withWorkers(f v1alpha1.Flags, count int32) v1alpha1.Flags {
	f.ConcurrentEndpointSyncs = clamp(count, s.low.ConcurrentEndpointSyncs, s.high.ConcurrentEndpointSyncs)
	f.ConcurrentServiceEndpointSyncs =
		clamp(count, s.low.ConcurrentServiceEndpointSyncs, s.high.ConcurrentServiceEndpointSyncs)
	return f
}

// steadyQPS is the QPS that the recording needs in the long run, with headroom: the busier controller's writes in the
// run before, over the length of the recording but at least five minutes, so that one episode is not taken for a rate.
func (r *replay) steadyQPS() int32 {
	syncs := max(r.sim.kcm[sliceAPI].signals.Syncs, r.sim.kcm[endpointsAPI].signals.Syncs)
	return int32(steadyHeadroom * float64(syncs) / max(r.end, 300))
}

// steps is the grid of values from low to high, both included: round numbers, at most about 5 % apart from 20 on.
func steps(low, high int32) []int32 {
	out := []int32{low}
	for v := low; v < high; {
		step := int32(1)
		for _, s := range []int32{2, 5, 10, 20, 50} {
			if v >= 20*s {
				step = s
			}
		}
		v = min((v/step+1)*step, high)
		out = append(out, v)
	}
	return out
}
