package rig

import (
	"context"
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const mergePatch = types.MergePatchType

func applyOptions() metav1.ApplyOptions { return metav1.ApplyOptions{FieldManager: self, Force: true} }

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
func (c *Cluster) ApplyPolicy(t T, name string, spec v1alpha1.EndpointSyncPolicySpec) int64 {
	t.Helper()
	policy := &v1alpha1.EndpointSyncPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion().String(), Kind: "EndpointSyncPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       spec,
	}
	applied, err := c.Dynamic.Resource(policiesResource()).Apply(t.Context(), name, toUnstructured(policy), applyOptions())
	if err != nil {
		t.Fatalf("apply policy %s: %v", name, err)
	}
	return applied.GetGeneration()
}

// DeletePolicy deletes a policy.
func (c *Cluster) DeletePolicy(t T, name string) {
	t.Helper()
	if err := c.Dynamic.Resource(policiesResource()).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatalf("delete policy %s: %v", name, err)
	}
}

// Annotate gives a policy an annotation.
func (c *Cluster) Annotate(t T, name, key, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value)
	_, err := c.Dynamic.Resource(policiesResource()).Patch(t.Context(), name, mergePatch, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatalf("annotate policy %s: %v", name, err)
	}
}

// Instruct writes a node's spec, as the controller would.
func (r *Rig) Instruct(t T, spec v1alpha1.EndpointSyncNodeSpec) {
	t.Helper()
	_, err := r.Cluster.Dynamic.Resource(nodesResource()).Apply(t.Context(), r.Node, nodeObject(r.Node, spec), applyOptions())
	if err != nil {
		t.Fatalf("instruct node %s: %v", r.Node, err)
	}
}

// Object returns what the operator keeps for the node; the zero value if it keeps nothing yet.
func (r *Rig) Object(ctx context.Context) (v1alpha1.EndpointSyncNode, error) {
	var node v1alpha1.EndpointSyncNode
	object, err := r.Cluster.Dynamic.Resource(nodesResource()).Get(ctx, r.Node, metav1.GetOptions{})
	if err != nil {
		return node, client.IgnoreNotFound(err)
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &node)
	return node, err
}

// AwaitStatus returns the first status that is as it should be, or fails the test with the last one.
func (r *Rig) AwaitStatus(t T, within time.Duration, what string, ok func(v1alpha1.EndpointSyncNodeStatus) bool) v1alpha1.EndpointSyncNodeStatus {
	t.Helper()
	var last v1alpha1.EndpointSyncNodeStatus
	Await(t, within, func() string { return fmt.Sprintf("%s; the last status was %+v", what, last) }, func(ctx context.Context) bool {
		node, err := r.Object(ctx)
		if err != nil {
			return false
		}
		last = node.Status
		return ok(last)
	})
	return last
}

// AwaitEnd returns the status in which the revision has ended.
func (r *Rig) AwaitEnd(t T, revision int64, within time.Duration) v1alpha1.EndpointSyncNodeStatus {
	t.Helper()
	return r.AwaitStatus(t, within, fmt.Sprintf("end of revision %d", revision), func(s v1alpha1.EndpointSyncNodeStatus) bool {
		return s.ObservedRevision >= revision && s.Last.Revision >= revision && s.Phase == v1alpha1.PhaseIdle
	})
}

// Await looks until ok, and fails the test if it never was.
func Await(t T, within time.Duration, what func() string, ok func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) { return ok(ctx), nil })
	if err != nil {
		t.Fatalf("waited %s in vain for %s", within, what())
	}
}
