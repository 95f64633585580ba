package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// controlPlaneLabel marks control-plane nodes, as kubeadm sets it.
const controlPlaneLabel = "node-role.kubernetes.io/control-plane"

// NodeReconciler keeps one EndpointSyncNode for each control-plane node, so that its agent has an object to report in, and
// the isolation probe. It hands out no instruction.
type NodeReconciler struct {
	Client  client.Client
	Live    client.Reader // past the cache: what a deletion rests on
	Signals *signalLog
	Clock   clock.PassiveClock
}

// Reconcile creates the EndpointSyncNode of a control-plane node, and deletes it when the node is gone.
func (r *NodeReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if req.Name == v1alpha1.IsolationProbe {
		return ctrl.Result{}, r.keepProbe(ctx)
	}
	node := metav1.PartialObjectMetadata{}
	node.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	err := r.Client.Get(ctx, req.NamespacedName, &node)
	switch _, labelled := node.Labels[controlPlaneLabel]; {
	case apierrors.IsNotFound(err):
		return r.remove(ctx, req.Name)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get node %s: %w", req.Name, err)
	case !labelled: // The label may be back in a moment; only a node that is gone loses its record.
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, r.ensure(ctx, req.Name)
}

func (r *NodeReconciler) ensure(ctx context.Context, name string) error {
	channel := v1alpha1.EndpointSyncNode{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &channel)
	if !apierrors.IsNotFound(err) {
		return err
	}
	channel = v1alpha1.EndpointSyncNode{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)},
	}
	if err := r.Client.Create(ctx, &channel); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create EndpointSyncNode %s: %w", name, err)
	}
	ctrl.LoggerFrom(ctx).Info("Created EndpointSyncNode", "node", name)
	return nil
}

// remove forgets a node that is gone. One that was in the middle of a change keeps its record, and with it the rollout's
// turn, until its agent has been silent for long enough: whoever deletes a Node object does not stop its machine.
func (r *NodeReconciler) remove(ctx context.Context, name string) (ctrl.Result, error) {
	channel := v1alpha1.EndpointSyncNode{}
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &channel)
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("get EndpointSyncNode of vanished node %s: %w", name, err)
	}
	reported := r.Signals.stamped([]v1alpha1.EndpointSyncNode{channel})[0].Status.ReportTime
	if left := silenceLimit - r.Clock.Since(reported.Time); inFlight(channel) && left > 0 {
		ctrl.LoggerFrom(ctx).Info("Node vanished in the middle of a change; its record stays while its agent may be at work", "node", name)
		return ctrl.Result{RequeueAfter: left}, nil
	}
	// As it was read and no other: it may just have been told something.
	as := client.Preconditions{UID: &channel.UID, ResourceVersion: &channel.ResourceVersion}
	if err := r.Client.Delete(ctx, &channel, as); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete EndpointSyncNode of vanished node %s: %w", name, err)
	}
	return ctrl.Result{}, nil
}

func inFlight(n v1alpha1.EndpointSyncNode) bool {
	return anyInFlight(rolloutNodes([]v1alpha1.EndpointSyncNode{n}))
}

// SetupWithManager registers the reconciler. An EndpointSyncNode that somebody deletes is made again, and one whose
// node vanished while the controller was down is removed.
func (r *NodeReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("node").
		For(&corev1.Node{}, builder.OnlyMetadata, builder.WithPredicates(membershipChanged())).
		Watches(&v1alpha1.EndpointSyncNode{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(membershipChanged())).
		WatchesRawSource(probeFirst()).
		Complete(r)
}

// membershipChanged lets pass what makes or unmakes a control-plane node, and not its heartbeats.
func membershipChanged() predicate.Predicate {
	return predicate.LabelChangedPredicate{}
}
