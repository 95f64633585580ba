package controllers

import (
	"context"
	"fmt"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// pass is one run of Reconcile: its situation and what it makes of it.
type pass struct {
	Situation
	Conclusion

	// Handed is the revision that this pass handed to a node, or 0.
	Handed int64
	// Persisted is what kubeadm's configuration holds on behalf of the policy; nil: this pass wants nothing of it.
	Persisted *v1alpha1.Flags
}

// interval is how soon the policy is looked at again without an event.
func (p pass) interval() time.Duration {
	open := false
	for _, s := range p.Evidence.Lag.Stats {
		open = open || s.Open > 0
	}
	switch {
	case p.Step.Kind == rollout.Wait || p.Handed > 0 || open || !p.Synced:
		return busyInterval
	case p.Step.Again > 0:
		return min(p.Step.Again, quietInterval)
	}
	return quietInterval
}

// act hands the step's instruction to its node and returns its revision, and keeps the deletion policy on every node in step.
func (r *PolicyReconciler) act(ctx context.Context, p pass) (handed int64, err error) {
	if p.Stalled == v1alpha1.ReasonConflict {
		return 0, nil
	}
	if err := r.syncDeletionPolicy(ctx, p); err != nil {
		return 0, err
	}
	return r.instruct(ctx, p.Step, instructionFor(p))
}

// syncDeletionPolicy writes a changed deletion policy where the flags are ours already. It is no instruction: the
// revision stays.
func (r *PolicyReconciler) syncDeletionPolicy(ctx context.Context, p pass) error {
	for _, n := range ownedBy(p.Nodes, p.Policy.Name) {
		if n.Spec.DeletionPolicy == p.Policy.Spec.DeletionPolicy {
			continue
		}
		after := n.DeepCopy()
		after.Spec.DeletionPolicy = p.Policy.Spec.DeletionPolicy
		if err := r.Client.Patch(ctx, after, client.MergeFromWithOptions(&n, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("keep the deletion policy of node %s: %w", n.Name, err)
		}
	}
	return nil
}

// instructionFor is what a node is told when a step starts on it.
func instructionFor(p pass) v1alpha1.EndpointSyncNodeSpec {
	return v1alpha1.EndpointSyncNodeSpec{
		Action:           p.Target.Action,
		Flags:            p.Target.Flags,
		PolicyName:       p.Policy.Name,
		PolicyGeneration: p.Policy.Generation,
		DeletionPolicy:   p.Policy.Spec.DeletionPolicy,
		HealthTimeout:    p.Policy.Spec.Rollout.HealthTimeout,
		MinReady:         p.Policy.Spec.Rollout.MinReady,
	}
}

// instruct writes the instruction for the step's node, if the step starts one, and returns the revision that it really
// handed out. The write is the claim: it carries the resource version of a fresh read, and it is not made if that read
// shows any node in flight, so that of two controllers that both believe they lead, one fails on the same node.
func (r *PolicyReconciler) instruct(ctx context.Context, step rollout.Step, told v1alpha1.EndpointSyncNodeSpec) (handed int64, err error) {
	if step.Kind != rollout.Start {
		return 0, nil
	}
	var fresh v1alpha1.EndpointSyncNodeList
	if err := r.Live.List(ctx, &fresh); err != nil {
		return 0, fmt.Errorf("read all EndpointSyncNodes before changing %s: %w", step.Node, err)
	}
	plain := rolloutNodes(fresh.Items)
	if anyInFlight(plain) {
		return 0, nil // The cache was behind; the next pass sees it.
	}
	for i := range fresh.Items {
		n := &fresh.Items[i]
		if n.Name != step.Node {
			continue
		}
		before := n.DeepCopy()
		told.Revision = new(rollout.NextRevision(plain))
		n.Spec = told
		if err := r.Client.Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return 0, fmt.Errorf("hand revision %d to node %s: %w", *told.Revision, step.Node, err)
		}
		ctrl.LoggerFrom(ctx).Info("Told node to change", "node", step.Node, "revision", *told.Revision,
			"action", told.Action, "flags", told.Flags.String())
		handed = *told.Revision
	}
	return handed, nil
}

// ownedBy returns the nodes that were last told something on behalf of a policy.
func ownedBy(nodes []v1alpha1.EndpointSyncNode, policy string) []v1alpha1.EndpointSyncNode {
	var owned []v1alpha1.EndpointSyncNode
	for _, n := range nodes {
		if n.Spec.PolicyName == policy {
			owned = append(owned, n)
		}
	}
	return owned
}

// restoreStep is the next step of putting back what the nodes had before the operator's first change.
func restoreStep(nodes []v1alpha1.EndpointSyncNode, now time.Time) rollout.Step {
	return rollout.Next(rollout.Plan{
		Nodes: rolloutNodes(nodes), Target: rollout.Target{Action: v1alpha1.ActionRestore},
		Policy: nodes[0].Spec.PolicyName, Generation: nodes[0].Spec.PolicyGeneration,
		RetryAfter: restoreRetry, FailedFor: failureTTL,
	}, now)
}

// restoreInstruction restores with the patience that the deleted policy asked for.
func restoreInstruction(n v1alpha1.EndpointSyncNode) v1alpha1.EndpointSyncNodeSpec {
	return v1alpha1.EndpointSyncNodeSpec{
		Action: v1alpha1.ActionRestore, PolicyName: n.Spec.PolicyName, PolicyGeneration: n.Spec.PolicyGeneration,
		DeletionPolicy: n.Spec.DeletionPolicy, HealthTimeout: n.Spec.HealthTimeout, MinReady: n.Spec.MinReady,
	}
}

// restoreInterval is how soon a restore is looked at again; zero when it has ended.
func restoreInterval(step rollout.Step) time.Duration {
	switch step.Kind {
	case rollout.Wait, rollout.Start:
		return busyInterval
	case rollout.Hold:
		return quietInterval
	case rollout.Halt:
		return max(step.Again, quietInterval)
	case rollout.Done:
	}
	return 0
}
