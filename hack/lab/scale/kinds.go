package scale

import (
	"iter"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// object is what is served: everything that has metadata.
type object interface {
	runtime.Object
	metav1.Object
}

// kind is one kind of object that is served.
type kind struct {
	gv         schema.GroupVersion
	resource   string
	name       string
	namespaced bool
	blank      func() object
	// objects are all that there are. The cluster's lock is held while it is called, not while its sequence is used.
	objects func() iter.Seq[object]
	history *history
	// table holds the objects that clients may write; nil for those that only the cluster changes.
	table *table
}

// Names of the kinds in URLs.
const (
	resourcePods       = "pods"
	resourceServices   = "services"
	resourceEndpoints  = "endpoints"
	resourceSlices     = "endpointslices"
	resourceNodes      = "nodes"
	resourceNamespaces = "namespaces"
	resourcePolicies   = "endpointsyncpolicies"
)

// URLs of the kinds that the cluster changes, without a namespace.
const (
	podsURL      = "/api/v1/pods"
	servicesURL  = "/api/v1/services"
	endpointsURL = "/api/v1/endpoints"
	slicesURL    = "/apis/discovery.k8s.io/v1/endpointslices"
	nodesURL     = "/api/v1/nodes"
	leasesURL    = "/apis/coordination.k8s.io/v1/leases"
	policiesURL  = "/apis/endpointsync.io/v1alpha1/endpointsyncpolicies"
)

func (c *cluster) addKinds() {
	core := schema.GroupVersion{Version: "v1"}
	discovery := schema.GroupVersion{Group: "discovery.k8s.io", Version: "v1"}
	ours := schema.GroupVersion{Group: "endpointsync.io", Version: "v1alpha1"}
	leases, policies, channels, configMaps := newTable(), newTable(), newTable(), newTable()
	c.kinds = []*kind{
		{gv: core, resource: resourcePods, name: "Pod", namespaced: true, objects: c.podObjects, blank: blank[corev1.Pod]},
		{gv: core, resource: resourceServices, name: "Service", namespaced: true, objects: c.serviceObjects, blank: blank[corev1.Service]},
		{gv: core, resource: resourceEndpoints, name: "Endpoints", namespaced: true, objects: c.endpointsObjects, blank: blank[corev1.Endpoints]},
		{gv: core, resource: resourceNodes, name: "Node", objects: c.nodeObjects, blank: blank[corev1.Node]},
		{gv: core, resource: "configmaps", name: "ConfigMap", namespaced: true, table: configMaps, blank: blank[corev1.ConfigMap]},
		{gv: core, resource: resourceNamespaces, name: "Namespace", objects: c.namespaceObjects, blank: blank[corev1.Namespace]},
		{
			gv: discovery, resource: resourceSlices, name: "EndpointSlice", namespaced: true,
			objects: c.sliceObjects, blank: blank[discoveryv1.EndpointSlice],
		},
		{
			gv:       schema.GroupVersion{Group: "coordination.k8s.io", Version: "v1"},
			resource: "leases", name: "Lease", namespaced: true, table: leases, blank: blank[coordinationv1.Lease],
		},
		{gv: ours, resource: resourcePolicies, name: "EndpointSyncPolicy", table: policies, blank: blank[v1alpha1.EndpointSyncPolicy]},
		{gv: ours, resource: "endpointsyncnodes", name: "EndpointSyncNode", table: channels, blank: blank[v1alpha1.EndpointSyncNode]},
	}
	c.byURL = map[string]*kind{}
	for _, k := range c.kinds {
		k.history = newHistory()
		if k.table != nil {
			k.objects = k.table.objects
		}
		c.byURL[k.url()] = k
	}
	c.put(c.kind(leasesURL), c.kcmLease(c.born))
	// A policy that only observes: the controller judges and reports, as it does where it is left on for ever.
	c.put(c.kind(policiesURL), &v1alpha1.EndpointSyncPolicy{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
}

// blank makes an empty object of a type, whose pointer is an object.
func blank[T any, P interface {
	*T
	object
}]() object {
	return P(new(T))
}

// url is where all objects of the kind are listed.
func (k *kind) url() string {
	if k.gv.Group == "" {
		return "/api/" + k.gv.Version + "/" + k.resource
	}
	return "/apis/" + k.gv.Group + "/" + k.gv.Version + "/" + k.resource
}
