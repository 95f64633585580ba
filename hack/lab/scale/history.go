package scale

import (
	"slices"
	"sync"

	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// event is one change of one object.
type event struct {
	version int64
	what    apiwatch.EventType
	object  func() object
}

// historySize is how many events of a kind are kept for watches that resume: a minute at 1,000 a second, as a watch cache
// of a busy kube-apiserver keeps them.
const historySize = 1 << 16

// history is what happened to the objects of a kind, in order. Every watch reads it at its own pace.
type history struct {
	mu    sync.Mutex
	ring  []event
	first int64 // position of the oldest event in ring
	// lost is the resource version of the newest event that is no longer kept.
	lost    int64
	changed chan struct{} // closed when there is more
}

func newHistory() *history { return &history{changed: make(chan struct{})} }

func (h *history) add(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ring) >= 2*historySize {
		h.lost = h.ring[historySize-1].version
		h.ring = slices.Delete(h.ring, 0, historySize)
		h.first += historySize
	}
	h.ring = append(h.ring, e)
	close(h.changed)
	h.changed = make(chan struct{})
}

// end is the position after the newest event.
func (h *history) end() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first + int64(len(h.ring))
}

// after is the position of the first event that is newer than a resource version; false if events that are newer are no
// longer kept.
func (h *history) after(version int64) (position int64, kept bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if version < h.lost {
		return 0, false
	}
	i, _ := slices.BinarySearchFunc(h.ring, version+1, func(e event, v int64) int { return int(e.version - v) })
	return h.first + int64(i), true
}

// batch is what a watch reads at once.
type batch struct {
	events []event
	behind int64           // how many events there were to read
	more   <-chan struct{} // closed when there is more
	kept   bool            // false: the position is no longer kept
}

// read returns up to limit events from a position on.
func (h *history) read(position int64, limit int) batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := position - h.first
	if from < 0 {
		return batch{}
	}
	behind := int64(len(h.ring)) - from
	return batch{
		events: slices.Clone(h.ring[from : from+min(behind, int64(limit))]),
		behind: behind, more: h.changed, kept: true,
	}
}
