package controllers

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/metrics"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Bounds of what a status may hold, as the schema has them.
const (
	maxHistory = 10
	maxNodes   = 32
	maxMessage = 1024
	maxCauses  = 10
	maxLines   = 6
	maxLine    = 256
)

// nextStatus computes the whole status from the one before and this pass. Nothing else writes a status field.
func nextStatus(before v1alpha1.EndpointSyncPolicyStatus, p pass, err error) v1alpha1.EndpointSyncPolicyStatus {
	next := *before.DeepCopy()
	next.ObservedGeneration = p.Policy.Generation
	if err == nil && p.Stalled != v1alpha1.ReasonConflict && p.InCharge != "" {
		next.Nodes = nodeSummaries(p.Nodes, p.Now)
		next.Lag = LagStatus(p.Evidence.Lag)
		next.Bottleneck = bottleneck(p.Bottleneck)
		if before.ObservedGeneration != p.Policy.Generation { // It may lie outside the new bounds.
			before.Recommended = v1alpha1.Recommendation{}
		}
		next.Recommended = recommendation(before.Recommended, p)
		next.History = history(before.History, p)
		if p.Persisted != nil {
			next.Persisted = *p.Persisted
		}
		next.DesiredRevision = max(before.DesiredRevision, p.Handed, newestRevision(p))
	}
	setConditions(&next, p, err)
	return next
}

// bottleneck is a diagnosis as the status shows it.
func bottleneck(b tuner.Bottleneck) v1alpha1.Bottleneck {
	out := v1alpha1.Bottleneck{
		Type: cmp.Or(b.Type, v1alpha1.BottleneckUnknown), Message: bounded(b.Message), Advice: bounded(b.Advice),
	}
	for _, f := range b.Findings[:min(len(b.Findings), maxCauses)] {
		out.Evidence = append(out.Evidence, v1alpha1.CauseEvidence{Cause: f.Cause, For: lines(f.For), Against: lines(f.Against)})
	}
	return out
}

// lines is evidence within the bounds of the status.
func lines(texts []string) []string {
	out := make([]string, 0, min(len(texts), maxLines))
	for _, text := range texts[:min(len(texts), maxLines)] {
		out = append(out, shortened(text, maxLine))
	}
	return out
}

// figures is what a pass tells of a policy besides its status.
func figures(next v1alpha1.EndpointSyncPolicyStatus, p pass) metrics.Policy {
	out := metrics.Policy{
		MaxLag: ObjectiveOf(p.Policy.Spec.WithDefaults().Objective).MaxLag, Outcome: p.Verdict.Outcome,
		Running: p.Evidence.Flags, Recommended: next.Recommended.Flags, Standing: p.Standing,
	}
	if len(next.History) > 0 {
		out.PredictedLag, _ = next.History[0].PredictedLag.Value()
		out.AchievedLag, _ = next.History[0].AchievedLag.Value()
	}
	return out
}

// setConditions sets all four conditions, always, so that `kubectl wait --for=condition=…=false` works.
func setConditions(next *v1alpha1.EndpointSyncPolicyStatus, p pass, err error) {
	all := p.Conditions()
	if err != nil {
		all = failing(all, err)
	}
	for _, c := range all {
		c.ObservedGeneration, c.LastTransitionTime = p.Policy.Generation, metav1.NewTime(p.Now)
		meta.SetStatusCondition(&next.Conditions, c)
	}
	slices.SortFunc(next.Conditions, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
}

// failing says that something broke and is tried again.
func failing(all []metav1.Condition, err error) []metav1.Condition {
	for i := range all {
		switch c := &all[i]; c.Type {
		case v1alpha1.ConditionReady:
			c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonError, bounded(err.Error())
		case v1alpha1.ConditionReconciling:
			c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonError, bounded(err.Error())
		}
	}
	return all
}

// Conditions returns the four conditions that a conclusion leads to, without generation and time: whether the operator
// has done what the spec asks (Ready), is at it (Reconciling), or cannot go on before a person acts (Stalled). Ready
// does not mean that the objective is met: ObjectiveMet says that.
func (c Conclusion) Conditions() []metav1.Condition {
	const yes, no = metav1.ConditionTrue, metav1.ConditionFalse
	reason := cmp.Or(c.Step.Reason, v1alpha1.ReasonReady)
	ready := condition(v1alpha1.ConditionReady, yes, reason, c.Step.Message)
	reconciling := condition(v1alpha1.ConditionReconciling, no, v1alpha1.ReasonReady, "nothing is under way")
	stalled := condition(v1alpha1.ConditionStalled, no, v1alpha1.ReasonReady, "nothing stands in the way")
	switch {
	case c.Stalled != "":
		ready = condition(v1alpha1.ConditionReady, no, c.Stalled, c.Message)
		stalled = condition(v1alpha1.ConditionStalled, yes, c.Stalled, c.Message)
	case c.Step.Kind == rollout.Wait, c.Step.Kind == rollout.Start:
		ready.Status = no
		reconciling = condition(v1alpha1.ConditionReconciling, yes, reason, c.Step.Message)
	case unknown(c.Step.Reason):
		ready.Status = no
	}
	return []metav1.Condition{c.objectiveMet(), ready, reconciling, stalled}
}

// unknown says whether a hold is for want of knowledge of the nodes: then the operator does not do what the spec asks.
func unknown(reason string) bool {
	switch reason {
	case v1alpha1.ReasonNodeNotReporting, v1alpha1.ReasonNodeUnhealthy, v1alpha1.ReasonNoLeader, v1alpha1.ReasonNoSignals,
		v1alpha1.ReasonPlatformNotKnown:
		return true
	}
	return false
}

func (c Conclusion) objectiveMet() metav1.Condition {
	status, reason := metav1.ConditionUnknown, v1alpha1.ReasonTooFewSamples
	switch c.Verdict.Outcome {
	case tuner.Met:
		status, reason = metav1.ConditionTrue, v1alpha1.ReasonObjectiveMet
	case tuner.Missed:
		status, reason = metav1.ConditionFalse, v1alpha1.ReasonObjectiveMissed
	case tuner.Inconclusive:
	}
	return condition(v1alpha1.ConditionObjectiveMet, status, reason, cmp.Or(c.Verdict.Message, "nothing was measured yet"))
}

func condition(name string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: name, Status: status, Reason: reason, Message: bounded(message)}
}

// LagStatus renders a lag summary as the API shows it.
func LagStatus(s lag.Summary) []v1alpha1.Lag {
	out := make([]v1alpha1.Lag, 0, len(s.Stats))
	for _, stat := range s.Stats {
		row := v1alpha1.Lag{
			Resource: v1alpha1.Resource(stat.Resource), Direction: v1alpha1.Direction(stat.Direction),
			Changes: new(int64(stat.Samples())), Open: new(int64(stat.Open)), Episodes: new(int64(stat.Episodes)),
			Startup: new(int64(stat.Startup)), Unseen: new(int64(stat.Gap)), HandOver: new(int64(stat.HandOver)),
		}
		if stat.Samples() > 0 {
			row.P50, row.P99, row.ErrorBound = quantile(stat.P50), quantile(stat.P99), errorBound(s)
		}
		out = append(out, row)
	}
	return out
}

// errorBound is empty where it is not known. It is never rounded down.
func errorBound(s lag.Summary) v1alpha1.Duration {
	if !s.BoundKnown {
		return ""
	}
	return v1alpha1.DurationOf((s.ErrorBound + time.Millisecond - 1).Truncate(time.Millisecond))
}

// quantile marks what is only known to be at least that much.
func quantile(q lag.Quantile) string {
	text := q.Value.Round(time.Millisecond).String()
	if q.LowerBound {
		return ">=" + text
	}
	return text
}

// recommendation keeps the last setting that was computed while the present pass has none, with the present reason.
func recommendation(before v1alpha1.Recommendation, p pass) v1alpha1.Recommendation {
	next := before
	if d := p.Decision; d.Flags != (v1alpha1.Flags{}) {
		next = v1alpha1.Recommendation{
			Flags: d.Flags, Uncapped: d.Uncapped, PredictedLag: v1alpha1.DurationOf(d.PredictedLag),
			Cost: d.Cost, CurrentCost: d.CurrentCost,
		}
	}
	next.Snippet = p.snippet(next.Flags)
	next.HandOver, next.Advice = v1alpha1.DurationOf(p.Evidence.HandOver), bounded(handOverAdvice(p.Nodes))
	next.Reason, next.Message = p.Decision.Reason, bounded(p.Decision.Message)
	if p.Stalled != "" {
		next.Reason, next.Message = before.Reason, before.Message
	}
	return next
}

// handOverAdvice says what a person can do about the hand-over of a rollout. The operator never sets a feature gate.
func handOverAdvice(nodes []v1alpha1.EndpointSyncNode) string {
	if len(nodes) < 2 || releasing(nodes) {
		return ""
	}
	return fmt.Sprintf("--feature-gates=ControllerManagerReleaseLeaderElectionLockOnExit=true on every kube-controller-manager would cut "+
		"the hand-over of a rollout, and of every upgrade, from about %s to about %s: a process that ends would give its Lease up. "+
		"The gate is alpha and off by default in Kubernetes v1.37; the operator does not set it",
		rollout.HandOver(len(nodes), false), rollout.HandOver(len(nodes), true))
}

// nodeSummaries shows the nodes as last reported; of one whose agent is silent, nothing that may have changed.
func nodeSummaries(nodes []v1alpha1.EndpointSyncNode, now time.Time) []v1alpha1.NodeSummary {
	out := make([]v1alpha1.NodeSummary, 0, min(len(nodes), maxNodes))
	for _, n := range nodes[:min(len(nodes), maxNodes)] {
		summary := v1alpha1.NodeSummary{
			Name: n.Name, Phase: n.Status.Phase, Running: n.Status.Running,
			Leader: n.Status.Leader, Healthy: n.Status.Healthy, Message: n.Status.Last.Message,
		}
		if now.Sub(n.Status.ReportTime.Time) > rollout.MaxReportAge {
			summary.Running, summary.Leader, summary.Healthy = v1alpha1.Flags{}, nil, nil
			summary.Message = "the agent does not report"
		}
		out = append(out, summary)
	}
	return out
}

func bounded(s string) string { return shortened(s, maxMessage) }

func shortened(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}

func sameStatus(a, b v1alpha1.EndpointSyncPolicyStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}

// sameStanding says whether two reports of an agent differ in nothing that could change a conclusion.
func sameStanding(a, b v1alpha1.EndpointSyncNodeStatus) bool {
	strip := func(s v1alpha1.EndpointSyncNodeStatus) v1alpha1.EndpointSyncNodeStatus {
		s.ReportTime, s.Signals, s.Conditions = metav1.Time{}, v1alpha1.KCMSignals{}, nil
		return s
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

// occurrence is one thing worth an Event.
type occurrence struct {
	kind, reason, action, message string
}

// transitions lists what changed between two statuses, with the reasons that conditions and history carry.
func transitions(before, after v1alpha1.EndpointSyncPolicyStatus) []occurrence {
	var out []occurrence
	for _, e := range after.History {
		i := slices.IndexFunc(before.History, func(b v1alpha1.HistoryEntry) bool { return b.Revision == e.Revision })
		switch {
		case i < 0:
			out = append(out, occurrence{corev1.EventTypeNormal, v1alpha1.ReasonRolloutStarted, "RollOut", fmt.Sprintf(
				"Revision %d: %s -> %s for bottleneck %s, predicted lag %s", e.Revision, e.From, e.To, e.Bottleneck, e.PredictedLag)})
		case before.History[i].Outcome != e.Outcome:
			out = append(out, ended(e))
		}
		if i >= 0 && before.History[i].Effect != e.Effect && e.Effect != "" {
			out = append(out, effected(e))
		}
	}
	if reason, changed := newReason(before, after, v1alpha1.ConditionStalled); changed && reason.Status == metav1.ConditionTrue {
		out = append(out, occurrence{corev1.EventTypeWarning, reason.Reason, "Stall", reason.Message})
	}
	if reason, changed := newReason(before, after, v1alpha1.ConditionObjectiveMet); changed {
		out = append(out, occurrence{corev1.EventTypeNormal, reason.Reason, "Measure", reason.Message})
	}
	return out
}

// effected says what came of a change.
func effected(e v1alpha1.HistoryEntry) occurrence {
	kind := corev1.EventTypeNormal
	if e.Effect == v1alpha1.EffectNoGain || e.Effect == v1alpha1.EffectHarmed {
		kind = corev1.EventTypeWarning
	}
	text := fmt.Sprintf("Revision %d: lag %s before it, %s predicted, %s achieved",
		e.Revision, orUnknown(e.MeasuredLag), orUnknown(e.PredictedLag), orUnknown(e.AchievedLag))
	if e.Harm != "" {
		text += "; " + e.Harm
	}
	return occurrence{kind, string(e.Effect), "Judge", bounded(text)}
}

func orUnknown(d v1alpha1.Duration) string { return cmp.Or(string(d), "unknown") }

func ended(e v1alpha1.HistoryEntry) occurrence {
	kind := corev1.EventTypeNormal
	switch e.Outcome {
	case v1alpha1.OutcomeRolledBack, v1alpha1.OutcomeRollbackFailed, v1alpha1.OutcomeRefused, v1alpha1.OutcomeDisplaced:
		kind = corev1.EventTypeWarning
	case v1alpha1.OutcomeCommitted, v1alpha1.OutcomeUnchanged:
	}
	return occurrence{kind, string(e.Outcome), "RollOut", bounded(fmt.Sprintf("Revision %d: %s: %s", e.Revision, e.Reason, e.Message))}
}

// newReason returns a condition and whether its status or reason is not what it was.
func newReason(before, after v1alpha1.EndpointSyncPolicyStatus, name string) (metav1.Condition, bool) {
	was, is := meta.FindStatusCondition(before.Conditions, name), meta.FindStatusCondition(after.Conditions, name)
	if is == nil {
		return metav1.Condition{}, false
	}
	return *is, was == nil || was.Status != is.Status || was.Reason != is.Reason
}
