package observer

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// member is a Pod as an endpoint of one of its Services.
type member struct {
	pod     types.UID
	service string
}

// ledger holds, for one resource, what every membership should be and is, and how long it took to become so.
type ledger struct {
	objects    map[string]map[member]bool // Object (slice or Endpoints) → members it shows as ready.
	visible    map[member]visibility
	open       map[member]entry
	closed     []entry
	superseded []entry // Closed when they were overtaken.
}

// visibility is in how many objects a member shows as ready, and since when it does or does not.
type visibility struct {
	objects int
	since   time.Time
}

// entry is one change of a wanted membership.
type entry struct {
	member

	added          bool
	opened, closed time.Time // closed is zero while the change is open.
}

func newLedger() *ledger {
	return &ledger{
		objects: map[string]map[member]bool{}, visible: map[member]visibility{}, open: map[member]entry{},
	}
}

// want records that a membership should be e.added from now on, when it should have been the opposite since before.
func (l *ledger) want(e entry, before time.Time) {
	if previous, ok := l.open[e.member]; ok {
		// What was asked for before never showed, and need not any more.
		delete(l.open, e.member)
		l.supersede(previous, e.opened)
		return
	}
	v := l.visible[e.member]
	switch {
	case (v.objects > 0) != e.added:
		l.open[e.member] = e
	case v.since.After(before):
		// The publication reached us before its cause did: two watches are two streams.
		e.closed = e.opened
		l.closed = append(l.closed, e)
	default:
		// It was wrong all along and now is right by itself.
		l.supersede(e, e.opened)
	}
}

func (l *ledger) supersede(e entry, now time.Time) {
	e.closed = now
	l.superseded = append(l.superseded, e)
}

// publish records what an object shows from now on; nil when it is gone.
func (l *ledger) publish(object string, shows map[member]bool, now time.Time) {
	before := l.objects[object]
	if len(shows) == 0 {
		delete(l.objects, object)
	} else {
		l.objects[object] = shows
	}
	for m := range shows {
		if !before[m] {
			l.show(m, 1, now)
		}
	}
	for m := range before {
		if !shows[m] {
			l.show(m, -1, now)
		}
	}
}

// show counts one object more or less that shows the member, and closes the change that waits for it.
func (l *ledger) show(m member, by int, now time.Time) {
	v := l.visible[m]
	was := v.objects > 0
	v.objects += by
	is := v.objects > 0
	if is != was {
		v.since = now
	}
	l.visible[m] = v
	if e, ok := l.open[m]; ok && e.added == is {
		e.closed = now
		l.closed = append(l.closed, e)
		delete(l.open, m)
	}
}

// forget drops a member whose Pod is gone and shows nowhere, so that the ledger does not grow with churn.
func (l *ledger) forget(m member) {
	if _, waits := l.open[m]; !waits && l.visible[m].objects == 0 {
		delete(l.visible, m)
	}
}

// changes returns the changes that opened in a window, open ones with their age so far.
func (l *ledger) changes(w window, now time.Time) []Change {
	var out []Change
	for _, e := range l.closed {
		if w.has(e.opened) {
			out = append(out, e.change(w, e.closed))
		}
	}
	for _, e := range l.open {
		if w.has(e.opened) {
			c := e.change(w, now)
			c.Pending = true
			out = append(out, c)
		}
	}
	return out
}

// overtaken returns the superseded changes that opened in a window, with their age when they were overtaken.
func (l *ledger) overtaken(w window) []Change {
	var out []Change
	for _, e := range l.superseded {
		if w.has(e.opened) {
			out = append(out, e.change(w, e.closed))
		}
	}
	return out
}

func (e entry) change(w window, until time.Time) Change {
	return Change{
		Service: e.service, Pod: string(e.pod), Added: e.added,
		At: e.opened.Sub(w.from), Lag: until.Sub(e.opened),
	}
}

// window is a stretch of time; to is zero while it lasts.
type window struct {
	name     string
	from, to time.Time
}

func (w window) has(t time.Time) bool { return !t.Before(w.from) && (w.to.IsZero() || t.Before(w.to)) }
