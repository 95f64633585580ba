package lag

import "time"

// Class is how a change ended, for one Resource. The zero value is that of a change that does not concern the Resource.
type Class uint8

// The classes of a change. Closed and Open are the samples that percentiles run over.
const (
	// Closed changes were published.
	Closed Class = iota + 1
	// Open changes are not published yet; they count with their age so far.
	Open
	// Superseded changes were replaced by another before they were published, or their Service was deleted.
	Superseded
	// NotNeeded changes found their outcome published already and not because of them: the reversal of a superseded one.
	NotNeeded
	// Startup differences stood when the tracker began to look; nobody knows since when.
	Startup
	// Gap changes were noticed while the watch that tells of them was broken or catching up; nobody knows since when.
	Gap
	// HandOver changes were open while no kube-controller-manager led.
	HandOver
	// OverCapacity changes are of a Service with more members than an Endpoints object can show.
	OverCapacity
	// Unacted differences are none that kube-controller-manager acts on by itself: a Pod that ended by its phase alone, a
	// Node that came or went. They stay until something else happens to the Service.
	Unacted
	// Drift is a published state that left the desired one although that had not changed: the late publication of an
	// obsolete state, a slice being rearranged, or an edit by somebody else. It is not a change and never a sample.
	Drift
	classCount
)

var classNames = [classCount]string{
	"", "Closed", "Open", "Superseded", "NotNeeded", "Startup", "Gap", "HandOver", "OverCapacity", "Unacted", "Drift",
}

// String returns the name of the class; empty for the zero value.
func (c Class) String() string { return classNames[c] }

// standing is the lag of a difference that has not ended.
const standing time.Duration = -1

// record is one change, or one drift. There may be hundreds of thousands, so it is packed: 40 bytes.
type record struct {
	service *service
	at      time.Duration           // since records.base
	lags    [apiCount]time.Duration // how long the difference stood in each API
	classes [apiCount]Class         // zero where it does not concern the API
	way     way
	opener  Kind // of the object whose event opened it
}

// stands says that the difference has not ended in the API.
func (r *record) stands(in api) bool { return r.classes[in] != 0 && r.lags[in] == standing }

// recordID numbers records from 1; 0 is none.
type recordID int

// records keeps the newest capacity records, and of older ones those that still stand: no more than there are
// memberships in the cluster.
type records struct {
	capacity int
	base     time.Time
	last     recordID
	ring     []record
	older    map[recordID]*record
}

// since converts to the records' own time. The first time seen is its zero.
func (r *records) since(at time.Time) time.Duration {
	if r.base.IsZero() {
		r.base = at
	}
	return at.Sub(r.base)
}

// slot is where the ring keeps a record.
func (r *records) slot(id recordID) *record { return &r.ring[(id-1)%recordID(r.capacity)] }

func (r *records) add(added record) recordID {
	r.last++
	if len(r.ring) < r.capacity {
		r.ring = append(r.ring, added)
		return r.last
	}
	slot := r.slot(r.last)
	if slot.stands(sliceAPI) || slot.stands(endpointsAPI) {
		pushedOut := *slot
		if r.older == nil {
			r.older = map[recordID]*record{}
		}
		r.older[r.last-recordID(r.capacity)] = &pushedOut
	}
	*slot = added
	return r.last
}

// get returns a record that is kept; every one that stands is.
func (r *records) get(id recordID) *record {
	if r.last-id >= recordID(r.capacity) {
		return r.older[id]
	}
	return r.slot(id)
}

// ended forgets an older record that stands nowhere any more.
func (r *records) ended(id recordID) {
	if old := r.older[id]; old != nil && !old.stands(sliceAPI) && !old.stands(endpointsAPI) {
		delete(r.older, id)
	}
}

// each calls f for every record kept, the older ones first and the others in the order in which they were added.
func (r *records) each(f func(*record)) {
	for _, old := range r.older {
		f(old)
	}
	first := 0
	if len(r.ring) == r.capacity {
		first = int(r.last % recordID(r.capacity))
	}
	for i := range r.ring {
		f(&r.ring[(first+i)%len(r.ring)])
	}
}

// begin adds a record of a difference that an event of the given kind opened.
func (t *Tracker) begin(s *service, d way, by Kind, at time.Time) recordID {
	return t.records.add(record{service: s, at: t.records.since(at), way: d, opener: by})
}

// open gives a record an outcome that stands until the member's next conforming publication, or another change, ends it.
func (t *Tracker) open(m *member, in api, id recordID, c Class) {
	r := t.records.get(id)
	r.classes[in], r.lags[in] = c, standing
	t.totals[in][r.way].open(r.at, c)
	m.cells[in].pending = id
}

// settle gives a record an outcome that never stood.
func (t *Tracker) settle(m *member, in api, id recordID, c Class) {
	r := t.records.get(id)
	r.classes[in], r.lags[in] = c, 0
	t.tell(m, in, r)
}

// end ends what stands for a member; only an open change takes the class, the others stay what they are.
func (t *Tracker) end(m *member, in api, c Class, at time.Time) {
	id := m.cells[in].pending
	if id == 0 {
		return
	}
	m.cells[in].pending = 0
	r := t.records.get(id)
	// Two watches stamp independently, so an end may carry an earlier time than its beginning.
	lag := max(0, t.records.since(at)-r.at)
	t.totals[in][r.way].end(r.at, lag, r.classes[in])
	if r.classes[in] == Open {
		r.classes[in] = c
	}
	r.lags[in] = lag
	t.tell(m, in, r)
	t.records.ended(id)
}

// explain takes back a drift that turned out to be the publication of a change that was seen later; anything else that
// stands ends as superseded.
func (t *Tracker) explain(m *member, in api, at time.Time) {
	id := m.cells[in].pending
	if id == 0 || t.records.get(id).classes[in] != Drift {
		t.end(m, in, Superseded, at)
		return
	}
	m.cells[in].pending = 0
	r := t.records.get(id)
	t.totals[in][r.way].end(r.at, max(0, t.records.since(at)-r.at), Drift)
	r.classes[in], r.lags[in] = 0, 0
	t.records.ended(id)
}
