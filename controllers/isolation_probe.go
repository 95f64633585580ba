package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// keepProbe makes the EndpointSyncNode that no agent may write. A Node of that name gets none of its own, because its
// agent could not tell whether it is confined: nothing is ever changed there, and the error says why.
func (r *NodeReconciler) keepProbe(ctx context.Context) error {
	if err := r.ensure(ctx, v1alpha1.IsolationProbe); err != nil {
		return err
	}
	node := metav1.PartialObjectMetadata{}
	node.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	switch err := r.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.IsolationProbe}, &node); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get node %s: %w", v1alpha1.IsolationProbe, err)
	}
	return reconcile.TerminalError(fmt.Errorf(
		"node %s has the name that is reserved for the agents' isolation self-test: give it another one, until then it is not managed", node.Name))
}

// probeFirst has the probe looked at when the reconciler starts: no event speaks of an object that was never there.
func probeFirst() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(reconcile.Request{NamespacedName: client.ObjectKey{Name: v1alpha1.IsolationProbe}})
		return nil
	})
}
