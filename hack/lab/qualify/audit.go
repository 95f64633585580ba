package qualify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

// leaseNamespace and leaseName are kube-controller-manager's Lease, which its host's name begins.
const (
	leaseNamespace = "kube-system"
	leaseName      = "kube-controller-manager"
)

// audit follows the objects, every change of each in the API server's order, and notes when two nodes were in flight.
type audit struct {
	mu sync.Mutex
	// nodes and policy are the objects as they are now; policy is nil if there is none.
	nodes  map[string]v1alpha1.EndpointSyncNode
	policy *v1alpha1.EndpointSyncPolicy
	log    auditLog
	// moved is closed and replaced at each change.
	moved chan struct{}
}

// auditLog is what was seen over time.
type auditLog struct {
	inFlight []string // each time that two or more were
	handed   []handing
	leaders  []leadership
	relists  int // of any kind, because a watch could not be resumed: what happened between was not seen
}

// handing is an instruction that a node was given.
type handing struct {
	node     string
	revision int64
}

// leadership begins when the Lease names another holder.
type leadership struct {
	node string
	from time.Time
}

// since returns what was added to a log since it was as it was.
func (l auditLog) since(was auditLog) auditLog {
	return auditLog{
		inFlight: l.inFlight[len(was.inFlight):],
		handed:   l.handed[len(was.handed):],
		leaders:  l.leaders[max(len(was.leaders)-1, 0):], // With who led at the start.
		relists:  l.relists - was.relists,
	}
}

// startAudit follows a cluster's objects until the test ends, and returns when it has them all.
func startAudit(t rig.T, c *rig.Cluster) *audit {
	t.Helper()
	a := &audit{nodes: map[string]v1alpha1.EndpointSyncNode{}, moved: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	leases := schema.GroupVersionResource{Group: coordinationv1.GroupName, Version: "v1", Resource: "leases"}
	for _, f := range []*feed{
		{resource: c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("endpointsyncnodes")), see: a.seeNodes},
		{resource: c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("endpointsyncpolicies")), see: a.seePolicies},
		{resource: c.Dynamic.Resource(leases).Namespace(leaseNamespace), name: leaseName, see: a.seeLease},
	} {
		f.audit, f.listed = a, make(chan struct{})
		running.Go(func() { f.run(ctx) })
		<-f.listed
	}
	return a
}

// now returns everything as it is.
func (a *audit) now() (nodes map[string]v1alpha1.EndpointSyncNode, policy *v1alpha1.EndpointSyncPolicy, log auditLog) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.nodes), a.policy, a.log
}

// next is closed at the next change.
func (a *audit) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.moved
}

// leader is the node that the Lease names now.
func (a *audit) leader() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.log.leaders) == 0 {
		return ""
	}
	return a.log.leaders[len(a.log.leaders)-1].node
}

func inFlight(n v1alpha1.EndpointSyncNode) bool {
	return revisionOf(n) > n.Status.ObservedRevision || (n.Status.Phase != "" && n.Status.Phase != v1alpha1.PhaseIdle)
}

func revisionOf(n v1alpha1.EndpointSyncNode) int64 {
	if n.Spec.Revision == nil {
		return 0
	}
	return *n.Spec.Revision
}

// seeNodes takes objects that have changed, and with all of them if they are all there are.
func (a *audit) seeNodes(changed map[string]*unstructured.Unstructured) error {
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		object := changed[name]
		if name == v1alpha1.IsolationProbe {
			continue
		}
		if object == nil {
			delete(a.nodes, name)
			continue
		}
		var node v1alpha1.EndpointSyncNode
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &node); err != nil {
			return err
		}
		if before := a.nodes[name]; revisionOf(node) > revisionOf(before) {
			a.log.handed = append(a.log.handed, handing{name, revisionOf(node)})
		}
		a.nodes[name] = node
	}
	var flying []string
	for _, name := range slices.Sorted(maps.Keys(a.nodes)) {
		if n := a.nodes[name]; inFlight(n) {
			flying = append(flying, fmt.Sprintf("%s (revision %d, ended %d, phase %s)", name, revisionOf(n), n.Status.ObservedRevision, n.Status.Phase))
		}
	}
	if len(flying) > 1 {
		a.log.inFlight = append(a.log.inFlight, strings.Join(flying, " and "))
	}
	return nil
}

func (a *audit) seePolicies(changed map[string]*unstructured.Unstructured) error {
	for name, object := range changed {
		switch {
		case name != policyName:
		case object == nil:
			a.policy = nil
		default:
			a.policy = &v1alpha1.EndpointSyncPolicy{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, a.policy); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *audit) seeLease(changed map[string]*unstructured.Unstructured) error {
	for _, object := range changed {
		if object == nil {
			continue
		}
		holder, _, err := unstructured.NestedString(object.Object, "spec", "holderIdentity")
		if err != nil {
			return err
		}
		node, _, _ := strings.Cut(holder, "_")
		if n := len(a.log.leaders); n == 0 || a.log.leaders[n-1].node != node {
			a.log.leaders = append(a.log.leaders, leadership{node, time.Now()})
		}
	}
	return nil
}

// missed notes that something may have happened unseen.
func (a *audit) missed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log.relists++
}

// feed hands one kind's objects to the audit as the watch brings them, without a queue between, under the audit's lock.
type feed struct {
	audit    *audit
	resource dynamic.ResourceInterface
	name     string // of the only object; empty: all
	see      func(changed map[string]*unstructured.Unstructured) error
	known    map[string]bool
	listed   chan struct{} // closed after the first list
}

func (f *feed) run(ctx context.Context) {
	only := func(o metav1.ListOptions) metav1.ListOptions {
		if f.name != "" {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, f.name).String()
		}
		return o
	}
	objects := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return f.resource.List(ctx, only(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return f.resource.Watch(ctx, only(o))
		},
	}
	cache.NewReflectorWithOptions(objects, &unstructured.Unstructured{}, f, cache.ReflectorOptions{Name: "audit"}).RunWithContext(ctx)
}

// Add is called for each object that the watch says is new.
func (f *feed) Add(object any) error { return f.Update(object) }

// Update is called for each object that the watch says has changed.
func (f *feed) Update(object any) error {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("the watch brings a %T", object)
	}
	return f.pass(map[string]*unstructured.Unstructured{u.GetName(): u})
}

// Delete is called for each object that the watch says is gone.
func (f *feed) Delete(object any) error {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	return f.pass(map[string]*unstructured.Unstructured{accessor.GetName(): nil})
}

// Replace is called with everything at the start, and again when a broken watch could not be resumed.
func (f *feed) Replace(list []any, _ string) error {
	changed := map[string]*unstructured.Unstructured{}
	for name := range f.known {
		changed[name] = nil
	}
	for _, object := range list {
		u, ok := object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("the list holds a %T", object)
		}
		changed[u.GetName()] = u
	}
	if f.known != nil {
		f.audit.missed()
		return f.pass(changed)
	}
	defer close(f.listed)
	f.known = map[string]bool{}
	return f.pass(changed)
}

// Resync does nothing: there is no store to go through again.
func (*feed) Resync() error { return nil }

func (f *feed) pass(changed map[string]*unstructured.Unstructured) error {
	for name, object := range changed {
		if f.known[name] = true; object == nil {
			delete(f.known, name)
		}
	}
	f.audit.mu.Lock()
	defer f.audit.mu.Unlock()
	err := f.see(changed)
	close(f.audit.moved)
	f.audit.moved = make(chan struct{})
	return err
}
