package watch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// canaryPeriod is how often the canary wakes: a stall of the process that falls between two wakes is shorter. 200 wakes a
// second cost 1.7 % of a core on a small virtual machine, most of it the scheduler's; half as many would cost half, and
// every stamp's bound 5 ms.
const canaryPeriod = 5 * time.Millisecond

// unseenDelay is what every stamp may be late by without anybody noticing: a stall between two wakes of the canary, and
// 1 ms for the kernel's way to the process, decryption and two hand-overs between goroutines (0.1 ms on an idle machine).
const unseenDelay = canaryPeriod + time.Millisecond

// slots is how many parts a second has in which stalls and stamps are held against each other.
const slots = 20

const slotLength = time.Second / slots

// toldAgain is for how long what is noted late still counts: events that wait to be decoded.
const toldAgain = 10 * time.Second

// second is what one second's stamps may be late by.
type second struct {
	late    time.Duration        // as the stamps themselves tell
	stalls  [slots]time.Duration // the longest that ended in the slot, or lasted through it
	stamped [slots]bool          // a stamp fell into the slot
	told    bool                 // and nothing was noted since
}

// delays keeps for each second by how much its stamps may be late.
type delays struct {
	tracker *lag.Tracker

	stamps atomic.Int64 // since they were last counted

	mu      sync.Mutex
	seconds map[int64]*second // by Unix time
}

func newDelays(tracker *lag.Tracker) *delays {
	return &delays{tracker: tracker, seconds: map[int64]*second{}}
}

func (d *delays) second(unix int64) *second {
	s := d.seconds[unix]
	if s == nil {
		s = &second{}
		d.seconds[unix] = s
	}
	s.told = false
	return s
}

func slotOf(at time.Time) int { return at.Nanosecond() / int(slotLength) }

// count returns how many stamps were given since it was last asked.
func (d *delays) count() int64 { return d.stamps.Swap(0) }

// stamp keeps that a stamp may be late by as much as it tells itself.
func (d *delays) stamp(at time.Time, late time.Duration) {
	d.stamps.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.second(at.Unix())
	s.late = max(s.late, late)
	s.stamped[slotOf(at)] = true
}

// path keeps that all stamps between two times may be late.
func (d *delays) path(from, to time.Time, late time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for unix := from.Unix(); unix <= to.Unix(); unix++ {
		s := d.second(unix)
		s.late = max(s.late, late)
	}
}

// stall keeps that the process may have stood still between two times.
func (d *delays) stall(from, to time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	late := to.Sub(from)
	for at := from.Truncate(slotLength); !at.After(to); at = at.Add(slotLength) {
		s := d.second(at.Unix())
		s.stalls[slotOf(at)] = max(s.stalls[slotOf(at)], late)
	}
}

// worst is by how much stamps of a second may be late. A stall counts for the stamps of its slot and of the next: what
// came meanwhile is read right after.
func (d *delays) worst(unix int64) time.Duration {
	s := d.seconds[unix]
	var before time.Duration
	if b := d.seconds[unix-1]; b != nil {
		before = b.stalls[slots-1]
	}
	late := s.late
	for i, stall := range s.stalls {
		if s.stamped[i] {
			late = max(late, stall, before)
		}
		before = stall
	}
	return late + unseenDelay
}

// flush tells the tracker about the seconds that are over.
func (d *delays) flush(now time.Time) {
	d.mu.Lock()
	news := map[int64]time.Duration{}
	for unix, s := range d.seconds {
		if unix < now.Unix() && !s.told {
			s.told, news[unix] = true, d.worst(unix)
		}
	}
	maps.DeleteFunc(d.seconds, func(unix int64, _ *second) bool { return unix < now.Add(-toldAgain).Unix() })
	d.mu.Unlock()
	for _, unix := range slices.Sorted(maps.Keys(news)) {
		middle := time.Unix(unix, int64(time.Second/2))
		d.tracker.SetDelay(now.Add(-now.Sub(middle)), news[unix]) // With now's monotonic reading, as the stamps have one.
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
		d.stall(due, c.Now())
		timer.Reset(canaryPeriod)
		due = c.Now().Add(canaryPeriod)
	}
}
