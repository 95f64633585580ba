package tuner

import (
	"math"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
)

const (
	// margin is the part of the objective that is kept in reserve: a model that is right within 15 to 20 % then chooses
	// settings that meet it.
	margin = 0.20

	// tokensMargin is the same for the limiters alone, on an API server that never binds. It is larger, because a change
	// that waited for its token still has to be written; and it keeps an API server that is believed to be slow from
	// hiding that tokens are short.
	tokensMargin = 0.35

	// plateau is how much worse than the best reachable lag a setting may be where the objective is out of reach: beyond
	// that point more requests buy nothing that could be measured.
	plateau = 0.03

	// refillSeconds is how long a bucket may take to fill again: a setting that needs longer helps once.
	refillSeconds = 60

	// stallSeconds of QPS is the least burst: tokens that arrive while the API server stalls for so long, as long as an
	// election of etcd's leader or a slow disk takes it, are not lost. More is no burst's business: the margins cover it,
	// and a burst costs all of kube-controller-manager's clients.
	stallSeconds = 0.25

	// variation is how many more writes in the same time a setting is sized for where one that was sized for what was
	// seen fell short later: then episodes differ, and a third restart must not be what the next large one takes.
	variation = 0.30

	// steadyHeadroom is the least ratio of QPS to the rate of writes that the recording shows sustained.
	steadyHeadroom = 1.25

	// workersHeadroom is what is added to the fewest workers that do: they are nearly free, and write latency under a
	// rate that was never seen is the least certain number here.
	workersHeadroom = 2

	// busyWrite is the least latency, in seconds, that workers are provided for at the peak: quorums of three nodes take
	// as long under load, whatever they take when they are quiet.
	busyWrite = 0.050
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

// aim is what a setting must reach, in seconds at the percentile in every row: under the model as calibrated, and with
// an API server that never binds.
type aim struct {
	percentile, lag, tokens float64
}

// unbound is the model with an API server that never binds, Pods that change when they did, and growth more writes than
// there were, as a share.
func (r *replay) unbound() Parameters {
	p := unbound(r.model)
	for in := range p.Writes {
		p.Writes[in] = (1 + r.growth) * max(1, p.Writes[in])
	}
	return p
}

// unbound is the model with an API server that never binds, and Pods that change when they did.
func unbound(p Parameters) Parameters {
	p.Capacity, p.Writers, p.PodLatency = 0, 0, time.Duration(kcm.DefaultPodWork*float64(p.Base))
	return p
}

// paced is the model with Pods that change at their own pace, whoever changes them: the careful one of the two, because
// an API server that slows the cause of the changes down flatters whatever it is asked to predict.
func paced(p Parameters) Parameters {
	p.Writers = 0
	return p
}

// aimAt is the objective with its margins, or, where even the best setting of the space misses that, as good as the
// best. Both parts are nondecreasing functions of maxLag, and so a looser objective never costs more.
func (r *replay) aimAt(best v1alpha1.Flags, percentile, maxLag float64) aim {
	r.runUnder(best, r.unbound())
	tokens := r.worst(percentile)
	r.runUnder(best, paced(r.model))
	return aim{
		percentile: percentile,
		lag:        max(maxLag*(1-margin), r.worst(percentile)*(1+plateau)),
		tokens:     max(maxLag*(1-tokensMargin), tokens*(1+plateau)),
	}
}

// reaches reports whether a setting does.
func (r *replay) reaches(f v1alpha1.Flags, a aim) bool {
	return r.meets(f, r.unbound(), a.percentile, a.tokens) && r.meets(f, paced(r.model), a.percentile, a.lag)
}

// search finds the cheapest setting of the space under which the recorded demand meets maxLag, in seconds, with margin;
// where even the best setting does not, the cheapest one that is as good as the best.
func (r *replay) search(s space, percentile, maxLag float64) choice {
	a := r.aimAt(s.high, percentile, maxLag)
	best, bestCost := s.high, Cost(s.high)
	lowest := clamp(r.steady, s.low.KubeAPIQPS, s.high.KubeAPIQPS)
	for _, qps := range steps(lowest, s.high.KubeAPIQPS) {
		f := s.high
		f.KubeAPIQPS = qps
		f.KubeAPIBurst = clamp(int32(stallSeconds*float64(qps)), s.low.KubeAPIBurst, s.high.KubeAPIBurst)
		if Cost(f) >= bestCost {
			break // QPS only rises from here on
		}
		bursts := steps(f.KubeAPIBurst, max(f.KubeAPIBurst, min(s.high.KubeAPIBurst, refillSeconds*qps)))
		bursts = slices.DeleteFunc(bursts, func(burst int32) bool { return Cost(withBurst(f, burst)) >= bestCost })
		if cheaper, found := r.leastBurst(f, bursts, a); found {
			best, bestCost = cheaper, Cost(cheaper)
		}
	}
	best = r.fewestWorkers(best, s, a)
	r.run(best)
	return choice{flags: best, lag: r.worst(percentile)}
}

// leastBurst returns the setting with the least of the bursts with which it reaches the aim, if it does with the last.
func (r *replay) leastBurst(f v1alpha1.Flags, bursts []int32, a aim) (v1alpha1.Flags, bool) {
	if !r.reaches(withBurst(f, bursts[len(bursts)-1]), a) {
		return f, false
	}
	i := leastReaching(bursts, func(burst int32) bool { return r.reaches(withBurst(f, burst), a) })
	return withBurst(f, bursts[min(i, len(bursts)-1)]), true
}

func withBurst(f v1alpha1.Flags, burst int32) v1alpha1.Flags {
	f.KubeAPIBurst = burst
	return f
}

// leastReaching is the index of the first value that reaches, if all after it do; else of one that does and whose
// predecessor does not. It is len(values) if the last does not reach.
func leastReaching(values []int32, reaches func(int32) bool) int {
	i, _ := slices.BinarySearchFunc(values, true, func(v int32, _ bool) int {
		if reaches(v) {
			return 0
		}
		return -1
	})
	return i
}

// fewestWorkers lowers the worker counts of a setting as far as it still reaches the aim, but not below what Little's
// law asks for at the peak, and adds headroom to either. Both controllers get the same count where the space allows:
// they do the same work on the same Services.
func (r *replay) fewestWorkers(f v1alpha1.Flags, s space, a aim) v1alpha1.Flags {
	counts := steps(1, v1alpha1.MaxWorkers)
	i := leastReaching(counts, func(count int32) bool { return r.reaches(s.withWorkers(f, count), a) })
	if i == len(counts) {
		return f
	}
	busy := r.peakRate() * max(r.model.PodLatency.Seconds()/kcm.DefaultPodWork, r.model.Base.Seconds(), busyWrite)
	return s.withWorkers(f, int32(math.Ceil(workersHeadroom*max(float64(counts[i]), min(busy, v1alpha1.MaxWorkers)))))
}

// peakRate is the most changes in one second.
func (r *replay) peakRate() float64 {
	most, first := 0, 0
	for i, a := range r.trace.Arrivals {
		for a.At-r.trace.Arrivals[first].At >= 1 {
			first++
		}
		most = max(most, i-first+1)
	}
	return float64(most)
}

// withWorkers gives both controllers so many workers, as far as the space allows.
func (s space) withWorkers(f v1alpha1.Flags, count int32) v1alpha1.Flags {
	f.ConcurrentEndpointSyncs = clamp(count, s.low.ConcurrentEndpointSyncs, s.high.ConcurrentEndpointSyncs)
	f.ConcurrentServiceEndpointSyncs = clamp(count, s.low.ConcurrentServiceEndpointSyncs, s.high.ConcurrentServiceEndpointSyncs)
	return f
}

// steadyQPS is the QPS that the recording needs in the long run, with headroom: the busier controller's writes in the
// run before, over the length of the recording but at least five minutes, so that one episode is not taken for a rate.
func (r *replay) steadyQPS() int32 {
	writes := max(r.sim.Totals(kcm.EndpointSlices).Writes, r.sim.Totals(kcm.Endpoints).Writes)
	long := steadyHeadroom * float64(writes) / max(r.end, 300)
	return int32(math.Ceil(max(long, steadyHeadroom*r.ongoing())))
}

// ongoing is the rate of changes, per second, over the last of the recording, if they have been coming for that long and
// still are: nobody knows when they will end, and what is below that rate falls behind for as long. 0 if they are not.
func (r *replay) ongoing() float64 {
	if b := r.backlog(); b.since >= settling || b.age < patience {
		return 0
	}
	n := 0
	for _, a := range slices.Backward(r.trace.Arrivals) {
		if r.end-a.At > patience.Seconds() {
			break
		}
		n++
	}
	return float64(n) / patience.Seconds()
}

// sizing chooses settings for recorded demand: it tries them on the hardest episodes, and makes sure on all of them.
type sizing struct {
	// hard is all itself where nothing is left out.
	all, hard  *replay
	percentile float64
	maxLag     float64 // seconds
}

// chance is by how much, as a share, another episode of the same kind as the hardest is larger by chance: the standard
// deviation of a Poisson process's count, 1/√n. A small episode says less about the next one than a large one.
func (s sizing) chance() float64 {
	largest := 0
	for _, w := range s.hard.aims {
		largest = max(largest, len(w.arrivals))
	}
	return 1 / math.Sqrt(float64(max(largest, 1)))
}

// varied is the sizing for more writes than there were, as a share of them.
func (s sizing) varied(growth float64) sizing {
	s.all.growth, s.hard.growth = growth, growth
	return s
}

// newSizing prepares it. It leaves all with a run under the running flags.
func newSizing(e Evidence, model Parameters, o Objective) sizing {
	s := sizing{all: newReplay(e.Demand, model, e.Now), percentile: o.Percentile, maxLag: o.MaxLag.Seconds()}
	s.all.run(e.Flags)
	s.all.steady = s.all.steadyQPS()
	s.hard = s.all
	if d := hardest(e.Demand, o.MaxLag); len(d.Changes) < len(s.all.trace.Arrivals) {
		s.hard = newReplay(d, model, e.Now)
		s.hard.steady = s.all.steady
	}
	return s
}

// cheapest is the cheapest setting of a space that meets the objective with margin, or is as good as the best there.
// It leaves all with a run under it.
func (s sizing) cheapest(within space) choice {
	found := s.hard.search(within, s.percentile, s.maxLag)
	if s.hard == s.all {
		return found
	}
	s.all.run(found.flags)
	lag := s.all.worst(s.percentile)
	if lag > max(found.lag, s.maxLag*(1-margin))*(1+plateau) {
		return s.all.search(within, s.percentile, s.maxLag) // Some episode asks for more than it looked like.
	}
	found.lag = lag
	return found
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
