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
// that worker is done, so that no Service is ever in two hands. The writes of both controllers, and those that changed
// the Pods in the first place, share one API server (server.go).
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
	// load is the rate at which Pods were seen changing, in writes per second: piecewise constant.
	load []loadStep
}

// arrival is one change of one Service.
type arrival struct {
	at      float64
	service int32
	in      [apis]bool // whether it concerns that API
}

// loadStep says that from at on, Pods change at rate writes per second.
type loadStep struct{ at, rate float64 }

// unresolved marks a change that the simulation did not see published.
const unresolved = math.MaxFloat64

// simulation replays one trace under one setting. It is reused for the next: buffers are kept.
type simulation struct {
	trace  *trace
	model  Parameters
	now    float64
	server server
	kcm    [apis]controller
	// lag of each arrival per API, in seconds; unresolved until it is published.
	lag [apis][]float64
	// next links the arrivals of one Service that one sync will publish together; -1 ends.
	next [apis][]int32
	// stop, if set, is asked after each publication whether the rest is still of interest.
	stop func(r api, arrival int32, lag float64) bool
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
	signals QueueSample
	limited float64 // seconds spent waiting for tokens, in all
}

// sync is one worker's work on one Service.
type sync struct {
	api     api
	service int32
	changes int32   // first of the arrivals that it publishes
	start   float64 // when the worker took it
	due     float64 // when its token is there; later, the server's own clock at which its write is done
	sent    float64
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
	arrival, load := 0, 0
	for {
		at, what := math.Inf(1), nothing
		if arrival < len(t.arrivals) {
			at, what = t.arrivals[arrival].at, arrived
		}
		for r := range s.kcm {
			if w := &s.kcm[r].waiting; w.len() > 0 && w.front().due < at {
				at, what = w.front().due, granted+event(r)
			}
		}
		if done := s.server.nextDone(s.now); done < at {
			at, what = done, published
		}
		if load < len(t.load) && t.load[load].at <= at && what != nothing {
			at, what = t.load[load].at, loaded
		}
		s.server.advance(at - s.now)
		s.now = at
		switch what {
		case nothing:
			return
		case loaded:
			s.server.setLoad(t.load[load].rate)
			load++
		case arrived:
			s.arrive(int32(arrival))
			arrival++
		case granted, granted + event(endpointsAPI):
			s.send(s.kcm[what-granted].waiting.pop())
		case published:
			if s.publish(s.server.pop()) {
				return
			}
		}
	}
}

// event is what happens next.
type event int

const (
	nothing event = iota
	loaded
	arrived
	published
	granted // to the first API; granted + 1 to the second
)

func (s *simulation) reset(t *trace, flags v1alpha1.Flags, model Parameters) {
	s.trace, s.model, s.now = t, model, 0
	s.server.reset(model)
	workers := [apis]int32{sliceAPI: flags.ConcurrentServiceEndpointSyncs, endpointsAPI: flags.ConcurrentEndpointSyncs}
	for r := range s.kcm {
		c := &s.kcm[r]
		qps, burst := float64(flags.KubeAPIQPS), float64(flags.KubeAPIBurst)
		c.bucket = bucket{qps: qps, burst: burst, tokens: burst}
		c.idle, c.limited, c.signals = int(workers[r]), 0, QueueSample{}
		c.queue.clear()
		c.waiting.clear()
		c.dirty, c.busy = filled(c.dirty, t.services, false), filled(c.busy, t.services, false)
		c.first, c.last = filled(c.first, t.services, -1), filled(c.last, t.services, -1)
		s.lag[r] = filled(s.lag[r], len(t.arrivals), unresolved)
		s.next[r] = filled(s.next[r], len(t.arrivals), -1)
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
	for r := range s.kcm {
		c := &s.kcm[r]
		if !s.trace.arrivals[i].in[r] {
			continue
		}
		if c.first[service] < 0 {
			c.first[service] = i
		} else {
			s.next[r][c.last[service]] = i
		}
		c.last[service] = i
		if c.dirty[service] {
			continue
		}
		c.dirty[service] = true
		if !c.busy[service] {
			c.queue.push(service)
			s.dispatch(api(r))
		}
	}
}

// dispatch gives queued Services to idle workers.
func (s *simulation) dispatch(r api) {
	c := &s.kcm[r]
	for c.idle > 0 && c.queue.len() > 0 {
		service := c.queue.pop()
		c.idle--
		c.dirty[service], c.busy[service] = false, true
		job := sync{api: r, service: service, changes: c.first[service], start: s.now}
		c.first[service] = -1
		job.due = c.bucket.take(s.now)
		c.limited += job.due - s.now
		if job.due <= s.now {
			s.send(job)
			continue
		}
		c.waiting.push(job)
	}
}

// send hands a write to the API server.
func (s *simulation) send(job sync) {
	job.sent = s.now
	s.server.push(job)
}

// publish ends a sync: its changes are visible, its worker takes the next Service. It reports whether to stop.
func (s *simulation) publish(job sync) bool {
	c := &s.kcm[job.api]
	for i := job.changes; i >= 0; i = s.next[job.api][i] {
		lag := s.now - s.trace.arrivals[i].at + s.model.Delay.Seconds()
		s.lag[job.api][i] = lag
		if s.stop != nil && s.stop(job.api, i, lag) {
			return true
		}
	}
	c.signals.Syncs++
	c.signals.Work += seconds(s.now - job.start)
	c.busy[job.service] = false
	if c.dirty[job.service] {
		c.queue.push(job.service)
	}
	c.idle++
	s.dispatch(job.api)
	return false
}

// seconds converts to a duration, to the microsecond.
func seconds(s float64) time.Duration {
	return time.Duration(s*1e6) * time.Microsecond
}
