package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/metrics"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// How soon a policy is looked at again without an event: soon while something is under way, seldom when all is quiet.
// Each look costs at most one status patch.
const (
	busyInterval  = 5 * time.Second
	quietInterval = 15 * time.Second
)

// PolicyReconciler measures for every policy, and decides and acts for the one that is in charge.
type PolicyReconciler struct {
	Client    client.Client
	Live      client.Reader // past the cache: what an instruction rests on
	Namespace string        // of the claim
	Clock     clock.PassiveClock
	Tracker   *lag.Tracker
	Signals   *signalLog
	Server    *serverLog // nil: the API server's health is not known
	// Episodes are the worst of the last week; nil: none are remembered.
	Episodes *episodeBook
	Metrics  *metrics.Set
	Events   events.EventRecorder
	Synced   func() bool // whether the tracker has seen the initial state
	Platform func() platform.Finding

	visited visit    // of kubeadm's configuration
	finals  sync.Map // name of a deleted policy to its v1alpha1.DeletionPolicy
}

// Reconcile observes, concludes, acts, and reports, in that order.
func (r *PolicyReconciler) Reconcile(ctx context.Context, req ctrl.Request) (_ ctrl.Result, err error) {
	var policy v1alpha1.EndpointSyncPolicy
	if err = r.Client.Get(ctx, req.NamespacedName, &policy); apierrors.IsNotFound(err) {
		return r.reconcileDeleted(ctx, req.Name)
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("get policy %s: %w", req.Name, err)
	}
	policies, nodes, err := r.fleet(ctx)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	if !r.Signals.heard(nodes) {
		return ctrl.Result{RequeueAfter: busyInterval}, nil
	}
	before := policy.DeepCopy()
	p := pass{Situation: Situation{Policy: policy, Now: r.Clock.Now()}}
	defer func() {
		policy.Status = nextStatus(before.Status, p, err)
		r.Metrics.SetPolicy(policy.Name, figures(policy.Status, p))
		err = errors.Join(err, r.report(ctx, before, &policy))
	}()
	if p.Situation, err = r.observe(ctx, p.Situation, policies, nodes); err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	p.Conclusion = Conclude(p.Situation)
	if p, err = r.act(ctx, p); err != nil {
		return ctrl.Result{}, fmt.Errorf("act: %w", err)
	}
	if p, err = r.persist(ctx, p); err != nil {
		return ctrl.Result{}, fmt.Errorf("persist: %w", err)
	}
	r.Episodes.save(ctx)
	return ctrl.Result{RequeueAfter: p.interval()}, nil
}

// reconcileDeleted puts back what each node had, one node at a time, where a deleted policy asked for it and no other
// policy is in charge. The instruction stands in each EndpointSyncNode, so that it outlives the policy.
func (r *PolicyReconciler) reconcileDeleted(ctx context.Context, name string) (ctrl.Result, error) {
	r.Metrics.DeletePolicy(name)
	policies, nodes, err := r.fleet(ctx)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe after the deletion of policy %s: %w", name, err)
	}
	left := ownedBy(r.Signals.stamped(nodes), name)
	if len(left) == 0 || r.finalWord(name, left) != v1alpha1.DeletionRestore {
		return ctrl.Result{}, nil
	}
	if len(policies) > 0 && policies[0].Spec.Mode == v1alpha1.ModeEnforce {
		// The flags are that policy's to judge now, for as long as it enforces.
		return ctrl.Result{RequeueAfter: restoreRetry}, nil
	}
	plan := restorePlan(left)
	step := rollout.Next(plan, r.Clock.Now())
	if step.Kind == rollout.Start {
		given, err := r.instruct(ctx, plan, step, restoreInstruction(left[0]))
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("restore after the deletion of policy %s: %w", name, err)
		}
		step = given.step
	}
	if err := r.unpersist(ctx, name, step); err != nil {
		return ctrl.Result{}, fmt.Errorf("restore after the deletion of policy %s: %w", name, err)
	}
	ctrl.LoggerFrom(ctx).V(1).Info("Restoring after the policy was deleted", "policy", name, "step", step.Kind,
		"node", step.Node, "reason", step.Reason)
	if step.Kind == rollout.Done && r.visited.refused != "" { // A person may mend what kept kubeadm's configuration from it.
		return ctrl.Result{RequeueAfter: persistRetry}, nil
	}
	return ctrl.Result{RequeueAfter: restoreInterval(step)}, nil
}

// finalWord is the deletion policy that a policy had in the end: as its deletion was seen, else as the nodes were told.
func (r *PolicyReconciler) finalWord(name string, nodes []v1alpha1.EndpointSyncNode) v1alpha1.DeletionPolicy {
	if last, ok := r.finals.Load(name); ok {
		if word, ok := last.(v1alpha1.DeletionPolicy); ok {
			return word
		}
	}
	return nodes[0].Spec.DeletionPolicy
}

// remember keeps the last word of a policy that goes, which may have been spoken too late to reach the nodes.
func (r *PolicyReconciler) remember(obj client.Object) {
	if p, ok := obj.(*v1alpha1.EndpointSyncPolicy); ok {
		r.finals.Store(p.Name, p.Spec.WithDefaults().DeletionPolicy)
	}
}

// report patches the status once, only if it differs, and turns what changed into Events.
func (r *PolicyReconciler) report(ctx context.Context, before, after *v1alpha1.EndpointSyncPolicy) error {
	if sameStatus(before.Status, after.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	err := r.Client.Status().Patch(ctx, after, patch)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // Deleted, or changed since: the next pass starts from what is there then.
	}
	if err != nil {
		return fmt.Errorf("patch the status of policy %s: %w", after.Name, err)
	}
	for _, e := range transitions(before.Status, after.Status) {
		r.Events.Eventf(after, nil, e.kind, e.reason, e.action, "%s", e.message)
	}
	return nil
}

// SetupWithManager registers the reconciler: for policies, and for what agents report that can change a conclusion.
func (r *PolicyReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("policy").
		For(&v1alpha1.EndpointSyncPolicy{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&v1alpha1.EndpointSyncPolicy{}, handler.EnqueueRequestsFromMapFunc(r.formerOwners), builder.WithPredicates(r.gone())).
		Watches(&v1alpha1.EndpointSyncNode{}, handler.EnqueueRequestsFromMapFunc(r.policiesOf), builder.WithPredicates(nodeMoved())).
		Complete(r)
}

// policiesOf returns every policy, and the one that the node was last told something for, which may be gone.
func (r *PolicyReconciler) policiesOf(ctx context.Context, obj client.Object) []reconcile.Request {
	var all v1alpha1.EndpointSyncPolicyList
	if err := r.Client.List(ctx, &all); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List policies")
		return nil
	}
	names := map[string]bool{}
	for _, p := range all.Items {
		names[p.Name] = true
	}
	if n, ok := obj.(*v1alpha1.EndpointSyncNode); ok && n.Spec.PolicyName != "" {
		names[n.Spec.PolicyName] = true
	}
	requests := make([]reconcile.Request, 0, len(names))
	for name := range names {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return requests
}

// gone lets pass deletions only, and keeps the last word of what was deleted.
func (r *PolicyReconciler) gone() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		UpdateFunc:  func(event.UpdateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		DeleteFunc: func(e event.DeleteEvent) bool {
			r.remember(e.Object)
			return true
		},
	}
}

// formerOwners returns the policies on whose behalf nodes were told something: with a policy gone, what an older one
// asked for may be due.
func (r *PolicyReconciler) formerOwners(ctx context.Context, _ client.Object) []reconcile.Request {
	var nodes v1alpha1.EndpointSyncNodeList
	if err := r.Client.List(ctx, &nodes); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List EndpointSyncNodes")
		return nil
	}
	var requests []reconcile.Request
	for _, n := range nodes.Nodes() {
		if n.Spec.PolicyName != "" {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: n.Spec.PolicyName}})
		}
	}
	return requests
}

// nodeMoved lets pass reports that can change a conclusion, and not heartbeats and counters.
func nodeMoved() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, ok := e.ObjectOld.(*v1alpha1.EndpointSyncNode)
		is, ok2 := e.ObjectNew.(*v1alpha1.EndpointSyncNode)
		return !ok || !ok2 || was.Generation != is.Generation || !sameStanding(was.Status, is.Status)
	}}
}
