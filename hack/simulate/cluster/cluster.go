// Package cluster is the truth that the simulator holds the operator against: kube-controller-manager's endpoint
// controllers, an API server, and what else happens to both, in virtual time. It shares no code with the operator's own
// model, and it has what that model leaves out: latency that wanders and stalls, other clients, caches that are behind,
// retries, batch periods, objects of several writes, processes that die. It decides nothing and reads no clock; the same
// Truth gives the same history.
package cluster

import (
	"math"
	"math/rand/v2"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// API indexes what is kept for each of the two APIs that endpoints are published in.
type API int

// The two APIs. APIs is their number.
const (
	Slices API = iota
	Endpoints
	APIs
)

// Change is one change of a Pod that its Services have to show.
type Change struct {
	// At is when it happens, in seconds.
	At float64
	// Pod is numbered from 0; Truth.ServiceOf knows its Service.
	Pod int32
	// Ready says that the Pod begins to be ready; otherwise it ceases to be.
	Ready bool
}

// Spell is a time in which something is out of the ordinary, by Factor.
type Spell struct{ From, To, Factor float64 }

// Storm is a mass deletion that kube-controller-manager works off: Requests writes of its namespace controller, as
// fast as its rate limit and the API server let it.
type Storm struct{ At, Requests float64 }

// Truth is everything that is so and that nobody is told. Times are in seconds.
type Truth struct {
	Seed uint64
	// ServiceOf says which Service a Pod is of, both numbered from 0, and Services is their number.
	ServiceOf []int32
	Services  int
	// Changes are sorted by At.
	Changes []Change
	// End of the history.
	End float64

	// Base is how long a write takes that is alone, Capacity how many writes per second the API server takes at most.
	Base, Capacity float64
	// Noise is the standard deviation of the logarithm of a write's size, and Drift that of the latency as it wanders over
	// time (a new value every ten seconds).
	Noise, Drift float64
	// Watch is how long kube-controller-manager's watches are behind, on average.
	Watch float64
	// Slow are times in which all writes take Factor times as long, Deaf those in which kube-controller-manager hears of
	// changes Factor seconds later.
	Slow, Deaf []Spell
	Storms     []Storm
	// SliceBatch and EndpointsBatch are the batch periods that kube-controller-manager runs with.
	SliceBatch, EndpointsBatch float64
	// Others is how many writes per second kube-controller-manager's other controllers send.
	Others float64
}

// Unpublished is the lag of a change that has not been published.
const Unpublished = math.MaxFloat64

// Watcher sees what a client of the API server would see, in order of time.
type Watcher interface {
	// Changed tells that a Pod changed; Cluster.Ready has how.
	Changed(pod int32)
	// Published tells that an API shows Pods of one Service in another state; Cluster.Shown has it.
	Published(in API, pods []int32)
}

// Cluster is a Truth being played.
type Cluster struct {
	truth   *Truth
	watcher Watcher
	random  *rand.Rand
	now     float64
	server  server
	kcm     [APIs]controller
	timers  heap[timer]
	serial  int64
	next    int // of Truth.Changes
	lost    int // processes that have ended
	led     bool
	started float64
	flags   v1alpha1.Flags
	counts  Counters
	heard   float64 // when the leader's caches hear of the last change
	others  float64 // time up to which Others are counted

	actual []bool // of each Pod: whether it is ready
	chunk  []int32
	podsOf [][]int32
	// lag of each change in each API: until published, or until another change of its Pod overtook it.
	lag [APIs][]float64
}

// New returns a cluster at time 0 with all Pods published as not ready, if their first change makes them ready, else as
// ready. kube-controller-manager leads with the flags.
func New(truth *Truth, flags v1alpha1.Flags, watcher Watcher) *Cluster {
	c := &Cluster{truth: truth, watcher: watcher, random: rand.New(rand.NewPCG(truth.Seed, 1))}
	c.server = newServer(truth)
	pods := len(truth.ServiceOf)
	c.actual, c.chunk, c.podsOf = make([]bool, pods), make([]int32, pods), make([][]int32, truth.Services)
	seen := make([]bool, pods)
	for _, change := range truth.Changes {
		if !seen[change.Pod] {
			seen[change.Pod], c.actual[change.Pod] = true, !change.Ready
		}
	}
	for pod, service := range truth.ServiceOf {
		c.chunk[pod] = int32(len(c.podsOf[service]) / podsPerSlice)
		c.podsOf[service] = append(c.podsOf[service], int32(pod))
	}
	for in := range c.kcm {
		c.kcm[in] = newController(truth.Services, c.actual)
		c.lag[in] = filled(len(truth.Changes), Unpublished)
	}
	c.Lead(flags)
	return c
}

// podsPerSlice is kube-controller-manager's default --max-endpoints-per-slice.
const podsPerSlice = 100

// Now is the time up to which the cluster was advanced.
func (c *Cluster) Now() float64 { return c.now }

// Shown says whether an API shows a Pod as ready, and Ready whether it is.
func (c *Cluster) Shown(in API, pod int32) bool { return c.kcm[in].shown[pod] }

// Ready says whether a Pod is ready.
func (c *Cluster) Ready(pod int32) bool { return c.actual[pod] }

// Busy says whether anything is under way besides what the future brings.
func (c *Cluster) Busy() bool {
	return c.timers.len() > 0 || c.server.busy() || c.kcm[Slices].busyWith() || c.kcm[Endpoints].busyWith()
}

// NextChange is when the next Pod changes; infinite if none will.
func (c *Cluster) NextChange() float64 {
	if c.next == len(c.truth.Changes) {
		return math.Inf(1)
	}
	return c.truth.Changes[c.next].At
}

// Lag is how late change i was or is by now, in an API: until it was published or overtaken.
func (c *Cluster) Lag(in API, i int) float64 {
	if late := c.lag[in][i]; late < Unpublished {
		return late
	}
	return c.now - c.truth.Changes[i].At
}

// Stop ends the leader's process: what it had in hand and in its queues is gone. Writes that were sent still arrive.
func (c *Cluster) Stop() {
	c.countOthers()
	c.led, c.flags = false, v1alpha1.Flags{}
	c.lost++
	for in := range c.kcm {
		c.kcm[in].stop()
	}
	kept := c.timers.items[:0]
	for _, t := range c.timers.items {
		if t.kind == told {
			kept = append(kept, t)
		}
	}
	c.timers.items = kept
	c.timers.fix()
}

// Lead starts a leader with the flags: full buckets, and every Service looked at once.
func (c *Cluster) Lead(flags v1alpha1.Flags) {
	c.flags, c.led, c.started = flags, true, c.now
	c.counts = Counters{ProcessStart: c.now, Server: c.counts.Server}
	c.others = c.now
	workers := [APIs]int32{Slices: flags.ConcurrentServiceEndpointSyncs, Endpoints: flags.ConcurrentEndpointSyncs}
	for in := range c.kcm {
		c.kcm[in].lead(bucket{
			qps: float64(flags.KubeAPIQPS), burst: float64(flags.KubeAPIBurst), tokens: float64(flags.KubeAPIBurst), last: c.now,
		}, int(workers[in]))
		for pod, service := range c.truth.ServiceOf {
			if c.kcm[in].known[pod] != c.kcm[in].shown[pod] {
				c.enqueue(API(in), service)
			}
		}
	}
}

// Advance lets time pass.
func (c *Cluster) Advance(until float64) {
	for {
		at, what := c.soonest()
		if at > until {
			break
		}
		c.server.advance(c.now, at, c.flags)
		c.now = max(c.now, at)
		c.happen(what)
	}
	c.server.advance(c.now, until, c.flags)
	c.now = max(c.now, until)
}

// event is the kind of what happens next.
type event int

const (
	podChanges event = iota
	timerFires
	writeEnds
	serverTurns // its speed changes
	tokenComes  // for the first API; one more for the second
)

func (c *Cluster) soonest() (float64, event) {
	at, what := c.NextChange(), podChanges
	if c.timers.len() > 0 && c.timers.items[0].at < at {
		at, what = c.timers.items[0].at, timerFires
	}
	for in := range c.kcm {
		if w := &c.kcm[in].waiting; len(*w) > 0 && (*w)[0].due < at {
			at, what = (*w)[0].due, tokenComes+event(in)
		}
	}
	if done := c.server.nextDone(c.now); done < at {
		at, what = done, writeEnds
	}
	if turn := c.server.nextTurn(c.now); turn < at {
		at, what = turn, serverTurns
	}
	return at, what
}

func (c *Cluster) happen(what event) {
	switch what {
	case podChanges:
		c.change()
	case timerFires:
		c.fire(c.timers.pop())
	case writeEnds:
		c.written(c.server.pop())
	case serverTurns:
		c.server.turn(c.now, c.flags)
	case tokenComes, tokenComes + event(Endpoints):
		w := &c.kcm[what-tokenComes].waiting
		j := (*w)[0]
		*w = (*w)[1:]
		c.send(j)
	}
}

// change lets the next Pod change. Its own write loads the API server, and is taken to have been waited for.
func (c *Cluster) change() {
	i := c.next
	c.next++
	change := c.truth.Changes[i]
	c.actual[change.Pod] = change.Ready
	c.server.push(&job{pod: true, sent: c.now}, podWork*c.size())
	for in := range c.kcm {
		k := &c.kcm[in]
		if open := k.open[change.Pod]; open >= 0 {
			c.lag[in][open] = c.now - c.truth.Changes[open].At
		}
		k.open[change.Pod] = -1
		if k.shown[change.Pod] == change.Ready {
			c.lag[in][i] = 0 // The reversal of a change that was never published.
		} else {
			k.open[change.Pod] = int32(i)
		}
	}
	c.watcher.Changed(change.Pod)
	behind := c.truth.Watch * (0.5 + c.random.Float64())
	for _, s := range c.truth.Deaf {
		if c.now >= s.From && c.now < s.To {
			behind += s.Factor * (0.7 + 0.6*c.random.Float64())
		}
	}
	c.heard = max(c.heard, c.now+behind) // A watch keeps the order of events.
	c.schedule(timer{at: c.heard, kind: told, pod: change.Pod, ready: change.Ready})
}

// podWork is the work of a Pod's own write relative to one of an endpoint controller.
const podWork = 0.5

// size is the work of one write, 1 on average.
func (c *Cluster) size() float64 {
	n := c.truth.Noise
	return math.Exp(n*c.random.NormFloat64() - n*n/2)
}

func (c *Cluster) schedule(t timer) {
	c.serial++
	t.serial = c.serial
	c.timers.push(t)
}

func filled[T any](n int, v T) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}
