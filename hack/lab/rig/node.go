package rig

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

const mergePatch = types.MergePatchType

func groupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "endpointsync.io", Version: "v1alpha1"}
}

func nodesResource() schema.GroupVersionResource {
	return groupVersion().WithResource("endpointsyncnodes")
}

func policiesResource() schema.GroupVersionResource {
	return groupVersion().WithResource("endpointsyncpolicies")
}

func nodeObject(name string, spec v1alpha1.EndpointSyncNodeSpec) *unstructured.Unstructured {
	node := &v1alpha1.EndpointSyncNode{
		TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion().String(), Kind: "EndpointSyncNode"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       spec,
	}
	return toUnstructured(node)
}

func toUnstructured(object any) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		panic(err) // our own types convert
	}
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(content, "status")
	return &unstructured.Unstructured{Object: content}
}

// ApplyPolicy applies a policy of that name and returns its generation.
func (c *Cluster) ApplyPolicy(t testing.TB, name string, spec v1alpha1.EndpointSyncPolicySpec) int64 {
	t.Helper()
	policy := &v1alpha1.EndpointSyncPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion().String(), Kind: "EndpointSyncPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       spec,
	}
	if err := c.Apply(t.Context(), toUnstructured(policy)); err != nil {
		t.Fatalf("apply policy %s: %v", name, err)
	}
	got, err := c.Dynamic.Resource(policiesResource()).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatalf("get policy %s: %v", name, err)
	}
	return got.GetGeneration()
}

// Instruct writes a node's spec, as the controller would.
func (r *Rig) Instruct(t testing.TB, spec v1alpha1.EndpointSyncNodeSpec) {
	t.Helper()
	if err := r.Cluster.Apply(t.Context(), nodeObject(r.Node, spec)); err != nil {
		t.Fatalf("instruct node %s: %v", r.Node, err)
	}
}

// Status returns what the node's agent last wrote; the zero value if it wrote nothing yet.
func (r *Rig) Status(ctx context.Context) (v1alpha1.EndpointSyncNodeStatus, error) {
	object, err := r.Cluster.Dynamic.Resource(nodesResource()).Get(ctx, r.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return v1alpha1.EndpointSyncNodeStatus{}, nil
	}
	if err != nil {
		return v1alpha1.EndpointSyncNodeStatus{}, err
	}
	var node v1alpha1.EndpointSyncNode
	err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &node)
	return node.Status, err
}

// AwaitStatus returns the first status that is as it should be, or fails the test with the last one.
func (r *Rig) AwaitStatus(t testing.TB, within time.Duration, what string, ok func(v1alpha1.EndpointSyncNodeStatus) bool) v1alpha1.EndpointSyncNodeStatus {
	t.Helper()
	var last v1alpha1.EndpointSyncNodeStatus
	Await(t, within, func() string { return fmt.Sprintf("%s; the last status was %+v", what, last) }, func(ctx context.Context) bool {
		status, err := r.Status(ctx)
		if err != nil {
			return false
		}
		last = status
		return ok(status)
	})
	return last
}

// AwaitEnd returns the status in which the revision has ended.
func (r *Rig) AwaitEnd(t testing.TB, revision int64, within time.Duration) v1alpha1.EndpointSyncNodeStatus {
	t.Helper()
	return r.AwaitStatus(t, within, fmt.Sprintf("end of revision %d", revision), func(s v1alpha1.EndpointSyncNodeStatus) bool {
		return s.ObservedRevision >= revision && s.Last.Revision >= revision && s.Phase == v1alpha1.PhaseIdle
	})
}

// Await looks until ok, and fails the test if it never was.
func Await(t testing.TB, within time.Duration, what func() string, ok func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) { return ok(ctx), nil })
	if err != nil {
		t.Fatalf("waited %s in vain for %s", within, what())
	}
}
