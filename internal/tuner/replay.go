package tuner

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

const (
	// maxSearched bounds the changes that each setting of a search is tried on, and so how long a search takes: 10,000 are
	// replayed in some milliseconds, and a decision needs some hundred replays.
	maxSearched = 10_000

	// enoughAlone is how many changes an episode must have for its percentile to be judged alone. Smaller ones are judged
	// together.
	enoughAlone = 100
)

// row is one line of a verdict: an API and a direction, with the arrivals that count there.
type row struct {
	api       kcm.API
	direction lag.Direction
	// episode is the one that the arrivals are of; -1 where it is more than one.
	episode  int
	arrivals []int32
}

// seen is what was measured of one change in one API.
type seen struct {
	counts bool // towards percentiles
	open   bool
	lag    float64 // seconds; of an open change, its age
}

// replay runs recorded demand through the model, under any flags.
type replay struct {
	trace kcm.Trace
	model Parameters
	// rows are those of the verdict; aims those of each episode that is large enough, and of the others together.
	rows, aims []row
	aimOf      [kcm.APIs][]int32 // of each arrival, the index into aims; -1 if it does not count
	seen       [kcm.APIs][]seen
	end        float64 // of the recording, in seconds from its start
	sim        kcm.Simulation
	// steady is the least QPS that a search considers.
	steady int32
	// growth is how many more writes than there were a search provides for, as a share of them.
	growth float64
	sorted []float64
	misses []int
	// overtaken is, by API, Service and direction, the last arrival that was replaced before it was published.
	overtaken map[side]int32
}

// side is one direction of a Service's changes in an API.
type side struct {
	api       kcm.API
	service   int32
	direction lag.Direction
}

// newReplay prepares demand, recorded until now, for the model. Changes from before the recording and changes that met
// a hand-over are left out: their times say nothing about flags.
func newReplay(d lag.Demand, model Parameters, now time.Time) *replay {
	r := &replay{model: model, end: now.Sub(d.Start).Seconds(), overtaken: map[side]int32{}}
	numbers := map[int32]int32{}
	for i, e := range episodesOf(usable(d.Changes)) {
		if len(e) < enoughAlone {
			i = -1
		}
		for _, c := range e {
			n, known := numbers[c.Service]
			if !known {
				n = int32(len(numbers)) //nolint:gosec // bounded by lag.MaxDemand
				numbers[c.Service] = n
			}
			r.add(c, n, i)
		}
	}
	r.trace.Services = len(numbers)
	r.misses = make([]int, len(r.aims))
	return r
}

// usable returns the changes whose times are known.
func usable(changes []lag.Change) []lag.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c lag.Change) bool { return c.Startup || c.HandOver })
}

// episodesOf cuts changes where none came for a while.
func episodesOf(changes []lag.Change) [][]lag.Change {
	var out [][]lag.Change
	from := 0
	for i := range changes {
		if i > from && changes[i].At-changes[i-1].At > episodeGap {
			out = append(out, changes[from:i])
			from = i
		}
	}
	if from < len(changes) {
		out = append(out, changes[from:])
	}
	return out
}

// hardest is the same recording with only the episodes that ask for most: what a search tries settings on.
func hardest(d lag.Demand, maxLag time.Duration) lag.Demand {
	episodes := episodesOf(usable(d.Changes))
	slices.SortStableFunc(episodes, func(a, b []lag.Change) int {
		return cmp.Compare(neededRate(b, maxLag), neededRate(a, maxLag))
	})
	out, left := lag.Demand{Start: d.Start}, maxSearched
	for i, e := range episodes {
		if i == 0 {
			e = densest(e, maxSearched)
		}
		if len(e) > left {
			continue
		}
		out.Changes = append(out.Changes, e...)
		left -= len(e)
	}
	slices.SortStableFunc(out.Changes, func(a, b lag.Change) int { return cmp.Compare(a.At, b.At) })
	return out
}

// densest returns the changes, or the run of n of them that took the least time.
func densest(changes []lag.Change, n int) []lag.Change {
	if len(changes) <= n {
		return changes
	}
	best, shortest := 0, time.Duration(math.MaxInt64)
	for i := range len(changes) - n + 1 {
		if took := changes[i+n-1].At - changes[i].At; took < shortest {
			best, shortest = i, took
		}
	}
	return changes[best : best+n]
}

// outcomeIn is what became of a change in one API.
func outcomeIn(c lag.Change, in kcm.API) (lag.Class, time.Duration) {
	if in == kcm.Endpoints {
		return c.EndpointsClass, c.EndpointsLag
	}
	return c.SliceClass, c.SliceLag
}

// add appends one change of an episode. An API that it does not concern, or that shows it already, gets no write for it.
func (r *replay) add(c lag.Change, service int32, episode int) {
	i := int32(len(r.trace.Arrivals)) //nolint:gosec // bounded by lag.MaxDemand
	a := kcm.Arrival{At: c.At.Seconds(), Service: service}
	for in := range kcm.APIs {
		class, late := outcomeIn(c, in)
		a.In[in] = class != 0
		a.Reverts[in] = r.reverts(i, side{in, service, c.Direction}, class)
		s := seen{lag: late.Seconds(), open: class == lag.Open}
		s.counts = s.open || class == lag.Closed
		aim := int32(-1)
		if s.counts {
			var at int
			r.rows, _ = counting(r.rows, row{api: in, direction: c.Direction, episode: -1}, i)
			r.aims, at = counting(r.aims, row{api: in, direction: c.Direction, episode: episode}, i)
			aim = int32(at) //nolint:gosec // bounded by the changes
		}
		r.aimOf[in] = append(r.aimOf[in], aim)
		r.seen[in] = append(r.seen[in], s)
	}
	r.trace.Arrivals = append(r.trace.Arrivals, a)
}

// reverts pairs a change that found its outcome published already with the one before it that it took back. Which Pod
// changed was not recorded; the last one of the Service that went the other way is taken.
func (r *replay) reverts(i int32, s side, class lag.Class) int32 {
	if class == lag.Superseded {
		r.overtaken[s] = i
		return 0
	}
	if class != lag.NotNeeded {
		return 0
	}
	s.direction = opposite(s.direction)
	before, known := r.overtaken[s]
	if !known {
		return 0
	}
	delete(r.overtaken, s)
	return before + 1
}

func opposite(d lag.Direction) lag.Direction {
	if d == lag.DirectionAddition {
		return lag.DirectionRemoval
	}
	return lag.DirectionAddition
}

// counting adds an arrival to its row, which is made when first asked for, and returns the row's index. The newest rows
// are looked at first: episodes come one after the other.
func counting(rows []row, w row, arrival int32) (grown []row, at int) {
	at = len(rows) - 1
	for ; at >= 0; at-- {
		if r := &rows[at]; r.api == w.api && r.direction == w.direction && r.episode == w.episode {
			break
		}
	}
	if at < 0 {
		at, rows = len(rows), append(rows, w)
	}
	rows[at].arrivals = append(rows[at].arrivals, arrival)
	return rows, at
}

// run replays everything under flags. The results stay valid until the next run.
func (r *replay) run(flags v1alpha1.Flags) { r.runUnder(flags, r.model) }

func (r *replay) runUnder(flags v1alpha1.Flags, model Parameters) {
	r.sim.Start(&r.trace, flags, model)
	r.sim.Run()
}

// meets reports whether under flags the percentile of every episode would have been at most target, in seconds. It
// gives up as soon as one cannot be.
func (r *replay) meets(flags v1alpha1.Flags, model Parameters, percentile, target float64) bool {
	allowed := r.misses
	for i, w := range r.aims {
		allowed[i] = len(w.arrivals) - rank(percentile, len(w.arrivals))
	}
	met := true
	r.sim.Start(&r.trace, flags, model)
	r.sim.Stop = func(in kcm.API, arrival int32, lag float64) bool {
		if i := r.aimOf[in][arrival]; lag > target && i >= 0 {
			allowed[i]--
			met = allowed[i] >= 0
		}
		return !met
	}
	r.sim.Run()
	return met
}

// worst returns the largest of the episodes' percentiles, in seconds, after a run; 0 if nothing counts.
func (r *replay) worst(percentile float64) float64 {
	worst := 0.0
	for _, w := range r.aims {
		worst = max(worst, r.predicted(w, percentile))
	}
	return worst
}

// predicted returns a row's percentile after a run, in seconds.
func (r *replay) predicted(w row, percentile float64) float64 {
	r.sorted = r.sorted[:0]
	for _, a := range w.arrivals {
		r.sorted = append(r.sorted, r.sim.Lags(w.api)[a])
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
