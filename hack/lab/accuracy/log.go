package accuracy

import (
	"encoding/hex"
	"slices"
	"sync"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Log keeps the changes that a tracker tells of. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	changes []Change
}

// Ended is for lag.Options.
func (l *Log) Ended(e lag.Ended) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, Change{
		Resource: string(e.Resource), Service: e.Service, Pod: hex.EncodeToString(e.Pod[:]),
		Added: e.Direction == lag.DirectionAddition, Class: e.Class.String(), From: e.Began, Lag: e.Lag, Marked: e.Marked,
	})
}

// Changes returns what was told so far.
func (l *Log) Changes() []Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.changes)
}
