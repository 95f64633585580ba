package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// claimName is the Lease in the operator's namespace that names the node whose turn it is. It never expires: time says
// nothing about whether a change has ended.
const claimName = "endpoint-sync-rollout"

// fenceAnnotation on an EndpointSyncNode names the node for which its claim was taken over.
const fenceAnnotation = "endpointsync.io/claim-passed-to"

// takeTurn makes the node the one whose turn it is, and reports whether that came off.
//
// Leader election alone is no fence: a controller that was paused may go on in the belief that it leads. Whoever takes the
// claim over from another node therefore writes to that node's object first, so that an instruction which the earlier
// claimant has not written yet fails on its resource version. And the claim itself is taken by compare-and-set with the
// version that was read before the nodes were, so that of two that saw the same state one fails.
func (r *PolicyReconciler) takeTurn(ctx context.Context, f liveFleet, node string) (taken bool, err error) {
	holder := holderOf(f.claim)
	for i := range f.nodes {
		n := &f.nodes[i]
		// Without a holder nobody knows who may have held it: somebody deleted the Lease, or it is the first time.
		if n.Name == node || (holder != "" && n.Name != holder) {
			continue
		}
		if fenced, err := r.fence(ctx, n, node); err != nil || !fenced {
			return false, err
		}
	}
	return r.takeClaim(ctx, f.claim, node)
}

// readClaim returns the Lease, or a new one that was not created yet.
func (r *PolicyReconciler) readClaim(ctx context.Context) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: claimName}, lease)
	if apierrors.IsNotFound(err) {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: claimName}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the rollout's claim, Lease %s/%s: %w", r.Namespace, claimName, err)
	}
	return lease, nil
}

// fence makes every write to a node that rests on an earlier read fail.
func (r *PolicyReconciler) fence(ctx context.Context, n *v1alpha1.EndpointSyncNode, heir string) (fenced bool, err error) {
	before := n.DeepCopy()
	metav1.SetMetaDataAnnotation(&n.ObjectMeta, fenceAnnotation, heir+" at "+r.Clock.Now().UTC().Format(time.RFC3339))
	err = r.Client.Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if outrun(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("fence node %s before the rollout's claim passes to %s: %w", n.Name, heir, err)
	}
	return true, nil
}

// takeClaim writes the claim, unless somebody else has written it since it was read.
func (r *PolicyReconciler) takeClaim(ctx context.Context, lease *coordinationv1.Lease, node string) (taken bool, err error) {
	now := metav1.NewMicroTime(r.Clock.Now())
	lease.Spec.HolderIdentity, lease.Spec.AcquireTime, lease.Spec.RenewTime = &node, &now, &now
	if lease.ResourceVersion == "" {
		err = r.Client.Create(ctx, lease)
	} else {
		err = r.Client.Update(ctx, lease)
	}
	if outrun(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("claim the rollout for node %s, Lease %s/%s: %w", node, r.Namespace, claimName, err)
	}
	ctrl.LoggerFrom(ctx).V(1).Info("Claimed the rollout", "node", node)
	return true, nil
}

// outrun says whether a write failed because somebody else was faster. The next pass starts from what is there then.
func outrun(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

func holderOf(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// leaseHolder returns the host name in kube-controller-manager's Lease, or "" if there is none: HOST_UUID
// (cmd/kube-controller-manager/app/controllermanager.go, Run).
func (r *PolicyReconciler) leaseHolder(ctx context.Context) (string, error) {
	lease := &coordinationv1.Lease{}
	key := client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "kube-controller-manager"}
	if err := r.Live.Get(ctx, key, lease); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("read who leads, Lease %s: %w", key, err)
	}
	host, _, _ := strings.Cut(holderOf(lease), "_")
	return host, nil
}
