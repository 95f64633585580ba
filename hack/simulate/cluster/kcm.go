package cluster

import (
	"slices"
)

// controller is one endpoint controller of the leader, and what its API shows, which outlives the leader.
type controller struct {
	shown []bool  // of each Pod, in the API
	open  []int32 // of each Pod, the change that is not shown yet; -1 if there is none

	known   []bool    // of each Pod, as the leader's cache has it
	touched [][]int32 // of each Service, the Pods that changed since its last sync
	bucket  bucket
	retries bucket // of all Services together
	idle    int
	queue   []int32
	dirty   []bool
	busy    []bool
	queued  []float64
	ready   []float64 // of each Service, when it will be added to the queue; 0 if it will not
	stale   []float64 // of each Service, until when the cache does not show its own last write
	tries   []int
	waiting []*job
	hands   int // jobs that workers hold
}

// job is what a worker does about one Service: one write after the other.
type job struct {
	pod     bool // the write of a Pod, by somebody else
	in      API
	service int32
	process int // the leader that sent it
	pods    []int32
	state   []bool
	start   float64
	asked   float64
	sent    float64
	due     float64 // while it waits for a token; on the server, the progress at which it is done
	serial  int64
}

type timerKind int

const (
	told timerKind = iota // the leader's cache hears of a change
	add                   // a Service is added to a queue
)

type timer struct {
	at      float64
	serial  int64
	kind    timerKind
	in      API
	pod     int32
	service int32
	ready   bool
}

func (t timer) before(o timer) bool {
	return t.at < o.at || (t.at == o.at && t.serial < o.serial)
}

// bucket is golang.org/x/time/rate's limiter for one token at a time.
type bucket struct{ qps, burst, tokens, last float64 }

// take reserves a token and returns when it is there.
func (b *bucket) take(now float64) float64 {
	b.tokens = min(b.burst, b.tokens+(now-b.last)*b.qps) - 1
	b.last = now
	if b.tokens >= 0 {
		return now
	}
	return now - b.tokens/b.qps
}

func newController(services int, ready []bool) controller {
	return controller{
		shown: slices.Clone(ready), known: slices.Clone(ready), open: filled(len(ready), int32(-1)),
		touched: make([][]int32, services), dirty: make([]bool, services), busy: make([]bool, services),
		queued: make([]float64, services), ready: make([]float64, services), stale: make([]float64, services),
		tries: make([]int, services),
	}
}

func (k *controller) busyWith() bool { return len(k.queue)+len(k.waiting)+k.hands > 0 }

func (k *controller) stop() {
	k.queue, k.waiting, k.hands, k.idle = k.queue[:0], k.waiting[:0], 0, 0
	for s := range k.dirty {
		k.dirty[s], k.busy[s], k.ready[s], k.tries[s], k.stale[s] = false, false, 0, 0, 0
	}
}

// Retries of all Services share 10 per second and a burst of 100 (client-go's DefaultTypedControllerRateLimiter).
const retryQPS, retryBurst = 10, 100

func (k *controller) lead(b bucket, workers int) {
	k.bucket, k.idle = b, workers
	k.retries = bucket{qps: retryQPS, burst: retryBurst, tokens: retryBurst, last: b.last}
	for s := range k.touched {
		k.touched[s] = k.touched[s][:0]
	}
}

// fire handles a timer.
func (c *Cluster) fire(t timer) {
	if t.kind == add {
		k := &c.kcm[t.in]
		if k.ready[t.service] == t.at && c.led {
			k.ready[t.service] = 0
			c.enqueue(t.in, t.service)
		}
		return
	}
	service := c.truth.ServiceOf[t.pod]
	batch := [APIs]float64{Slices: c.truth.SliceBatch, Endpoints: c.truth.EndpointsBatch}
	for in := range c.kcm {
		k := &c.kcm[in]
		k.known[t.pod] = t.ready
		if !c.led {
			continue
		}
		k.touched[service] = append(k.touched[service], t.pod)
		if batch[in] > 0 {
			c.addAfter(API(in), service, batch[in])
		} else {
			c.enqueue(API(in), service)
		}
	}
}

// addAfter adds a Service to a queue later; of two times the sooner one counts.
func (c *Cluster) addAfter(in API, service int32, later float64) {
	k := &c.kcm[in]
	at := c.now + later
	if k.ready[service] > 0 && k.ready[service] <= at {
		return
	}
	k.ready[service] = at
	c.schedule(timer{at: at, kind: add, in: in, service: service})
}

// enqueue puts a Service at the end of a queue, once.
func (c *Cluster) enqueue(in API, service int32) {
	k := &c.kcm[in]
	if k.dirty[service] {
		return
	}
	k.dirty[service] = true
	if k.busy[service] {
		return
	}
	k.queued[service] = c.now
	k.queue = append(k.queue, service)
	c.dispatch(in)
}

// dispatch gives queued Services to idle workers.
func (c *Cluster) dispatch(in API) {
	k := &c.kcm[in]
	for k.idle > 0 && len(k.queue) > 0 {
		service := k.queue[0]
		k.queue = k.queue[1:]
		k.dirty[service] = false
		q := &c.counts.Queues[in]
		q.Wait += c.now - k.queued[service]
		q.Syncs++
		c.sync(in, service)
	}
}

// staleBase is the first wait of the slice controller after a sync that found its cache behind its own write, and of the
// Endpoints controller (pkg/controller/endpointslice: 1 s, and client-go's default: 5 ms); each try doubles it.
var staleBase = [APIs]float64{Slices: 1, Endpoints: 0.005}

// maxTries is after how many the controllers forget a Service until its next event.
const maxTries = 15

// sync lets a worker look at a Service.
func (c *Cluster) sync(in API, service int32) {
	k := &c.kcm[in]
	if c.now < k.stale[service] {
		if in == Slices {
			c.counts.StaleSyncs++
		}
		k.tries[service]++
		if k.tries[service] <= maxTries {
			wait := staleBase[in] * float64(int(1)<<(k.tries[service]-1))
			c.addAfter(in, service, max(wait, k.retries.take(c.now)-c.now))
		}
		return
	}
	pods := c.outdated(in, service)
	if len(pods) == 0 {
		k.tries[service] = 0
		return
	}
	k.idle--
	k.hands++
	k.busy[service] = true
	j := &job{in: in, service: service, process: c.lost, pods: pods, start: c.now, state: make([]bool, len(pods))}
	for i, pod := range pods {
		j.state[i] = k.known[pod]
	}
	c.ask(j)
}

// outdated are the Pods of a Service that the API shows otherwise than the cache, by slice. After a restart all Pods are
// looked at; otherwise those that changed.
func (c *Cluster) outdated(in API, service int32) []int32 {
	k := &c.kcm[in]
	pods := k.touched[service]
	if len(pods) == 0 {
		pods = c.podsOf[service]
	}
	var out []int32
	for _, pod := range pods {
		if k.known[pod] != k.shown[pod] && !slices.Contains(out, pod) {
			out = append(out, pod)
		}
	}
	k.touched[service] = k.touched[service][:0]
	if in == Slices {
		slices.SortStableFunc(out, func(a, b int32) int { return int(c.chunk[a] - c.chunk[b]) })
	}
	return out
}

// ask takes a token for the next write.
func (c *Cluster) ask(j *job) {
	k := &c.kcm[j.in]
	j.asked = c.now
	j.due = k.bucket.take(c.now)
	if j.due <= c.now {
		c.send(j)
		return
	}
	k.waiting = append(k.waiting, j)
}

func (c *Cluster) send(j *job) {
	j.sent = c.now
	c.counts.LimiterWait += c.now - j.asked
	c.server.push(j, c.size())
}

// written ends a write.
func (c *Cluster) written(j *job) {
	c.count(j)
	if j.pod {
		return
	}
	n := c.atOnce(j)
	c.show(j.in, j.pods[:n], j.state[:n])
	j.pods, j.state = j.pods[n:], j.state[n:]
	if j.process != c.lost {
		return // Whoever sent it is gone.
	}
	k := &c.kcm[j.in]
	c.counts.Writes++
	c.counts.RequestTime += c.now - j.asked
	k.stale[j.service] = c.now + c.truth.Watch*(0.5+c.random.Float64())
	if len(j.pods) > 0 {
		c.ask(j)
		return
	}
	c.counts.Queues[j.in].Work += c.now - j.start
	k.tries[j.service] = 0
	k.busy[j.service] = false
	k.idle++
	k.hands--
	if k.dirty[j.service] {
		k.queued[j.service] = c.now
		k.queue = append(k.queue, j.service)
	}
	c.dispatch(j.in)
}

// atOnce is how many of a job's Pods its next write shows: those in one slice, or all in one Endpoints object.
func (c *Cluster) atOnce(j *job) int {
	if j.in == Endpoints {
		return len(j.pods)
	}
	n := 1
	for n < len(j.pods) && c.chunk[j.pods[n]] == c.chunk[j.pods[0]] {
		n++
	}
	return n
}

// show makes Pods visible in an API.
func (c *Cluster) show(in API, pods []int32, state []bool) {
	k := &c.kcm[in]
	for i, pod := range pods {
		k.shown[pod] = state[i]
		if open := k.open[pod]; open >= 0 && c.truth.Changes[open].Ready == state[i] {
			c.lag[in][open] = c.now - c.truth.Changes[open].At
			k.open[pod] = -1
		}
	}
	c.watcher.Published(in, pods)
}
