package observer

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// feed is one reflector's store. It keeps no objects: it stamps each event as it is received, without a queue between,
// and hands it to the observer under the observer's lock.
type feed struct {
	name   string
	watch  *cache.ListWatch
	kind   runtime.Object
	saw    func(obj any, baseline bool, now time.Time)
	gone   func(uid types.UID, object string, now time.Time)
	ob     *Observer
	known  map[string]types.UID // By namespace/name.
	synced chan struct{}
	listed bool // Since the first list, which is the base line.
}

// feeds are the watches, in the order in which they must start.
func (ob *Observer) feeds(client kubernetes.Interface) []*feed {
	namespace := ob.options.Namespace
	nothing := func(types.UID, string, time.Time) {}
	return []*feed{
		ob.newFeed(feed{
			name: "Lease", kind: &coordinationv1.Lease{}, gone: nothing,
			watch: listWatch(client.CoordinationV1().Leases(metav1.NamespaceSystem), fields.OneTermEqualSelector("metadata.name", "kube-controller-manager")),
			saw:   func(obj any, _ bool, now time.Time) { ob.sawLease(obj.(*coordinationv1.Lease), now) },
		}),
		ob.newFeed(feed{
			name: "EndpointSlices", kind: &discoveryv1.EndpointSlice{},
			watch: listWatch(client.DiscoveryV1().EndpointSlices(namespace), fields.Everything()),
			saw: func(obj any, _ bool, now time.Time) {
				slice := obj.(*discoveryv1.EndpointSlice)
				ob.slices.publish(slice.Namespace+"/"+slice.Name, shownBySlice(slice), now)
			},
			gone: func(_ types.UID, object string, now time.Time) { ob.slices.publish(object, nil, now) },
		}),
		ob.newFeed(feed{
			name: "Endpoints", kind: &corev1.Endpoints{},
			watch: listWatch(client.CoreV1().Endpoints(namespace), fields.Everything()),
			saw: func(obj any, _ bool, now time.Time) {
				endpoints := obj.(*corev1.Endpoints)
				ob.endpoints.publish(endpoints.Namespace+"/"+endpoints.Name, shownByEndpoints(endpoints), now)
			},
			gone: func(_ types.UID, object string, now time.Time) { ob.endpoints.publish(object, nil, now) },
		}),
		ob.newFeed(feed{
			name: "Pods", kind: &corev1.Pod{},
			watch: listWatch(client.CoreV1().Pods(namespace), fields.Everything()),
			saw:   func(obj any, baseline bool, now time.Time) { ob.sawPod(obj.(*corev1.Pod), baseline, now) },
			gone:  func(uid types.UID, _ string, now time.Time) { ob.lostPod(uid, now) },
		}),
	}
}

func (ob *Observer) newFeed(f feed) *feed {
	return &feed{
		name: f.name, watch: f.watch, kind: f.kind, saw: f.saw, gone: f.gone,
		ob: ob, known: map[string]types.UID{}, synced: make(chan struct{}),
	}
}

func (f *feed) reflector() *cache.Reflector {
	return cache.NewReflectorWithOptions(f.watch, f.kind, f, cache.ReflectorOptions{Name: "lab observer " + f.name})
}

// Add is called for each object that the watch says is new.
func (f *feed) Add(obj any) error { return f.event(obj) }

// Update is called for each object that the watch says has changed.
func (f *feed) Update(obj any) error { return f.event(obj) }

func (f *feed) event(obj any) error {
	now := f.ob.clock.Now()
	key, uid, err := identity(obj)
	if err != nil {
		return err
	}
	f.ob.mu.Lock()
	defer f.ob.mu.Unlock()
	f.replaceIdentity(key, uid, now)
	f.saw(obj, false, now)
	return nil
}

// Delete is called for each object that the watch says is gone.
func (f *feed) Delete(obj any) error {
	now := f.ob.clock.Now()
	key, uid, err := identity(obj)
	if err != nil {
		return err
	}
	f.ob.mu.Lock()
	defer f.ob.mu.Unlock()
	delete(f.known, key)
	f.gone(uid, key, now)
	return nil
}

// Replace is called with everything at the start (the base line), and again when a broken watch could not resume: then
// what differs changed at some time since, and is stamped now.
func (f *feed) Replace(list []any, _ string) error {
	now := f.ob.clock.Now()
	f.ob.mu.Lock()
	defer f.ob.mu.Unlock()
	baseline := !f.listed
	if baseline {
		f.listed = true
		defer close(f.synced)
	}
	present := make(map[string]bool, len(list))
	for _, obj := range list {
		key, uid, err := identity(obj)
		if err != nil {
			return err
		}
		present[key] = true
		f.replaceIdentity(key, uid, now)
		f.saw(obj, baseline, now)
	}
	for key, uid := range f.known {
		if !present[key] {
			delete(f.known, key)
			f.gone(uid, key, now)
		}
	}
	return nil
}

// replaceIdentity ends an object whose name a new one has taken, in case the deletion between was missed.
func (f *feed) replaceIdentity(key string, uid types.UID, now time.Time) {
	if old, ok := f.known[key]; ok && old != uid {
		f.gone(old, key, now)
	}
	f.known[key] = uid
}

// Resync does nothing: there is no store to go through again.
func (f *feed) Resync() error { return nil }

func identity(obj any) (key string, uid types.UID, err error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return "", "", err
	}
	return accessor.GetNamespace() + "/" + accessor.GetName(), accessor.GetUID(), nil
}

// lister is what the typed clients have in common.
type lister[L runtime.Object] interface {
	List(ctx context.Context, o metav1.ListOptions) (L, error)
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

func listWatch[L runtime.Object](client lister[L], selector fields.Selector) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector.String()
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector.String()
			return client.Watch(ctx, o)
		},
	}
}
