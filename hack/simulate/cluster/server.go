package cluster

import (
	"math"
	"math/rand/v2"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// server is the API server with its store: a delay, and a capacity that all requests in flight share equally. Speed
// changes over time: it wanders, it stalls, and a storm of other requests takes its share.
type server struct {
	truth    *Truth
	perWrite float64
	progress float64 // of a write of size 1 that is always in flight
	jobs     heap[*job]
	serial   int64
	slow     float64
	turnAt   float64
	storm    storm
	wander   *rand.Rand
	level    float64
	block    int
	totals   ServerCounters
}

// storm is how far the storms are.
type storm struct {
	next   int     // of Truth.Storms
	left   float64 // requests
	tokens float64
	share  float64 // requests in flight
}

func (j *job) before(o *job) bool { return j.due < o.due || (j.due == o.due && j.serial < o.serial) }

const (
	// turnEvery is how often the speed is looked at while the server is busy, in a storm, and otherwise.
	stormTurn  = 0.1
	wanderTurn = 10

	// The namespace controller's two clients run at 20 times --kube-api-qps and 100 times --kube-api-burst each
	// (cmd/kube-controller-manager/app/core.go), and its ten workers keep so many requests in flight at most.
	stormQPS, stormBurst = 2 * 20, 2 * 100
	stormInFlight        = 60
)

func newServer(t *Truth) server {
	return server{truth: t, perWrite: 1 / t.Capacity, slow: 1, wander: rand.New(rand.NewPCG(t.Seed, 2))}
}

func (s *server) busy() bool { return s.jobs.len() > 0 || s.storm.left > 0 }

// rate is how much of each request of size 1 is done per second.
func (s *server) rate() float64 {
	return 1 / (s.slow * (s.truth.Base + (float64(s.jobs.len())+s.storm.share)*s.perWrite))
}

// advance lets time pass in which neither speed nor number of jobs changes.
func (s *server) advance(from, to float64, flags v1alpha1.Flags) {
	if to <= from {
		return
	}
	rate := s.rate()
	if s.jobs.len() > 0 {
		s.progress += (to - from) * rate
	}
	if s.storm.left > 0 {
		n := s.storm.share * rate * (to - from)
		s.storm.left -= n
		s.storm.tokens -= n
		s.storm.tokens = min(s.storm.tokens+stormQPS*float64(flags.KubeAPIQPS)*(to-from), stormBurst*float64(flags.KubeAPIBurst))
		s.totals.add(n, 1/rate)
	}
}

// nextTurn is when the speed is next looked at.
func (s *server) nextTurn(now float64) float64 {
	at := math.Inf(1)
	if s.storm.next < len(s.truth.Storms) {
		at = s.truth.Storms[s.storm.next].At
	}
	if s.jobs.len() > 0 || s.storm.left > 0 {
		at = min(at, max(now, s.turnAt))
	}
	return at
}

// turn sets the speed for the time to come. Without a leader there are no flags, and nobody to send a storm's requests.
func (s *server) turn(now float64, flags v1alpha1.Flags) {
	if st := &s.storm; st.next < len(s.truth.Storms) && s.truth.Storms[st.next].At <= now {
		if st.left <= 0 {
			st.tokens = stormBurst * float64(flags.KubeAPIBurst)
		}
		st.left += s.truth.Storms[st.next].Requests
		st.next++
	}
	s.setSpeed(now)
	s.storm.share = 0
	s.turnAt = math.Floor(now/wanderTurn)*wanderTurn + wanderTurn
	for _, spell := range s.truth.Slow {
		for _, edge := range []float64{spell.From, spell.To} {
			if edge > now {
				s.turnAt = min(s.turnAt, edge)
			}
		}
	}
	if s.storm.left < 1 {
		s.storm.left = 0
		return
	}
	s.turnAt = min(s.turnAt, now+stormTurn)
	if flags == (v1alpha1.Flags{}) {
		return
	}
	possible := max(0, s.storm.tokens)/stormTurn + stormQPS*float64(flags.KubeAPIQPS)
	s.storm.share = min(stormInFlight, possible/s.rate(), s.storm.left/stormTurn/s.rate())
}

// setSpeed wanders to the ten seconds that now is in.
func (s *server) setSpeed(now float64) {
	for block := int(now / wanderTurn); s.block < block; s.block++ {
		s.level = keeps*s.level + math.Sqrt(1-keeps*keeps)*s.wander.NormFloat64()
		if block-s.block > 1000 {
			s.block = block - 1000 // So long ago does not matter.
		}
	}
	s.slow = math.Exp(s.truth.Drift * s.level)
	for _, spell := range s.truth.Slow {
		if now >= spell.From && now < spell.To {
			s.slow *= spell.Factor
		}
	}
}

// keeps is how much of its level a wandering latency keeps over ten seconds.
const keeps = 0.9

func (s *server) nextDone(now float64) float64 {
	if s.jobs.len() == 0 {
		return math.Inf(1)
	}
	return now + max(0, s.jobs.items[0].due-s.progress)/s.rate()
}

func (s *server) push(j *job, size float64) {
	s.serial++
	j.serial, j.due = s.serial, s.progress+size
	s.jobs.push(j)
}

func (s *server) pop() *job { return s.jobs.pop() }
