package observer

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// ledger holds, for one resource, what every Pod's membership should be and is, and how long it took to become so.
type ledger struct {
	objects    map[string]map[types.UID]bool // Object (slice or Endpoints) → Pods it shows as ready.
	visible    map[types.UID]visibility
	open       map[types.UID]entry
	closed     []entry
	superseded []entry // Closed when they were overtaken.
}

// visibility is in how many objects a Pod shows as ready, and since when it does or does not.
type visibility struct {
	objects int
	since   time.Time
}

// entry is one change of a Pod's wanted membership.
type entry struct {
	pod            types.UID
	service        string
	added          bool
	opened, closed time.Time // closed is zero while the change is open.
}

func newLedger() *ledger {
	return &ledger{
		objects: map[string]map[types.UID]bool{}, visible: map[types.UID]visibility{}, open: map[types.UID]entry{},
	}
}

// want records that a Pod's membership should be e.added from now on, when it should have been the opposite since before.
func (l *ledger) want(e entry, before time.Time) {
	if previous, ok := l.open[e.pod]; ok {
		// What was asked for before never showed, and need not any more.
		delete(l.open, e.pod)
		l.supersede(previous, e.opened)
		return
	}
	v := l.visible[e.pod]
	switch {
	case (v.objects > 0) != e.added:
		l.open[e.pod] = e
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
func (l *ledger) publish(object string, shows map[types.UID]bool, now time.Time) {
	before := l.objects[object]
	if len(shows) == 0 {
		delete(l.objects, object)
	} else {
		l.objects[object] = shows
	}
	for pod := range shows {
		if !before[pod] {
			l.show(pod, 1, now)
		}
	}
	for pod := range before {
		if !shows[pod] {
			l.show(pod, -1, now)
		}
	}
}

// show counts one object more or less that shows the Pod, and closes the change that waits for it.
func (l *ledger) show(pod types.UID, by int, now time.Time) {
	v := l.visible[pod]
	was := v.objects > 0
	v.objects += by
	is := v.objects > 0
	if is != was {
		v.since = now
	}
	l.visible[pod] = v
	if e, ok := l.open[pod]; ok && e.added == is {
		e.closed = now
		l.closed = append(l.closed, e)
		delete(l.open, pod)
	}
}

// forget drops a Pod that is gone and shows nowhere, so that the ledger does not grow with churn.
func (l *ledger) forget(pod types.UID) {
	if _, waits := l.open[pod]; !waits && l.visible[pod].objects == 0 {
		delete(l.visible, pod)
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
