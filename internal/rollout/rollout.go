// Package rollout says which control-plane node is changed next, or why none is. It decides from plain values and
// touches nothing: whoever calls it writes the instruction.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// MaxReportAge is how old an agent's report may be before its node counts as unknown. Agents report every 10 s at
// the latest; three missed reports are no accident.
const MaxReportAge = 35 * time.Second

// Node is one control-plane node: what it was told, and what its agent last reported.
type Node struct {
	Name     string
	Revision int64           // last one handed to the agent
	Action   v1alpha1.Action // that came with Revision
	Flags    v1alpha1.Flags  // that came with Revision
	Policy   string          // on whose behalf Revision was handed out
	// Generation of that policy's spec.
	Generation int64
	Standing   string // what the agent says of itself, if it holds
	Ended      int64  // highest revision whose change has ended
	Phase      v1alpha1.ChangePhase
	Outcome    v1alpha1.Outcome // of Ended
	Reason     string           // of Outcome
	Message    string           // of Outcome
	Finished   time.Time        // of Outcome
	Running    v1alpha1.Flags   // zero: not known
	Healthy    bool
	Leader     *bool       // nil: not known
	Reported   time.Time   // of the report that all this comes from
	Restarts   []time.Time // that our changes and rollbacks caused
}

// InFlight says whether the agent still has work to do for what it was told.
func (n Node) InFlight() bool {
	return n.Revision > n.Ended || (n.Phase != "" && n.Phase != v1alpha1.PhaseIdle)
}

// Target is what every node is to have.
type Target struct {
	Action v1alpha1.Action
	Flags  v1alpha1.Flags
	// Exempt says that it is a step back, which neither the cooldown nor the restart budget may hold up.
	Exempt bool
}

// toldTo says whether the target was the node's last instruction and its change has ended.
func (t Target) toldTo(n Node) bool {
	return n.Revision > 0 && n.Action == t.Action && n.Flags == t.Flags && !n.InFlight()
}

// reachedBy says whether the node was told the target, ended it well, and still runs it: somebody else may have
// rewritten the manifest since.
func (t Target) reachedBy(n Node) bool {
	well := n.Outcome == v1alpha1.OutcomeCommitted || n.Outcome == v1alpha1.OutcomeUnchanged
	drifted := t.Action == v1alpha1.ActionApply && n.Running != (v1alpha1.Flags{}) && !t.Flags.Within(n.Running)
	return t.toldTo(n) && well && !drifted
}

// Plan is everything Next decides from.
type Plan struct {
	Nodes       []Node
	Target      Target
	Policy      string // on whose behalf, and the generation of its spec
	Generation  int64
	Cooldown    time.Duration
	MaxRestarts int
	Period      time.Duration // over which MaxRestarts counts
	RetryAfter  time.Duration // after which a node that refused, or could not tell, is asked again
	FailedFor   time.Duration // how long a roll-back stops the rollout
}

// StepKind says what to do.
type StepKind string

// The kinds of step.
const (
	Wait  StepKind = "Wait"  // a node has not ended its change yet
	Start StepKind = "Start" // hand Target to Node as Revision
	Hold  StepKind = "Hold"  // start nothing for now; Reason says why
	Halt  StepKind = "Halt"  // a node rejected the target: a person has to act
	Done  StepKind = "Done"  // every node has what it was told
)

// Step is the next thing to do. Revision is set for Start, Again for what passes by itself.
type Step struct {
	Kind     StepKind
	Node     string
	Revision int64
	Reason   string
	Message  string
	Again    time.Duration
}

// Next returns the next step towards the target. At most one node is in flight at any time; standbys come first and
// the leader last, so that a rollout costs one hand-over; nothing starts while a node is unhealthy, unknown, or has
// rejected the target. Restoring, and any other step back, is not held up by the cooldown or the restart budget.
func Next(p Plan, now time.Time) Step {
	for _, n := range p.Nodes {
		if n.InFlight() {
			return waitFor(n, now)
		}
	}
	if s, stopped := rejected(p, now); stopped {
		return s
	}
	pending := slices.DeleteFunc(slices.Clone(p.Nodes), p.Target.reachedBy)
	if len(pending) == 0 {
		return Step{
			Kind: Done, Reason: v1alpha1.ReasonAsDesired,
			Message: fmt.Sprintf("all %d control-plane nodes have what they were told", len(p.Nodes)),
		}
	}
	if s, held := Unready(p, now); held {
		return s
	}
	if s, held := allowance(p, pending, now); held {
		return s
	}
	slices.SortFunc(pending, leaderLast)
	return Step{
		Kind: Start, Node: pending[0].Name, Revision: NextRevision(p.Nodes), Reason: v1alpha1.ReasonRolloutStarted,
		Message: fmt.Sprintf("starting on node %s (%d of %d left)", pending[0].Name, len(pending), len(p.Nodes)),
	}
}

// NextRevision returns a revision higher than any that was handed out or ended.
func NextRevision(nodes []Node) int64 {
	var highest int64
	for _, n := range nodes {
		highest = max(highest, n.Revision, n.Ended)
	}
	return highest + 1
}

func phase(n Node) v1alpha1.ChangePhase {
	return cmp.Or(n.Phase, v1alpha1.PhaseIdle)
}

// waitFor waits for a node, and says so if its agent has fallen silent or holds.
func waitFor(n Node, now time.Time) Step {
	s := Step{
		Kind: Wait, Node: n.Name, Reason: v1alpha1.ReasonProgressing,
		Message: fmt.Sprintf("node %s is changing (revision %d, phase %s)", n.Name, n.Revision, phase(n)),
	}
	switch {
	case n.silent(now):
		s.Reason = v1alpha1.ReasonNodeNotReporting
		s.Message += fmt.Sprintf("; its agent has not reported since %s; look at its log", reported(n))
	case n.Standing != "":
		s.Message += "; its agent says: " + n.Standing
	}
	return s
}

func (n Node) silent(now time.Time) bool { return now.Sub(n.Reported) > MaxReportAge }

// rejected halts at the first node that did not take or keep what it was last told for this generation of this policy,
// whatever the values: trying others at once would cost more restarts, or flood an agent that refuses.
func rejected(p Plan, now time.Time) (Step, bool) {
	for _, n := range p.Nodes {
		if n.Action != p.Target.Action || n.Policy != p.Policy || n.Generation != p.Generation {
			continue
		}
		if left := p.patience(n) - now.Sub(n.Finished); left > 0 {
			return Step{
				Kind: Halt, Node: n.Name, Reason: cmp.Or(n.Reason, string(n.Outcome)), Again: left,
				Message: fmt.Sprintf("node %s: %s: %s", n.Name, n.Outcome, n.Message),
			}, true
		}
	}
	return Step{}, false
}

// patience is how long a node's last outcome stops the rollout.
func (p Plan) patience(n Node) time.Duration {
	switch n.Outcome {
	case v1alpha1.OutcomeRefused, v1alpha1.OutcomeDisplaced:
		return p.RetryAfter
	case v1alpha1.OutcomeRolledBack:
		if n.Reason == v1alpha1.ReasonInconclusive || n.Reason == v1alpha1.ReasonNotPickedUp {
			return p.RetryAfter // Neither speaks against the values.
		}
		return p.FailedFor
	case v1alpha1.OutcomeRollbackFailed:
		return p.FailedFor
	case v1alpha1.OutcomeCommitted, v1alpha1.OutcomeUnchanged:
	}
	return 0
}

// Unready holds unless every node is known to be well: unknown means do nothing. A restore goes on where
// kube-controller-manager is down or leads nowhere, because it may be what brings it back.
func Unready(p Plan, now time.Time) (Step, bool) {
	led := false
	for _, n := range p.Nodes {
		switch {
		case n.silent(now):
			return hold(n.Name, v1alpha1.ReasonNodeNotReporting,
				fmt.Sprintf("the agent on node %s has not reported since %s; look at its log", n.Name, reported(n))), true
		case !n.Healthy && p.Target.Action != v1alpha1.ActionRestore:
			return hold(n.Name, v1alpha1.ReasonNodeUnhealthy,
				fmt.Sprintf("kube-controller-manager on node %s is not healthy", n.Name)), true
		}
		led = led || (n.Leader != nil && *n.Leader)
	}
	if !led && p.Target.Action != v1alpha1.ActionRestore {
		return hold("", v1alpha1.ReasonNoLeader, "no node reports that its kube-controller-manager leads"), true
	}
	return Step{}, false
}

func reported(n Node) string {
	if n.Reported.IsZero() {
		return "it started"
	}
	return n.Reported.UTC().Format(time.RFC3339)
}

// allowance holds while the cooldown runs or the restart budget is spent. The nodes after the first of a rollout are
// not subject to the cooldown: they belong to the change that started it.
func allowance(p Plan, pending []Node, now time.Time) (Step, bool) {
	if p.Target.Action == v1alpha1.ActionRestore || p.Target.Exempt {
		return Step{}, false
	}
	var last time.Time
	spent := 0
	for _, n := range p.Nodes {
		for _, r := range n.Restarts {
			if now.Sub(r) < p.Period {
				spent++
			}
			if r.After(last) {
				last = r
			}
		}
	}
	if spent+len(pending) > p.MaxRestarts {
		return hold("", v1alpha1.ReasonRestartBudgetSpent, fmt.Sprintf(
			"%d restarts in the last %s, %d more needed, %d allowed (spec.rollout.restartBudget)",
			spent, p.Period, len(pending), p.MaxRestarts)), true
	}
	begun := len(pending) < len(p.Nodes)
	if left := p.Cooldown - now.Sub(last); !begun && !last.IsZero() && left > 0 {
		s := hold("", v1alpha1.ReasonCooldownActive,
			fmt.Sprintf("the last change was at %s; the next may start in %s (spec.rollout.cooldown)",
				last.UTC().Format(time.RFC3339), left.Round(time.Second)))
		s.Again = left
		return s, true
	}
	return Step{}, false
}

func hold(node, reason, message string) Step {
	return Step{Kind: Hold, Node: node, Reason: reason, Message: message}
}

// leaderLast orders standbys before the leader, and by name.
func leaderLast(a, b Node) int {
	rank := func(n Node) int {
		if n.Leader != nil && *n.Leader {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
}
