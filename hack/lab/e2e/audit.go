package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// audit follows all EndpointSyncNodes by a watch of its own, and notes in which order nodes were begun and how many were
// in flight at once.
type audit struct {
	cancel context.CancelFunc
	clock  clock.PassiveClock

	mu    sync.Mutex
	nodes map[string]v1alpha1.EndpointSyncNode
	begun []beginning
	most  int
}

// beginning is that a node was told something, and whether it led then.
type beginning struct {
	node     string
	revision int64
	led      bool
	at       time.Time
}

func startAudit(ctx context.Context, config *rest.Config) (*audit, error) {
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &audit{cancel: cancel, clock: clock.RealClock{}, nodes: map[string]v1alpha1.EndpointSyncNode{}}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(c, 0)
	informer := factory.ForResource(v1alpha1.GroupVersion.WithResource("endpointsyncnodes")).Informer()
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: a.see, UpdateFunc: func(_, object any) { a.see(object) },
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch EndpointSyncNodes: %w", err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return a, nil
}

func (a *audit) stop() { a.cancel() }

func (a *audit) see(object any) {
	var n v1alpha1.EndpointSyncNode
	content, ok := object.(runtime.Unstructured)
	if !ok || runtime.DefaultUnstructuredConverter.FromUnstructured(content.UnstructuredContent(), &n) != nil || n.Name == v1alpha1.IsolationProbe {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before, known := a.nodes[n.Name]
	a.nodes[n.Name] = n
	if known && *before.Spec.Revision < *n.Spec.Revision {
		led := before.Status.Leader != nil && *before.Status.Leader
		a.begun = append(a.begun, beginning{node: n.Name, revision: *n.Spec.Revision, led: led, at: a.clock.Now()})
	}
	flying := 0
	for _, one := range a.nodes {
		if inFlight(one) {
			flying++
		}
	}
	a.most = max(a.most, flying)
}

// reset forgets what was seen until now, but for the nodes' present state.
func (a *audit) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun, a.most = nil, 0
}

// report returns what was seen since the last reset.
func (a *audit) report() (begun []beginning, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]beginning(nil), a.begun...), a.most
}

func inFlight(n v1alpha1.EndpointSyncNode) bool {
	return *n.Spec.Revision > n.Status.ObservedRevision || (n.Status.Phase != "" && n.Status.Phase != v1alpha1.PhaseIdle)
}

// order returns the nodes that were begun, and checks that each was begun once and the leader last.
func order(begun []beginning) ([]string, error) {
	names := nodesOf(begun)
	for i, b := range begun {
		if slices.Contains(names[:i], b.node) {
			return names, fmt.Errorf("node %s was begun twice: %+v", b.node, begun)
		}
		if b.led && i < len(begun)-1 {
			return names, fmt.Errorf("node %s led and was not the last: %+v", b.node, begun)
		}
	}
	return names, nil
}

// nodesOf names the nodes in the order in which they were begun.
func nodesOf(begun []beginning) []string {
	names := make([]string, 0, len(begun))
	for _, b := range begun {
		names = append(names, b.node)
	}
	return names
}
