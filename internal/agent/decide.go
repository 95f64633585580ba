package agent

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

const (
	// failedTTL is how long a setting that was rolled back is not tried again on the same version.
	failedTTL = 24 * time.Hour

	// holdRetry is how often an instruction that has to wait is looked at again: one read of the policy each time.
	holdRetry = 10 * time.Second

	// unhealthyRetry is how often a process that has to get healthy first is looked at again.
	unhealthyRetry = 2 * time.Second

	// maxHold is how long an instruction may wait for what holds it. What it rests on ages: a change that was decided on an
	// incident must not start by itself when a pause is lifted a week later.
	maxHold = 15 * time.Minute

	// The health gate of an instruction that does not say.
	defaultHealthTimeout = 2 * time.Minute
	defaultMinReady      = 30 * time.Second
)

// decisionKind is what to do about an instruction.
type decisionKind int

const (
	decideNothing decisionKind = iota // there is nothing to do
	decideStart                       // carry it out
	decideHold                        // not now: look again after Wait
	decideRefuse                      // never
)

// decision is what to do about an instruction, and why.
type decision struct {
	Kind    decisionKind
	Reason  string
	Message string
	Wait    time.Duration
}

func hold(reason, format string, args ...any) decision {
	return decision{Kind: decideHold, Reason: reason, Message: fmt.Sprintf(format, args...), Wait: holdRetry}
}

func refuse(reason, format string, args ...any) decision {
	return decision{Kind: decideRefuse, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// policyView is the policy as the agent read it itself.
type policyView struct {
	Unreachable error                        // the API server did not answer
	Policy      *v1alpha1.EndpointSyncPolicy // nil: the policy is gone
}

// running is the process before a change.
type running struct {
	Up      bool // something answers
	Healthy bool
	Known   bool // its metrics could be read: what follows is valid
	Process process
	Version string
	Leads   bool
	Holder  string // of the Lease; empty unless Leads, and if it could not be read
}

// situation is all that the decision about an instruction rests on.
type situation struct {
	Instruction v1alpha1.EndpointSyncNodeSpec
	Policy      policyView
	Others      othersView
	Journal     journal
	Process     running
	Isolation   isolation
	Paused      bool // by the PAUSE file
	Now         moment
	MinInterval time.Duration
	Held        time.Duration // since the instruction was first seen
}

// due reports whether an instruction asks for something that has not ended yet.
func due(spec v1alpha1.EndpointSyncNodeSpec, j journal) bool {
	return spec.Action != "" && revisionOf(spec) > j.ObservedRevision
}

func revisionOf(spec v1alpha1.EndpointSyncNodeSpec) int64 {
	if spec.Revision == nil {
		return 0
	}
	return *spec.Revision
}

// decide says what to do about an instruction. Refusals come before holds that may last: what can never be done is
// said at once, and no waiting makes it right.
func decide(s situation) decision {
	spec := s.Instruction
	switch {
	case !due(spec, s.Journal):
		return decision{Kind: decideNothing}
	case spec.Action != v1alpha1.ActionApply && spec.Action != v1alpha1.ActionRestore:
		return refuse(v1alpha1.ReasonRefused, "action %.32q is not known to this agent", string(spec.Action))
	}
	for _, check := range []func(situation) decision{
		checkLimits, checkKnown, checkReachable, checkPolicy, checkBounds, checkIsolated, checkPaused, checkProcess, checkFailed, checkInterval, checkOthers,
	} {
		switch d := check(s); {
		case d.Kind == decideNothing:
		case d.Kind == decideHold && s.Held > maxHold && d.Reason != v1alpha1.ReasonRateLimited:
			return refuse(v1alpha1.ReasonOutdated, "revision %d could not be started for %s (%s: %s): what it rests on is too old now",
				revisionOf(spec), maxHold, d.Reason, d.Message)
		default:
			return d
		}
	}
	return decision{Kind: decideStart}
}

// checkKnown refuses to put back what is not known.
func checkKnown(s situation) decision {
	if s.Instruction.Action != v1alpha1.ActionRestore || !s.Journal.Lost {
		return decision{}
	}
	return refuse(v1alpha1.ReasonJournalUnreadable,
		"the agent's state directory was lost, and with it what the flags were before: set them in the manifest by hand")
}

// checkLimits holds the flags against what is compiled in.
func checkLimits(s situation) decision {
	if s.Instruction.Action != v1alpha1.ActionApply {
		return decision{}
	}
	if s.Instruction.Flags == (v1alpha1.Flags{}) {
		return refuse(v1alpha1.ReasonOutOfBounds, "revision %d gives no flag a value", revisionOf(s.Instruction))
	}
	for _, f := range s.Instruction.Flags.List() {
		if f.Value < 0 || f.Value > f.Max {
			return refuse(v1alpha1.ReasonOutOfBounds, "--%s=%d is outside 1 to %d, which is compiled in", f.Name, f.Value, f.Max)
		}
	}
	return decision{}
}

func checkReachable(s situation) decision {
	if s.Policy.Unreachable == nil {
		return decision{}
	}
	return hold(v1alpha1.ReasonInconclusive, "the policy %s cannot be read, so nothing is started: %v",
		s.Instruction.PolicyName, s.Policy.Unreachable)
}

// checkPolicy asks whether the policy wants anything written at all.
func checkPolicy(s situation) decision {
	spec, policy := s.Instruction, s.Policy.Policy
	leaving := spec.Action == v1alpha1.ActionRestore && spec.DeletionPolicy == v1alpha1.DeletionRestore
	switch {
	case leaving && (policy == nil || !policy.DeletionTimestamp.IsZero()):
		return decision{}
	case policy == nil:
		return refuse(v1alpha1.ReasonRefused, "policy %s is gone: only a restore is still carried out", spec.PolicyName)
	case spec.Action == v1alpha1.ActionRestore:
		return refuse(v1alpha1.ReasonOutdated, "policy %s is there again: what it asks for now counts", spec.PolicyName)
	case spec.PolicyGeneration != policy.Generation:
		return refuse(v1alpha1.ReasonOutdated, "revision %d was decided for generation %d of policy %s, which is at %d now",
			revisionOf(spec), spec.PolicyGeneration, spec.PolicyName, policy.Generation)
	case policy.Spec.Mode != v1alpha1.ModeEnforce:
		return hold(v1alpha1.ReasonObserving, "policy %s has mode %s: nothing is written", spec.PolicyName, mode(policy))
	}
	return decision{}
}

func mode(policy *v1alpha1.EndpointSyncPolicy) v1alpha1.Mode {
	if policy.Spec.Mode == "" {
		return v1alpha1.ModeObserve
	}
	return policy.Spec.Mode
}

// checkBounds holds the flags against the policy's bounds. A flag without a bound is never touched.
func checkBounds(s situation) decision {
	if s.Instruction.Action != v1alpha1.ActionApply || s.Policy.Policy == nil {
		return decision{}
	}
	if why := s.Policy.Policy.Spec.Bounds.Reject(s.Instruction.Flags, s.Instruction.PolicyName); why != "" {
		return refuse(v1alpha1.ReasonOutOfBounds, "%s", why)
	}
	return decision{}
}

// checkIsolated asks whether the API server confines this agent, before anything else that only holds: of all these it is
// the one that a person must mend, and a pause or a sick process must not hide it.
func checkIsolated(s situation) decision {
	if missing := s.Isolation.missing(s.Now); missing != "" {
		return hold(v1alpha1.ReasonNotIsolated, "%s", missing)
	}
	return decision{}
}

func checkPaused(s situation) decision {
	switch policy := s.Policy.Policy; {
	case s.Paused:
		return hold(v1alpha1.ReasonPaused, "the file %s in the agent's state directory keeps it from starting anything", pauseName)
	case policy != nil && policy.Annotations[v1alpha1.PauseAnnotation] == "true":
		return hold(v1alpha1.ReasonPaused, "policy %s is paused by its annotation %s", s.Instruction.PolicyName, v1alpha1.PauseAnnotation)
	}
	return decision{}
}

// checkProcess asks for a healthy process that can be told from the next one, so that a change is judged by its own
// effects. A restore does not wait for it: it may be what brings the process back.
func checkProcess(s situation) decision {
	d := decision{}
	switch {
	case s.Instruction.Action == v1alpha1.ActionRestore:
	case !s.Process.Healthy:
		d = hold(v1alpha1.ReasonNodeUnhealthy, "kube-controller-manager on this node is not healthy, so nothing is changed")
	case !s.Process.Known:
		d = hold(v1alpha1.ReasonNoSignals, "the metrics of kube-controller-manager cannot be read, so a change could not be proven")
	}
	d.Wait = min(d.Wait, unhealthyRetry)
	return d
}

// checkOthers asks that every other node is heard of, well, and at rest now. That was so when the controller gave the
// instruction; this agent, or its machine, may have been away since. A restore waits for its turn, and not for health.
func checkOthers(s situation) decision {
	d := decision{}
	if err := s.Others.Unreachable; err != nil {
		d = hold(v1alpha1.ReasonInconclusive, "the other nodes cannot be read, so nothing is started: %v", err)
	}
	for _, n := range s.Others.Nodes {
		status := n.Status
		switch {
		case rollout.Node{Revision: revisionOf(n.Spec), Ended: status.ObservedRevision, Phase: status.Phase}.InFlight():
			d = hold(v1alpha1.ReasonProgressing, "node %s is in the middle of a change, and one at a time is changed", n.Name)
		case s.Instruction.Action == v1alpha1.ActionRestore:
		case slices.Contains(s.Others.Silent, n.Name):
			d = hold(v1alpha1.ReasonNodeNotReporting, "the agent of node %s has not reported for %s, so nothing is changed on this one", n.Name, rollout.MaxReportAge)
		case status.Healthy == nil || !*status.Healthy:
			d = hold(v1alpha1.ReasonNodeUnhealthy, "kube-controller-manager on node %s is not healthy, so nothing is changed on this one", n.Name)
		}
	}
	d.Wait = min(d.Wait, unhealthyRetry)
	return d
}

// checkFailed keeps a setting that was rolled back from being tried again.
func checkFailed(s situation) decision {
	if s.Instruction.Action != v1alpha1.ActionApply {
		return decision{}
	}
	for _, f := range s.Journal.Failed {
		age := s.Now.Wall.Sub(f.Time.Time)
		if f.Flags == s.Instruction.Flags && f.KCMVersion == s.Process.Version && age < failedTTL &&
			f.PolicyGeneration == s.Instruction.PolicyGeneration {
			return refuse(v1alpha1.ReasonSettingFailedBefore, "%s failed on %s at %s (%s): it is tried again after 24 hours or when the policy's spec changes",
				f.Flags, s.Process.Version, f.Time.UTC().Format(time.RFC3339), f.Reason)
		}
	}
	return decision{}
}

// checkInterval keeps changes apart. A restore, putting back what somebody else has taken away of the last change, and
// taking that change back, need not wait: one that did harm should not have to be borne. What comes after it must wait
// again.
func checkInterval(s situation) decision {
	last := s.Journal.Contest
	reapply := last.Stood && last.Flags == s.Instruction.Flags
	if s.Instruction.Action == v1alpha1.ActionRestore || reapply || takesBack(s) || s.Journal.LastChange.BootID == "" {
		return decision{}
	}
	left := s.MinInterval - s.Now.since(s.Journal.LastChange)
	if left <= 0 {
		return decision{}
	}
	d := hold(v1alpha1.ReasonRateLimited, "the last change on this node was less than %s ago: %s to go", s.MinInterval, left.Round(time.Second))
	d.Wait = min(left, d.Wait)
	return d
}

// takesBack reports whether the instruction asks for what the last change, which was committed, has replaced.
func takesBack(s situation) bool {
	c := s.Journal.Change
	if s.Journal.Phase != phaseCommitted || len(c.Replaced) == 0 || s.Journal.Last.Revision != c.Revision {
		return false
	}
	before := c.Flags
	for _, w := range c.Replaced {
		value, known := w.number()
		if !known || !before.Set(w.Name, value) {
			return false
		}
	}
	return before == s.Instruction.Flags
}

// number is the value that kube-controller-manager took the flag for: its default where it was absent.
func (w written) number() (value int32, known bool) {
	if w.Absent {
		usual := v1alpha1.DefaultFlags().List()
		i := slices.IndexFunc(usual, func(f v1alpha1.FlagValue) bool { return f.Name == w.Name })
		return usual[max(i, 0)].Value, i >= 0
	}
	n, err := strconv.ParseInt(w.Value, 10, 32)
	return int32(n), err == nil
}
