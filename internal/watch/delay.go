package watch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// unseenDelay is what every stamp may be late by without anybody noticing: the kernel's way to the process, decryption
// and two hand-overs between goroutines, which take some 0.1 ms on an idle machine.
const unseenDelay = time.Millisecond

// canaryPeriod is how often the canary wakes. Fifty samples a second find a process that does not get the processor or
// collects garbage, for about 0.1 % of a core.
const canaryPeriod = 20 * time.Millisecond

// delays keeps for each second by how much its stamps may be late.
type delays struct {
	tracker *lag.Tracker

	mu      sync.Mutex
	largest map[int64]time.Duration // by Unix second
}

func newDelays(tracker *lag.Tracker) *delays {
	return &delays{tracker: tracker, largest: map[int64]time.Duration{}}
}

// note keeps that stamps from one time to another, both included, may be late.
func (d *delays) note(from, to time.Time, late time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for second := from.Unix(); second <= to.Unix(); second++ {
		d.largest[second] = max(d.largest[second], late)
	}
}

// flush tells the tracker about the seconds that are over.
func (d *delays) flush(now time.Time) {
	d.mu.Lock()
	var over map[int64]time.Duration
	for second, late := range d.largest {
		if second < now.Unix() {
			if over == nil {
				over = map[int64]time.Duration{}
			}
			over[second] = late
			delete(d.largest, second)
		}
	}
	d.mu.Unlock()
	for _, second := range slices.Sorted(maps.Keys(over)) {
		// The tracker counts its seconds from another moment: two of them overlap with this one.
		begin := now.Add(-now.Sub(time.Unix(second, 0))) // with now's monotonic reading, as the stamps have one
		d.tracker.SetDelay(begin, over[second]+unseenDelay)
		d.tracker.SetDelay(begin.Add(time.Second-1), over[second]+unseenDelay)
	}
}

// tell tells the tracker about each second, soon after it is over. It ends with ctx.
func (d *delays) tell(ctx context.Context, c clock.WithTicker) {
	ticker := c.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			d.flush(c.Now())
		}
	}
}

// canary wakes at fixed intervals and keeps by how much it was late: so may a reader have been. It ends with ctx.
func (d *delays) canary(ctx context.Context, c clock.Clock) {
	timer := c.NewTimer(canaryPeriod)
	defer timer.Stop()
	due := c.Now().Add(canaryPeriod)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		}
		now := c.Now()
		d.note(due, now, now.Sub(due))
		timer.Reset(canaryPeriod)
		due = c.Now().Add(canaryPeriod)
	}
}
