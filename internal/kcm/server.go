package kcm

import (
	"math"
	"time"
)

// server is the API server and its store as the writers see them: a delay, and a capacity that all writes in flight
// share equally. A write that is alone with n-1 others takes base + n/capacity; in steady state at rate x that is the
// processor-sharing queue's base/(1 - x/capacity), and with many in flight the rate tends to the capacity. Since all
// writes of a kind are of one size, they end in the order in which they began, which makes the simulation cheap.
type server struct {
	base, perWrite float64 // seconds
	podWork        float64
	progress       float64 // of a write that is always in flight, in writes
	pods, writes   ring[job]
}

func (s *server) reset(p Parameters) {
	s.progress = 0
	s.pods.clear()
	s.writes.clear()
	s.base, s.perWrite, s.podWork = max(p.Base, time.Microsecond).Seconds(), 0, p.podWork()
	if p.Capacity > 0 {
		s.perWrite = 1 / p.Capacity
	}
}

func (s *server) inFlight() int { return s.pods.len() + s.writes.len() }

// rate is how much of each write in flight is done per second.
func (s *server) rate() float64 {
	return 1 / (s.base + float64(s.inFlight())*s.perWrite)
}

func (s *server) advance(seconds float64) {
	if s.inFlight() > 0 {
		s.progress += seconds * s.rate()
	}
}

// next is the kind of which the oldest write is done first; there must be one in flight.
func (s *server) next() *ring[job] {
	if s.writes.len() == 0 || (s.pods.len() > 0 && s.pods.front().due < s.writes.front().due) {
		return &s.pods
	}
	return &s.writes
}

// nextDone is when the first of the writes in flight is done if nothing else happens.
func (s *server) nextDone(now float64) float64 {
	if s.inFlight() == 0 {
		return math.Inf(1)
	}
	return now + max(0, s.next().front().due-s.progress)/s.rate()
}

func (s *server) push(j job) {
	if j.api == podChange {
		j.due = s.progress + s.podWork
		s.pods.push(j)
		return
	}
	j.due = s.progress + 1
	s.writes.push(j)
}

func (s *server) pop() job { return s.next().pop() }
