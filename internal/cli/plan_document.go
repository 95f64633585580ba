package cli

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// situation is what the controller would conclude from, as far as it can be seen from here.
func situation(policy v1alpha1.EndpointSyncPolicy, inCharge string, s *session) controllers.Situation {
	now := s.until
	guardrails := controllers.GuardrailsOf(policy.Spec.Guardrails)
	policy.Spec = policy.Spec.WithDefaults()
	sit := controllers.Situation{Policy: policy, InCharge: inCharge, Nodes: s.readings.nodes, Synced: true, Now: now, Guardrails: guardrails, Platform: s.platform}
	sit.Measured, sit.Invalid = controllers.Measured(policy.Spec.Services)
	sit.Evidence = s.evidence(now, sit.Measured)
	return sit
}

// planned puts the controller's conclusion into a document. In Observe the controller decides nothing; the plan shows
// all the same what it would recommend.
func planned(sit controllers.Situation, s *session) *report.Plan {
	c := controllers.Conclude(sit)
	objective := controllers.ObjectiveOf(sit.Policy.Spec.Objective)
	inputs := tuner.Inputs{Objective: objective, Bounds: sit.Policy.Spec.Bounds, Evidence: sit.Evidence, Bottleneck: c.Bottleneck, Guardrails: sit.Guardrails, Past: c.Past}
	if inputs.Bottleneck.Type == "" { // stalled: the controller does not look, we do
		c.Verdict, c.Bottleneck = tuner.Verdict(sit.Evidence.Lag, objective), tuner.Diagnose(sit.Evidence, objective)
		inputs.Bottleneck = c.Bottleneck
	}
	if inputs.Bounds == (v1alpha1.Bounds{}) {
		inputs.Bounds = generousBounds()
	}
	decision := c.Decision
	if decision.Reason == "" {
		decision = tuner.Decide(inputs)
	}
	now := s.readings.running(s.current)
	document := &report.Plan{
		Policy: policyRef(sit.Policy),
		Assessment: report.Assess(report.Basis{
			Scope:     report.Scope{Selected: sit.Measured != nil},
			Objective: objective, Evidence: sit.Evidence, Verdict: c.Verdict, Bottleneck: c.Bottleneck, Decision: decision,
			Source: now.source, Assumed: now.assumed, NotSeen: s.limits().notSeen(sit.Evidence), Platform: sit.Platform,
		}),
		Conditions: report.Conditions(c.Conditions()),
		Nodes:      report.Nodes(sit.Nodes),
		Step:       stepOf(c, sit.Nodes),
		Curve:      report.Curve(tuner.Curve(inputs, decision)),
	}
	if sit.Measured != nil {
		document.NotSeen = append(document.NotSeen, chosenOnly)
	}
	if sit.Policy.Spec.Bounds == (v1alpha1.Bounds{}) {
		document.NotSeen = append(document.NotSeen, "bounds: the policy has none, so that nothing may be written; what is shown stays within "+
			generousLimits())
	}
	return document
}

func generousLimits() string {
	b := generousBounds()
	return fmt.Sprintf("QPS %d, burst %d and %d workers", b.KubeAPIQPS.Max, b.KubeAPIBurst.Max, b.ConcurrentEndpointSyncs.Max)
}

func policyRef(p v1alpha1.EndpointSyncPolicy) report.PolicyRef {
	return report.PolicyRef{
		Name: report.Clean(p.Name), Mode: string(p.Spec.WithDefaults().Mode),
		Paused: p.Annotations[v1alpha1.PauseAnnotation] == "true",
	}
}

// stepOf is the rollout's next step with what the whole rollout costs.
func stepOf(c controllers.Conclusion, nodes []v1alpha1.EndpointSyncNode) report.Step {
	step := report.Step{
		Kind: string(c.Step.Kind), Node: c.Step.Node, Revision: c.Step.Revision,
		Reason: c.Step.Reason, Message: report.Clean(c.Step.Message), Flags: report.FlagsOf(c.Plan.Target.Flags),
	}
	if c.Stalled != "" && step.Kind == "" {
		step.Kind, step.Reason, step.Message = string(rollout.Hold), c.Stalled, report.Clean(c.Message)
	}
	if c.Step.Kind != rollout.Start {
		return step
	}
	for _, n := range nodes {
		if !c.Plan.Target.Flags.Within(n.Status.Running) {
			step.Restarts++
		}
	}
	step.HandOver = handOver(nodes)
	return step
}

// handOver says how long no kube-controller-manager acts during a rollout: as long as the last time, else as measured
// elsewhere.
func handOver(nodes []v1alpha1.EndpointSyncNode) string {
	for _, n := range nodes {
		if last := n.Status.Last.HandOver; last != "" {
			return "one hand-over, which took " + string(last) + " the last time"
		}
	}
	return fmt.Sprintf("one hand-over, about %s without an acting kube-controller-manager", controllers.HandOver(nodes))
}

// fromStatus shows what the policy's status says, where nothing is measured.
func fromStatus(policy v1alpha1.EndpointSyncPolicy, s *session) *report.Plan {
	status, spec := policy.Status, policy.Spec.WithDefaults()
	objective := controllers.ObjectiveOf(spec.Objective)
	now := s.readings.running(s.current)
	r := status.Recommended
	predicted, _ := r.PredictedLag.Value()
	document := &report.Plan{
		Policy: policyRef(policy),
		Assessment: report.Assess(report.Basis{
			Scope:      report.Scope{Selected: spec.Services.NamespaceSelector != nil || spec.Services.Selector != nil},
			Objective:  objective,
			Evidence:   tuner.Evidence{Flags: now.flags},
			Bottleneck: bottleneckOf(status.Bottleneck),
			Decision: tuner.Decision{
				Act:   r.Flags != (v1alpha1.Flags{}) && r.Reason == v1alpha1.ReasonObjectiveMissed,
				Flags: r.Flags, Uncapped: r.Uncapped, PredictedLag: predicted, Cost: r.Cost, CurrentCost: r.CurrentCost,
				Reason: r.Reason, Message: r.Message,
			},
			Source: now.source, Assumed: now.assumed,
			Platform: s.platform,
			NotSeen:  []string{"anything that happened since the status was written: nothing was measured"},
		}),
		Conditions: report.Conditions(status.Conditions),
		Nodes:      report.Nodes(s.readings.nodes),
		Curve:      []report.CurvePoint{},
		FromStatus: true,
	}
	document.Lag = report.StatusLag(status.Lag)
	if met := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionObjectiveMet); met != nil {
		document.Verdict = report.StatusVerdict(*met)
	}
	return document
}

// bottleneckOf is a diagnosis as a policy's status shows it.
func bottleneckOf(b v1alpha1.Bottleneck) tuner.Bottleneck {
	out := tuner.Bottleneck{Type: b.Type, Message: b.Message, Advice: b.Advice}
	for _, e := range b.Evidence {
		out.Findings = append(out.Findings, tuner.Finding{Cause: e.Cause, For: e.For, Against: e.Against})
	}
	return out
}
