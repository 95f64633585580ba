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
	Version    string      // of its kube-controller-manager; empty: not known
	Changed    time.Time   // when its manifest last changed, by whoever; zero: not known
}

// InFlight says whether the agent still has work to do for what it was told.
func (n Node) InFlight() bool {
	return n.Revision > n.Ended || (n.Phase != "" && n.Phase != v1alpha1.PhaseIdle)
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
	Windows     Windows       // outside of which no node is started on

	// LeaseHolder is the host name in kube-controller-manager's Lease, to be held against what the agents say; empty: not
	// known. It says something only where hosts are named as their nodes are.
	LeaseHolder string
}

// SettleTime is how long a manifest that somebody else rewrote must have stood still before the operator touches it
// again: kubeadm's upgrade of a node rewrites four manifests and waits for each process, within a minute or two.
const SettleTime = 2 * time.Minute

// undoRetry is how long a step back waits at most for a node that refused it, or could not tell: until it is taken, the
// harm that it ends goes on.
const undoRetry = 10 * time.Minute

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

// Same says whether two steps do the same to the same node, whatever they say about it.
func (s Step) Same(other Step) bool {
	return s.Kind == other.Kind && s.Node == other.Node && s.Revision == other.Revision
}

// Next returns the next step towards the target. At most one node is in flight at any time; standbys come first and
// the leader last, so that a rollout costs one hand-over; nothing starts while a node is unhealthy, unknown, or has
// rejected the target. Restoring, and any other step back, is not held up by the maintenance windows, the cooldown or the
// restart budget.
func Next(p Plan, now time.Time) Step {
	for _, n := range p.Nodes {
		if n.InFlight() {
			return waitFor(n, now)
		}
	}
	if s, stopped := Rejected(p, now); stopped {
		return s
	}
	pending := slices.DeleteFunc(slices.Clone(p.Nodes), p.Target.reachedBy)
	if len(pending) == 0 {
		return Step{
			Kind: Done, Reason: v1alpha1.ReasonAsDesired,
			Message: fmt.Sprintf("all %d control-plane nodes have what they were told", len(p.Nodes)),
		}
	}
	for _, held := range []func() (Step, bool){
		func() (Step, bool) { return Unready(p, now) },
		func() (Step, bool) { return unsettled(p, pending, now) },
		func() (Step, bool) { return outside(p, now) },
		func() (Step, bool) { return allowance(p, pending, now) },
	} {
		if s, yes := held(); yes {
			return s
		}
	}
	slices.SortFunc(pending, leaderLast)
	return Step{
		Kind: Start, Node: pending[0].Name, Revision: p.revisionFor(pending[0]), Reason: v1alpha1.ReasonRolloutStarted,
		Message: fmt.Sprintf("starting on node %s (%d of %d left)", pending[0].Name, len(pending), len(p.Nodes)),
	}
}

// NextRevision returns a revision higher than any that was handed out or ended.
func NextRevision(nodes []Node) int64 { return highest(nodes) + 1 }

func highest(nodes []Node) int64 {
	var most int64
	for _, n := range nodes {
		most = max(most, n.Revision, n.Ended)
	}
	return most
}

// revisionFor returns the number under which a node is told the target: all nodes of one rollout share it, and a node
// that had it already gets a higher one.
func (p Plan) revisionFor(n Node) int64 {
	newest := highest(p.Nodes)
	begun := slices.ContainsFunc(p.Nodes, func(other Node) bool {
		return other.Revision == newest && other.Action == p.Target.Action && other.Flags == p.Target.Flags
	})
	if begun && newest > max(n.Revision, n.Ended) {
		return newest
	}
	return newest + 1
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

// Rejected halts at the first node that did not take or keep what it was last told for this generation of this policy,
// whatever the values: trying others at once would cost more restarts, or flood an agent that refuses.
func Rejected(p Plan, now time.Time) (Step, bool) {
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

func (p Plan) retryAfter() time.Duration {
	if p.Target.Exempt {
		return min(p.RetryAfter, undoRetry)
	}
	return p.RetryAfter
}

// patience is how long a node's last outcome stops the rollout.
func (p Plan) patience(n Node) time.Duration {
	if n.Reason == v1alpha1.ReasonConflictingEdit {
		return SettleTime // What speaks against going on is the other writer, and the agent counts those.
	}
	switch n.Outcome {
	case v1alpha1.OutcomeRefused, v1alpha1.OutcomeDisplaced:
		if n.Reason == v1alpha1.ReasonContended {
			return p.FailedFor // Somebody else keeps taking the flags away: a person has to say whose they are.
		}
		return p.retryAfter()
	case v1alpha1.OutcomeRolledBack:
		if n.Reason == v1alpha1.ReasonInconclusive || n.Reason == v1alpha1.ReasonNotPickedUp {
			return p.retryAfter() // Neither speaks against the values.
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
	restoring := p.Target.Action == v1alpha1.ActionRestore
	for _, n := range p.Nodes {
		switch {
		case n.silent(now):
			return hold(n.Name, v1alpha1.ReasonNodeNotReporting,
				fmt.Sprintf("the agent on node %s has not reported since %s; look at its log", n.Name, reported(n))), true
		case !n.Healthy && !restoring:
			return hold(n.Name, v1alpha1.ReasonNodeUnhealthy,
				fmt.Sprintf("kube-controller-manager on node %s is not healthy", n.Name)), true
		case n.Version != "" && n.Version != p.version() && !restoring:
			return hold(n.Name, v1alpha1.ReasonVersionSkew, fmt.Sprintf(
				"kube-controller-manager is %s on node %s and %s on another: the control plane is being upgraded, and nothing starts before that is over",
				n.Version, n.Name, p.version())), true
		}
	}
	if restoring {
		return Step{}, false
	}
	return leaderless(p)
}

// version is that of the first node whose version is known.
func (p Plan) version() string {
	for _, n := range p.Nodes {
		if n.Version != "" {
			return n.Version
		}
	}
	return ""
}

// leaderless holds unless exactly one node is known to lead, and the Lease does not speak against it: else the leader
// could not be changed last.
func leaderless(p Plan) (Step, bool) {
	var leaders []string
	for _, n := range p.Nodes {
		switch {
		case n.Leader == nil:
			return hold(n.Name, v1alpha1.ReasonNoLeader,
				fmt.Sprintf("whether kube-controller-manager on node %s leads is not known: its metrics could not be read", n.Name)), true
		case *n.Leader:
			leaders = append(leaders, n.Name)
		}
	}
	if len(leaders) == 0 {
		return hold("", v1alpha1.ReasonNoLeader, "no node reports that its kube-controller-manager leads"), true
	}
	if len(leaders) > 1 {
		return hold("", v1alpha1.ReasonNoLeader, fmt.Sprintf(
			"nodes %s and %s both report that their kube-controller-manager leads, as happens for seconds after a hand-over", leaders[0], leaders[1])), true
	}
	held := slices.ContainsFunc(p.Nodes, func(n Node) bool { return n.Name == p.LeaseHolder })
	if held && p.LeaseHolder != leaders[0] {
		return hold("", v1alpha1.ReasonNoLeader, fmt.Sprintf(
			"node %s reports that its kube-controller-manager leads, and the Lease names %s", leaders[0], p.LeaseHolder)), true
	}
	return Step{}, false
}

// unsettled holds while a manifest that somebody else has rewritten has not stood still for long enough.
func unsettled(p Plan, pending []Node, now time.Time) (Step, bool) {
	for _, n := range pending {
		left := SettleTime - now.Sub(n.Changed)
		if !p.Target.takenFrom(n) || n.Changed.IsZero() || left <= 0 {
			continue
		}
		s := hold(n.Name, v1alpha1.ReasonDrifted, fmt.Sprintf(
			"somebody else rewrote the manifest of node %s at %s; it gets its flags again once that file has stood still for %s",
			n.Name, n.Changed.UTC().Format(time.RFC3339), SettleTime))
		s.Again = left
		return s, true
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
// not subject to the cooldown: they belong to the change that started it. A node that gets back what it has lost is
// subject to neither.
func allowance(p Plan, pending []Node, now time.Time) (Step, bool) {
	fresh := slices.DeleteFunc(slices.Clone(pending), p.Target.takenFrom)
	if p.Target.Action == v1alpha1.ActionRestore || p.Target.Exempt || len(fresh) == 0 {
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
	if spent+len(fresh) > p.MaxRestarts {
		return hold("", v1alpha1.ReasonRestartBudgetSpent, fmt.Sprintf(
			"%d restarts in the last %s, %d more needed, %d allowed (spec.rollout.restartBudget)",
			spent, p.Period, len(fresh), p.MaxRestarts)), true
	}
	begun := len(fresh) < len(p.Nodes)
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

// HandOver is about how long no kube-controller-manager acts while a rollout changes the leader, as measured on kubeadm
// clusters of Kubernetes v1.37.2: with several nodes another one takes the Lease over, the next time it asks if every
// process gives it up when it ends (feature gate ControllerManagerReleaseLeaderElectionLockOnExit), else when its 15 s have
// passed; a lone node's process has to come back first, which takes the kubelet 10.5 to 15 s. Each asks every 2 to 4.4 s
// (client-go's RetryPeriod and JitterFactor, tools/leaderelection), two of them together after 1.1 s on average.
func HandOver(nodes int, releasing bool) time.Duration {
	switch {
	case nodes > 1 && releasing:
		return 1 * time.Second
	case nodes > 1:
		return 16 * time.Second
	case releasing:
		return 15 * time.Second
	}
	return 32 * time.Second
}
