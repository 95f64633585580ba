package lag

import (
	"cmp"
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
	// Worst is how many Services Summary.Worst lists at most.
	Worst int
}

// Quantile is a percentile of lags. LowerBound says that it rests on a change still open, which counts with its age:
// read it as "at least".
type Quantile struct {
	Value      time.Duration
	LowerBound bool
}

// Stat is the lag of one Resource in one Direction. Every change is counted in one class: Changes = Closed + Open +
// Superseded + NotNeeded + Startup + Gap + HandOver + OverCapacity + Unacted.
type Stat struct {
	Resource  Resource
	Direction Direction

	Changes, Closed, Open                                                int
	Superseded, NotNeeded, Startup, Gap, HandOver, OverCapacity, Unacted int
	// Drift counts published states that left the desired one by themselves; they are not changes.
	Drift int

	// P50, P90, P99, P999 and Max run over the samples: the Closed and Open changes, zero without any.
	P50, P90, P99, P999, Max Quantile
	// Marked counts the samples that ended while the watch of what is published was broken: their lag may be too long by
	// the length of the gap, and ErrorBound says so.
	Marked int
	// AfterRestart counts the samples that began within a minute after a leader appeared.
	AfterRestart int
	// Episodes counts the bursts that the samples came in: one begins half a minute or more after the last sample of the
	// one before. Samples of one episode hang together, so that a percentile from one or two says little about the next.
	Episodes int
	// OldestOpen is the age of the oldest change that is open, hand-over included.
	OldestOpen time.Duration
	// StartupOpen counts the differences of class Startup that still stand, and OldestStartup is for how long one did, or
	// does, at least: since the tracker began to look.
	StartupOpen   int
	OldestStartup time.Duration
	// WrongEndpointSeconds adds up how long each difference that began in the window stood, of whatever class: ready but
	// missing, or gone but present. Over capacity is left out.
	WrongEndpointSeconds float64
}

// Samples is the number of changes that the percentiles run over.
func (s Stat) Samples() int { return s.Closed + s.Open }

// ServiceStat is what became of one Service's changes.
type ServiceStat struct {
	Namespace, Name string
	// Changes and Open count samples, those of both APIs.
	Changes, Open int
	// Max is the longest lag.
	Max Quantile
	// WrongEndpointSeconds is as in Stat, both APIs together.
	WrongEndpointSeconds float64
}

// Blindness is a time in which the watch of a kind did not tell what happened. To is zero while it lasts.
type Blindness struct {
	Kind     Kind
	From, To time.Time
}

// Summary is what a window shows: six Stats, each Resource in each Direction.
type Summary struct {
	Stats []Stat
	// HandOver are the same rows over the changes that met a time without a leader, which are in no percentile of Stats.
	HandOver []Stat
	// AfterRestart are the same rows over the samples of Stats that began within a minute after a leader appeared.
	AfterRestart []Stat
	// From and To are the window; From is later than Query.Since when older changes were pushed out. Those of them that are
	// not published yet are in all figures nevertheless.
	From, To time.Time

	// Removal is the 99.9th percentile of all removals in both APIs, those that met a time without a leader included, and
	// Removals is their number: a Pod that goes on serving for that long is not missed by those who read what is
	// published. Below 1,000 it is the longest.
	Removal  Quantile
	Removals int

	// ErrorBound is by how much the lag of any sample may be wrong, given what SetDelay and SetReceiving told. BoundKnown
	// says that they told it for every sample.
	ErrorBound time.Duration
	BoundKnown bool
	// Blind are the gaps that the window meets, by kind and time.
	Blind []Blindness

	// Worst are the Services with the most wrong endpoint seconds, the worst first; at most Query.Worst.
	Worst []ServiceStat
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
	count := newCount(&w, q)
	for i := range w.records {
		count.add(&w.records[i])
	}
	removals := sorted(count.removals())
	return Summary{
		Stats: count.all.rows(), HandOver: count.handOver.rows(), AfterRestart: count.afterRestart.rows(),
		From: w.start, To: q.Now,
		Removal: quantile(removals, removalPercentile), Removals: len(removals),
		ErrorBound: count.bound, BoundKnown: count.boundKnown,
		Blind: w.blindness(), Worst: worst(count.services, q.Worst),
	}
}

// removalPercentile is the share of removals that a Pod's farewell should cover.
const removalPercentile = 0.999

// count is a window being counted.
type count struct {
	window                      *window
	all, handOver, afterRestart table
	services                    map[*service]*ServiceStat // nil: nobody asks
	bound                       time.Duration
	boundKnown                  bool
}

func newCount(w *window, q Query) *count {
	c := &count{window: w, all: newTable(), handOver: newTable(), afterRestart: newTable(), boundKnown: true}
	if q.Worst > 0 {
		c.services = map[*service]*ServiceStat{}
	}
	c.all.expect(w.records)
	return c
}

// removals are the lags of all removals in both APIs, with a leader and without.
func (c *count) removals() []sample {
	var out []sample
	for in := range apiCount {
		out = slices.Concat(out, c.all[in][1+removal].samples, c.handOver[in][1+removal].samples)
	}
	return out
}

// add counts one record in both APIs.
func (c *count) add(r *record) {
	for in := range apiCount {
		if r.classes[in] == 0 {
			continue
		}
		s := c.window.see(r, in)
		restarted := c.window.stratum(r, s) == StratumAfterRestart
		e := entry{record: r, seen: s, restarted: restarted}
		c.all.add(in, e)
		if s.class == HandOver {
			c.handOver.addAsSample(in, e)
		} else if restarted && s.sample() {
			c.afterRestart.add(in, e)
		}
		if s.sample() {
			late, known := c.window.late(r, s)
			c.bound, c.boundKnown = max(c.bound, late), c.boundKnown && known
		}
		if c.services != nil {
			c.addService(e)
		}
	}
}

func (c *count) addService(e entry) {
	s := c.services[e.record.service]
	if s == nil {
		s = &ServiceStat{Namespace: e.record.service.Namespace, Name: e.record.service.Name}
		c.services[e.record.service] = s
	}
	if e.seen.class != OverCapacity {
		s.WrongEndpointSeconds += e.seen.lag.Seconds()
	}
	if !e.seen.sample() {
		return
	}
	s.Changes++
	if e.seen.class == Open {
		s.Open++
	}
	if e.seen.lag > s.Max.Value {
		s.Max = Quantile{e.seen.lag, e.seen.class == Open}
	}
}

// worst returns the n Services that were wrong for longest.
func worst(services map[*service]*ServiceStat, n int) []ServiceStat {
	if n <= 0 {
		return nil
	}
	out := make([]ServiceStat, 0, len(services))
	for _, s := range services {
		if s.WrongEndpointSeconds > 0 {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b ServiceStat) int {
		return cmp.Or(cmp.Compare(b.WrongEndpointSeconds, a.WrongEndpointSeconds),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return slices.Clip(out[:min(n, len(out))])
}

// blindness returns the gaps that the window meets.
func (w *window) blindness() []Blindness {
	var out []Blindness
	for k, all := range w.gaps {
		for _, gap := range all {
			if gap.to < w.from || gap.from > w.to {
				continue
			}
			b := Blindness{Kind: Kind(k), From: w.base.Add(gap.from)}
			if gap.to <= w.to {
				b.To = w.base.Add(gap.to)
			}
			out = append(out, b)
		}
	}
	return out
}
