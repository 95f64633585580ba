package qualify

import (
	"fmt"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

// leadSettled is how long a node must have led for it to be wrong that it was changed before others: whoever handed the
// change out read the Lease up to that long before the manifest was swapped.
const leadSettled = time.Second

// seen is what the independent watchers saw of one run.
type seen struct {
	nodes map[string]seenNode
	log   auditLog
}

// seenNode is what became of one node's manifest.
type seenNode struct {
	target    string // hash of the content that the rollout is to give it
	sightings []rig.Sighting
	swaps     int      // renames over it
	problems  []string // the watcher's own
}

// contentAt is the manifest's content at a time.
func (n seenNode) contentAt(at time.Time) string {
	hash := ""
	for _, s := range n.sightings {
		if s.At.After(at) {
			break
		}
		hash = s.Hash
	}
	return hash
}

// forward are the times at which the manifest became what the rollout wants. What it was at the start is no change.
func (n seenNode) forward() []time.Time {
	var times []time.Time
	for i, s := range n.sightings {
		if i > 0 && s.Hash == n.target {
			times = append(times, s.At)
		}
	}
	return times
}

// verdict is what is wrong with a run.
type verdict struct {
	twoInFlight, leaderNotLast, changedTwice, watched []string
}

// all are the problems of every kind.
func (v verdict) all() []string {
	return slices.Concat(v.twoInFlight, v.leaderNotLast, v.changedTwice, v.watched)
}

// judge holds what was seen against what may never be, whatever fails: two nodes in flight at once, a node that leads
// before another, a node twice for one revision, a manifest that is absent, torn or not one of the two.
func judge(s seen) verdict {
	v := verdict{twoInFlight: s.log.inFlight}
	for name, n := range s.nodes {
		for _, problem := range n.problems {
			v.watched = append(v.watched, name+": "+problem)
		}
		v.leaderNotLast = append(v.leaderNotLast, s.leaderNotLast(name)...)
		if changes, told := len(n.forward()), s.handedTo(name); changes > told {
			v.changedTwice = append(v.changedTwice, fmt.Sprintf("%s: changed %d times for %d revisions", name, changes, told))
		}
		if changes := max(len(n.sightings)-1, 0); n.swaps > changes {
			v.changedTwice = append(v.changedTwice, fmt.Sprintf("%s: its manifest was replaced %d times, and changed %d times", name, n.swaps, changes))
		}
	}
	slices.Sort(v.leaderNotLast)
	slices.Sort(v.changedTwice)
	slices.Sort(v.watched)
	return v
}

func (s seen) handedTo(node string) int {
	n := 0
	for _, h := range s.log.handed {
		if h.node == node {
			n++
		}
	}
	return n
}

// leaderNotLast says which nodes were still to be changed when the node was, and led.
func (s seen) leaderNotLast(name string) []string {
	var problems []string
	for _, at := range s.nodes[name].forward() {
		if !s.leads(name, at) {
			continue
		}
		for other, n := range s.nodes {
			if other != name && n.contentAt(at) != n.target {
				problems = append(problems, fmt.Sprintf("%s led and was changed before %s", name, other))
			}
		}
	}
	return problems
}

// leads reports whether the node led at a time, and had for long enough to be known.
func (s seen) leads(node string, at time.Time) bool {
	var last leadership
	for _, l := range s.log.leaders {
		if !l.from.After(at) {
			last = l
		}
	}
	return last.node == node && at.Sub(last.from) >= leadSettled
}
