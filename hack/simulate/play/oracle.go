package play

import (
	"cmp"
	"math"
	"slices"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// The oracle knows the demand and the truth. Its setting is the cheapest that never changes and with which every window
// of ten minutes that has enough changes to be judged meets the objective. Where no setting does, it is the cheapest of
// those that violate the objective hardly more often than the best.
//
// It chooses from a grid that was fixed beforehand.
var (
	gridQPS     = []int32{20, 30, 40, 50, 65, 80, 100, 130, 165, 200, 250, 300, 400, 500}
	gridBurst   = []int32{30, 60, 100, 150, 200, 250, 300, 350, 400, 500, 600, 700, 850, 1000}
	gridWorkers = []int32{5, 7, 10, 15, 20, 30, 50}
)

// hardly is how much more often than the best setting another may violate an objective that is out of reach.
const hardly = 1.05

type oracle struct {
	scene *Scene
	known map[v1alpha1.Flags]*Result
	// allowed is how many windows may be missed: as many as the best setting misses, and with it the violations.
	allowed int
	limit   float64
}

// Oracle returns the oracle's result.
func Oracle(scene *Scene) Result {
	o := &oracle{scene: scene, known: map[v1alpha1.Flags]*Result{}}
	start := Default()
	high := Flags(maxQPS, maxBurst, maxWorkers)
	best := o.under(high)
	missed := scene.missedWindows(best.Lags)
	o.limit = math.Inf(1)
	if missed > 0 {
		o.allowed = math.MaxInt
		o.limit = hardly * float64(min(scene.Violations(best.Lags), scene.Violations(o.under(start).Lags)))
	}
	if o.good(start) {
		return *o.under(start)
	}
	chosen := high
	for _, qps := range gridQPS {
		f := Flags(qps, minBurst, maxWorkers)
		if tuner.Cost(f) >= tuner.Cost(chosen) {
			break
		}
		bursts := slices.Clone(gridBurst)
		for len(bursts) > 0 && tuner.Cost(withBurst(f, bursts[len(bursts)-1])) >= tuner.Cost(chosen) {
			bursts = bursts[:len(bursts)-1]
		}
		if i := o.least(bursts, func(burst int32) bool { return o.good(withBurst(f, burst)) }); i < len(bursts) {
			chosen = withBurst(f, bursts[i])
		}
	}
	if i := o.least(gridWorkers, func(n int32) bool { return o.good(withWorkers(chosen, n)) }); i < len(gridWorkers) {
		chosen = withWorkers(chosen, gridWorkers[i])
	}
	return *o.under(chosen)
}

// least is the index of the first value that is good, if all after it are; len(values) if the last is not.
func (o *oracle) least(values []int32, good func(int32) bool) int {
	if len(values) == 0 || !good(values[len(values)-1]) {
		return len(values)
	}
	i, _ := slices.BinarySearchFunc(values, true, func(v int32, _ bool) int {
		if good(v) {
			return 0
		}
		return -1
	})
	return min(i, len(values)-1)
}

func (o *oracle) under(f v1alpha1.Flags) *Result {
	if o.known[f] == nil {
		o.known[f] = new(still(o.scene, f))
	}
	return o.known[f]
}

func (o *oracle) good(f v1alpha1.Flags) bool {
	lags := o.under(f).Lags
	return o.scene.missedWindows(lags) <= o.allowed && float64(o.scene.Violations(lags)) <= o.limit
}

func withBurst(f v1alpha1.Flags, burst int32) v1alpha1.Flags {
	f.KubeAPIBurst = burst
	return f
}

func withWorkers(f v1alpha1.Flags, n int32) v1alpha1.Flags {
	f.ConcurrentEndpointSyncs, f.ConcurrentServiceEndpointSyncs = n, n
	return f
}

// Violations is how many changes were later than the objective in either API.
func (s *Scene) Violations(lags []float64) int {
	n := 0
	for _, late := range lags {
		if late > s.MaxLag.Seconds() {
			n++
		}
	}
	return n
}

// missedWindows is how many windows of ten minutes miss the objective, of those with enough changes. They begin every five
// minutes.
func (s *Scene) missedWindows(lags []float64) int {
	missed := 0
	for from := 0.0; from < s.End; from += windowSeconds / 2 {
		i, j := s.changesIn(from, from+windowSeconds)
		if j-i < minSamples {
			continue
		}
		if late := s.Violations(lags[i:j]); float64(late) > (1-percentile/100.0)*float64(j-i) {
			missed++
		}
	}
	return missed
}

// changesIn are the changes from a time until another, as indices.
func (s *Scene) changesIn(from, until float64) (first, end int) {
	first, _ = slices.BinarySearchFunc(s.Changes, from, earlier)
	end, _ = slices.BinarySearchFunc(s.Changes, until, earlier)
	return first, end
}

func earlier(c cluster.Change, t float64) int { return cmp.Compare(c.At, t) }

// Wrong says whether an action raised flags that were not the cause: whether what it rests on would have gone hardly
// better under the new flags, by the truth and not by the operator's model. Hardly is a fifth of the lag, the least that
// the operator itself takes for a gain.
func (s *Scene) Wrong(a Action) bool {
	if !a.raises() {
		return false
	}
	first, end := s.changesIn(a.Since, a.At)
	if first == end {
		return true
	}
	before, _ := s.changesIn(a.Since-300, a.Since)
	past := *s
	past.Changes, past.End = s.Changes[before:end], a.At+300
	from, to := still(&past, a.From), still(&past, a.To)
	return quantile(to.Lags[first-before:]) > (1-worthwhile)*quantile(from.Lags[first-before:])
}

const worthwhile = 0.2

// quantile is the objective's percentile.
func quantile(lags []float64) float64 {
	sorted := slices.Sorted(slices.Values(lags))
	return sorted[max(0, int(math.Ceil(percentile/100.0*float64(len(sorted))-1e-9))-1)]
}

// Unavoidable is how many violations nobody could have avoided who begins with the default flags and does not know the
// future: those until the end of the episode in which the objective is first missed for all to see, and those of the
// hand-over that ends them. An episode ends with thirty seconds without a change; one that lasts is given a minute.
func (s *Scene) Unavoidable(lags []float64) int {
	known := s.firstMiss(lags)
	if math.IsInf(known, 1) {
		return 0
	}
	end := known
	i, _ := s.changesIn(known, known)
	for ; i < len(s.Changes) && s.Changes[i].At-end < episodeGap && s.Changes[i].At < known+patience; i++ {
		end = max(end, s.Changes[i].At)
	}
	_, until := s.changesIn(0, end+quiet)
	first, last := s.changesIn(end+quiet, end+quiet+handOver)
	return s.Violations(lags[:until]) + last - first
}

// episodeGap ends an episode, patience is how long one may last, handOver how long a restart leaves the cluster without a
// leader at most; seconds.
const episodeGap, patience, handOver = 30, 60, 32

// firstMiss is when an observer who misses nothing can first say that the objective is missed; infinite if never.
func (s *Scene) firstMiss(lags []float64) float64 {
	first, late := 0, 0
	var due []float64 // when each late change was seen to be late
	for i, c := range s.Changes {
		for c.At-s.Changes[first].At > windowSeconds {
			if lags[first] > s.MaxLag.Seconds() {
				late--
			}
			first++
		}
		if lags[i] > s.MaxLag.Seconds() {
			late++
			due = append(due, c.At+s.MaxLag.Seconds())
		}
		if n := i + 1 - first; n >= minSamples && float64(late) > (1-percentile/100.0)*float64(n) {
			return max(c.At, due[len(due)-1])
		}
	}
	return math.Inf(1)
}
