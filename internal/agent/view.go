package agent

import (
	"sync"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
)

// sight is what the agent last saw on its node.
type sight struct {
	Healthy      *bool
	Signals      scrape.Signals
	Running      v1alpha1.Flags
	Settings     v1alpha1.KCMSettings
	ManifestHash hash
	Seen         manifestSeen
	Manifest     *failure // why the manifest cannot be read
	Isolation    isolation
	Held         decision // why an instruction is not carried out
	Stuck        *failure // why nothing can be carried out
}

// view is what the engine shares with the watch and the reporter.
type view struct {
	mu      sync.Mutex
	sight   sight
	journal journal
	node    *v1alpha1.EndpointSyncNode
	written v1alpha1.EndpointSyncNodeStatus

	// trusted says that the journal is all there is to know. Before that, what the status says of changes must not be
	// overwritten: it may be all that is left of a journal that was lost.
	trusted bool

	changed chan struct{} // the status has to be written soon
	wake    chan struct{} // the instruction is another one
}

func newView() *view {
	return &view{
		sight:   sight{Isolation: isolation{doubt: "it has just started and has not asked the API server yet"}},
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
}

// signal leaves a note in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// see takes in the node object, or its absence.
func (v *view) see(node *v1alpha1.EndpointSyncNode) {
	v.mu.Lock()
	before := v.node
	v.node = node
	v.mu.Unlock()
	switch {
	case node == nil:
	case before == nil || before.UID != node.UID:
		signal(v.wake)
		signal(v.changed)
	case before.Generation != node.Generation:
		signal(v.wake)
	}
}

func (v *view) currentNode() *v1alpha1.EndpointSyncNode {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.node
}

func (v *view) currentSight() sight {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sight
}

// update changes what was seen.
func (v *view) update(change func(*sight)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.sight)
}

// setJournal makes a journal the one that is reported. Another phase is reported at once.
func (v *view) setJournal(j journal) {
	v.mu.Lock()
	changed := v.journal.Phase != j.Phase || v.journal.ObservedRevision != j.ObservedRevision
	v.journal = j
	v.mu.Unlock()
	if changed {
		signal(v.changed)
	}
}

// vouch lets the journal be reported in place of what the status says of changes.
func (v *view) vouch() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.trusted = true
}

func (v *view) vouched() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.trusted
}

// status returns what is to be written, or false while there is no object to write it to.
func (v *view) status(now moment) (v1alpha1.EndpointSyncNodeStatus, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.node == nil {
		return v1alpha1.EndpointSyncNodeStatus{}, false
	}
	conditions := v.written.Conditions
	if len(conditions) == 0 {
		conditions = v.node.Status.Conditions
	}
	next := nextStatus(statusInput{
		Sight: v.sight, Journal: v.journal, Conditions: conditions, Generation: v.node.Generation, Now: now,
	})
	if !v.trusted {
		was := v.node.Status
		next.ObservedRevision, next.Phase, next.Last = was.ObservedRevision, was.Phase, was.Last
		next.Restarts, next.Failed = was.Restarts, was.Failed
	}
	v.written = next
	return next, true
}
