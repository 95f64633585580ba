package tuner

import (
	"math"
	"time"
)

// Parameters are what the model must know of the cluster, besides its demand and its flags.
type Parameters struct {
	// Base is how long one write takes when the API server has nothing else to do.
	Base time.Duration
	// Capacity is how many writes of endpoint controllers per second the API server takes at most; a change of a Pod counts
	// half. 0 means that it never binds.
	Capacity float64
	// Delay is what every change takes besides its write: watches on the way in and on the way out, and the sync itself.
	Delay time.Duration
	// PodLatency is how long the write took that changed a Pod, in the recording.
	PodLatency time.Duration
	// Writers is how many clients changed Pods in the recording, if they were waiting for the API server: then they will
	// be slowed down by what else it has to do. 0 means that Pods change at their own pace.
	Writers int
}

// podWork is the work of a write that changes a Pod, relative to one of an endpoint controller, which is of a whole object
// and has to be built first. The value fits runs of the incident on a real control plane with 5, 20 and 50 workers.
const podWork = 0.5

// server is the API server and its store as the writers see them: a delay, and a capacity that all writes in flight
// share equally. A write that is alone with n-1 others takes base + n/capacity; in steady state at rate x that is the
// processor-sharing queue's base/(1 - x/capacity), and with many in flight the rate tends to the capacity. Since all
// writes of a kind are of one size, they end in the order in which they began, which makes the simulation cheap.
type server struct {
	base, perWrite float64 // seconds
	progress       float64 // of a write that is always in flight, in writes
	pods, writes   ring[sync]
}

func (s *server) reset(p Parameters) {
	*s = server{base: max(p.Base, time.Microsecond).Seconds(), pods: s.pods, writes: s.writes}
	if p.Capacity > 0 {
		s.perWrite = 1 / p.Capacity
	}
	s.pods.clear()
	s.writes.clear()
}

// rate is how much of each write in flight is done per second.
func (s *server) rate() float64 {
	return 1 / (s.base + float64(s.pods.len()+s.writes.len())*s.perWrite)
}

func (s *server) advance(seconds float64) {
	if s.pods.len()+s.writes.len() > 0 {
		s.progress += seconds * s.rate()
	}
}

// next is the kind of which the oldest write is done first; there must be one in flight.
func (s *server) next() *ring[sync] {
	if s.writes.len() == 0 || (s.pods.len() > 0 && s.pods.front().due < s.writes.front().due) {
		return &s.pods
	}
	return &s.writes
}

// nextDone is when the first of the writes in flight is done if nothing else happens.
func (s *server) nextDone(now float64) float64 {
	if s.pods.len()+s.writes.len() == 0 {
		return math.Inf(1)
	}
	return now + max(0, s.next().front().due-s.progress)/s.rate()
}

func (s *server) push(job sync) {
	if job.api == podChange {
		job.due = s.progress + podWork
		s.pods.push(job)
		return
	}
	job.due = s.progress + 1
	s.writes.push(job)
}

func (s *server) pop() sync { return s.next().pop() }
