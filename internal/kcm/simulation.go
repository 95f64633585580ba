package kcm

import (
	"container/heap"
	"math"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Trace is demand as the model takes it: arrivals in order of time.
type Trace struct {
	Arrivals []Arrival
	// Services is how many there are; each Arrival.Service is below it.
	Services int
}

// Arrival is one change of one Service.
type Arrival struct {
	// At is when the Pod changed, in seconds since the start of the trace: float64 is exact to better than a microsecond
	// over a month.
	At      float64
	Service int32
	// In says which APIs it concerns.
	In [APIs]bool
	// Reverts is, by API, one more than the index of an earlier arrival of the same Service that this one takes back: a
	// Pod that is ready again. Where neither was published, the two need no write. 0 if there is none.
	Reverts [APIs]int32
}

// Unresolved is the lag of a change that was not published.
const Unresolved = math.MaxFloat64

// Simulation replays one trace. It may be used again: buffers are kept. The zero value is ready for Start.
type Simulation struct {
	trace  *Trace
	model  Parameters
	now    float64
	server server
	kcm    [APIs]controller
	// changed is when each arrival came about in the simulation.
	changed []float64
	// issued and arrived count the Pod changes that were begun and that came about; issueAt is when the last was begun.
	issued, arrived int
	issueAt         float64
	// reign counts processes; back is when the next one leads, +Inf while one does, and flags are what it runs with.
	reign int32
	back  float64
	flags v1alpha1.Flags
	// Stop, if set, is asked after each publication whether the rest is still of no interest. Start clears it.
	Stop func(in API, arrival int32, lag float64) bool
	// stopped says that it said so.
	stopped bool
}

// Start begins to replay a trace under flags, with full buckets and empty queues, a little before the first arrival.
func (s *Simulation) Start(t *Trace, flags v1alpha1.Flags, model Parameters) {
	s.trace, s.model, s.flags, s.now = t, model, flags, 0
	s.issued, s.arrived, s.reign, s.stopped, s.Stop = 0, 0, 0, false, nil
	if len(t.Arrivals) > 0 {
		s.now = t.Arrivals[0].At - model.PodLatency.Seconds()
	}
	s.issueAt = s.now
	s.changed = filled(s.changed, len(t.Arrivals), Unresolved)
	s.server.reset(model)
	for in := range s.kcm {
		s.kcm[in].reset(API(in), t)
	}
	s.lead()
}

// lead starts a process that leads at once.
func (s *Simulation) lead() {
	s.back = math.Inf(1)
	workers := [APIs]int32{EndpointSlices: s.flags.ConcurrentServiceEndpointSyncs, Endpoints: s.flags.ConcurrentEndpointSyncs}
	for in := range s.kcm {
		s.kcm[in].begin(s.now, float64(s.flags.KubeAPIQPS), float64(s.flags.KubeAPIBurst), int(workers[in]))
	}
}

// Restart ends the process now. One with the given flags leads so many seconds later, with full buckets, and looks at
// every Service again. Requests that are under way end as they would have.
func (s *Simulation) Restart(flags v1alpha1.Flags, down float64) {
	s.flags, s.back = flags, s.now+down
	s.reign++
	for in := range s.kcm {
		c := &s.kcm[in]
		c.forget(s.trace.Services)
		c.totals = Totals{}
		s.reopen(c)
	}
}

// reopen puts every change that is neither published nor on the server back among those to publish.
func (s *Simulation) reopen(c *controller) {
	c.first, c.owing = filled(c.first, s.trace.Services, -1), filled(c.owing, s.trace.Services, 0)
	c.pending = filled(c.pending, len(s.trace.Arrivals), false)
	under := map[int32]bool{}
	for i := range s.server.writes.len() {
		j := s.server.writes.at(i)
		if j.api != c.api || j.left > 1 {
			continue
		}
		for a := j.changes; a >= 0; a = c.next[a] {
			under[a] = true
		}
	}
	for a, arrival := range s.trace.Arrivals[:s.issued] {
		i := int32(a)
		if !arrival.In[c.api] || s.changed[a] == Unresolved || c.lag[a] != Unresolved || under[i] {
			continue
		}
		c.next[a] = -1
		c.note(i, arrival)
	}
}

// Now is the time of the simulation, in seconds since the start of the trace.
func (s *Simulation) Now() float64 { return s.now }

// Leading says whether a process leads.
func (s *Simulation) Leading() bool { return math.IsInf(s.back, 1) }

// Lags returns the lag of each arrival in an API, in seconds; Unresolved if it is not published. It is valid until the
// simulation goes on.
func (s *Simulation) Lags(in API) []float64 { return s.kcm[in].lag }

// Changed returns when each arrival came about; Unresolved if it has not. It is valid until the simulation goes on.
func (s *Simulation) Changed() []float64 { return s.changed }

// Totals returns what a controller's metrics count now.
func (s *Simulation) Totals(in API) Totals { return s.kcm[in].totals }

// Depth is how many Services wait in a controller's work queue.
func (s *Simulation) Depth(in API) int { return s.kcm[in].queue.len() }

// InFlight is how many writes the API server has in hand.
func (s *Simulation) InFlight() int { return s.server.inFlight() }

// Run goes on until everything is published, or until Stop says so.
func (s *Simulation) Run() { s.Until(math.Inf(1)) }

// Until goes on until a time, or until Stop says so. It may be called again with a later time.
func (s *Simulation) Until(end float64) {
	for !s.stopped {
		at, what, in := s.nextEvent()
		if at > end || math.IsInf(at, 1) {
			break
		}
		s.server.advance(at - s.now)
		s.now = at
		s.handle(what, in)
	}
	if !s.stopped && !math.IsInf(end, 1) && end > s.now {
		s.server.advance(end - s.now)
		s.now = end
	}
}

// event is what happens next.
type event int

const (
	issue   event = iota // a Pod change is begun
	written              // the server ends a write
	granted              // a token is there
	woken                // a Service leaves the Pod queue and its batch period
	retried              // a Service that failed is queued again
	leads                // a process leads
)

// nextEvent returns the first thing that will happen, and to which controller.
func (s *Simulation) nextEvent() (at float64, what event, in API) {
	at, what = s.nextIssue(), issue
	if done := s.server.nextDone(s.now); done < at {
		at, what = done, written
	}
	if s.back < at {
		at, what = max(s.back, s.now), leads
	}
	for i := range s.kcm {
		c := &s.kcm[i]
		if c.waiting.len() > 0 && c.waiting.front().due < at {
			at, what, in = c.waiting.front().due, granted, API(i)
		}
		if c.batched.len() > 0 && c.batched.front().at < at {
			at, what, in = c.batched.front().at, woken, API(i)
		}
		if len(c.retries) > 0 && c.retries[0].at < at {
			at, what, in = c.retries[0].at, retried, API(i)
		}
	}
	return at, what, in
}

func (s *Simulation) handle(what event, in API) {
	c := &s.kcm[in]
	switch what {
	case issue:
		s.issueAt = s.now
		s.server.push(job{api: podChange, changes: int32(s.issued)}) //nolint:gosec // a trace is bounded by memory long before
		s.issued++
	case written:
		s.finish(s.server.pop())
	case granted:
		s.server.push(c.waiting.pop())
	case woken:
		s.wake(c, c.batched.pop())
	case retried:
		s.wake(c, heap.Pop(&c.retries).(wakeUp)) //nolint:forcetypeassert // only wakeUps are in it
	case leads:
		s.lead()
		s.resync()
	}
}

// resync looks at every Service, as a process does that begins to lead. Those without anything to publish send nothing.
func (s *Simulation) resync() {
	for in := range s.kcm {
		c := &s.kcm[in]
		for service := range c.first {
			if c.first[service] >= 0 {
				s.add(c, int32(service))
			}
		}
	}
}

// nextIssue is when the next Pod change is begun. With a limited number of writers it waits for one of them, and then
// for as long as that one thought in the recording; infinite while it waits, or when there are no more.
func (s *Simulation) nextIssue() float64 {
	i, w := s.issued, s.model.Writers
	if i == len(s.trace.Arrivals) {
		return math.Inf(1)
	}
	at := s.trace.Arrivals[i].At - s.model.PodLatency.Seconds()
	if w > 0 && i >= w {
		if i-w >= s.arrived {
			return math.Inf(1)
		}
		thought := max(0, at-s.trace.Arrivals[i-w].At)
		at = max(at, s.changed[i-w]+thought)
	}
	return max(at, s.issueAt, s.now)
}

// finish ends a write.
func (s *Simulation) finish(j job) {
	if j.api != podChange {
		s.wrote(j)
		return
	}
	s.changed[j.changes] = s.now
	s.arrived++
	s.arrive(j.changes)
}

// arrive tells both controllers of a change.
func (s *Simulation) arrive(i int32) {
	arrival := &s.trace.Arrivals[i]
	for in := range s.kcm {
		c := &s.kcm[in]
		if !arrival.In[in] || (s.model.EndpointsOff && API(in) == Endpoints) {
			continue
		}
		c.note(i, *arrival)
		if !s.Leading() {
			continue
		}
		at := c.podDone(s.now, s.model.PodQueue.Seconds()) + s.model.Batch[in].Seconds()
		if at <= s.now {
			s.add(c, arrival.Service)
			continue
		}
		if w := (wakeUp{at: at, service: arrival.Service}); c.later(w) {
			c.batched.push(w)
		}
	}
}

// wake queues a Service whose time has come, if it was not queued in another way.
func (s *Simulation) wake(c *controller, w wakeUp) {
	if service, yes := c.wake(w); yes {
		s.add(c, service)
	}
}

// add queues a Service once, and not while a worker has it.
func (s *Simulation) add(c *controller, service int32) {
	if c.dirty[service] {
		return
	}
	c.dirty[service] = true
	if !c.busy[service] {
		c.enqueue(service, s.now)
		s.dispatch(c)
	}
}

// dispatch gives queued Services to idle workers.
func (s *Simulation) dispatch(c *controller) {
	for c.idle > 0 && c.queue.len() > 0 {
		service := c.queue.pop()
		c.idle--
		c.totals.Waited += s.now - c.queued[service]
		c.dirty[service], c.busy[service] = false, true
		switch {
		case s.now < c.fresh[service]:
			s.stale(c, service)
			s.release(c, service)
		case c.first[service] < 0: // A retry, or a change that the sync before has taken up.
			c.failures[service] = 0
			s.release(c, service)
		default:
			writes := c.owing[service] > 0
			j := job{api: c.api, service: service, changes: c.takeUp(service), reign: s.reign, start: s.now}
			if !writes { // All of it was taken back: what the API shows is right.
				c.failures[service] = 0
				s.publish(c, j)
				s.release(c, service)
				continue
			}
			j.left = max(1, c.writesNow(s.model.writes(c.api)))
			s.send(c, j)
		}
	}
}

// stale ends a sync that cannot trust its cache.
func (s *Simulation) stale(c *controller, service int32) {
	c.totals.Stale++
	at, again := c.backOff(service, s.now)
	if !again {
		c.totals.Dropped++
		return
	}
	if w := (wakeUp{at: at, service: service}); c.later(w) {
		heap.Push(&c.retries, w)
	}
}

// send asks for a token and sends the job's next write when it is there.
func (s *Simulation) send(c *controller, j job) {
	j.sent = c.bucket.take(s.now)
	j.due = j.sent
	c.totals.Limited += j.sent - s.now
	if j.sent <= s.now {
		s.server.push(j)
		return
	}
	c.waiting.push(j)
}

// wrote ends a write, and with the last one the sync: its changes are visible, its worker takes the next Service.
func (s *Simulation) wrote(j job) {
	c := &s.kcm[j.api]
	current := j.reign == s.reign
	if current {
		c.totals.Writes++
		c.totals.Wrote += s.now - j.sent
		if j.left > 1 {
			j.left--
			s.send(c, j)
			return
		}
	} else if j.left > 1 {
		return // Its process is gone; the next one publishes the rest.
	}
	s.publish(c, j)
	if !current {
		return
	}
	if s.model.CacheDelay > 0 {
		c.fresh[j.service] = s.now + s.model.CacheDelay.Seconds()
	}
	c.failures[j.service] = 0
	c.totals.Worked += s.now - j.start
	s.release(c, j.service)
	s.dispatch(c)
}

// publish makes the changes of a job visible.
func (s *Simulation) publish(c *controller, j job) {
	for i := j.changes; i >= 0; i = c.next[i] {
		lag := s.now - s.changed[i] + s.model.Delay.Seconds()
		c.lag[i] = lag
		if s.Stop != nil && s.Stop(c.api, i, lag) {
			s.stopped = true
			return
		}
	}
}

// release frees the worker that had a Service.
func (s *Simulation) release(c *controller, service int32) {
	c.totals.Syncs++
	c.busy[service] = false
	c.idle++
	if c.dirty[service] {
		c.enqueue(service, s.now)
	}
}

// filled returns a slice of n values v, in buffer's memory where it fits.
func filled[T any](buffer []T, n int, v T) []T {
	if cap(buffer) < n {
		buffer = make([]T, n)
	}
	buffer = buffer[:n]
	for i := range buffer {
		buffer[i] = v
	}
	return buffer
}
