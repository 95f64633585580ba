package tuner

import (
	"math"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// maxArrivals bounds what one replay takes, and so how long a search takes: 10,000 changes are replayed in some
// milliseconds, and a decision needs a few hundred replays.
const maxArrivals = 10_000

// row is one line of a verdict: an API and a direction, with the arrivals that count there.
type row struct {
	api       kcm.API
	direction lag.Direction
	arrivals  []int32
}

// seen is what was measured of one change in one API.
type seen struct {
	counts bool // towards percentiles
	open   bool
	lag    float64 // seconds; of an open change, its age
}

// replay runs recorded demand through the model, under any flags.
type replay struct {
	trace  kcm.Trace
	model  Parameters
	rows   []row
	rowOf  [kcm.APIs][]int8 // of each arrival; -1 if it does not count
	seen   [kcm.APIs][]seen
	end    float64 // of the recording, in seconds from its start
	sim    kcm.Simulation
	sorted []float64
	misses []int
}

// newReplay prepares demand, recorded until now, for the model. Changes from before the recording and changes that met
// a hand-over are left out: their times say nothing about flags.
func newReplay(d lag.Demand, model Parameters, now time.Time) *replay {
	r := &replay{model: model, end: now.Sub(d.Start).Seconds()}
	numbers := map[int32]int32{}
	for _, c := range heaviest(d.Changes) {
		if c.Startup || c.HandOver {
			continue
		}
		n, known := numbers[c.Service]
		if !known {
			n = int32(len(numbers)) //nolint:gosec // bounded by maxArrivals
			numbers[c.Service] = n
		}
		r.add(c, n)
	}
	r.trace.Services = len(numbers)
	r.misses = make([]int, len(r.rows))
	return r
}

// heaviest returns the changes, or the run of maxArrivals of them that took the least time.
func heaviest(changes []lag.Change) []lag.Change {
	if len(changes) <= maxArrivals {
		return changes
	}
	best, shortest := 0, time.Duration(math.MaxInt64)
	for i := range len(changes) - maxArrivals + 1 {
		if took := changes[i+maxArrivals-1].At - changes[i].At; took < shortest {
			best, shortest = i, took
		}
	}
	return changes[best : best+maxArrivals]
}

// add appends one change. An API that it does not concern, or that shows it already, gets no write for it.
func (r *replay) add(c lag.Change, service int32) {
	i := int32(len(r.trace.Arrivals)) //nolint:gosec // bounded by maxArrivals
	a := kcm.Arrival{At: c.At.Seconds(), Service: service}
	classes := [kcm.APIs]lag.Class{kcm.EndpointSlices: c.SliceClass, kcm.Endpoints: c.EndpointsClass}
	lags := [kcm.APIs]time.Duration{kcm.EndpointSlices: c.SliceLag, kcm.Endpoints: c.EndpointsLag}
	for in := range kcm.APIs {
		a.In[in] = classes[in] != 0
		s := seen{lag: lags[in].Seconds(), open: classes[in] == lag.Open}
		s.counts = s.open || classes[in] == lag.Closed
		rowIndex := int8(-1)
		if s.counts {
			rowIndex = r.row(in, c.Direction)
			r.rows[rowIndex].arrivals = append(r.rows[rowIndex].arrivals, i)
		}
		r.rowOf[in] = append(r.rowOf[in], rowIndex)
		r.seen[in] = append(r.seen[in], s)
	}
	r.trace.Arrivals = append(r.trace.Arrivals, a)
}

// row returns the index of a row, made when first asked for.
func (r *replay) row(in kcm.API, d lag.Direction) int8 {
	i := slices.IndexFunc(r.rows, func(w row) bool { return w.api == in && w.direction == d })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, row{api: in, direction: d})
	}
	return int8(i) //nolint:gosec // two APIs, two directions
}

// run replays everything under flags. The results stay valid until the next run.
func (r *replay) run(flags v1alpha1.Flags) { r.runUnder(flags, r.model) }

func (r *replay) runUnder(flags v1alpha1.Flags, model Parameters) {
	r.sim.Start(&r.trace, flags, model)
	r.sim.Run()
}

// meets reports whether under flags the percentile of every row would have been at most target, in seconds. It gives up
// as soon as one row cannot be.
func (r *replay) meets(flags v1alpha1.Flags, model Parameters, percentile, target float64) bool {
	allowed := r.misses
	for i, w := range r.rows {
		allowed[i] = len(w.arrivals) - rank(percentile, len(w.arrivals))
	}
	met := true
	r.sim.Start(&r.trace, flags, model)
	r.sim.Stop = func(in kcm.API, arrival int32, lag float64) bool {
		if i := r.rowOf[in][arrival]; lag > target && i >= 0 {
			allowed[i]--
			met = allowed[i] >= 0
		}
		return !met
	}
	r.sim.Run()
	return met
}

// worst returns the largest of the rows' percentiles, in seconds, after a run; 0 if nothing counts.
func (r *replay) worst(percentile float64) float64 {
	worst := 0.0
	for i := range r.rows {
		worst = max(worst, r.predicted(i, percentile))
	}
	return worst
}

// predicted returns a row's percentile after a run, in seconds.
func (r *replay) predicted(i int, percentile float64) float64 {
	r.sorted = r.sorted[:0]
	for _, a := range r.rows[i].arrivals {
		r.sorted = append(r.sorted, r.sim.Lags(r.rows[i].api)[a])
	}
	return quantile(r.sorted, percentile)
}

// comparable returns a row's percentile after a run as it would have been measured at the end of the recording, and as
// it was measured then: in both, a change that was not published by then counts with its age.
func (r *replay) comparable(i int, percentile float64) (predicted, measured float64) {
	w := r.rows[i]
	r.sorted = r.sorted[:0]
	for _, a := range w.arrivals {
		r.sorted = append(r.sorted, min(r.sim.Lags(w.api)[a], r.end-r.trace.Arrivals[a].At))
	}
	predicted = quantile(r.sorted, percentile)
	r.sorted = r.sorted[:0]
	for _, a := range w.arrivals {
		r.sorted = append(r.sorted, r.seen[w.api][a].lag)
	}
	return predicted, quantile(r.sorted, percentile)
}

// spread returns the percentiles of all changes in one API after a run.
func (r *replay) spread(in kcm.API) Spread {
	r.sorted = r.sorted[:0]
	for _, w := range r.rows {
		if w.api != in {
			continue
		}
		for _, a := range w.arrivals {
			r.sorted = append(r.sorted, r.sim.Lags(in)[a])
		}
	}
	at := func(p float64) time.Duration { return seconds(quantile(r.sorted, p)) }
	return Spread{P50: at(0.50), P90: at(0.90), P99: at(0.99), Max: at(1)}
}

// quantile is the nearest-rank percentile, as package lag takes it. It sorts its argument.
func quantile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[max(1, rank(p, len(values)))-1]
}

// rank is ⌈p·n⌉, not thrown off by the binary form of p.
func rank(p float64, n int) int { return int(math.Ceil(p*float64(n) - 1e-9)) }

// seconds converts to a duration, to the microsecond.
func seconds(s float64) time.Duration {
	if s >= kcm.Unresolved {
		return math.MaxInt64
	}
	return time.Duration(s*1e6) * time.Microsecond
}
