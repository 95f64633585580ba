package controllers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// failureTTL is how long a setting that was rolled back is not tried again on the same version, unless the policy's
// spec changes.
const failureTTL = 24 * time.Hour

// silenceLimit is how long a node in flight may go without a report before a person has to look at it.
const silenceLimit = 5 * time.Minute

// restoreRetry is after how long a restore that was refused is tried again: nobody is left to ask for it.
const restoreRetry = 10 * time.Minute

// Situation is everything that a pass concludes from: plain values, gathered by the reconciler or by the plan command.
type Situation struct {
	Policy   v1alpha1.EndpointSyncPolicy // spec with defaults
	InCharge string                      // name of the policy that acts; the oldest
	Nodes    []v1alpha1.EndpointSyncNode // by name
	Synced   bool                        // whether the measurement has seen the initial state
	Measured func(lag.Service) bool      // nil: all Services
	Invalid  string                      // why the spec cannot be used, if the schema let it pass
	Evidence tuner.Evidence
	Now      time.Time

	// Episodes are the worst of the last week, which a lower setting must cope with.
	Episodes []tuner.Episode

	// Guardrails are GuardrailsOf the spec as it was written, without defaults.
	Guardrails tuner.Guardrails

	Platform platform.Finding // zero: not known
}

// Conclusion is what a pass makes of its situation.
type Conclusion struct {
	Stalled    string // reason for which a person has to act, or empty
	Message    string // explains Stalled
	Verdict    tuner.Judgement
	Bottleneck tuner.Bottleneck
	Standing   tuner.Standing // of the API server
	// Past are the policy's changes of flags, newest first, with what this pass's evidence tells of them.
	Past     []tuner.Revision
	Decision tuner.Decision
	Step     rollout.Step
	Plan     rollout.Plan // that Step is of

	goesOn bool // Step belongs to a rollout that has begun, and not to Decision
}

// Conclude says what is the matter and what to do next. It is a pure function: the same situation gives the same
// conclusion, whether the controller acts on it or the plan command only prints it.
func Conclude(s Situation) Conclusion {
	var c Conclusion
	if c.Stalled, c.Message = unusable(s); c.Stalled != "" {
		return c
	}
	if !s.Synced {
		c.Step = hold(v1alpha1.ReasonTooFewSamples, "the watches have not delivered the present state yet")
		return c
	}
	objective := ObjectiveOf(s.Policy.Spec.Objective)
	c.Verdict = tuner.Verdict(s.Evidence.Lag, objective)
	c.Verdict.Message += grounds(c.Verdict.Row, s.Evidence.Lag)
	c.Bottleneck = tuner.Diagnose(s.Evidence, objective)
	c.Standing = tuner.Guard(s.Evidence, s.Guardrails)
	c.Plan = planOf(s)
	if s.Policy.Spec.Mode == v1alpha1.ModeObserve {
		c.Step = idle(c.Plan, s.Now, v1alpha1.ReasonObserving, "spec.mode is Observe: nothing is decided and nothing is written")
		return c
	}
	c.Past = settled(s, objective)
	c.Decision = tuner.Decide(tuner.Inputs{
		Objective: objective, Bounds: s.Policy.Spec.Bounds, Evidence: s.Evidence, Bottleneck: c.Bottleneck,
		Failed: failedFlags(s), Guardrails: s.Guardrails, Past: c.Past, Episodes: s.Episodes,
		Relax: s.Policy.Spec.Rollout.Relax == v1alpha1.RelaxAfterQuiet,
	})
	if s.Policy.Spec.Mode == v1alpha1.ModeRecommend {
		c.Step = idle(c.Plan, s.Now, v1alpha1.ReasonRecommended, "spec.mode is Recommend: nothing is written")
		return c
	}
	return c.enforce(s)
}

// idle starts nothing, and waits for a node that was told something before: that ends by itself, whatever was asked
// since.
func idle(plan rollout.Plan, now time.Time, reason, message string) rollout.Step {
	if anyInFlight(plan.Nodes) {
		return rollout.Next(plan, now)
	}
	return hold(reason, message)
}

// enforce finds the rollout's next step: of a rollout that has begun, else of a new decision.
func (c Conclusion) enforce(s Situation) Conclusion {
	if !s.Platform.Patchable {
		return c.refusePlatform(s)
	}
	if len(s.Nodes) == 0 {
		c.Stalled = v1alpha1.ReasonNoControlPlaneNodes
		c.Message = "no node carries the label " + controlPlaneLabel +
			": the control plane is not ours to patch; use spec.mode Recommend and apply status.recommended yourself"
		return c
	}
	begun := begunRollout(s, c.Plan.Nodes)
	c.Plan.Target, c.goesOn = begun.target, begun.open
	switch {
	case anyInFlight(c.Plan.Nodes): // Ends by itself, whatever was asked since.
	case s.Policy.DeletionTimestamp != nil:
		c.Step = hold(v1alpha1.ReasonPaused, "the policy is being deleted: no change starts")
		return c
	case s.Policy.Annotations[v1alpha1.PauseAnnotation] == "true":
		c.Step = hold(v1alpha1.ReasonPaused, "annotation "+v1alpha1.PauseAnnotation+" is set: no change starts")
		return c
	case c.failed(s):
		return c
	case begun.open:
	case c.Decision.Act:
		c.Plan.Target = rollout.Target{
			Action: v1alpha1.ActionApply, Flags: c.Decision.Flags, Exempt: c.Decision.Purpose == tuner.PurposeUndo,
		}
	default:
		return c.rest(s, begun)
	}
	c.Step = rollout.Next(c.Plan, s.Now)
	if c.Step.Kind == rollout.Halt || abandoned(c.Step, c.Plan.Nodes, s.Now) {
		c.Stalled, c.Message = c.Step.Reason, c.Step.Message
	}
	return c
}

// rest starts nothing because nothing was decided, and says what stands in the way of whatever will be: first of all, that
// a node did not take what it was last told.
func (c Conclusion) rest(s Situation, begun begun) Conclusion {
	last := c.Plan
	last.Target.Action = v1alpha1.ActionApply
	if step, stopped := rollout.Rejected(last, s.Now); stopped {
		c.Step, c.Stalled, c.Message = step, step.Reason, step.Message
		return c
	}
	c.Step = hold(c.Decision.Reason, c.Decision.Message)
	if unready, yes := rollout.Unready(c.Plan, s.Now); yes {
		c.Step = unready
	}
	if begun.outside != "" {
		c.Stalled, c.Message = v1alpha1.ReasonRolloutAbandoned, begun.outside
	}
	return c
}

// begun is a rollout that is not over.
type begun struct {
	open    bool
	target  rollout.Target
	outside string // why a rollout that is not over does not go on
}

// begunRollout returns the policy's rollout that is not over, if there is one. It goes on before anything new is decided,
// also under a new spec, as long as that spec would let it.
func begunRollout(s Situation, nodes []rollout.Node) begun {
	target, open := rollout.Open(nodes, s.Policy.Name)
	if !open {
		return begun{}
	}
	if why := s.Policy.Spec.Bounds.Reject(target.Flags, s.Policy.Name); why != "" {
		return begun{outside: fmt.Sprintf(
			"revision %d is on some nodes and not on others, and does not go on because %s: widen spec.bounds, or wait for the next decision, which brings all nodes in step",
			target.Revision, why)}
	}
	target.Exempt = target.Unfinished(nodes) && undoes(s.Policy.Status.History, target.Flags)
	return begun{open: true, target: target}
}

// undoes says whether the flags of a rollout that has begun take a change back: then nothing that may hold a change up
// leaves the harm on the nodes that are left. Once all have had it, what somebody else rewrites waits like anything else.
func undoes(history []v1alpha1.HistoryEntry, flags v1alpha1.Flags) bool {
	i := slices.IndexFunc(history, func(e v1alpha1.HistoryEntry) bool { return e.Purpose != v1alpha1.PurposeRepeat })
	return i >= 0 && history[i].Purpose == v1alpha1.PurposeUndo && history[i].To == flags
}

// abandoned says whether the node that the step waits for has been silent for too long.
func abandoned(step rollout.Step, nodes []rollout.Node, now time.Time) bool {
	return step.Kind == rollout.Wait && step.Reason == v1alpha1.ReasonNodeNotReporting &&
		slices.ContainsFunc(nodes, func(n rollout.Node) bool {
			return n.Name == step.Node && now.Sub(n.Reported) > silenceLimit
		})
}

// failed stalls on a setting that was rolled back: trying others by ourselves would cost more hand-overs.
func (c *Conclusion) failed(s Situation) bool {
	for _, n := range s.Nodes {
		for _, f := range n.Status.Failed {
			if !current(f, n, s) {
				continue
			}
			c.Stalled = v1alpha1.ReasonRolledBack
			c.Message = fmt.Sprintf("node %s rolled %s back at %s: %s. It is not tried again for 24h or until the "+
				"policy's spec changes; look at kube-controller-manager's log on that node, then change spec.bounds",
				n.Name, f.Flags, f.Time.UTC().Format(time.RFC3339), whyFailed(f, n.Status.Last))
			c.Step = hold(v1alpha1.ReasonRolledBack, c.Message)
			return true
		}
	}
	return false
}

// whyFailed adds to a failure's reason what the node said of it, unless it has changed to something else since.
func whyFailed(f v1alpha1.FailedSetting, last v1alpha1.ChangeResult) string {
	switch {
	case last.Flags != f.Flags || last.Message == "":
		return f.Reason
	case strings.HasPrefix(last.Message, f.Reason+": "):
		return last.Message
	}
	return f.Reason + ": " + last.Message
}

// current says whether a failure still speaks against its setting. An inconclusive one blames no value.
func current(f v1alpha1.FailedSetting, n v1alpha1.EndpointSyncNode, s Situation) bool {
	return f.Reason != v1alpha1.ReasonInconclusive &&
		s.Now.Sub(f.Time.Time) < failureTTL &&
		f.PolicyGeneration == s.Policy.Generation && onThisVersion(f, n.Status)
}

// onThisVersion says whether a setting failed on the kube-controller-manager that runs now, as far as its version is known.
func onThisVersion(f v1alpha1.FailedSetting, s v1alpha1.EndpointSyncNodeStatus) bool {
	return s.KCMVersion == "" || f.KCMVersion == s.KCMVersion
}

// unusable returns why the policy can do nothing before a person acts.
func unusable(s Situation) (reason, message string) {
	if s.InCharge != s.Policy.Name {
		return v1alpha1.ReasonConflict, fmt.Sprintf(
			"policy %s is older and in charge; one policy acts for a cluster: delete this one, or that one", s.InCharge)
	}
	if s.Invalid != "" {
		return v1alpha1.ReasonInvalidSpec, s.Invalid
	}
	if _, err := rollout.NewWindows(s.Policy.Spec.Rollout.MaintenanceWindows); err != nil {
		return v1alpha1.ReasonInvalidSpec, "spec.rollout.maintenanceWindows: " + err.Error()
	}
	return invalidDuration(s.Policy.Spec)
}

func invalidDuration(spec v1alpha1.EndpointSyncPolicySpec) (reason, message string) {
	for _, d := range []struct {
		field string
		value v1alpha1.Duration
	}{
		{"spec.objective.maxLag", spec.Objective.MaxLag},
		{"spec.guardrails.maxMutatingLatency", spec.Guardrails.MaxMutatingLatency},
		{"spec.rollout.cooldown", spec.Rollout.Cooldown},
		{"spec.rollout.healthTimeout", spec.Rollout.HealthTimeout},
		{"spec.rollout.minReady", spec.Rollout.MinReady},
		{"spec.rollout.restartBudget.period", spec.Rollout.RestartBudget.Period},
	} {
		if _, ok := d.value.Value(); !ok {
			return v1alpha1.ReasonInvalidSpec, fmt.Sprintf("%s is %q, want a duration longer than 0s", d.field, d.value)
		}
	}
	return "", ""
}

// ObjectiveOf turns a policy's objective, with its defaults, into what the tuner takes.
func ObjectiveOf(o v1alpha1.Objective) tuner.Objective {
	maxLag, _ := o.MaxLag.Value()
	return tuner.Objective{Percentile: float64(o.Percentile) / 100, MaxLag: maxLag, MinSamples: int(o.MinSamples)}
}

// GuardrailsOf turns a policy's guardrails, as they were written, into what the tuner takes. Limits that are omitted have
// their defaults; a policy that sets one asks that nothing is raised where they cannot be checked.
func GuardrailsOf(written v1alpha1.Guardrails) tuner.Guardrails {
	g := v1alpha1.EndpointSyncPolicySpec{Guardrails: written}.WithDefaults().Guardrails
	latency, _ := g.MaxMutatingLatency.Value()
	return tuner.Guardrails{
		MaxWriteLatency: latency,
		MaxRefused:      float64(g.MaxRejectedPercent) / 100,
		Required:        written != (v1alpha1.Guardrails{}),
	}
}

// failedFlags are the settings that were rolled back lately, for the decision to leave out.
func failedFlags(s Situation) []v1alpha1.Flags {
	var failed []v1alpha1.Flags
	for _, n := range s.Nodes {
		for _, f := range n.Status.Failed {
			if current(f, n, s) {
				failed = append(failed, f.Flags)
			}
		}
	}
	return failed
}

// planOf turns the objects into the rollout's plain values.
func planOf(s Situation) rollout.Plan {
	r := s.Policy.Spec.Rollout
	cooldown, _ := r.Cooldown.Value()
	period, _ := r.RestartBudget.Period.Value()
	windows, _ := rollout.NewWindows(r.MaintenanceWindows)
	return rollout.Plan{
		Nodes: rolloutNodes(s.Nodes), Policy: s.Policy.Name, Generation: s.Policy.Generation,
		Cooldown: cooldown, RetryAfter: cooldown, FailedFor: failureTTL,
		MaxRestarts: int(r.RestartBudget.MaxRestarts), Period: period, Windows: windows,
	}
}

func rolloutNodes(nodes []v1alpha1.EndpointSyncNode) []rollout.Node {
	out := make([]rollout.Node, 0, len(nodes))
	for _, n := range nodes {
		last := lastOf(n.Status)
		node := rollout.Node{
			Name: n.Name, Revision: value(n.Spec.Revision), Action: n.Spec.Action, Flags: n.Spec.Flags,
			Policy: n.Spec.PolicyName, Generation: n.Spec.PolicyGeneration, Standing: standing(n.Status),
			Ended: n.Status.ObservedRevision, Phase: n.Status.Phase,
			Outcome: last.Outcome, Reason: last.Reason, Message: last.Message,
			Finished: last.FinishTime.Time, Running: n.Status.Running, Version: n.Status.KCMVersion,
			Changed: n.Status.ManifestChangeTime.Time,
			Healthy: n.Status.Healthy != nil && *n.Status.Healthy, Leader: n.Status.Leader, Reported: n.Status.ReportTime.Time,
		}
		for _, at := range n.Status.Restarts {
			node.Restarts = append(node.Restarts, at.Time)
		}
		out = append(out, node)
	}
	return out
}

// lastOf is what a node's last change came to; nothing, if it was rolled back on another version of
// kube-controller-manager than runs now, which says nothing about this one.
func lastOf(s v1alpha1.EndpointSyncNodeStatus) v1alpha1.ChangeResult {
	onAnother := func(f v1alpha1.FailedSetting) bool {
		return f.Flags == s.Last.Flags && f.Time.Equal(&s.Last.FinishTime) && !onThisVersion(f, s)
	}
	if s.Last.Outcome == v1alpha1.OutcomeRolledBack && slices.ContainsFunc(s.Failed, onAnother) {
		return v1alpha1.ChangeResult{}
	}
	return s.Last
}

// standing is what an agent says of itself where it does not do what it was told.
func standing(s v1alpha1.EndpointSyncNodeStatus) string {
	ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason == v1alpha1.ReasonReady || ready.Reason == v1alpha1.ReasonProgressing {
		return ""
	}
	return ready.Reason + ": " + ready.Message
}

func anyInFlight(nodes []rollout.Node) bool {
	return slices.ContainsFunc(nodes, rollout.Node.InFlight)
}

func hold(reason, message string) rollout.Step {
	return rollout.Step{Kind: rollout.Hold, Reason: reason, Message: message}
}
