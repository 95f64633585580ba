package tuner

import (
	"cmp"
	"fmt"
	"slices"
	"time"

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

	// loadContrast is how much busier than the quietest the busiest interval must be for a capacity to be read off the
	// rise of latency between them.
	loadContrast = 1.5

	// capacityReserve is what the API server is assumed to take beyond the busiest second that was seen, in multiples of
	// it, where its latency did not show a limit.
	capacityReserve = 2

	// seenReserve is the least reserve beyond the busiest second, whatever the latency says: it did take those.
	seenReserve = 1.1
)

// Bounds of what a calibration may claim: faster than any network, slower than any request that succeeds in time, and
// a fraction of what a small etcd takes.
const (
	minBase     = 500 * time.Microsecond
	maxBase     = 2 * time.Second
	maxDelay    = 50 * time.Millisecond
	minCapacity = 50.0
)

// interval is what one pair of scrapes says.
type interval struct {
	writes  float64 // sent by kube-controller-manager
	rate    float64 // of all writes that we know of, Pods' own included, per second
	latency float64 // of one write, without the wait for a token, in seconds
}

// Calibrate takes the model's parameters from what was seen under the running flags. What a run at low rates cannot
// show is assumed, on the careful side, and the basis says so.
func Calibrate(e Evidence) Calibration {
	peak := busiestSecond(e.Demand)
	floor := firstPercentile(e.Demand)
	intervals := intervalsOf(e)
	var c Calibration
	base, capacity := fit(intervals)
	switch {
	case len(intervals) == 0:
		c.Base = clamp(floor, minBase, maxBase)
		c.Basis = fmt.Sprintf("write latency taken from the quickest changes (%v), as there are no signals", rounded(c.Base))
	default:
		c.Base = clamp(seconds(base), minBase, maxBase)
		c.Delay = clamp(floor-c.Base, 0, maxDelay)
		c.Basis = fmt.Sprintf("write latency %v from kube-controller-manager's metrics", rounded(c.Base))
	}
	if capacity > 0 {
		c.Capacity = max(capacity, seenReserve*peak, minCapacity)
		c.Basis += fmt.Sprintf("; API server capacity %.0f writes/s from how latency rose with load", c.Capacity)
		return c
	}
	c.Capacity = max(capacityReserve*peak, minCapacity)
	c.Basis += fmt.Sprintf("; API server capacity assumed to be %.0f writes/s, %d times the busiest second seen",
		c.Capacity, capacityReserve)
	return c
}

func clamp[T cmp.Ordered](v, low, high T) T { return min(max(v, low), high) }

// intervalsOf returns the intervals between scrapes of one process in which it wrote enough.
func intervalsOf(e Evidence) []interval {
	var out []interval
	for i := 1; i < len(e.Signals); i++ {
		a, b := e.Signals[i-1], e.Signals[i]
		took, writes := b.Time.Sub(a.Time).Seconds(), float64(b.Writes-a.Writes)
		if !sameProcess(a, b) || writes < minWrites {
			continue
		}
		latency := (b.RequestTime - a.RequestTime - b.LimiterWait + a.LimiterWait).Seconds() / writes
		if latency <= 0 {
			continue
		}
		changes := changesBetween(e.Demand, a.Time, b.Time)
		out = append(out, interval{writes: writes, rate: (writes + float64(changes)) / took, latency: latency})
	}
	return out
}

// sameProcess reports whether the difference of two samples means anything.
func sameProcess(a, b Sample) bool {
	return a.ProcessStart.Equal(b.ProcessStart) && b.Time.After(a.Time) && b.Writes >= a.Writes
}

func changesBetween(d lag.Demand, from, to time.Time) int {
	n := 0
	for _, c := range d.Changes {
		if at := d.Start.Add(c.At); !c.Startup && at.After(from) && !at.After(to) {
			n++
		}
	}
	return n
}

// fit reads base latency and capacity off the processor-sharing formula latency = base / (1 - rate/capacity), linear in
// 1/latency, by least squares weighted with the writes. Capacity is 0 if the intervals do not show one.
func fit(intervals []interval) (base, capacity float64) {
	var weight, x, y float64
	lowest, highest := 0.0, 0.0
	for i, v := range intervals {
		weight, x, y = weight+v.writes, x+v.writes*v.rate, y+v.writes/v.latency
		if i == 0 || v.rate < lowest {
			lowest = v.rate
		}
		highest = max(highest, v.rate)
	}
	if weight == 0 {
		return 0, 0
	}
	x, y = x/weight, y/weight
	if highest < loadContrast*lowest {
		return 1 / y, 0
	}
	var xx, xy float64
	for _, v := range intervals {
		xx += v.writes * (v.rate - x) * (v.rate - x)
		xy += v.writes * (v.rate - x) * (1/v.latency - y)
	}
	slope := xy / xx
	if slope >= 0 {
		return 1 / y, 0
	}
	intercept := y - slope*x
	return 1 / intercept, -intercept / slope
}

// busiestSecond is the highest rate of writes seen over one second: Pods changing, and changes published in either API.
func busiestSecond(d lag.Demand) float64 {
	var at []time.Duration
	for _, c := range d.Changes {
		if c.Startup {
			continue
		}
		at = append(at, c.At)
		if c.SliceClass == lag.Closed {
			at = append(at, c.At+c.SliceLag)
		}
		if c.EndpointsClass == lag.Closed {
			at = append(at, c.At+c.EndpointsLag)
		}
	}
	slices.Sort(at)
	most, first := 0, 0
	for i := range at {
		for at[i]-at[first] >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return float64(most)
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
