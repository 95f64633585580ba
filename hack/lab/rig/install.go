package rig

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

const (
	// breakGlass is the group that may write EndpointSyncNode specs besides the controller.
	breakGlass = "endpoint-sync-breakglass"
	// settle bounds how long the API server may take to put in force what it was just given.
	settle = time.Minute
	// self is who the rig is to the API server.
	self = "rig"
	// poll is how often a condition is looked at.
	poll = 20 * time.Millisecond
)

// Cluster is a control plane with the operator's manifests installed, except for what would run in Pods.
type Cluster struct {
	*controlplane.ControlPlane

	// Client has all rights; Dynamic may also write EndpointSyncNodes.
	Client  kubernetes.Interface
	Dynamic dynamic.Interface

	agent dynamic.Interface // has the rights of an agent on a node of no name that matters
}

func (c *Cluster) connect() error {
	client, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		return err
	}
	c.Client = client
	if c.Dynamic, err = c.as(rest.ImpersonationConfig{UserName: self, Groups: []string{"system:masters", breakGlass}}); err != nil {
		return err
	}
	c.agent, err = c.as(rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + operator.Namespace + ":" + operator.Agent,
		Extra: map[string][]string{
			"authentication.kubernetes.io/node-name": {self}, "authentication.kubernetes.io/pod-name": {self},
		},
	})
	return err
}

func (c *Cluster) as(who rest.ImpersonationConfig) (dynamic.Interface, error) {
	config := rest.CopyConfig(c.Admin)
	config.Impersonate = who
	return dynamic.NewForConfig(config)
}

// install applies a kustomization, makes the isolation probe as the controller would, and returns when it is in force.
func (c *Cluster) install(ctx context.Context, dir string) error {
	if err := operator.Install(ctx, c.Admin, dir); err != nil {
		return err
	}
	probe := nodeObject(v1alpha1.IsolationProbe, v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)})
	if _, err := c.Dynamic.Resource(nodesResource()).Apply(ctx, probe.GetName(), probe, applyOptions()); err != nil {
		return fmt.Errorf("make the isolation probe: %w", err)
	}
	err := wait.PollUntilContextTimeout(ctx, poll, settle, true, func(ctx context.Context) (bool, error) {
		return c.reserved(ctx) && c.Confined(ctx), nil
	})
	if err != nil {
		return fmt.Errorf("wait for the admission policies: %w", err)
	}
	return nil
}

// reserved reports whether admission refuses an EndpointSyncNode to whoever lacks the break-glass group.
func (c *Cluster) reserved(ctx context.Context) bool {
	plain, err := dynamic.NewForConfig(c.Admin)
	if err != nil {
		return false
	}
	probe := nodeObject("probe", v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)})
	_, err = plain.Resource(nodesResource()).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return apierrors.IsForbidden(err)
}

// Confined reports whether admission refuses an agent the status of what is not its own node.
func (c *Cluster) Confined(ctx context.Context) bool {
	patch := []byte(`{"status":{"phase":"Idle"}}`)
	_, err := c.agent.Resource(nodesResource()).Patch(ctx, v1alpha1.IsolationProbe, mergePatch, patch,
		metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "status")
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy")
}
