package scale

import (
	"context"
	"slices"
	"sync"
	"time"
)

// endpointWrites says which objects of a Service kube-controller-manager has to write.
type endpointWrites uint8

const (
	writeSlice endpointWrites = 1 << iota
	writeEndpoints
	writeBoth = writeSlice | writeEndpoints
)

// Churn is what happens to the Pods: most become unready for a moment, some are replaced.
type Churn struct {
	// Rate is how many changes of Pods there are each second; each is one event for those who watch Pods, but for the
	// deletion that a replacement creates a new Pod for, which is two.
	Rate float64
	// Lag is how long after a change its Service is published, as kube-controller-manager would.
	Lag time.Duration
}

const (
	// replacedEvery makes every fifth disturbance of a Pod a replacement.
	replacedEvery = 5
	// pause is how long a Pod that fails its probe stays unready, one that is asked to go still serves, and its successor
	// takes to be ready. All the same, so that what began first is due first.
	pause = time.Second
	// tick is the pace of the churn: at 1,000 changes a second, one change at a time.
	tick = time.Millisecond
)

// followUp is what happens to a Pod later on.
type followUp struct {
	due time.Time
	pod int
	to  phase // pending: it is replaced
}

// publication is a write of kube-controller-manager that is due.
type publication struct {
	due     time.Time
	service int
}

// churner changes Pods and publishes their Services. One goroutine uses it.
type churner struct {
	*cluster
	lag time.Duration

	started   int // disturbances so far
	busy      []bool
	followUps []followUp // by due
	queue     []publication
	writes    []endpointWrites // by Service: what is queued

	mu   sync.Mutex
	done ChurnStats
}

// ChurnStats counts what a churn did.
type ChurnStats struct {
	PodChanges      int64 `json:"podChanges"`
	Replacements    int64 `json:"replacements"`
	SliceWrites     int64 `json:"sliceWrites"`
	EndpointsWrites int64 `json:"endpointsWrites"`
	Running         bool  `json:"running"`
}

func newChurner(c *cluster) *churner {
	return &churner{cluster: c, busy: make([]bool, c.Pods), writes: make([]endpointWrites, c.Services)}
}

// stats are the counts so far, over all churns.
func (c *churner) stats() ChurnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// begin claims the churner for one run; false if one is going on.
func (c *churner) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	free := !c.done.Running
	c.done.Running = true
	return free
}

// run makes changes for a duration, or until ctx ends, then ends what has begun; begin comes before. At its
// end all Pods are ready, and all Services published.
func (c *churner) run(ctx context.Context, how Churn, duration time.Duration) {
	c.lag = how.Lag
	defer c.count(func(s *ChurnStats) { s.Running = false })
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	begun, changes := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		c.publishDue(now)
		elapsed := now.Sub(begun)
		if elapsed > duration && len(c.followUps)+len(c.queue) == 0 {
			return
		}
		for ; changes < int(elapsed.Seconds()*how.Rate); changes++ {
			if !c.step(now, elapsed < duration) {
				changes = int(elapsed.Seconds() * how.Rate)
				break
			}
		}
	}
}

// step makes one change: what is due, or else something new.
func (c *churner) step(now time.Time, begin bool) bool {
	if len(c.followUps) > 0 && !c.followUps[0].due.After(now) {
		next := c.followUps[0]
		c.followUps = c.followUps[1:]
		c.follow(next, now)
		return true
	}
	return begin && c.disturb(now)
}

// disturb begins something with the next Pod that is not disturbed already; false if all are.
func (c *churner) disturb(now time.Time) bool {
	for range c.Pods {
		n := c.started
		c.started++
		// Service by Service, and in each the next of its Pods.
		from, to := c.podsOf(n % c.Services)
		pod := from + n/c.Services%(to-from)
		if c.busy[pod] {
			continue
		}
		c.busy[pod] = true
		at, then := notReady, ready
		if mix(uint64(n))%replacedEvery == 0 {
			at, then = terminating, pending
		}
		c.changePod(pod, at, now)
		c.changed(pod, writeBoth, now)
		c.followUps = append(c.followUps, followUp{due: now.Add(pause), pod: pod, to: then})
		return true
	}
	return false
}

func (c *churner) follow(f followUp, now time.Time) {
	if f.to == pending {
		c.replacePod(f.pod, now)
		c.count(func(s *ChurnStats) { s.Replacements++ })
		c.changed(f.pod, writeSlice, now) // Endpoints lost it when it began to go.
		c.followUps = append(c.followUps, followUp{due: now.Add(pause), pod: f.pod, to: ready})
		return
	}
	c.changePod(f.pod, ready, now)
	c.changed(f.pod, writeBoth, now)
	c.busy[f.pod] = false
}

// changed queues the publication of a Pod's Service.
func (c *churner) changed(pod int, writes endpointWrites, now time.Time) {
	c.count(func(s *ChurnStats) { s.PodChanges++ })
	service := serviceOf(pod)
	if c.writes[service] == 0 {
		c.queue = append(c.queue, publication{due: now.Add(c.lag), service: service})
	}
	c.writes[service] |= writes
}

func (c *churner) publishDue(now time.Time) {
	n := slices.IndexFunc(c.queue, func(p publication) bool { return p.due.After(now) })
	if n < 0 {
		n = len(c.queue)
	}
	for _, p := range c.queue[:n] {
		writes := c.writes[p.service]
		c.writes[p.service] = 0
		c.publish(p.service, writes)
		c.count(func(s *ChurnStats) {
			s.SliceWrites++
			if writes&writeEndpoints != 0 {
				s.EndpointsWrites++
			}
		})
	}
	c.queue = slices.Delete(c.queue, 0, n)
}

func (c *churner) count(change func(*ChurnStats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.done)
}
