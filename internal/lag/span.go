package lag

import (
	"math"
	"slices"
	"time"
)

// maxSpans is how many of the newest times without a leader, and of the newest gaps of each watch, are kept: far more
// than the changes they could touch.
const maxSpans = 1024

// span is a time in which something was not so, in the records' own time.
type span struct{ from, to time.Duration }

const forever = time.Duration(math.MaxInt64)

// spans are in order and do not overlap; the last may last.
type spans []span

// set tells that what the spans are the absence of was or was not there from a time on.
func (s spans) set(there bool, at time.Duration) spans {
	last := len(s) - 1
	missing := last >= 0 && s[last].to == forever
	switch {
	case there && missing:
		s[last].to = max(at, s[last].from)
	case !there && !missing:
		if len(s) == maxSpans {
			s = append(s[:0], s[1:]...)
		}
		s = append(s, span{from: at, to: forever})
	}
	return s
}

// overlap says whether the time from at until end meets a span.
func (s spans) overlap(at, end time.Duration) bool {
	for i := len(s) - 1; i >= 0 && s[i].to >= at; i-- {
		if s[i].from <= end && s[i].to > at {
			return true
		}
	}
	return false
}

// around returns the span that a time is in, both ends included: an event received at the end of a gap was in it.
func (s spans) around(at time.Duration) (span, bool) {
	for i := len(s) - 1; i >= 0 && s[i].to >= at; i-- {
		if s[i].from <= at {
			return s[i], true
		}
	}
	return span{}, false
}

// endedWithin says whether a span ended at most d before a time.
func (s spans) endedWithin(d, at time.Duration) bool {
	for _, gone := range slices.Backward(s) {
		if gone.to <= at {
			return at-gone.to <= d
		}
	}
	return false
}

// gaps are the times in which the watch of a kind did not tell what happened.
type gaps [kindCount]spans

// SetLeader tells that kube-controller-manager began or ceased to be led at the given time, which may lie in the past:
// the changes that were open meanwhile are HandOver. Until the first call a leader is presumed. Times must not go back.
func (t *Tracker) SetLeader(led bool, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaderless = t.leaderless.set(led, t.records.since(at))
}

// SetReceiving tells that the watch of a kind broke at the given time, or has caught up by then. Until the first call it
// receives. Nobody knows when something happened that was received in between: a change that begins with it is of class
// Gap, and one that began before and ends with it is a marked sample, wrong by at most the length of the gap. While the
// watch of what is published is broken, open changes do not age. Times must not go back.
func (t *Tracker) SetReceiving(k Kind, receiving bool, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gaps[k] = t.gaps[k].set(receiving, t.records.since(at))
}

// Receiving says whether the watch of a kind receives, as SetReceiving last told.
func (t *Tracker) Receiving(k Kind) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.gaps[k]) - 1
	return last < 0 || t.gaps[k][last].to != forever
}

// keptDelays is for how many seconds delays are kept: six hours, in 350 KB. Older samples have no known error bound.
const keptDelays = 6 * 60 * 60

// delay is by how much stamps of one second may be late.
type delay struct {
	second int64
	late   time.Duration
}

// delays is a ring over the seconds of the clock, which those who call SetDelay go by as well.
type delays struct {
	// began is how far into its second the records' own time begins.
	began time.Duration
	ring  []delay
}

func (d *delays) second(at time.Duration) int64 { return int64((at + d.began) / time.Second) }

// SetDelay tells that what was received in the second of the given time, a second of the clock, may have been stamped up
// to d late. The largest of a second counts.
func (t *Tracker) SetDelay(at time.Time, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := t.records.since(at)
	if t.delays.ring == nil {
		t.delays = delays{began: time.Duration(t.records.base.Nanosecond()), ring: make([]delay, keptDelays)}
	}
	if since < -t.delays.began { // Before the second in which the tracker began.
		return
	}
	second := t.delays.second(since)
	slot := &t.delays.ring[second%keptDelays]
	if slot.second != second {
		*slot = delay{second: second}
	}
	slot.late = max(slot.late, d, 1) // Nothing is exact, and 0 is unknown.
}

// at returns by how much a stamp may be late, if that is known.
func (d *delays) at(stamp time.Duration) (late time.Duration, known bool) {
	if len(d.ring) == 0 || stamp < 0 {
		return 0, false
	}
	slot := d.ring[d.second(stamp)%keptDelays]
	return slot.late, slot.late > 0 && slot.second == d.second(stamp)
}
