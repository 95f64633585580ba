package rollout

import (
	"cmp"
	"slices"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Target is what every node is to have.
type Target struct {
	Action v1alpha1.Action
	Flags  v1alpha1.Flags
	// Exempt says that it is a step back, which neither windows, nor the cooldown, nor the restart budget may hold up.
	Exempt bool
	// Revision under which the target was last handed out, where it was taken and nothing newer was; else zero.
	Revision int64
}

// toldTo says whether the target was the node's last instruction and its change has ended.
func (t Target) toldTo(n Node) bool {
	return n.Revision > 0 && n.Action == t.Action && n.Flags == t.Flags && !n.InFlight()
}

// reachedBy says whether the node was told the target, ended it well, and still runs it.
func (t Target) reachedBy(n Node) bool { return t.endedWell(n) && !t.lostBy(n) }

func (t Target) endedWell(n Node) bool {
	return t.toldTo(n) && (n.Outcome == v1alpha1.OutcomeCommitted || n.Outcome == v1alpha1.OutcomeUnchanged)
}

// lostBy says whether the node had the target and runs something else now: somebody else has rewritten the manifest.
func (t Target) lostBy(n Node) bool {
	return t.endedWell(n) && t.Action == v1alpha1.ActionApply && !t.keptBy(n)
}

// takenFrom says whether somebody else rewrote the manifest after the node had the target, or while it got it.
func (t Target) takenFrom(n Node) bool {
	return t.lostBy(n) || (t.toldTo(n) && n.Reason == v1alpha1.ReasonConflictingEdit) || (t.outdoneOn(n) && !t.keptBy(n))
}

// outdoneOn says whether the node was told something newer, which it did not take.
func (t Target) outdoneOn(n Node) bool {
	return t.Revision > 0 && n.Revision > t.Revision && !n.InFlight()
}

// keptBy says whether the node runs what the target is, as far as is known.
func (t Target) keptBy(n Node) bool {
	return n.Running == v1alpha1.Flags{} || t.Flags.Within(n.Running)
}

// Unfinished says whether the target has yet to be brought to a node, and not only back to one from which somebody else
// has taken it.
func (t Target) Unfinished(nodes []Node) bool {
	return slices.ContainsFunc(nodes, func(n Node) bool { return !t.reachedBy(n) && !t.takenFrom(n) })
}

// takenBy says whether the node has had the target, or somebody else came in between.
func (t Target) takenBy(n Node) bool { return t.endedWell(n) || t.takenFrom(n) }

// Open returns the target of the policy's last rollout if it is not over: some nodes have it and others do not, or somebody
// else took it away again. It goes on before anything new is decided. What no node has taken is not open: whether to try
// that again, on this node or on others, is a decision of its own; what was there before counts then.
func Open(nodes []Node, policy string) (Target, bool) {
	newest := slices.SortedStableFunc(slices.Values(nodes), func(a, b Node) int { return cmp.Compare(b.Revision, a.Revision) })
	for _, n := range newest {
		t := Target{Action: n.Action, Flags: n.Flags}
		switch {
		case n.Revision == 0 || n.Action != v1alpha1.ActionApply || n.Policy != policy:
			return Target{}, false
		case slices.ContainsFunc(nodes, t.takenBy):
			t.Revision = n.Revision
			return t, slices.ContainsFunc(nodes, func(other Node) bool {
				return t.takenFrom(other) || !t.reachedBy(other) && !t.outdoneOn(other)
			})
		case n.InFlight():
			return Target{}, false
		}
	}
	return Target{}, false
}
