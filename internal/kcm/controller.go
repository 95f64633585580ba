package kcm

import "math"

// What kube-controller-manager's retries are, v1.37.2. A sync that fails is tried again maxRetries times, and then the
// Service is dropped until it changes again (pkg/controller/endpointslice/endpointslice_controller.go and
// pkg/controller/endpoint/endpoints_controller.go: maxRetries = 15). The n-th retry comes after base·2ⁿ, at most
// retryLimit (endpointslice_controller.go: defaultSyncBackOff = 1 s, maxSyncBackOff = 1000 s; the Endpoints controller
// takes client-go's default of 5 ms and 1000 s), and all retries of a controller share a bucket of 10/s, burst 100
// (k8s.io/client-go/util/workqueue/default_rate_limiters.go).
const (
	maxRetries    = 15
	retryLimit    = 1000.0 // seconds
	retryQPS      = 10
	retryBurst    = 100
	sliceBackOff  = 1.0   // seconds
	objectBackOff = 0.005 // seconds
)

// Totals are what kube-controller-manager's own metrics count for one controller since it started, in seconds.
type Totals struct {
	// Syncs that ended, Stale those of them that gave up because of their cache, Dropped the Services that were given up.
	Syncs, Stale, Dropped int64
	// Writes that ended.
	Writes int64
	// Waited is how long Services waited in the work queue, Worked how long workers were busy, Limited how long they waited for
	// tokens, and Wrote how long the API server took.
	Waited, Worked, Limited, Wrote float64
}

// controller is one endpoint controller.
type controller struct {
	api    API
	bucket bucket
	idle   int
	// podExits are the times at which the Pod queue's workers are free again, and batched the Services on their way from
	// there to the work queue, in order of time.
	podExits []float64
	podTurn  int
	batched  ring[wakeUp]
	retries  wakeUps
	retry    bucket
	// backOffBase is the first wait of a retry, in seconds.
	backOffBase float64
	queue       ring[int32]
	// Of each Service:
	dirty, busy []bool
	due         []float64 // when it is queued by batched or retries, of which the earlier counts; +Inf if by neither
	failures    []uint8   // in a row
	fresh       []float64 // when the cache shows the last write
	first       []int32   // the first arrival that no sync has taken up yet; -1 if there is none
	last        []int32
	owing       []int32   // how many of those arrivals need a write, the ones that were taken back left out
	queued      []float64 // when it was queued last
	next        []int32   // of each arrival: the next of its Service that one sync publishes together; -1 ends
	pending     []bool    // of each arrival: noted, and not taken up
	lag         []float64 // of each arrival, in seconds; Unresolved until it is published
	waiting     ring[job] // for a token, in the order in which they asked
	owed        float64   // writes of past syncs, in fractions of one
	totals      Totals
}

// wakeUp is a Service that is queued at a time.
type wakeUp struct {
	at      float64
	service int32
}

// wakeUps is a heap by time.
type wakeUps []wakeUp

func (w wakeUps) Len() int           { return len(w) }
func (w wakeUps) Less(i, j int) bool { return w[i].at < w[j].at }
func (w wakeUps) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }

// Push is for package heap.
func (w *wakeUps) Push(v any) { *w = append(*w, v.(wakeUp)) } //nolint:forcetypeassert // only wakeUps are pushed

// Pop is for package heap.
func (w *wakeUps) Pop() any {
	old := *w
	v := old[len(old)-1]
	*w = old[:len(old)-1]
	return v
}

// job is one worker's work on one Service, or the write that changes a Pod.
type job struct {
	api     API
	service int32
	changes int32   // first of the arrivals that it publishes
	left    int32   // writes, the present one included
	reign   int32   // of the process that it belongs to
	start   float64 // when the worker took it
	sent    float64 // when its token was there
	due     float64 // when its token is there; on the server, the progress at which its write is done
}

// podChange marks the write of a Pod where others have an API.
const podChange = APIs

// bucket is golang.org/x/time/rate's limiter for one token at a time: it starts full, and every caller is granted the
// next token in the order of asking.
type bucket struct {
	qps, burst, tokens, last float64
}

func newBucket(qps, burst, now float64) bucket {
	return bucket{qps: qps, burst: burst, tokens: burst, last: now}
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

// reset forgets everything; the process starts now.
func (c *controller) reset(api API, t *Trace) {
	c.api, c.totals = api, Totals{}
	c.backOffBase = objectBackOff
	if api == EndpointSlices {
		c.backOffBase = sliceBackOff
	}
	c.first, c.last = filled(c.first, t.Services, -1), filled(c.last, t.Services, -1)
	c.owing, c.pending = filled(c.owing, t.Services, 0), filled(c.pending, len(t.Arrivals), false)
	c.fresh = filled(c.fresh, t.Services, math.Inf(-1))
	c.lag, c.next = filled(c.lag, len(t.Arrivals), Unresolved), filled(c.next, len(t.Arrivals), -1)
	c.forget(t.Services)
}

// forget empties queues and hands, as the end of a process does.
func (c *controller) forget(services int) {
	c.queue.clear()
	c.batched.clear()
	c.waiting.clear()
	c.retries = c.retries[:0]
	c.dirty, c.busy = filled(c.dirty, services, false), filled(c.busy, services, false)
	c.due, c.failures = filled(c.due, services, math.Inf(1)), filled(c.failures, services, 0)
	c.queued = filled(c.queued, services, 0)
	c.owed = 0
}

// begin starts a process with full buckets.
func (c *controller) begin(now, qps, burst float64, workers int) {
	c.bucket, c.retry = newBucket(qps, burst, now), newBucket(retryQPS, retryBurst, now)
	c.idle = workers
	c.podExits, c.podTurn = filled(c.podExits, workers, math.Inf(-1)), 0
}

// note puts an arrival among those that its Service has to publish.
func (c *controller) note(index int32, arrival Arrival) {
	service := arrival.Service
	if c.first[service] < 0 {
		c.first[service] = index
	} else {
		c.next[c.last[service]] = index
	}
	c.last[service], c.pending[index] = index, true
	if reverted := arrival.Reverts[c.api] - 1; reverted >= 0 && c.pending[reverted] {
		c.owing[service]--
		return
	}
	c.owing[service]++
}

// takeUp empties what a Service has to publish, and returns the first of it.
func (c *controller) takeUp(service int32) (first int32) {
	first = c.first[service]
	for i := first; i >= 0; i = c.next[i] {
		c.pending[i] = false
	}
	c.first[service], c.owing[service] = -1, 0
	return first
}

// enqueue puts a Service at the end of the queue.
func (c *controller) enqueue(service int32, now float64) {
	c.queued[service] = now
	c.queue.push(service)
}

// podDone is when a worker of the Pod queue has found a Pod's Services: first come, first served.
func (c *controller) podDone(now, took float64) float64 {
	if took == 0 {
		return now
	}
	exit := max(now, c.podExits[c.podTurn]) + took
	c.podExits[c.podTurn] = exit
	c.podTurn = (c.podTurn + 1) % len(c.podExits)
	return exit
}

// backOff is when a Service that failed is tried again, and whether it is at all.
func (c *controller) backOff(service int32, now float64) (at float64, again bool) {
	n := c.failures[service]
	if n >= maxRetries {
		c.failures[service] = 0
		return 0, false
	}
	c.failures[service] = n + 1
	wait := min(c.backOffBase*math.Exp2(float64(n)), retryLimit)
	return max(now+wait, c.retry.take(now)), true
}

// later reserves a time to queue a Service at. Of two times the earlier counts, as in client-go's delaying queue
// (util/workqueue/delaying_queue.go: insert); the other one is passed over when it comes.
func (c *controller) later(w wakeUp) bool {
	if c.due[w.service] <= w.at {
		return false
	}
	c.due[w.service] = w.at
	return true
}

// wake returns the Service whose time has come, if it has not been queued in another way.
func (c *controller) wake(w wakeUp) (service int32, yes bool) {
	if c.due[w.service] != w.at {
		return 0, false
	}
	c.due[w.service] = math.Inf(1)
	return w.service, true
}

// writesNow is how many requests the next sync sends: the mean over all of them, spread evenly.
func (c *controller) writesNow(mean float64) int32 {
	c.owed += mean
	n := math.Floor(c.owed + 1e-9)
	c.owed -= n
	return int32(n)
}
