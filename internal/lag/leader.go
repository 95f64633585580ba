package lag

import (
	"math"
	"time"
)

// maxSpans is how many of the newest times without a leader are kept: far more than the changes they could touch.
const maxSpans = 1024

// span is a time without a leader, in the records' own time.
type span struct{ from, to time.Duration }

const forever = time.Duration(math.MaxInt64)

// SetLeader tells that kube-controller-manager began or ceased to be led at the given time, which may lie in the past:
// the changes that were open meanwhile are HandOver. Until the first call a leader is presumed. Times must not go back.
func (t *Tracker) SetLeader(led bool, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := t.records.since(at)
	last := len(t.leaderless) - 1
	vacant := last >= 0 && t.leaderless[last].to == forever
	switch {
	case led && vacant:
		t.leaderless[last].to = max(since, t.leaderless[last].from)
	case !led && !vacant:
		if len(t.leaderless) == maxSpans {
			t.leaderless = append(t.leaderless[:0], t.leaderless[1:]...)
		}
		t.leaderless = append(t.leaderless, span{from: since, to: forever})
	}
}

// handedOver says whether a difference that stood from at until end met a time without a leader.
func handedOver(spans []span, at, end time.Duration) bool {
	for i := len(spans) - 1; i >= 0 && spans[i].to >= at; i-- {
		if spans[i].from <= end && spans[i].to > at {
			return true
		}
	}
	return false
}
