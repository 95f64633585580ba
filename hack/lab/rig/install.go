package rig

import (
	"context"
	"fmt"
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
	// poll is how often a condition is looked at.
	poll = 20 * time.Millisecond
)

// Cluster is a control plane with the operator's manifests installed, except for what would run in Pods.
type Cluster struct {
	*controlplane.ControlPlane

	// Client has all rights; Dynamic may also write EndpointSyncNode specs.
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
}

func (c *Cluster) connect() error {
	client, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		return err
	}
	config := rest.CopyConfig(c.Admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: "rig", Groups: []string{"system:masters", breakGlass}}
	c.Client = client
	c.Dynamic, err = dynamic.NewForConfig(config)
	return err
}

// install applies a kustomization and returns when it is in force.
func (c *Cluster) install(ctx context.Context, dir string) error {
	if err := operator.Install(ctx, c.Admin, dir); err != nil {
		return err
	}
	return c.awaitConfinement(ctx)
}

// awaitConfinement waits until admission refuses an EndpointSyncNode to whoever lacks the break-glass group, and by
// that knows that the policies are in force.
func (c *Cluster) awaitConfinement(ctx context.Context) error {
	plain, err := dynamic.NewForConfig(c.Admin)
	if err != nil {
		return err
	}
	probe := nodeObject("probe", v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)})
	err = wait.PollUntilContextTimeout(ctx, poll, settle, true, func(ctx context.Context) (bool, error) {
		_, createErr := plain.Resource(nodesResource()).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return apierrors.IsForbidden(createErr), nil
	})
	if err != nil {
		return fmt.Errorf("wait for the admission policies: %w", err)
	}
	return nil
}
