package rig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
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
	// Namespace is where the operator lives.
	Namespace = "endpoint-sync-system"
	// breakGlass is the group that may write EndpointSyncNode specs besides the controller.
	breakGlass = "endpoint-sync-breakglass"
	// probeName is the node object against which agents test that admission confines them.
	probeName = "zz-isolation-probe"
	// settle bounds how long the API server may take to serve what it was just given.
	settle = time.Minute
	// poll is how often a condition is looked at.
	poll = 20 * time.Millisecond
)

// Cluster is a control plane with the operator's manifests installed, except for what would run in Pods.
type Cluster struct {
	*controlplane.ControlPlane

	// Client has all rights; Dynamic may also write EndpointSyncNode specs.
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
}

func (c *Cluster) connect() error {
	client, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		return err
	}
	config := rest.CopyConfig(c.Admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: "rig", Groups: []string{"system:masters", breakGlass}}
	c.Client = client
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	c.Dynamic, err = dynamic.NewForConfig(config)
	return err
}

// install renders a kustomization and applies it, and returns when it is in force.
func (c *Cluster) install(ctx context.Context, dir string) error {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return fmt.Errorf("render %s: %w", dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	inPods := []string{"Deployment", "DaemonSet", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
	for _, r := range rendered.Resources() {
		if slices.Contains(inPods, r.GetKind()) {
			continue
		}
		text, err := r.AsYAML()
		if err != nil {
			return err
		}
		var object unstructured.Unstructured
		if err = yaml.Unmarshal(text, &object.Object); err != nil {
			return fmt.Errorf("decode %s: %w", r.CurId(), err)
		}
		if err = c.applyWhenServed(ctx, &object); err != nil {
			return fmt.Errorf("apply %s: %w", r.CurId(), err)
		}
	}
	return c.proveConfinement(ctx)
}

// Apply applies an object server-side as the rig.
func (c *Cluster) Apply(ctx context.Context, object *unstructured.Unstructured) error {
	mapping, err := c.mapper.RESTMapping(object.GroupVersionKind().GroupKind(), object.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = c.Dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = c.Dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	_, err = resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "rig", Force: true})
	return err
}

// applyWhenServed waits for kinds and namespaces that were just made.
func (c *Cluster) applyWhenServed(ctx context.Context, object *unstructured.Unstructured) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		last = c.Apply(ctx, object)
		if meta.IsNoMatchError(last) {
			c.mapper.Reset()
			return false, nil
		}
		return !apierrors.IsNotFound(last), last
	})
	return errors.Join(err, last)
}

// proveConfinement makes the object that agents probe, and waits until admission refuses it to whoever lacks the
// break-glass group: from then on the policies are in force.
func (c *Cluster) proveConfinement(ctx context.Context) error {
	probe := nodeObject(probeName, v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)})
	if err := c.applyWhenServed(ctx, probe); err != nil {
		return fmt.Errorf("make %s: %w", probeName, err)
	}
	plain, err := dynamic.NewForConfig(c.Admin)
	if err != nil {
		return err
	}
	patch := []byte(`{"spec":{"revision":1}}`)
	err = wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		_, patchErr := plain.Resource(nodesResource()).Patch(ctx, probeName, mergePatch, patch,
			metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return apierrors.IsForbidden(patchErr) || apierrors.IsInvalid(patchErr), nil
	})
	if err != nil {
		return fmt.Errorf("wait for the admission policies: %w", err)
	}
	return nil
}
