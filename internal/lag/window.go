package lag

import (
	"slices"
	"time"
)

// window is a copy of the records between two times, and what is needed to judge them.
type window struct {
	base       time.Time
	start      time.Time
	from, to   time.Duration
	records    []record
	leaderless spans
	gaps       *gaps
	delays     delays
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
		return window{start: q.Since, gaps: &gaps{}}, nil
	}
	w := window{base: t.records.base, start: q.Since, from: q.Since.Sub(t.records.base), to: t.records.since(q.Now)}
	w.leaderless, w.gaps = slices.Clone(t.leaderless), new(t.gaps)
	for k := range w.gaps {
		w.gaps[k] = slices.Clone(w.gaps[k])
	}
	w.delays = delays{began: t.delays.began, ring: slices.Clone(t.delays.ring)}
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
	w.records = make([]record, 0, n+len(t.records.older))
	t.records.each(func(r *record) {
		if !w.holds(r) {
			return
		}
		w.records = append(w.records, *r)
		if _, known := all[r.service]; all != nil && !known {
			all[r.service] = t.describe(r.service)
		}
	})
	if pushedOut := t.records.last > recordID(len(t.records.ring)); pushedOut && oldest > w.from || q.Since.IsZero() {
		w.start = t.records.base.Add(min(oldest, w.to))
	}
	return w, all
}

// describe returns the Service with its namespace's labels.
func (t *Tracker) describe(s *service) Service {
	out := s.Service
	if ns := t.namespaces[out.Namespace]; ns != nil {
		out.NamespaceLabels = ns.labels
	}
	return out
}

// seen is what a record is in one API at the window's end.
type seen struct {
	class Class
	// lag is how long the difference had stood until then, and stands that it had not ended.
	lag    time.Duration
	stands bool
	// marked says that the end fell into a gap, so that the lag may be too long by doubt.
	marked bool
	doubt  time.Duration
}

// sample says whether percentiles run over it.
func (s seen) sample() bool { return s.class == Open || s.class == Closed }

// unpublished says that it is a change that had not been published, whether a leader was there or not.
func (s seen) unpublished() bool { return s.stands && (s.class == Open || s.class == HandOver) }

// see judges a record in one API as of the window's end.
func (w *window) see(r *record, in api) seen {
	s := seen{class: r.classes[in], lag: r.lags[in], stands: w.stands(r, in)}
	if s.stands {
		s.lag = w.to - r.at
		if s.class == Closed || s.class == Superseded {
			s.class = Open
		}
	}
	if !s.sample() {
		return s
	}
	if _, unknown := w.gaps[r.opener].around(r.at); unknown {
		s.class = Gap
		return s
	}
	if gap, blind := w.gaps[in.kind()].around(r.at + s.lag); blind {
		s = s.behind(max(gap.from, r.at) - r.at)
	}
	if w.leaderless.overlap(r.at, r.at+s.lag) {
		s.class = HandOver
	}
	return s
}

// behind marks what ended, or still stands, while nobody saw what is published, from the given lag on.
func (s seen) behind(known time.Duration) seen {
	s.marked = true
	if s.class == Open { // Its age is known until the watch broke, and no further.
		s.lag = known
	} else {
		s.doubt = s.lag - known
	}
	return s
}

// stands says that the difference had not ended at the window's end.
func (w *window) stands(r *record, in api) bool {
	return r.classes[in] != 0 && (r.lags[in] == standing || r.lags[in] > w.to-r.at)
}

// stratum says in which state of kube-controller-manager the change fell.
func (w *window) stratum(r *record, s seen) Stratum {
	switch {
	case s.class == HandOver:
		return StratumHandOver
	case w.leaderless.endedWithin(afterRestart, r.at):
		return StratumAfterRestart
	}
	return StratumNormal
}

// late is by how much the lag of a sample may be wrong: each stamp may be late by the delay of its second, and both
// errors have opposite signs, so that the larger one counts. An end in a gap may be late by the whole gap.
func (w *window) late(r *record, s seen) (bound time.Duration, known bool) {
	began, known := w.delays.at(r.at)
	ended := began
	if s.class != Open {
		var also bool
		ended, also = w.delays.at(r.at + s.lag)
		known = known && also
	}
	return max(began, ended, s.doubt), known
}

// OldestOpen returns when the oldest change was made that is not published by now in one of the APIs, of those made at
// floor or later. It is false if there is none.
func (t *Tracker) OldestOpen(floor, now time.Time) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.records.base.IsZero() {
		return time.Time{}, false
	}
	w := window{from: floor.Sub(t.records.base), to: t.records.since(now), leaderless: t.leaderless, gaps: &t.gaps}
	oldest := forever
	t.records.each(func(r *record) {
		for in := range apiCount {
			if r.at < oldest && w.holds(r) && w.stands(r, in) && w.see(r, in).unpublished() {
				oldest = r.at
			}
		}
	})
	if oldest == forever {
		return time.Time{}, false
	}
	return t.records.base.Add(oldest), true
}
