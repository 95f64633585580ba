package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// apiTimeout of one request. Nothing that keeps kube-controller-manager running waits for one.
const apiTimeout = 5 * time.Second

// cluster is what the agent needs of the API server.
type cluster interface {
	// watchNode calls back with the node's EndpointSyncNode, or nil when it is gone, until ctx ends.
	watchNode(ctx context.Context, see func(*v1alpha1.EndpointSyncNode))
	// permits are what has to permit a start, as the API server has it now: a policy, and all other nodes.
	permits(ctx context.Context, policy string) (policyView, othersView)
	lease(ctx context.Context) leaseView
	report(ctx context.Context, status v1alpha1.EndpointSyncNodeStatus) error
	// tryProbe asks, as a dry run, for a write of another node's status, which the API server must deny. No error means
	// that it would not.
	tryProbe(ctx context.Context) error
}

// leaseView is kube-controller-manager's Lease as the agent read it.
type leaseView struct {
	Reachable bool   // the API server answered at all
	Holder    string // empty: nobody holds it, or it could not be read
	Renewal   string // its renew time as it stands; empty if it could not be read
}

// apiServer is the real cluster.
type apiServer struct {
	client client.WithWatch
	node   string
}

// newAPIServer returns a client that knows its three kinds without asking, so that it comes up with the API server
// dead.
func newAPIServer(config *rest.Config, node string) (*apiServer, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("set up the API types: %w", err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.AddSpecific(v1alpha1.GroupVersion.WithKind("EndpointSyncNode"), v1alpha1.GroupVersion.WithResource("endpointsyncnodes"),
		v1alpha1.GroupVersion.WithResource("endpointsyncnode"), meta.RESTScopeRoot)
	mapper.AddSpecific(v1alpha1.GroupVersion.WithKind("EndpointSyncPolicy"), v1alpha1.GroupVersion.WithResource("endpointsyncpolicies"),
		v1alpha1.GroupVersion.WithResource("endpointsyncpolicy"), meta.RESTScopeRoot)
	leases := coordinationv1.SchemeGroupVersion
	mapper.AddSpecific(leases.WithKind("Lease"), leases.WithResource("leases"), leases.WithResource("lease"), meta.RESTScopeNamespace)
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("set up the API client: %w", err)
	}
	return &apiServer{client: c, node: node}, nil
}

func (s *apiServer) watchNode(ctx context.Context, see func(*v1alpha1.EndpointSyncNode)) {
	only := func(o metav1.ListOptions) *client.ListOptions {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", s.node).String()
		return &client.ListOptions{Raw: &o, FieldSelector: fields.OneTermEqualSelector("metadata.name", s.node)}
	}
	_, informer := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ObjectType: &v1alpha1.EndpointSyncNode{},
		ListerWatcher: &toolscache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				list := &v1alpha1.EndpointSyncNodeList{}
				return list, s.client.List(ctx, list, only(o))
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return s.client.Watch(ctx, &v1alpha1.EndpointSyncNodeList{}, only(o))
			},
		},
		Handler: toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { see(nodeOf(object)) },
			UpdateFunc: func(_, object any) { see(nodeOf(object)) },
			DeleteFunc: func(any) { see(nil) },
		},
	})
	informer.RunWithContext(ctx)
}

func nodeOf(object any) *v1alpha1.EndpointSyncNode {
	node, _ := object.(*v1alpha1.EndpointSyncNode)
	return node
}

func (s *apiServer) permits(ctx context.Context, policy string) (policyView, othersView) {
	return s.policy(ctx, policy), s.others(ctx)
}

func (s *apiServer) policy(ctx context.Context, name string) policyView {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if name == "" {
		return policyView{}
	}
	policy := &v1alpha1.EndpointSyncPolicy{}
	switch err := s.client.Get(ctx, client.ObjectKey{Name: name}, policy); {
	case apierrors.IsNotFound(err):
		return policyView{}
	case err != nil:
		return policyView{Unreachable: err}
	}
	return policyView{Policy: policy}
}

func (s *apiServer) others(ctx context.Context) othersView {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	list := v1alpha1.EndpointSyncNodeList{}
	if err := s.client.List(ctx, &list); err != nil {
		return othersView{Unreachable: err}
	}
	return othersView{Nodes: slices.DeleteFunc(list.Items, func(n v1alpha1.EndpointSyncNode) bool {
		return n.Name == s.node || n.Name == v1alpha1.IsolationProbe
	})}
}

func (s *apiServer) lease(ctx context.Context) leaseView {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	lease := &coordinationv1.Lease{}
	err := s.client.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "kube-controller-manager"}, lease)
	if err != nil {
		var status apierrors.APIStatus
		return leaseView{Reachable: errors.As(err, &status) && !apierrors.IsServiceUnavailable(err) && !apierrors.IsInternalError(err)}
	}
	view := leaseView{Reachable: true, Holder: ptr.Deref(lease.Spec.HolderIdentity, "")}
	if lease.Spec.RenewTime != nil {
		view.Renewal = lease.Spec.RenewTime.UTC().Format(time.RFC3339Nano)
	}
	return view
}

// report replaces the status as a whole: nothing of an older one can linger, and no conflict is possible, because only
// this agent writes it.
func (s *apiServer) report(ctx context.Context, status v1alpha1.EndpointSyncNodeStatus) error {
	return s.writeStatus(ctx, s.node, status)
}

// tryProbe asks for what a report asks for, of another object: only so does its answer speak of reports.
func (s *apiServer) tryProbe(ctx context.Context) error {
	harmless := v1alpha1.EndpointSyncNodeStatus{Phase: v1alpha1.PhaseIdle}
	return s.writeStatus(ctx, v1alpha1.IsolationProbe, harmless, client.DryRunAll)
}

func (s *apiServer) writeStatus(
	ctx context.Context, name string, status v1alpha1.EndpointSyncNodeStatus, options ...client.SubResourcePatchOption,
) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": status}})
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	node := &v1alpha1.EndpointSyncNode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := s.client.Status().Patch(ctx, node, client.RawPatch(types.JSONPatchType, patch), options...); err != nil {
		return fmt.Errorf("write the status of EndpointSyncNode %s: %w", name, err)
	}
	return nil
}
