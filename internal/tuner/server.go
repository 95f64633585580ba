package tuner

import (
	"math"
	"time"
)

// Parameters are what the model must know of the cluster, besides its demand and its flags.
type Parameters struct {
	// Base is how long one write takes when the API server has nothing else to do.
	Base time.Duration
	// Capacity is how many writes per second the API server takes at most, Pods' own changes included. 0 means that it
	// never binds.
	Capacity float64
	// Delay is what every change takes besides its write: watches on the way in and on the way out, and the sync itself.
	Delay time.Duration
}

// maxLoadShare is the largest part of the API server that changing Pods take from the endpoint controllers, whatever
// the rate at which they were seen changing: those who change Pods wait for the same API server, so they slow down
// before they take all of it.
const maxLoadShare = 0.75

// server is the API server and its store as the writers see them: a delay, and a capacity that all writes in flight
// share equally. A write that is alone with n-1 others takes base + n/capacity; in steady state at rate x that is the
// processor-sharing queue's base/(1 - x/capacity), and with many in flight the rate tends to the capacity. Since all
// writes are of one size, they end in the order in which they began, which makes the simulation cheap.
type server struct {
	base, perWrite float64 // seconds
	share          float64 // of the server that is left to the controllers
	progress       float64 // of a write that is always in flight, in writes
	flight         ring[sync]
}

func (s *server) reset(p Parameters) {
	*s = server{base: p.Base.Seconds(), share: 1, flight: s.flight}
	if p.Capacity > 0 {
		s.perWrite = 1 / p.Capacity
	}
	s.flight.clear()
}

// setLoad says at which rate Pods change, in writes per second.
func (s *server) setLoad(rate float64) {
	s.share = 1 - min(rate*s.perWrite, maxLoadShare)
}

// rate is how much of each write in flight is done per second.
func (s *server) rate() float64 {
	return s.share / (s.base + float64(s.flight.len())*s.perWrite)
}

func (s *server) advance(seconds float64) {
	if s.flight.len() > 0 {
		s.progress += seconds * s.rate()
	}
}

// nextDone is when the oldest write in flight is done if nothing else happens.
func (s *server) nextDone(now float64) float64 {
	if s.flight.len() == 0 {
		return math.Inf(1)
	}
	return now + max(0, s.flight.front().due-s.progress)/s.rate()
}

func (s *server) push(job sync) {
	job.due = s.progress + 1
	s.flight.push(job)
}

func (s *server) pop() sync { return s.flight.pop() }
