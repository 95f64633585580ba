package tuner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Calibration is the model's parameters and what they rest on.
type Calibration struct {
	Parameters
	// Basis says for a person what was measured and what had to be assumed.
	Basis string
}

const (
	// minWrites is how many writes between two scrapes make their mean latency worth using.
	minWrites = 20

	// loadContrast is how much longer than a quiet write a write under load must take for a capacity to be read off the
	// difference.
	loadContrast = 1.5

	// waitingContrast is the same for those who changed Pods to count as waiting for the API server.
	waitingContrast = 3

	// assumedReserve is what the API server is assumed to take, in multiples of the busiest second that was seen, where
	// its latency did not show a limit; seenReserve is the least, whatever the latency says: it did take those.
	assumedReserve = 2
	seenReserve    = 1.1

	// episodeGap is how long no Pod changes between two episodes.
	episodeGap = 5 * time.Second
)

// What a calibration may claim at most: a base latency faster than a loopback connection allows or slower than any
// request that is worth waiting for, watches that take longer than a write, and less than any API server takes.
const (
	minBase     = 500 * time.Microsecond
	maxBase     = 2 * time.Second
	maxDelay    = 50 * time.Millisecond
	minCapacity = 50.0
	minPodWork  = 0.25
	maxPodWork  = 2.0
)

// Calibrate takes the model's parameters from what was seen under the running flags. What a run at low rates cannot
// show is assumed, and the basis says so.
func Calibrate(e Evidence) Calibration {
	var c Calibration
	seen := busiestSecond(e.Demand)
	first, quiet, load := firstPercentile(e.Demand), quietest(e.Signals), busiestStart(e)
	c.Capacity = max(assumedReserve*seen, minCapacity)
	capacityBasis := fmt.Sprintf("the API server is assumed to take %.0f writes/s, %d times the busiest second seen",
		c.Capacity, assumedReserve)
	c.Base = quiet.base(c.Capacity)
	baseBasis := "by the metrics"
	if quiet.latency == 0 {
		c.Base, baseBasis = first, "as the quickest changes took (no metrics)"
		if load.latency > 0 && load.latency < 2*first { // the workers' own other writes are no part of it
			c.Base = load.latency - time.Duration(load.writes/c.Capacity*float64(time.Second))
		}
	}
	c.Base = clamp(c.Base, minBase, maxBase)
	c.PodLatency = time.Duration(kcm.DefaultPodWork * float64(c.Base))
	if load.writes+load.pods >= minInFlight && load.latency.Seconds() >= loadContrast*c.Base.Seconds() {
		c.PodLatency = time.Duration(kcm.DefaultPodWork * float64(load.latency))
		c.Capacity = max((load.writes+load.pods)/(load.latency-c.Base).Seconds(), seenReserve*seen, minCapacity)
		capacityBasis = fmt.Sprintf("%v under load, so the API server takes %.0f/s", rounded(load.latency), c.Capacity)
		if load.latency.Seconds() >= waitingContrast*c.Base.Seconds() && load.pods >= 2 {
			c.Writers = int(math.Round(load.pods))
			capacityBasis += fmt.Sprintf(" and those who changed Pods waited for it (%d at a time)", c.Writers)
		}
		if quiet.latency > 0 {
			c.Base = clamp(quiet.base(c.Capacity), minBase, maxBase)
		}
	}
	if quiet.latency > 0 {
		c.Delay = clamp(first-c.Base, 0, maxDelay)
	}
	if busy := busiestServer(e); busy.latency.Seconds() >= loadContrast*c.Base.Seconds() {
		c.Capacity, c.PodWork, c.Writers = max(busy.capacity(c.Base), seenReserve*seen, minCapacity), clamp(busy.podWork, minPodWork, maxPodWork), 0
		c.PodLatency = time.Duration(c.PodWork * float64(c.Base))
		capacityBasis = fmt.Sprintf("with %.0f requests in hand the API server took %v for a write, so it takes %.0f/s",
			busy.inFlight, rounded(busy.latency), c.Capacity)
	}
	c.Basis = fmt.Sprintf("a quiet write takes %v %s; %s", c.Base.Round(100*time.Microsecond), baseBasis, capacityBasis)
	return c
}

func clamp[T cmp.Ordered](v, low, high T) T { return min(max(v, low), high) }

// calm is what writes took between two scrapes, without the wait for tokens.
type calm struct {
	latency time.Duration // of one
	rate    float64       // per second
}

// base is the latency of a write that would have been alone, on an API server of that capacity.
func (c calm) base(capacity float64) time.Duration {
	return time.Duration(float64(c.latency) * max(0, 1-c.rate/capacity))
}

// quietest is the pair of scrapes between which writes were quickest; zero without any.
func quietest(signals []Sample) calm {
	var best calm
	for i := 1; i < len(signals); i++ {
		a, b := signals[i-1], signals[i]
		if !sameProcess(a, b) || b.Writes-a.Writes < minWrites {
			continue
		}
		latency := (b.RequestTime - a.RequestTime - b.LimiterWait + a.LimiterWait) / time.Duration(b.Writes-a.Writes)
		if latency > 0 && (best.latency == 0 || latency < best.latency) {
			best = calm{latency, float64(b.Writes-a.Writes) / b.Time.Sub(a.Time).Seconds()}
		}
	}
	return best
}

// sameProcess reports whether the difference of two samples means anything.
func sameProcess(a, b Sample) bool {
	return a.ProcessStart.Equal(b.ProcessStart) && b.Time.After(a.Time) && b.Writes >= a.Writes
}

// loaded is what writes took while Pods changed.
type loaded struct {
	latency time.Duration
	// writes of endpoint controllers and changes of Pods in flight, on average.
	writes, pods float64
}

// busiestStart reads the latency of writes under load off the start of the largest episode: until the bucket is empty,
// no change waits for a token, so the first ones are published as fast as workers and API server allow. Both the mean
// lag of those and the pace at which so many workers publish are upper bounds of one write's latency.
func busiestStart(e Evidence) loaded {
	episode := largestEpisode(e.Demand.Changes)
	if len(episode) == 0 || !complete(e.Flags) {
		return loaded{}
	}
	workers := [kcm.APIs]int{int(e.Flags.ConcurrentServiceEndpointSyncs), int(e.Flags.ConcurrentEndpointSyncs)}
	var out loaded
	for in := range kcm.APIs {
		first := firstPublished(episode, in, int(e.Flags.KubeAPIBurst))
		if len(first) <= workers[in] {
			return loaded{}
		}
		var sum time.Duration
		for _, p := range first {
			sum += p.lag
		}
		last := first[len(first)-1].at
		pace := (last - first[workers[in]-1].at) * time.Duration(workers[in]) / time.Duration(len(first)-workers[in])
		latency := min(sum/time.Duration(len(first)), pace)
		changing := rateUntil(episode, last) * latency.Seconds()
		out.latency += latency / time.Duration(kcm.APIs)
		out.writes += min(float64(workers[in]), changing)
		out.pods += kcm.DefaultPodWork * changing / float64(kcm.APIs)
	}
	return out
}

// largestEpisode is the longest run of changes without a gap, those of a hand-over left out.
func largestEpisode(changes []lag.Change) []lag.Change {
	best, from := changes[:0], 0
	for i := range changes {
		if i > from && changes[i].At-changes[i-1].At > episodeGap {
			from = i
		}
		if changes[i].Startup || changes[i].HandOver {
			from = i + 1
			continue
		}
		if i+1-from > len(best) {
			best = changes[from : i+1]
		}
	}
	return best
}

// publication is when a change was published, and how late.
type publication struct{ at, lag time.Duration }

// firstPublished returns the first n changes of an episode that were published in an API, in that order.
func firstPublished(episode []lag.Change, in kcm.API, n int) []publication {
	var out []publication
	for _, c := range episode {
		if class, late := outcomeIn(c, in); class == lag.Closed {
			out = append(out, publication{c.At + late, late})
		}
	}
	slices.SortFunc(out, func(a, b publication) int { return cmp.Compare(a.at, b.at) })
	return out[:min(n, len(out))]
}

// rateUntil is how many Pods changed per second from the start of an episode until then.
func rateUntil(episode []lag.Change, until time.Duration) float64 {
	n, _ := slices.BinarySearchFunc(episode, until, func(c lag.Change, t time.Duration) int { return cmp.Compare(c.At, t) })
	took := min(until, episode[len(episode)-1].At) - episode[0].At
	return float64(n) / max(took.Seconds(), 0.01)
}

// busiestSecond is the most work seen in one second: changes published in either API, and Pods changing.
func busiestSecond(d lag.Demand) float64 {
	type write struct {
		at   time.Duration
		work float64
	}
	var writes []write
	for _, c := range d.Changes {
		if c.Startup {
			continue
		}
		writes = append(writes, write{c.At, kcm.DefaultPodWork})
		for in := range kcm.APIs {
			if class, late := outcomeIn(c, in); class == lag.Closed {
				writes = append(writes, write{c.At + late, 1})
			}
		}
	}
	slices.SortFunc(writes, func(a, b write) int { return cmp.Compare(a.at, b.at) })
	most, work, first := 0.0, 0.0, 0
	for _, w := range writes {
		work += w.work
		for ; w.at-writes[first].at >= time.Second; first++ {
			work -= writes[first].work
		}
		most = max(most, work)
	}
	return most
}

// firstPercentile is the lag that one change in a hundred beats: what a change takes that waits for nothing.
func firstPercentile(d lag.Demand) time.Duration {
	var lags []time.Duration
	for _, c := range d.Changes {
		if c.SliceClass == lag.Closed {
			lags = append(lags, c.SliceLag)
		}
	}
	if len(lags) == 0 {
		return 0
	}
	slices.Sort(lags)
	return lags[len(lags)/100]
}
