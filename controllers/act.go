package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
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
	case p.Step.Kind == rollout.Wait || p.Step.Kind == rollout.Start || open || !p.Synced:
		return busyInterval
	case p.Step.Again > 0:
		return min(p.Step.Again, quietInterval)
	}
	return quietInterval
}

// act hands the step's instruction to its node, and keeps the deletion policy on every node in step. It returns the pass
// with what came of it.
func (r *PolicyReconciler) act(ctx context.Context, p pass) (pass, error) {
	if p.Stalled == v1alpha1.ReasonConflict {
		return p, nil
	}
	if err := r.syncDeletionPolicy(ctx, p); err != nil {
		return p, err
	}
	if p.Step.Kind != rollout.Start {
		return p, nil
	}
	given, err := r.instruct(ctx, p.Plan, p.Step, instructionFor(p))
	p.Step, p.Handed = given.step, given.revision
	return p, err
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
		err := r.Client.Patch(ctx, after, client.MergeFromWithOptions(&n, client.MergeFromWithOptimisticLock{}))
		if err != nil && !outrun(err) { // Else the next pass writes it.
			return fmt.Errorf("keep the deletion policy of node %s: %w", n.Name, err)
		}
	}
	return nil
}

// instructionFor is what a node is told when a step starts on it.
func instructionFor(p pass) v1alpha1.EndpointSyncNodeSpec {
	return v1alpha1.EndpointSyncNodeSpec{
		Action:           p.Plan.Target.Action,
		Flags:            p.Plan.Target.Flags,
		PolicyName:       p.Policy.Name,
		PolicyGeneration: p.Policy.Generation,
		DeletionPolicy:   p.Policy.Spec.DeletionPolicy,
		HealthTimeout:    p.Policy.Spec.Rollout.HealthTimeout,
		MinReady:         p.Policy.Spec.Rollout.MinReady,
	}
}

// handout is what came of an attempt to hand out an instruction.
type handout struct {
	step     rollout.Step // as it stands now
	revision int64        // that was handed out; 0: none
}

// instruct writes the instruction for the node of a step that starts one. It looks at everything anew, past the cache, and
// does nothing unless that leads to the same step; then it claims the rollout, and only then tells the node, by a write
// that fails if anybody has touched the node since.
func (r *PolicyReconciler) instruct(
	ctx context.Context, plan rollout.Plan, step rollout.Step, told v1alpha1.EndpointSyncNodeSpec,
) (handout, error) {
	fresh, err := r.liveFleet(ctx)
	if err != nil {
		return handout{step: step}, fmt.Errorf("look at all nodes before changing %s: %w", step.Node, err)
	}
	plan.Nodes, plan.LeaseHolder = rolloutNodes(fresh.about(plan)), fresh.leaseHolder
	if again := rollout.Next(plan, r.Clock.Now()); !again.Same(step) {
		return handout{step: again}, nil
	}
	if anyInFlight(rolloutNodes(fresh.nodes)) { // One that this plan is not about.
		return handout{step: step}, nil
	}
	taken, err := r.takeTurn(ctx, fresh, step.Node)
	if err != nil || !taken {
		return handout{step: step}, err
	}
	i := slices.IndexFunc(fresh.nodes, func(n v1alpha1.EndpointSyncNode) bool { return n.Name == step.Node })
	n, before := &fresh.nodes[i], fresh.nodes[i].DeepCopy()
	told.Revision = new(step.Revision)
	n.Spec = told
	err = r.Client.Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case outrun(err): // By the agent's report, most likely.
		return handout{step: step}, nil
	case err != nil:
		return handout{step: step}, fmt.Errorf("hand revision %d to node %s: %w", step.Revision, step.Node, err)
	}
	ctrl.LoggerFrom(ctx).Info("Told node to change", "node", step.Node, "revision", step.Revision,
		"action", told.Action, "flags", told.Flags.String())
	return handout{step: step, revision: step.Revision}, nil
}

// liveFleet is what the API server says now of all nodes, of who leads, and of whose turn it is.
type liveFleet struct {
	claim       *coordinationv1.Lease       // read before the nodes
	nodes       []v1alpha1.EndpointSyncNode // by name
	leaseHolder string
}

// liveFleet reads past the cache.
func (r *PolicyReconciler) liveFleet(ctx context.Context) (f liveFleet, err error) {
	if f.claim, err = r.readClaim(ctx); err != nil {
		return f, err
	}
	var list v1alpha1.EndpointSyncNodeList
	if err = r.Live.List(ctx, &list); err != nil {
		return f, fmt.Errorf("list EndpointSyncNodes: %w", err)
	}
	f.nodes = r.Signals.stamped(byName(list))
	f.leaseHolder, err = r.leaseHolder(ctx)
	return f, err
}

// about returns the nodes that a plan is about: all of them, and of a restore those that it put something on.
func (f liveFleet) about(plan rollout.Plan) []v1alpha1.EndpointSyncNode {
	if plan.Target.Action != v1alpha1.ActionRestore {
		return f.nodes
	}
	return ownedBy(f.nodes, plan.Policy)
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

// restorePlan is the plan of putting back what the nodes had before the operator's first change.
func restorePlan(nodes []v1alpha1.EndpointSyncNode) rollout.Plan {
	return rollout.Plan{
		Nodes: rolloutNodes(nodes), Target: rollout.Target{Action: v1alpha1.ActionRestore},
		Policy: nodes[0].Spec.PolicyName, Generation: nodes[0].Spec.PolicyGeneration,
		RetryAfter: restoreRetry, FailedFor: failureTTL,
	}
}

// restoreInstruction restores with the patience that the deleted policy asked for. Its last word was Restore, whatever
// the node was told before.
func restoreInstruction(n v1alpha1.EndpointSyncNode) v1alpha1.EndpointSyncNodeSpec {
	return v1alpha1.EndpointSyncNodeSpec{
		Action: v1alpha1.ActionRestore, PolicyName: n.Spec.PolicyName, PolicyGeneration: n.Spec.PolicyGeneration,
		DeletionPolicy: v1alpha1.DeletionRestore, HealthTimeout: n.Spec.HealthTimeout, MinReady: n.Spec.MinReady,
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
