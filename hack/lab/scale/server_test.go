package scale

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/pager"
)

// serve runs a server until the test ends and returns how to reach it.
func serve(t *testing.T, pods int) (*Server, *rest.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	identity, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err = identity.WriteKubeconfig(kubeconfig, listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	s := NewServer(ShapeOf(pods))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener, identity) }()
	t.Cleanup(func() {
		cancel()
		if serveErr := <-ended; serveErr != nil {
			t.Error(serveErr)
		}
	})
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return s, config
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 30*time.Second, true,
		func(context.Context) (bool, error) { return is(), nil })
	if err != nil {
		t.Fatalf("wait until %s: %v", what, err)
	}
}

func TestInformersSyncAndFollowAChurn(t *testing.T) {
	for name, contentType := range map[string]string{"protobuf": protobufType, "JSON": jsonType} {
		t.Run(name, func(t *testing.T) {
			s, config := serve(t, 500)
			config.ContentType = contentType
			factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(config), 0)
			pods, services := factory.Core().V1().Pods().Informer(), factory.Core().V1().Services().Informer()
			slices, endpoints := factory.Discovery().V1().EndpointSlices().Informer(), factory.Core().V1().Endpoints().Informer()
			nodes, namespaces := factory.Core().V1().Nodes().Informer(), factory.Core().V1().Namespaces().Informer()
			leases := factory.Coordination().V1().Leases().Informer()
			ctx, cancel := context.WithCancel(t.Context())
			defer factory.Shutdown()
			defer cancel()
			factory.StartWithContext(ctx)
			factory.WaitForCacheSync(ctx.Done())
			got := map[string]int{
				"pods": len(pods.GetStore().ListKeys()), "services": len(services.GetStore().ListKeys()),
				"slices": len(slices.GetStore().ListKeys()), "endpoints": len(endpoints.GetStore().ListKeys()),
				"nodes": len(nodes.GetStore().ListKeys()), "namespaces": len(namespaces.GetStore().ListKeys()),
				"leases": len(leases.GetStore().ListKeys()),
			}
			want := map[string]int{
				"pods": 500, "services": 34, "slices": 34, "endpoints": 34, "nodes": 6, "namespaces": 38, "leases": 1,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("synced (-want +got):\n%s", diff)
			}
			s.churner.begin()
			s.churner.run(ctx, Churn{Rate: 1000, Lag: 20 * time.Millisecond}, time.Second)
			done := s.churner.stats()
			if done.PodChanges < 900 || done.Replacements == 0 || done.SliceWrites == 0 || done.EndpointsWrites == 0 {
				t.Errorf("churn did %+v, want about a thousand changes, some replacements and their publication", done)
			}
			eventually(t, "Pods are as the server has them", func() bool { return same(s, podsURL, pods) })
			eventually(t, "slices are as the server has them", func() bool { return same(s, slicesURL, slices) })
			eventually(t, "Endpoints are as the server has them", func() bool { return same(s, endpointsURL, endpoints) })
			allReady(t, pods, slices, endpoints)
			seen := s.traffic.stats()
			if seen.Lists != 7 || seen.ByKind["WATCHLIST pods"] != 1 || seen.Expired != 0 {
				t.Errorf("traffic = %+v, want one WatchList for each kind", seen)
			}
		})
	}
}

// same says whether a store holds what the server has, by name and resource version.
func same(s *Server, url string, have cache.SharedIndexInformer) bool {
	k := s.cluster.kind(url)
	s.cluster.mu.Lock()
	all := k.objects()
	s.cluster.mu.Unlock()
	n := 0
	for o := range all {
		got, exists, err := have.GetStore().GetByKey(o.GetNamespace() + "/" + o.GetName())
		if err != nil || !exists || !cmp.Equal(got.(metav1.Object).GetResourceVersion(), o.GetResourceVersion()) {
			return false
		}
		n++
	}
	return len(have.GetStore().ListKeys()) == n
}

// allReady checks that every Pod is ready and published in both APIs.
func allReady(t *testing.T, pods, slices, endpoints cache.SharedIndexInformer) {
	t.Helper()
	want, inSlices, inEndpoints := map[string]string{}, map[string]string{}, map[string]string{}
	for _, o := range pods.GetStore().List() {
		p := o.(*corev1.Pod)
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				want[string(p.UID)] = p.Status.PodIP
			}
		}
	}
	for _, o := range slices.GetStore().List() {
		for _, e := range o.(*discoveryv1.EndpointSlice).Endpoints {
			inSlices[string(e.TargetRef.UID)] = e.Addresses[0]
		}
	}
	for _, o := range endpoints.GetStore().List() {
		for _, subset := range o.(*corev1.Endpoints).Subsets {
			for _, a := range subset.Addresses {
				inEndpoints[string(a.TargetRef.UID)] = a.IP
			}
		}
	}
	if len(want) != len(pods.GetStore().ListKeys()) {
		t.Errorf("%d of %d Pods are ready, want all", len(want), len(pods.GetStore().ListKeys()))
	}
	if !cmp.Equal(want, inSlices) || !cmp.Equal(want, inEndpoints) {
		t.Errorf("%d Pods, %d in slices, %d in Endpoints: want the same", len(want), len(inSlices), len(inEndpoints))
	}
}

func TestListComesInPages(t *testing.T) {
	s, config := serve(t, 500)
	for name, contentType := range map[string]string{"protobuf": protobufType, "JSON": jsonType} {
		t.Run(name, func(t *testing.T) {
			s.traffic.reset()
			config.ContentType = contentType
			client := kubernetes.NewForConfigOrDie(config)
			names := map[string]bool{}
			p := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				return client.CoreV1().Pods("").List(ctx, options)
			})
			p.PageSize = 120
			err := p.EachListItem(t.Context(), metav1.ListOptions{}, func(o runtime.Object) error {
				names[o.(*corev1.Pod).Name] = true
				return nil
			})
			if err != nil || len(names) != 500 || s.traffic.stats().Lists != 5 {
				t.Errorf("%d Pods in %d pages (%v), want 500 in 5", len(names), s.traffic.stats().Lists, err)
			}
			all, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{ResourceVersion: "0", Limit: 10})
			if err != nil || len(all.Items) != 500 {
				t.Errorf("list from the cache has %d Pods (%v), want all 500", len(all.Items), err)
			}
			some, err := client.CoreV1().Pods("team-003").List(t.Context(), metav1.ListOptions{})
			if err != nil || len(some.Items) != 15 {
				t.Errorf("list of a namespace has %d Pods (%v), want 15", len(some.Items), err)
			}
		})
	}
}

func TestMetadataAloneIsServed(t *testing.T) {
	_, config := serve(t, 500)
	client := metadata.NewForConfigOrDie(config)
	nodes := corev1.SchemeGroupVersion.WithResource("nodes")
	list, err := client.Resource(nodes).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 6 || list.Items[0].Labels[corev1.LabelTopologyZone] == "" {
		t.Errorf("list of nodes' metadata = %d items (%v), want 6 with labels", len(list.Items), err)
	}
	watch, err := client.Resource(nodes).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	got, ok := (<-watch.ResultChan()).Object.(*metav1.PartialObjectMetadata)
	if !ok || got.Name != list.Items[0].Name {
		t.Errorf("watch of nodes' metadata began with %v, want %s", got, list.Items[0].Name)
	}
}

func TestPodsAreAsLargeAsInLife(t *testing.T) {
	sizes := newCluster(ShapeOf(150_000), time.Now()).sizes()
	t.Logf("%+v", sizes)
	if sizes.PodJSON < 5_000 || sizes.PodJSON > 12_000 || sizes.PodProtobuf < 3_000 {
		t.Errorf("a Pod has %d bytes in JSON and %d in protobuf, want 5 to 12 kB", sizes.PodJSON, sizes.PodProtobuf)
	}
}
