package scale

import (
	"net/http"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestHistoryKeepsTheNewestEventsInOrder(t *testing.T) {
	h := newHistory()
	for version := range int64(3 * historySize) {
		h.add(event{version: version + 1})
	}
	if _, kept := h.after(historySize - 1); kept {
		t.Error("after() keeps a version whose next event is gone")
	}
	position, kept := h.after(2 * historySize)
	if !kept {
		t.Fatal("after() does not keep a version half a history ago")
	}
	for want := int64(2*historySize) + 1; want <= 3*historySize; {
		b := h.read(position, 1000)
		if !b.kept || len(b.events) == 0 || b.behind != 3*historySize+1-want {
			t.Fatalf("read(%d) = %d events, %d behind, kept %v; want those from version %d on", position, len(b.events), b.behind, b.kept, want)
		}
		for _, e := range b.events {
			if e.version != want {
				t.Fatalf("got version %d, want %d", e.version, want)
			}
			want++
			position++
		}
	}
	if b := h.read(position, 1); len(b.events) != 0 || !b.kept || position != h.end() {
		t.Errorf("read at the end = %+v, want nothing yet", b)
	}
	if b := h.read(0, 1); b.kept {
		t.Error("read() keeps a position that is gone")
	}
}

func TestAWatchResumesWhereItEnded(t *testing.T) {
	for name, contentType := range map[string]string{"protobuf": protobufType, "JSON": jsonType} {
		t.Run(name, func(t *testing.T) {
			s, config := serve(t, 30)
			config.ContentType = contentType
			pods := kubernetes.NewForConfigOrDie(config).CoreV1().Pods("")
			list, err := pods.List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			s.cluster.changePod(3, notReady, now)
			s.cluster.replacePod(4, now)
			watch, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Stop()
			s.cluster.changePod(4, ready, now)
			var got []apiwatch.EventType
			var last string
			for range 4 {
				e := <-watch.ResultChan()
				got = append(got, e.Type)
				p := e.Object.(*corev1.Pod)
				if p.ResourceVersion <= last {
					t.Errorf("%s came after %s", p.ResourceVersion, last)
				}
				last = p.ResourceVersion
			}
			want := []apiwatch.EventType{apiwatch.Modified, apiwatch.Deleted, apiwatch.Added, apiwatch.Modified}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("events = %v, want %v", got, want)
				}
			}
			again, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: last})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Stop()
			s.cluster.changePod(5, terminating, now)
			p := (<-again.ResultChan()).Object.(*corev1.Pod)
			if p.DeletionTimestamp == nil || p.Name != list.Items[5].Name {
				t.Errorf("the resumed watch began with %s, want %s going", p.Name, list.Items[5].Name)
			}
		})
	}
}

func TestAWatchFromTooLongAgoHasToListAgain(t *testing.T) {
	for name, contentType := range map[string]string{"protobuf": protobufType, "JSON": jsonType} {
		t.Run(name, func(t *testing.T) {
			s, config := serve(t, 30)
			config.ContentType = contentType
			h := s.cluster.kind(podsURL).history
			for range 2*historySize + 1 {
				h.add(event{version: s.cluster.version + 1})
			}
			watch, err := kubernetes.NewForConfigOrDie(config).CoreV1().Pods("").Watch(t.Context(),
				metav1.ListOptions{ResourceVersion: versionText(s.cluster.version)})
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Stop()
			e := <-watch.ResultChan()
			if status, ok := e.Object.(*metav1.Status); e.Type != apiwatch.Error || !ok || status.Code != http.StatusGone {
				t.Errorf("first event = %s %v, want an error 410", e.Type, e.Object)
			}
			if n := s.traffic.stats().Expired; n != 1 {
				t.Errorf("expired = %d, want 1", n)
			}
		})
	}
}

func TestAWatchEndsWhenItsTimeIsUp(t *testing.T) {
	_, config := serve(t, 30)
	watch, err := kubernetes.NewForConfigOrDie(config).CoreV1().Namespaces().Watch(t.Context(),
		metav1.ListOptions{TimeoutSeconds: new(int64(1)), FieldSelector: "metadata.name=kube-system"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e := range watch.ResultChan() {
		if n++; e.Object.(*corev1.Namespace).Name != metav1.NamespaceSystem {
			t.Errorf("got %v, want kube-system alone", e.Object)
		}
	}
	if n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestLeasesCanBeWritten(t *testing.T) {
	_, config := serve(t, 30)
	for name, contentType := range map[string]string{"protobuf": protobufType, "JSON": jsonType} {
		t.Run(name, func(t *testing.T) {
			config.ContentType = contentType
			leases := kubernetes.NewForConfigOrDie(config).CoordinationV1().Leases(metav1.NamespaceSystem)
			if _, err := leases.Get(t.Context(), "kube-controller-manager", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
			made, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "ours"}}, metav1.CreateOptions{})
			if err != nil || made.UID == "" {
				t.Fatalf("create = %v, %v", made, err)
			}
			made.Spec.HolderIdentity = new("me")
			kept, err := leases.Update(t.Context(), made, metav1.UpdateOptions{})
			if err != nil || kept.UID != made.UID || kept.ResourceVersion == made.ResourceVersion || *kept.Spec.HolderIdentity != "me" {
				t.Errorf("update = %v, %v", kept, err)
			}
			if err = leases.Delete(t.Context(), "ours", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
			if _, err = leases.Get(t.Context(), "ours", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("get of a deleted Lease = %v, want not found", err)
			}
		})
	}
}

func TestAPolicyTakesAStatus(t *testing.T) {
	_, config := serve(t, 30)
	config.ContentType = jsonType
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	var policy v1alpha1.EndpointSyncPolicy
	if err = c.Get(t.Context(), types.NamespacedName{Name: "default"}, &policy); err != nil {
		t.Fatal(err)
	}
	after := policy.DeepCopy()
	after.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Met", LastTransitionTime: metav1.Now()}}
	if err = c.Status().Patch(t.Context(), after, client.MergeFrom(&policy)); err != nil {
		t.Fatal(err)
	}
	if err = c.Get(t.Context(), types.NamespacedName{Name: "default"}, &policy); err != nil || len(policy.Status.Conditions) != 1 {
		t.Errorf("policy has %d conditions (%v), want 1", len(policy.Status.Conditions), err)
	}
}
