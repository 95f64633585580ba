package lag

import (
	"cmp"
	"slices"
	"time"
)

// MaxDemand is how many of the newest changes a Demand holds at most.
const MaxDemand = 50_000

// Demand is which Services changed when, and how late each change was seen: what a model of kube-controller-manager
// replays.
type Demand struct {
	// Start is the time that Change.At counts from.
	Start time.Time
	// Changes are sorted by At; the oldest are left out beyond MaxDemand.
	Changes []Change
}

// Change is one change with its outcome in both APIs. A lag is the time from the change until it was published
// (Class Closed), until the end of the window (Open), or until it was overtaken (Superseded); the Class is zero when
// the change does not concern that API.
type Change struct {
	At time.Duration
	// Service numbers the Services of this Demand from 0.
	Service   int32
	Direction Direction

	SliceLag, EndpointsLag     time.Duration
	SliceClass, EndpointsClass Class
	SliceOpen, EndpointsOpen   bool
	// HandOver says that it met a time without a leader, in either API; Startup that it began before the tracker looked, or
	// while it could not see, so that neither its time nor its lag is known.
	HandOver, Startup bool
}

// Demand returns the changes that opened between since and now, drift left out.
func (t *Tracker) Demand(since, now time.Time) Demand {
	w := t.window(Query{Since: since, Now: now})
	w.records = slices.DeleteFunc(w.records, func(r record) bool {
		return !r.changes(sliceAPI) && !r.changes(endpointsAPI)
	})
	slices.SortStableFunc(w.records, func(a, b record) int { return cmp.Compare(a.at, b.at) })
	w.records = w.records[max(0, len(w.records)-MaxDemand):]
	out := Demand{Start: w.start, Changes: make([]Change, len(w.records))}
	start := w.start.Sub(w.base)
	numbers, next := map[*service]int32{}, int32(0)
	for i := range w.records {
		r := &w.records[i]
		n, known := numbers[r.service]
		if !known {
			n, next = next, next+1
			numbers[r.service] = n
		}
		out.Changes[i] = w.change(r)
		out.Changes[i].At, out.Changes[i].Service = r.at-start, n
	}
	return out
}

// changes says that the record is a change, and one that kube-controller-manager acts on.
func (r *record) changes(in api) bool {
	c := r.classes[in]
	return c != 0 && c != Drift && c != Unacted
}

// change returns a record's outcomes at the window's end.
func (w *window) change(r *record) Change {
	slice, endpoints := w.see(r, sliceAPI), w.see(r, endpointsAPI)
	return Change{
		Direction:  directions[r.way],
		SliceClass: slice.class, SliceLag: slice.lag,
		EndpointsClass: endpoints.class, EndpointsLag: endpoints.lag,
		SliceOpen: slice.unpublished(), EndpointsOpen: endpoints.unpublished(),
		HandOver: slice.class == HandOver || endpoints.class == HandOver,
		Startup:  slice.unknown() || endpoints.unknown(),
	}
}

// unknown says that nobody knows when the change began.
func (s seen) unknown() bool { return s.class == Startup || s.class == Gap }
