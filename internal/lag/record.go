package lag

import "time"

// Class is how a change ended, for one Resource.
type Class string

// The classes of a change. Closed and Open are the samples that percentiles run over.
const (
	// Closed changes were published.
	Closed Class = "Closed"
	// Open changes are not published yet; they count with their age so far.
	Open Class = "Open"
	// Superseded changes were replaced by another before they were published, or their Service was deleted.
	Superseded Class = "Superseded"
	// NotNeeded changes found their outcome published already and not because of them: the reversal of a superseded one.
	NotNeeded Class = "NotNeeded"
	// Startup differences stood when the tracker began to look; nobody knows since when.
	Startup Class = "Startup"
	// HandOver changes were open while no kube-controller-manager led.
	HandOver Class = "HandOver"
	// OverCapacity changes are of a Service with more members than an Endpoints object can show.
	OverCapacity Class = "OverCapacity"
	// Drift is a published state that left the desired one although that had not changed: the late publication of an
	// obsolete state, a slice being rearranged, or an edit by somebody else. It is not a change and never a sample.
	Drift Class = "Drift"
)

// outcome is a Class as kept in a record; "" where the record does not concern the API.
type outcome struct {
	class Class
	// lag is how long the difference stood; standing while it does.
	lag time.Duration
}

// standing marks an outcome that has not ended.
const standing time.Duration = -1

// record is one change, or one drift.
type record struct {
	service   *service
	at        time.Duration // since records.base
	direction Direction
	outcomes  [apiCount]outcome
}

// recordID numbers records from 1; 0 is none.
type recordID int

// records keeps the newest capacity records. Ending one that was pushed out does nothing.
type records struct {
	capacity int
	base     time.Time
	last     recordID
	ring     []record
}

// since converts to the records' own time. The first time seen is its zero.
func (r *records) since(at time.Time) time.Duration {
	if r.base.IsZero() {
		r.base = at
	}
	return at.Sub(r.base)
}

func (r *records) add(s *service, d Direction, at time.Time) recordID {
	added := record{service: s, at: r.since(at), direction: d}
	r.last++
	if len(r.ring) < r.capacity {
		r.ring = append(r.ring, added)
	} else {
		*r.get(r.last) = added
	}
	return r.last
}

// get returns a record, or a throw-away one if it is none or was pushed out.
func (r *records) get(id recordID) *record {
	if id == 0 || int(r.last-id) >= r.capacity {
		return &record{}
	}
	return &r.ring[int(id-1)%r.capacity]
}

// open gives a record an outcome that stands until it ends.
func (r *records) open(id recordID, in api, c Class) {
	r.get(id).outcomes[in] = outcome{class: c, lag: standing}
}

// settle gives a record an outcome that never stood.
func (r *records) settle(id recordID, in api, c Class) {
	r.get(id).outcomes[in] = outcome{class: c}
}

// close ends a standing outcome because what is wanted is published.
func (r *records) close(id recordID, in api, at time.Time) { r.end(id, in, Closed, at) }

// supersede ends a standing outcome because something else is wanted.
func (r *records) supersede(id recordID, in api, at time.Time) { r.end(id, in, Superseded, at) }

// end ends a standing outcome; only an open change takes the class, the others stay what they are.
func (r *records) end(id recordID, in api, c Class, at time.Time) {
	found := r.get(id)
	o := &found.outcomes[in]
	if o.class == Open {
		o.class = c
	}
	// Two watches stamp independently, so an end may carry an earlier time than its beginning.
	o.lag = max(0, r.since(at)-found.at)
}

// explain takes back a drift that turned out to be the publication of a change that was seen later.
func (r *records) explain(id recordID, in api) {
	if o := &r.get(id).outcomes[in]; o.class == Drift {
		*o = outcome{}
	}
}
