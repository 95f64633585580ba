package lag

import (
	"math"
	"slices"
	"time"
)

// entry is a record as seen in one API.
type entry struct {
	record    *record
	seen      seen
	restarted bool
}

// ended says whether a change was published, with a leader or without.
func (e entry) ended() Class {
	if e.seen.unpublished() {
		return Open
	}
	return Closed
}

// table is the six rows of a Summary being counted.
type table [apiCount][1 + wayCount]tally

// tally is a Stat being counted. The rows of one direction keep the samples that the percentiles run over.
type tally struct {
	Stat

	samples []sample
	last    time.Duration // when the latest sample began
}

func newTable() table {
	var t table
	for in := range t {
		t[in][0].Stat = Stat{Resource: resources[in], Direction: DirectionAny}
		t[in][1+addition].Stat = Stat{Resource: resources[in], Direction: DirectionAddition}
		t[in][1+removal].Stat = Stat{Resource: resources[in], Direction: DirectionRemoval}
	}
	return t
}

// expect makes room for as many samples as there can be, so that nothing grows.
func (t *table) expect(records []record) {
	var n [apiCount][wayCount]int
	for i := range records {
		for in := range apiCount {
			if c := records[i].classes[in]; c == Closed || c == Open {
				n[in][records[i].way]++
			}
		}
	}
	for in := range t {
		for d := range wayCount {
			t[in][1+d].samples = make([]sample, 0, n[in][d])
		}
	}
}

func (t *table) add(in api, e entry) {
	t[in][0].add(e)
	row := &t[in][1+e.record.way]
	row.add(e)
	if e.seen.sample() {
		row.samples = append(row.samples, newSample(e.seen.lag, e.seen.class))
	}
}

// addAsSample counts a change that met a time without a leader as the sample that it would have been.
func (t *table) addAsSample(in api, e entry) {
	e.seen.class = e.ended()
	t.add(in, e)
}

// rows returns any direction, additions and removals of each API.
func (t *table) rows() []Stat {
	var out []Stat
	for in := range t {
		both, additions, removals := &t[in][0], &t[in][1+addition], &t[in][1+removal]
		added, removed := sorted(additions.samples), sorted(removals.samples)
		out = append(out, both.rank(merged(added, removed)), additions.rank(added), removals.rank(removed))
	}
	return out
}

// quiet is what lies between two episodes at least: as long as the worst backlog at the default flags takes to drain, so
// that one backlog is not taken for several episodes.
const quiet = 30 * time.Second

// add counts one record.
func (t *tally) add(e entry) {
	t.count(e.seen.class)
	if e.seen.sample() {
		t.sampled(e)
	}
	if e.seen.unpublished() {
		t.OldestOpen = max(t.OldestOpen, e.seen.lag)
	}
	if e.seen.class == Startup {
		t.OldestStartup = max(t.OldestStartup, e.seen.lag)
		if e.seen.stands {
			t.StartupOpen++
		}
	}
	if e.seen.class != OverCapacity {
		t.WrongEndpointSeconds += e.seen.lag.Seconds()
	}
}

// sampled counts what is said of samples only. Records come in the order in which they were added.
func (t *tally) sampled(e entry) {
	if t.Samples() == 1 || e.record.at-t.last >= quiet {
		t.Episodes++
	}
	t.last = max(t.last, e.record.at)
	if e.seen.marked {
		t.Marked++
	}
	if e.restarted {
		t.AfterRestart++
	}
}

// rank fills in the percentiles of sorted samples.
func (t *tally) rank(s []sample) Stat {
	t.P50, t.P90, t.P99 = quantile(s, 0.50), quantile(s, 0.90), quantile(s, 0.99)
	t.P999, t.Max = quantile(s, 0.999), quantile(s, 1)
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
	case Gap:
		s.Gap++
	case HandOver:
		s.HandOver++
	case OverCapacity:
		s.OverCapacity++
	case Unacted:
		s.Unacted++
	case Drift:
		s.Drift++
		s.Changes--
	case classCount:
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

func sorted(s []sample) []sample {
	slices.Sort(s)
	return s
}

// merged is two sorted lists in one.
func merged(a, b []sample) []sample {
	out := make([]sample, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] <= b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

func (s sample) lag() time.Duration { return time.Duration(s >> 1) }

func (s sample) growing() bool { return s&1 == 1 }

// quantile is the nearest-rank percentile of sorted samples: the ⌈p·n⌉-th smallest. Those up to there that still grow
// may end above it and lift it by as many ranks: it is a lower bound when that could be more than a tenth of it.
func quantile(sorted []sample, p float64) Quantile {
	if len(sorted) == 0 {
		return Quantile{}
	}
	k := max(1, rank(p, len(sorted)))
	at, growing := sorted[k-1], 0
	for _, s := range sorted[:k] {
		if s.growing() {
			growing++
		}
	}
	lifted := k + growing
	return Quantile{
		Value:      at.lag(),
		LowerBound: at.growing() || lifted > len(sorted) || sorted[lifted-1].lag() > at.lag()+at.lag()/10,
	}
}

// rank is ⌈p·n⌉, not thrown off by the binary form of p.
func rank(p float64, n int) int { return int(math.Ceil(p*float64(n) - 1e-9)) }
