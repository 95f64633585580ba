package watch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kubefake "k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// cluster is a fake API server with one Service "web" and one ready Pod "old" that both APIs show.
type cluster struct {
	t          *testing.T
	kube       *kubefake.Clientset
	namespaces *metadatafake.FakeMetadataClient
	tracker    *lag.Tracker
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return &cluster{
		t:    t,
		kube: kubefake.NewClientset(service(), pod("old", true), slice("old"), endpoints("old")),
		namespaces: metadatafake.NewSimpleMetadataClient(scheme, &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"tier": "gold"}},
		}),
		tracker: lag.NewTracker(lag.Options{}),
	}
}

// start runs a feed until the test ends. It must be called inside a synctest bubble.
func (c *cluster) start() *Feed {
	f := newFeed(clients{kube: c.kube, namespaces: c.namespaces}, c.tracker, Options{Clock: clock.RealClock{}})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(c.t.Context())
	go func() { ended <- f.Start(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("Start() = %v, want nil", err)
		}
	})
	return f
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) stat(r lag.Resource, d lag.Direction) lag.Stat {
	return c.tracker.Summary(lag.Query{Now: time.Now()}).Stat(r, d)
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web"}}
}

func uidOf(pod string) types.UID { return types.UID("uid-of-" + pod) }

func service() *corev1.Service {
	return &corev1.Service{ObjectMeta: named("web"), Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}
}

func pod(name string, ready bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: named(name), Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}}}
	p.UID = uidOf(name)
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}
	if ready {
		condition.Status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}, condition}
	return p
}

func slice(ready ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: named("web-1"), AddressType: discoveryv1.AddressTypeIPv4}
	s.Labels = map[string]string{
		discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: sliceController,
	}
	for _, name := range ready {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{"10.0.0.1"}, TargetRef: reference(name),
		})
	}
	return s
}

func endpoints(ready ...string) *legacyEndpoints {
	e := &legacyEndpoints{ObjectMeta: named("web"), Subsets: []corev1.EndpointSubset{{}}}
	for _, name := range ready {
		e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{
			IP: "10.0.0.1", TargetRef: reference(name),
		})
	}
	return e
}

func reference(pod string) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: pod, UID: uidOf(pod)}
}

func TestFeedMeasuresWhatTheWatchesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		f := c.start()
		c.must(f.WaitSynced(t.Context()))
		ctx, update := t.Context(), metav1.UpdateOptions{}
		pods, slices := c.kube.CoreV1().Pods("shop"), c.kube.DiscoveryV1().EndpointSlices("shop")
		_, err := pods.Create(ctx, pod("new", true), metav1.CreateOptions{})
		c.must(err)
		time.Sleep(2 * time.Second)
		_, err = slices.Update(ctx, slice("old", "new"), update)
		c.must(err)
		time.Sleep(time.Second)
		_, err = c.kube.CoreV1().Endpoints("shop").Update(ctx, endpoints("old", "new"), update)
		c.must(err)
		synctest.Wait()
		_, err = pods.UpdateStatus(ctx, pod("old", false), update)
		c.must(err)
		time.Sleep(5 * time.Second)
		c.must(slices.Delete(ctx, "web-1", metav1.DeleteOptions{}))
		synctest.Wait()
		for _, want := range []struct {
			resource  lag.Resource
			direction lag.Direction
			p99       lag.Quantile
		}{
			{lag.ResourceEndpointSlice, lag.DirectionAddition, lag.Quantile{Value: 2 * time.Second}},
			{lag.ResourceEndpoints, lag.DirectionAddition, lag.Quantile{Value: 3 * time.Second}},
			{lag.ResourceEndpointSlice, lag.DirectionRemoval, lag.Quantile{Value: 5 * time.Second}},
			{lag.ResourceEndpoints, lag.DirectionRemoval, lag.Quantile{Value: 5 * time.Second, LowerBound: true}},
		} {
			if got := c.stat(want.resource, want.direction); got.P99 != want.p99 || got.Samples() != 1 {
				t.Errorf("%s %s: p99 %v of %d, want %v of 1", want.resource, want.direction, got.P99, got.Samples(), want.p99)
			}
		}
		gold := lag.Query{Now: time.Now(), Measured: func(s lag.Service) bool { return s.NamespaceLabels.Get("tier") == "gold" }}
		if n := c.tracker.Summary(gold).Stat(lag.ResourceEndpointSlice, lag.DirectionAny).Changes; n != 2 {
			t.Errorf("changes in gold namespaces = %d, want 2", n)
		}
	})
}

func TestFeedNoticesWhatVanishedWhileTheWatchWasDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		f := c.start()
		c.must(f.WaitSynced(t.Context()))
		pods := f.sinks[0]
		c.must(pods.Replace([]any{pod("new", true)}, "9"))
		if n := c.stat(lag.ResourceEndpointSlice, lag.DirectionRemoval).Open; n != 1 {
			t.Errorf("open removals after a list without the Pod = %d, want 1", n)
		}
		c.must(pods.Delete(cache.DeletedFinalStateUnknown{Key: "shop/new", Obj: pod("new", true)}))
		if n := c.stat(lag.ResourceEndpointSlice, lag.DirectionAddition).Superseded; n != 1 {
			t.Errorf("superseded additions after an unknown deletion = %d, want 1", n)
		}
	})
}

func TestFeedNeedsNoRightToListNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.namespaces.PrependReactor("list", "namespaces", deny)
		f := c.start()
		c.must(f.WaitSynced(t.Context()))
		if !f.Synced() {
			t.Error("Synced() = false, want true")
		}
	})
}

func TestWaitSyncedSaysWhatIsMissingAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.kube.PrependReactor("list", "pods", deny)
		f := c.start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := f.WaitSynced(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "list pods: ") ||
			!apierrors.IsForbidden(findStatus(err)) || strings.Contains(err.Error(), "services") {
			t.Errorf("WaitSynced() = %v, want that pods alone are forbidden", err)
		}
		if f.Synced() {
			t.Error("Synced() = true, want false")
		}
	})
}

func deny(a clienttesting.Action) (bool, runtime.Object, error) {
	return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: a.GetResource().Resource}, "", errors.New("not you"))
}

func findStatus(err error) error {
	status, _ := errors.AsType[*apierrors.StatusError](err)
	return status
}
