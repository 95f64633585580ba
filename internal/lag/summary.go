package lag

import (
	"math"
	"slices"
	"time"
)

// Query says which changes a Summary is about.
type Query struct {
	// Now is the end of the window. What ended later counts as open.
	Now time.Time
	// Since is the start: a change counts if it opened then or later. Zero means everything kept.
	Since time.Time
	// Measured chooses the Services; nil takes all. It is called once for each Service in the window.
	Measured func(Service) bool
}

// Quantile is a percentile of lags. LowerBound says that it rests on a change still open, which counts with its age:
// read it as "at least".
type Quantile struct {
	Value      time.Duration
	LowerBound bool
}

// Stat is the lag of one Resource in one Direction. Changes = Closed + Open + Superseded + NotNeeded + Startup + HandOver
// + OverCapacity.
type Stat struct {
	Resource  Resource
	Direction Direction

	Changes, Closed, Open                                  int
	Superseded, NotNeeded, Startup, HandOver, OverCapacity int
	// Drift counts published states that left the desired one by themselves; they are not changes.
	Drift int

	// P50, P90, P99 and Max run over the Closed and Open changes; zero without any.
	P50, P90, P99, Max Quantile
	// OldestOpen is the age of the oldest change that is open, hand-over included.
	OldestOpen time.Duration
	// WrongEndpointSeconds adds up how long each difference that began in the window stood, of whatever class: ready but
	// missing, or gone but present. Over capacity is left out.
	WrongEndpointSeconds float64
}

// Samples is the number of changes that the percentiles run over.
func (s Stat) Samples() int { return s.Closed + s.Open }

// Summary is what a window shows: six Stats, each Resource in each Direction.
type Summary struct {
	Stats []Stat
	// From and To are the window; From is later than Query.Since when older changes were pushed out.
	From, To time.Time
}

// Stat returns the row of a Resource and Direction; the zero Stat if there is none.
func (s Summary) Stat(r Resource, d Direction) Stat {
	for _, stat := range s.Stats {
		if stat.Resource == r && stat.Direction == d {
			return stat
		}
	}
	return Stat{}
}

// Summary returns the lag in a window. It holds the tracker's lock only while it copies the window.
func (t *Tracker) Summary(q Query) Summary {
	w := t.window(q)
	out := Summary{From: w.start, To: q.Now}
	for in := range apiCount {
		out.Stats = append(out.Stats, w.stats(in)...)
	}
	return out
}

// window is a copy of the records between two times.
type window struct {
	base       time.Time
	start      time.Time
	from, to   time.Duration
	records    []record
	leaderless []span
}

// holds says whether a record opened in the window.
func (w *window) holds(r *record) bool { return r.at >= w.from && r.at <= w.to }

// window copies the records of a query.
func (t *Tracker) window(q Query) window {
	w, all := t.copyWindow(q)
	if q.Measured == nil {
		return w
	}
	measured := make(map[*service]bool, len(all))
	for s, value := range all {
		measured[s] = q.Measured(value)
	}
	w.records = slices.DeleteFunc(w.records, func(r record) bool { return !measured[r.service] })
	return w
}

// copyWindow copies the records of a query and, if it asks for a choice, the Services they are of.
func (t *Tracker) copyWindow(q Query) (window, map[*service]Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.records.base.IsZero() {
		return window{start: q.Since}, nil
	}
	w := window{base: t.records.base, start: q.Since, from: q.Since.Sub(t.records.base), to: t.records.since(q.Now)}
	w.leaderless = slices.Clone(t.leaderless)
	var all map[*service]Service
	if q.Measured != nil {
		all = map[*service]Service{}
	}
	oldest, n := forever, 0
	for i := range t.records.ring {
		oldest = min(oldest, t.records.ring[i].at)
		if w.holds(&t.records.ring[i]) {
			n++
		}
	}
	w.records = make([]record, 0, n)
	for i := range t.records.ring {
		r := &t.records.ring[i]
		if !w.holds(r) {
			continue
		}
		w.records = append(w.records, *r)
		if _, known := all[r.service]; all != nil && !known {
			all[r.service] = t.describe(r.service)
		}
	}
	if pushedOut := int(t.records.last) > len(t.records.ring); pushedOut && oldest > w.from || q.Since.IsZero() {
		w.start = t.records.base.Add(min(oldest, w.to))
	}
	return w, all
}

// OldestOpen returns when the oldest change was made that is not published by now in one of the APIs, of those made at
// floor or later. It is false if there is none.
func (t *Tracker) OldestOpen(floor, now time.Time) (time.Time, bool) {
	w, _ := t.copyWindow(Query{Since: floor, Now: now})
	oldest := forever
	for i := range w.records {
		r := &w.records[i]
		for in := range apiCount {
			if r.outcomes[in].class != "" && w.unpublished(r, in) {
				oldest = min(oldest, r.at)
			}
		}
	}
	return w.base.Add(min(oldest, w.to)), oldest != forever
}

// describe returns the Service with its namespace's labels.
func (t *Tracker) describe(s *service) Service {
	out := s.Service
	if ns := t.namespaces[out.Namespace]; ns != nil {
		out.NamespaceLabels = ns.labels
	}
	return out
}

// classify returns what an outcome is at the window's end, and how long it had stood until then.
func (w *window) classify(r *record, o outcome) (Class, time.Duration) {
	class, lag := o.class, o.lag
	if age := w.to - r.at; lag == standing || lag > age {
		lag = age
		if class == Closed || class == Superseded {
			class = Open
		}
	}
	if (class == Open || class == Closed) && handedOver(w.leaderless, r.at, r.at+lag) {
		return HandOver, lag
	}
	return class, lag
}

// unpublished says that a change had not been published at the window's end, whether a leader was there or not.
func (w *window) unpublished(r *record, in api) bool {
	o := r.outcomes[in]
	ended := o.lag != standing && o.lag <= w.to-r.at
	return !ended && (o.class == Open || o.class == Closed || o.class == Superseded)
}

// tally is a Stat being counted, with the samples its percentiles run over.
type tally struct {
	Stat

	samples []sample
}

// stats returns the rows of one Resource: any direction, additions, removals.
func (w *window) stats(in api) []Stat {
	additions := tally{Stat: Stat{Resource: resources[in], Direction: DirectionAddition}}
	removals := tally{Stat: Stat{Resource: resources[in], Direction: DirectionRemoval}}
	for i := range w.records {
		switch r := &w.records[i]; {
		case r.outcomes[in].class == "":
		case r.direction == DirectionAddition:
			additions.add(w, r, in)
		default:
			removals.add(w, r, in)
		}
	}
	slices.Sort(additions.samples)
	slices.Sort(removals.samples)
	both := merge(&additions, &removals)
	return []Stat{both.rank(), additions.rank(), removals.rank()}
}

// add counts one record.
func (t *tally) add(w *window, r *record, in api) {
	class, lag := w.classify(r, r.outcomes[in])
	t.count(class)
	if class == Open || class == Closed {
		t.samples = append(t.samples, newSample(lag, class))
	}
	if w.unpublished(r, in) {
		t.OldestOpen = max(t.OldestOpen, lag)
	}
	if class != OverCapacity {
		t.WrongEndpointSeconds += lag.Seconds()
	}
}

// merge counts two directions together; their samples are sorted and stay so.
func merge(a, b *tally) tally {
	out := tally{Stat: Stat{
		Resource: a.Resource, Direction: DirectionAny,
		Changes: a.Changes + b.Changes, Closed: a.Closed + b.Closed, Open: a.Open + b.Open,
		Superseded: a.Superseded + b.Superseded, NotNeeded: a.NotNeeded + b.NotNeeded, Startup: a.Startup + b.Startup,
		HandOver: a.HandOver + b.HandOver, OverCapacity: a.OverCapacity + b.OverCapacity, Drift: a.Drift + b.Drift,
		OldestOpen:           max(a.OldestOpen, b.OldestOpen),
		WrongEndpointSeconds: a.WrongEndpointSeconds + b.WrongEndpointSeconds,
	}}
	out.samples = make([]sample, 0, len(a.samples)+len(b.samples))
	x, y := a.samples, b.samples
	for len(x) > 0 && len(y) > 0 {
		if x[0] <= y[0] {
			out.samples, x = append(out.samples, x[0]), x[1:]
		} else {
			out.samples, y = append(out.samples, y[0]), y[1:]
		}
	}
	out.samples = append(append(out.samples, x...), y...)
	return out
}

// rank fills in the percentiles of sorted samples.
func (t *tally) rank() Stat {
	t.P50, t.P90 = quantile(t.samples, 0.50), quantile(t.samples, 0.90)
	t.P99, t.Max = quantile(t.samples, 0.99), quantile(t.samples, 1)
	return t.Stat
}

func (s *Stat) count(c Class) {
	s.Changes++
	switch c {
	case Closed:
		s.Closed++
	case Open:
		s.Open++
	case Superseded:
		s.Superseded++
	case NotNeeded:
		s.NotNeeded++
	case Startup:
		s.Startup++
	case HandOver:
		s.HandOver++
	case OverCapacity:
		s.OverCapacity++
	case Drift:
		s.Drift++
		s.Changes--
	}
}

// sample is a lag in nanoseconds, shifted by one bit; the lowest bit says that it is still growing. It sorts by lag.
type sample int64

func newSample(lag time.Duration, c Class) sample {
	s := sample(lag) << 1
	if c == Open {
		s |= 1
	}
	return s
}

// quantile is the nearest-rank percentile of sorted samples: the ⌈p·n⌉-th smallest.
func quantile(sorted []sample, p float64) Quantile {
	if len(sorted) == 0 {
		return Quantile{}
	}
	s := sorted[max(1, rank(p, len(sorted)))-1]
	return Quantile{Value: time.Duration(s >> 1), LowerBound: s&1 == 1}
}

// rank is ⌈p·n⌉, not thrown off by the binary form of p.
func rank(p float64, n int) int { return int(math.Ceil(p*float64(n) - 1e-9)) }
