// Package tests holds the tests that need the real control plane and more than one part of the lab or the operator.
package tests

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
)

const (
	operatorNamespace = "endpoint-sync-system"
	agentAccount      = "endpoint-sync-agent"
	controllerAccount = "endpoint-sync-controller"
)

var (
	policies = schema.GroupVersionResource{Group: "endpointsync.io", Version: "v1alpha1", Resource: "endpointsyncpolicies"}
	nodes    = schema.GroupVersionResource{Group: "endpointsync.io", Version: "v1alpha1", Resource: "endpointsyncnodes"}
)

// cluster is a control plane on which config/default is installed.
type cluster struct {
	*controlplane.ControlPlane

	kube    *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
}

// install starts a control plane and applies config/default to it, as kubectl apply --server-side -k does.
func install(t *testing.T) *cluster {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.Options{UnsafeNoFsync: true, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if stopped := cp.Stop(); stopped != nil {
			t.Error(stopped)
		}
	})
	c := &cluster{ControlPlane: cp}
	if c.kube, err = kubernetes.NewForConfig(cp.Admin); err != nil {
		t.Fatal(err)
	}
	if c.dynamic, err = dynamic.NewForConfig(cp.Admin); err != nil {
		t.Fatal(err)
	}
	for _, object := range rendered(t, "default") {
		c.apply(t, object)
	}
	eventually(t, "the API server serves the CRDs", func(ctx context.Context) error {
		for _, resource := range []schema.GroupVersionResource{policies, nodes} {
			if _, err := c.dynamic.Resource(resource).List(ctx, metav1.ListOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// rendered builds a kustomization of config/, as kubectl apply -k and Argo CD do.
func rendered(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	path := filepath.Join("..", "..", "..", "config", dir)
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		t.Fatalf("render config/%s: %v", dir, err)
	}
	var objects []*unstructured.Unstructured
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err = yaml.Unmarshal(text, object); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
	return objects
}

func (c *cluster) apply(t *testing.T, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	groups, err := restmapper.GetAPIGroupResources(c.kube.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	kind := object.GroupVersionKind()
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		t.Fatal(err)
	}
	var client dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		client = c.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	applied, err := client.Apply(t.Context(), object.GetName(), object, metav1.ApplyOptions{FieldManager: "test"})
	if err != nil {
		t.Fatalf("apply %s %s: %v", kind.Kind, object.GetName(), err)
	}
	return applied
}

// eventually waits until check passes.
func eventually(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true,
		func(ctx context.Context) (bool, error) {
			last = check(ctx)
			return last == nil, nil
		})
	if err != nil {
		t.Fatalf("%s: %v", what, errors.Join(err, last))
	}
}

func TestInstallation(t *testing.T) {
	c := install(t)

	t.Run("applying it again changes nothing", func(t *testing.T) {
		for _, object := range rendered(t, "default") {
			before := c.apply(t, object.DeepCopy()).GetResourceVersion()
			if after := c.apply(t, object).GetResourceVersion(); after != before {
				t.Errorf("%s %s changed from version %s to %s", object.GetKind(), object.GetName(), before, after)
			}
		}
	})
	t.Run("the samples are accepted", func(t *testing.T) {
		for _, mode := range []string{"observe", "recommend", "enforce"} {
			for _, object := range rendered(t, "samples/"+mode) {
				c.apply(t, object)
			}
		}
	})
	t.Run("only the agent needs the privileged level of Pod Security", c.testPodSecurity)
	t.Run("an agent writes its own node's status and nothing else", c.testAgentsRights)
	t.Run("only the controller writes the spec of a node, and its revision never goes back", c.testControllersRights)
}

func (c *cluster) testPodSecurity(t *testing.T) {
	const strict = "strict"
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: strict, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if _, err := c.kube.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var deployment appsv1.Deployment
	var daemonSet appsv1.DaemonSet
	for _, object := range rendered(t, "default") {
		var err error
		switch object.GetKind() {
		case "Deployment":
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &deployment)
		case "DaemonSet":
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &daemonSet)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{agentAccount, controllerAccount} {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := c.kube.CoreV1().ServiceAccounts(strict).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create := func(namespace, name string, spec corev1.PodSpec) error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
		_, err := c.kube.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	if err := create(strict, "controller", deployment.Spec.Template.Spec); err != nil {
		t.Errorf("the controller does not meet the restricted level: %v", err)
	}
	err := create(strict, "agent", daemonSet.Spec.Template.Spec)
	if !apierrors.IsForbidden(err) {
		t.Fatalf("agent at the restricted level: %v, want it forbidden", err)
	}
	for _, sin := range []string{"privileged (", "allowPrivilegeEscalation", "unrestricted capabilities", "seccompProfile", "hostPID", "hostIPC"} {
		if strings.Contains(err.Error(), sin) {
			t.Errorf("the agent needs more than host network, host directories and uid 0: %v", err)
		}
	}
	if err := create(operatorNamespace, "agent", daemonSet.Spec.Template.Spec); err != nil {
		t.Errorf("agent in its own namespace: %v", err)
	}
}

// as returns a client with a token of that account, bound to a Pod of it on that node, as the kubelet would request it.
func (c *cluster) as(t *testing.T, account, node string) *dynamic.DynamicClient {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: account + "-"},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}},
		},
	}
	pod, err := c.kube.CoreV1().Pods(operatorNamespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: new(int64(600)),
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	request, err = c.kube.CoreV1().ServiceAccounts(operatorNamespace).CreateToken(t.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(c.Admin)
	config.BearerToken = request.Status.Token
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func newNode(name string, revision int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "endpointsync.io/v1alpha1", "kind": "EndpointSyncNode",
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"revision": revision},
	}}
}

func (c *cluster) testAgentsRights(t *testing.T) {
	controller, agent := c.as(t, controllerAccount, ""), c.as(t, agentAccount, "mine")
	for _, name := range []string{"mine", "other"} {
		if _, err := controller.Resource(nodes).Create(t.Context(), newNode(name, 1), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	status := []byte(`{"status":{"phase":"Idle"}}`)
	patch := func(ctx context.Context, client *dynamic.DynamicClient, name string, subresources ...string) error {
		_, err := client.Resource(nodes).Patch(ctx, name, "application/merge-patch+json", status, metav1.PatchOptions{}, subresources...)
		return err
	}
	eventually(t, "the admission policies act", func(ctx context.Context) error {
		if apierrors.IsForbidden(patch(ctx, agent, "other", "status")) {
			return nil
		}
		return errors.New("an agent may write another node's status")
	})
	if err := patch(t.Context(), agent, "mine", "status"); err != nil {
		t.Errorf("an agent writes its own node's status: %v", err)
	}
	forbidden := map[string]error{
		"another node's status":                patch(t.Context(), agent, "other", "status"),
		"its own node's spec":                  patch(t.Context(), agent, "mine"),
		"an agent's report, by the controller": patch(t.Context(), controller, "mine", "status"),
		"delete its own node":                  agent.Resource(nodes).Delete(t.Context(), "mine", metav1.DeleteOptions{}),
	}
	_, forbidden["create a node"] = agent.Resource(nodes).Create(t.Context(), newNode("new", 1), metav1.CreateOptions{})
	_, forbidden["read Pods"] = agent.Resource(corev1.SchemeGroupVersion.WithResource("pods")).List(t.Context(), metav1.ListOptions{})
	for what, err := range forbidden {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want it forbidden", what, err)
		}
	}
	for _, resource := range []schema.GroupVersionResource{policies, nodes} {
		if _, err := agent.Resource(resource).Get(t.Context(), "mine", metav1.GetOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("an agent reads %s: %v", resource.Resource, err)
		}
	}
}

func (c *cluster) testControllersRights(t *testing.T) {
	controller := c.as(t, controllerAccount, "")
	if _, err := controller.Resource(nodes).Create(t.Context(), newNode("third", 7), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	revise := func(client *dynamic.DynamicClient, revision int64) error {
		patch := fmt.Appendf(nil, `{"spec":{"revision":%d}}`, revision)
		_, err := client.Resource(nodes).Patch(t.Context(), "third", "application/merge-patch+json", patch, metav1.PatchOptions{})
		return err
	}
	if err := revise(controller, 8); err != nil {
		t.Errorf("the controller raises the revision: %v", err)
	}
	err := revise(controller, 6)
	if err == nil || !strings.Contains(err.Error(), "spec.revision") || !strings.Contains(err.Error(), "may not go back from 8 to 6") {
		t.Errorf("the controller lowers the revision: %v, want it refused", err)
	}
	if err = revise(c.dynamic, 9); !apierrors.IsForbidden(err) {
		t.Errorf("a cluster administrator writes the spec: %v, want it forbidden", err)
	}
	config := rest.CopyConfig(c.Admin)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "someone", Groups: []string{"system:masters", "endpoint-sync-breakglass"},
	}
	breakGlass, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err = revise(breakGlass, 9); err != nil {
		t.Errorf("the break-glass group writes the spec: %v", err)
	}
}
