package controllers

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// Outcome is everything that one pass makes of its situation: what Reconcile would write.
type Outcome struct {
	Conclusion

	// Told is what the node Conclusion.Step.Node is told; its Revision is nil unless Step starts something.
	Told v1alpha1.EndpointSyncNodeSpec
	// Status of the policy after the pass.
	Status v1alpha1.EndpointSyncPolicyStatus
	// Again is how soon the policy is looked at again without an event.
	Again time.Duration
}

// Step is Reconcile without a cluster: a pure function for whoever plays one. The status before the pass is that of the
// situation's policy.
func Step(s Situation) Outcome {
	p := pass{Situation: s, Conclusion: Conclude(s)}
	o := Outcome{Conclusion: p.Conclusion}
	if p.Step.Kind == rollout.Start {
		p.Handed = p.Step.Revision
		o.Told = instructionFor(p)
		o.Told.Revision = new(p.Handed)
	}
	o.Status, o.Again = nextStatus(s.Policy.Status, p, nil), p.interval()
	return o
}

// Since is when the evidence of a pass begins.
func Since(t *lag.Tracker, s Situation) time.Time {
	window, _ := s.Policy.Spec.Objective.Window.Value()
	return (&PolicyReconciler{Tracker: t}).evidenceSince(s.Now, window, lastChange(s.Nodes))
}
