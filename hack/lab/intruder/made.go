package intruder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// cleanUpTimeout bounds the end of a raid, which goes on when the raid was cut short.
const cleanUpTimeout = 30 * time.Second

// target is an object that was made for the raid, so that calls that are no dry runs can be tried on it.
type target struct {
	resource  resource
	namespace string
	uid       types.UID
}

// targets are the kinds that objects are made of. Those of the operator's are made only where RBAC would let the thief
// write them: elsewhere the call is refused before anybody looks for the object.
func (r *raid) targets() []target {
	var list []target
	for _, key := range []string{"/configmaps", "/secrets", "/serviceaccounts"} {
		list = append(list, target{resource: r.served[key], namespace: metav1.NamespaceDefault})
	}
	for _, key := range []string{nodesKey, "endpointsync.io/endpointsyncpolicies"} {
		s := r.served[key]
		if covered(r.Grants, call{method: http.MethodPut, path: s.item("", marker)}.attributes()) {
			list = append(list, target{resource: s})
		}
	}
	return list
}

func (r *raid) client(t target) dynamic.ResourceInterface {
	client := r.admin.Resource(t.resource.root.WithResource(t.resource.Name))
	if t.namespace == "" {
		return client
	}
	return client.Namespace(t.namespace)
}

// prepare makes the targets, among them the account of nobody in particular, and checks that what the raid aims at is
// there.
func (r *raid) prepare(ctx context.Context) error {
	for _, name := range append(slices.Clone(r.Others), r.Node) {
		if _, err := r.read(ctx, nodes+"/"+name); err != nil {
			return fmt.Errorf("the raid needs it as a target: %w", err)
		}
	}
	for _, t := range r.targets() {
		object := &unstructured.Unstructured{Object: t.resource.fresh(t.namespace)}
		object.SetName(marker)
		made, err := r.client(t).Create(ctx, object, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // Of a raid that was killed.
			made, err = r.client(t).Get(ctx, marker, metav1.GetOptions{})
		}
		if err != nil {
			return fmt.Errorf("make a %s for the raid: %w", object.GetKind(), err)
		}
		t.uid = made.GetUID()
		r.made = append(r.made, t)
	}
	request, err := r.kube.CoreV1().ServiceAccounts(metav1.NamespaceDefault).CreateToken(ctx, marker, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("get a token of nobody in particular: %w", err)
	}
	r.nobody, err = clientWith(r.Admin, request.Status.Token)
	return err
}

// onMade are the calls that would change something, on what was made for them.
func (r *raid) onMade() []call {
	var calls []call
	for _, t := range r.made {
		item, collection := t.resource.item(t.namespace, marker), t.resource.collection(t.namespace)
		calls = append(calls, r.writes(item, t.resource.object(t.namespace, marker), "")...)
		calls = append(calls,
			call{method: http.MethodDelete, path: item},
			call{method: http.MethodDelete, path: with(collection, "labelSelector="+marker)},
			post(collection, t.resource.fresh(t.namespace)),
		)
	}
	return calls
}

// verifyMade holds what was made against what is there now: the API server may say one thing and do another.
func (r *raid) verifyMade(ctx context.Context, result *Result) error {
	for _, t := range r.made {
		now, err := r.client(t).Get(ctx, marker, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("look at what was made: %w", err)
		}
		if err != nil || now.GetUID() != t.uid || now.GetDeletionTimestamp() != nil {
			result.Allowed = append(result.Allowed, "the "+t.resource.Kind+" that was made for the raid is gone")
		}
		if _, err = r.client(t).Get(ctx, marker+"-new", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			result.Allowed = append(result.Allowed, fmt.Sprintf("there is a %s more (%v)", t.resource.Kind, err))
		}
	}
	return nil
}

// cleanUp takes away what was made, and what should not have been possible to make.
func (r *raid) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	var failed error
	for _, t := range r.targets() {
		for _, name := range []string{marker, marker + "-new"} {
			if err := r.client(t).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				failed = errors.Join(failed, fmt.Errorf("take away %s %s: %w", t.resource.Kind, name, err))
			}
		}
	}
	return failed
}

// smuggle tries to change more than the report through the one thing that an agent may write.
func (r *raid) smuggle(ctx context.Context, result *Result) error {
	if !r.MayReport {
		return nil
	}
	status := nodes + "/" + r.Node + "/status"
	cargo := parsed(`{
		"metadata": {
			"labels": {%[1]q: "yes"}, "annotations": {%[1]q: "yes"}, "finalizers": ["endpointsync.io/%[1]s"],
			"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": %[1]q, "uid": %[1]q}]
		},
		"spec": {"policyName": %[1]q}
	}`, marker)
	full := r.served[nodesKey].object("", r.Node)
	layOver(full, cargo)
	for _, c := range []call{
		patch(merge, with(status, dryRun), cargo),
		patch(apply, with(status, forcibly, dryRun), full),
		{method: http.MethodPut, path: with(status, dryRun), body: r.present(status, full, cargo)},
		patch(merge, status, cargo),
		{method: http.MethodPut, path: status, body: r.present(status, full, cargo)},
	} {
		c = called("with metadata and a spec", c)
		got := r.ask(ctx, r.thief, c)
		if !got.success() {
			result.Unexpected = append(result.Unexpected, fmt.Sprintf("%s: %s", c, got))
			continue
		}
		smuggled, err := carries(got.body)
		if err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		if smuggled {
			result.Allowed = append(result.Allowed, fmt.Sprintf("%s: %s", c, got))
			return nil // Before one that is no dry run.
		}
	}
	return nil
}

// carries says whether an object has in it what was smuggled, apart from the record of who wrote what.
func carries(content []byte) (bool, error) {
	var object unstructured.Unstructured
	if err := json.Unmarshal(content, &object.Object); err != nil {
		return false, err
	}
	object.SetManagedFields(nil)
	left, err := json.Marshal(object.Object)
	return bytes.Contains(left, []byte(marker)), err
}
