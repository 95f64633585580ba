package tuner

import (
	"math"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// The model of kube-controller-manager, as a discrete-event simulation. Deterministic: no clock, no chance.
//
// Each of the two endpoint controllers has a token bucket of its own (one client, one limiter), a queue that holds a
// Service once however often it changes, and workers that take Services in order. A worker reads the Service's state
// when it starts, waits for a token, and writes once. A Service that changes while a worker has it is queued again when
// that worker is done, so that no Service is ever in two hands.
//
// The writes of both controllers share one API server (server.go) with those that change the Pods in the first place.
// So Pods change later in the simulation than they did in the recording if the server has more to do, and where those
// who change Pods were waiting for the server, they will again: with Writers of them, the next begins when one is done.
//
// Times inside the simulation are seconds since the start of the trace, as float64: exact to better than a microsecond
// over a month.

// api indexes what is kept per controller.
type api int

const (
	sliceAPI api = iota
	endpointsAPI
	apis
)

// trace is demand as the simulation takes it: arrivals in order of time, services numbered densely from 0.
type trace struct {
	arrivals []arrival
	services int
}

// arrival is one change of one Service.
type arrival struct {
	at      float64
	service int32
	in      [apis]bool // whether it concerns that API
}

// unresolved marks a change that the simulation did not see published.
const unresolved = math.MaxFloat64

// simulation replays one trace under one setting. It is reused for the next: buffers are kept.
type simulation struct {
	trace  *trace
	model  Parameters
	now    float64
	server server
	kcm    [apis]controller
	// changed is when each arrival came about in the simulation.
	changed []float64
	// issued and arrived count the Pod changes that were begun and that came about; issueAt is when the last was begun.
	issued, arrived int
	issueAt         float64
	// lag of each arrival per API, in seconds; unresolved until it is published.
	lag [apis][]float64
	// next links the arrivals of one Service that one sync will publish together; -1 ends.
	next [apis][]int32
	// stop, if set, is asked after each publication whether the rest is still of interest.
	stop func(in api, arrival int32, lag float64) bool
	// scrape, if set, is called at scrapeAt and then as many seconds later as it returns.
	scrape   func(*simulation) float64
	scrapeAt float64
}

// controller is one endpoint controller.
type controller struct {
	bucket  bucket
	idle    int
	queue   ring[int32]
	dirty   []bool
	busy    []bool
	first   []int32 // of each Service, the first arrival that no sync has taken up yet; -1 if there is none
	last    []int32
	waiting ring[sync] // for a token, in the order in which they asked
	queued  []float64  // of each Service, when it was queued last
	totals  totals
}

// totals are what kube-controller-manager's own metrics would count for a controller, in seconds.
type totals struct {
	syncs                          int64
	waited, worked, limited, write float64
}

// sync is one worker's work on one Service.
type sync struct {
	api     api
	service int32
	changes int32   // first of the arrivals that it publishes
	start   float64 // when the worker took it
	sent    float64 // when its token was there
	due     float64 // sent; on the server, the progress at which its write is done
}

// bucket is golang.org/x/time/rate's limiter for one token at a time: it starts full, and every caller is granted the
// next token in the order of asking.
type bucket struct {
	qps, burst, tokens, last float64
}

// take reserves a token at time now and returns when it is there.
func (b *bucket) take(now float64) float64 {
	b.tokens = min(b.burst, b.tokens+(now-b.last)*b.qps) - 1
	b.last = now
	if b.tokens >= 0 {
		return now
	}
	return now - b.tokens/b.qps
}

// run replays the trace under flags until everything is published, or until stop says so.
func (s *simulation) run(t *trace, flags v1alpha1.Flags, model Parameters) {
	s.reset(t, flags, model)
	for {
		at, what := s.nextIssue(), issue
		for in := range s.kcm {
			if w := &s.kcm[in].waiting; w.len() > 0 && w.front().due < at {
				at, what = w.front().due, token+event(in)
			}
		}
		if done := s.server.nextDone(s.now); done < at {
			at, what = done, written
		}
		if math.IsInf(at, 1) {
			return
		}
		if s.scrape != nil {
			s.scrapeUntil(at)
		}
		s.server.advance(at - s.now)
		s.now = at
		switch what {
		case issue:
			s.issueAt = at
			s.server.push(sync{api: podChange, changes: int32(s.issued)}) //nolint:gosec // bounded by maxArrivals
			s.issued++
		case token, token + event(endpointsAPI):
			s.server.push(s.kcm[what-token].waiting.pop())
		case written:
			if s.finish(s.server.pop()) {
				return
			}
		}
	}
}

// scrapeUntil calls scrape at each of its times before then.
func (s *simulation) scrapeUntil(at float64) {
	for s.scrapeAt <= at {
		s.server.advance(max(0, s.scrapeAt-s.now))
		s.now = max(s.now, s.scrapeAt)
		s.scrapeAt += s.scrape(s)
	}
}

// event is what happens next.
type event int

const (
	issue event = iota
	written
	token // for the first API; token + 1 for the second
)

// podChange marks the write of a Pod where others have an API.
const podChange = apis

// nextIssue is when the next Pod change is begun. With a limited number of writers it waits for one of them, and then
// for as long as that one thought in the recording; infinite while it waits, or when there are no more.
func (s *simulation) nextIssue() float64 {
	i, w := s.issued, s.model.Writers
	if i == len(s.trace.arrivals) {
		return math.Inf(1)
	}
	at := s.trace.arrivals[i].at - s.model.PodLatency.Seconds()
	if w > 0 && i >= w {
		if i-w >= s.arrived {
			return math.Inf(1)
		}
		thought := max(0, at-s.trace.arrivals[i-w].at)
		at = max(at, s.changed[i-w]+thought)
	}
	return max(at, s.issueAt, s.now)
}

// finish ends a write. It reports whether to stop.
func (s *simulation) finish(job sync) bool {
	if job.api != podChange {
		return s.publish(job)
	}
	s.changed[job.changes] = s.now
	s.arrived++
	s.arrive(job.changes)
	return false
}

func (s *simulation) reset(t *trace, flags v1alpha1.Flags, model Parameters) {
	s.trace, s.model, s.now = t, model, 0
	s.issued, s.arrived = 0, 0
	if len(t.arrivals) > 0 {
		s.now = t.arrivals[0].at - model.PodLatency.Seconds()
	}
	s.issueAt = s.now
	s.changed = filled(s.changed, len(t.arrivals), unresolved)
	s.server.reset(model)
	workers := [apis]int32{sliceAPI: flags.ConcurrentServiceEndpointSyncs, endpointsAPI: flags.ConcurrentEndpointSyncs}
	for in := range s.kcm {
		c := &s.kcm[in]
		qps, burst := float64(flags.KubeAPIQPS), float64(flags.KubeAPIBurst)
		c.bucket = bucket{qps: qps, burst: burst, tokens: burst, last: s.now}
		c.idle, c.totals = int(workers[in]), totals{}
		c.queued = filled(c.queued, t.services, 0)
		c.queue.clear()
		c.waiting.clear()
		c.dirty, c.busy = filled(c.dirty, t.services, false), filled(c.busy, t.services, false)
		c.first, c.last = filled(c.first, t.services, -1), filled(c.last, t.services, -1)
		s.lag[in] = filled(s.lag[in], len(t.arrivals), unresolved)
		s.next[in] = filled(s.next[in], len(t.arrivals), -1)
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

// arrive tells both controllers of a change.
func (s *simulation) arrive(i int32) {
	service := s.trace.arrivals[i].service
	for in := range s.kcm {
		c := &s.kcm[in]
		if !s.trace.arrivals[i].in[in] {
			continue
		}
		if c.first[service] < 0 {
			c.first[service] = i
		} else {
			s.next[in][c.last[service]] = i
		}
		c.last[service] = i
		if c.dirty[service] {
			continue
		}
		c.dirty[service] = true
		if !c.busy[service] {
			s.enqueue(api(in), service)
		}
	}
}

// enqueue puts a Service at the end of the queue.
func (s *simulation) enqueue(in api, service int32) {
	c := &s.kcm[in]
	c.queued[service] = s.now
	c.queue.push(service)
	s.dispatch(in)
}

// dispatch gives queued Services to idle workers.
func (s *simulation) dispatch(in api) {
	c := &s.kcm[in]
	for c.idle > 0 && c.queue.len() > 0 {
		service := c.queue.pop()
		c.idle--
		c.totals.waited += s.now - c.queued[service]
		c.dirty[service], c.busy[service] = false, true
		job := sync{api: in, service: service, changes: c.first[service], start: s.now}
		c.first[service] = -1
		job.sent = c.bucket.take(s.now)
		job.due = job.sent
		c.totals.limited += job.sent - s.now
		if job.sent <= s.now {
			s.server.push(job)
			continue
		}
		c.waiting.push(job)
	}
}

// publish ends a sync: its changes are visible, its worker takes the next Service. It reports whether to stop.
func (s *simulation) publish(job sync) bool {
	c := &s.kcm[job.api]
	for i := job.changes; i >= 0; i = s.next[job.api][i] {
		lag := s.now - s.changed[i] + s.model.Delay.Seconds()
		s.lag[job.api][i] = lag
		if s.stop != nil && s.stop(job.api, i, lag) {
			return true
		}
	}
	c.totals.syncs++
	c.totals.worked += s.now - job.start
	c.totals.write += s.now - job.sent
	c.busy[job.service] = false
	c.idle++
	if c.dirty[job.service] {
		s.enqueue(job.api, job.service)
	} else {
		s.dispatch(job.api)
	}
	return false
}

// sample is what a scrape of kube-controller-manager's metrics would show now.
func (s *simulation) sample(start time.Time) Sample {
	out := Sample{Time: start.Add(seconds(s.now)), ProcessStart: start}
	queues := [apis]*QueueSample{sliceAPI: &out.EndpointSlices, endpointsAPI: &out.Endpoints}
	for in, q := range queues {
		c := &s.kcm[in]
		*q = QueueSample{
			Depth: int64(c.queue.len()), Syncs: c.totals.syncs,
			Wait: seconds(c.totals.waited), Work: seconds(c.totals.worked),
		}
		out.Writes += c.totals.syncs
		out.LimiterWait += seconds(c.totals.limited)
		out.RequestTime += seconds(c.totals.limited + c.totals.write)
	}
	return out
}

// seconds converts to a duration, to the microsecond.
func seconds(s float64) time.Duration {
	if s >= unresolved {
		return math.MaxInt64
	}
	return time.Duration(s*1e6) * time.Microsecond
}
