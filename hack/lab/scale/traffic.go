package scale

import (
	"maps"
	"slices"
	"sync"
)

// Traffic counts what clients asked of the server.
type Traffic struct {
	Lists   int64 `json:"lists"`   // LIST and WatchList, pages each
	Watches int64 `json:"watches"` // begun without a list
	Others  int64 `json:"others"`
	Expired int64 `json:"expired"` // watches that were told to list again
	// MaxBehind is how many events a watch had still to read at worst.
	MaxBehind int64 `json:"maxBehind"`
	// Synced are the kinds that somebody has got all objects of.
	Synced []string         `json:"synced"`
	ByKind map[string]int64 `json:"byKind"` // by verb and resource
}

// traffic counts requests.
type traffic struct {
	mu   sync.Mutex
	seen Traffic
}

func newTraffic() *traffic { return &traffic{seen: Traffic{ByKind: map[string]int64{}}} }

// reset begins to count anew, for another client.
func (t *traffic) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = Traffic{ByKind: map[string]int64{}}
}

func (t *traffic) stats() Traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.seen
	out.Synced, out.ByKind = slices.Clone(out.Synced), maps.Clone(out.ByKind)
	return out
}

func (t *traffic) add(what string, to *int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*to++
	t.seen.ByKind[what]++
}

func (t *traffic) list(what string)  { t.add(what, &t.seen.Lists) }
func (t *traffic) watch(what string) { t.add(what, &t.seen.Watches) }
func (t *traffic) count(what string) { t.add(what, &t.seen.Others) }

func (t *traffic) expired() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.Expired++
}

func (t *traffic) behind(events int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.MaxBehind = max(t.seen.MaxBehind, events)
}

func (t *traffic) synced(resource string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.seen.Synced, resource) {
		t.seen.Synced = append(t.seen.Synced, resource)
	}
}
