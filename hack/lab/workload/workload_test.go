package workload

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
)

func TestPodIPsAreDistinctAndNoServiceIP(t *testing.T) {
	services, pods := netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.128.0.0/9")
	seen := map[netip.Addr]bool{}
	for i := range 200_000 {
		ip, err := netip.ParseAddr(podIP(i))
		if err != nil {
			t.Fatalf("podIP(%d): %v", i, err)
		}
		if seen[ip] || services.Contains(ip) || !pods.Contains(ip) {
			t.Fatalf("podIP(%d) = %s, which is taken or out of range", i, ip)
		}
		seen[ip] = true
	}
}

// TestIncidentOnARealControlPlane runs the whole lab small: what the workload changes, kube-controller-manager publishes
// and the observer sees, once each.
func TestIncidentOnARealControlPlane(t *testing.T) {
	cp, nodes := startLab(t)
	w, err := New(cp.Admin, Options{Namespaces: 3, Services: 10, PodsPerService: 4, ServicesPerPod: 2, Nodes: nodes.Workers, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if err = w.Setup(t.Context()); err != nil {
		t.Fatalf("Setup: %v", err)
	}
	if err = w.WaitConverged(t.Context()); err != nil {
		t.Fatalf("WaitConverged after Setup: %v", err)
	}
	ob, err := observer.Start(t.Context(), cp.Admin, observer.Options{ServiceLabel: ServiceLabel})
	if err != nil {
		t.Fatalf("observer: %v", err)
	}
	t.Cleanup(ob.Stop)

	for _, round := range []string{"there", "and back"} {
		ob.Mark(round)
		flip, flipErr := w.Flip(t.Context())
		if flipErr != nil {
			t.Fatalf("Flip: %v", flipErr)
		}
		if flip.Pods != 20 || flip.Duration <= 0 {
			t.Errorf("Flip = %+v, want 20 Pods in some time", flip)
		}
		if err = w.WaitConverged(t.Context()); err != nil {
			t.Fatalf("WaitConverged: %v", err)
		}
		result := waitSettled(t, ob, round, 2*flip.Pods)
		for name, r := range map[string]observer.Resource{"EndpointSlice": result.EndpointSlice, "Endpoints": result.Endpoints} {
			if r.Added.Changes != 20 || r.Removed.Changes != 20 || r.Superseded != 0 {
				t.Errorf("%s, round %q: %d added, %d removed, %d superseded; want 20, 20, 0",
					name, round, r.Added.Changes, r.Removed.Changes, r.Superseded)
			}
			if r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 {
				t.Errorf("%s, round %q: p50 %s, p99 %s, max %s are not in order", name, round, r.P50, r.P99, r.Max)
			}
		}
		if result.Leadership.Holder == "" || result.Leadership.HolderChanges != 0 {
			t.Errorf("round %q: leadership = %+v, want one undisturbed holder", round, result.Leadership)
		}
	}

	client, err := kubernetes.NewForConfig(cp.Admin)
	if err != nil {
		t.Fatal(err)
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{LabelSelector: ServiceLabel})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil {
			t.Errorf("Pod %s is being deleted; nobody should", pod.Name)
		}
	}
}

// startLab runs a control plane with kube-controller-manager as a static Pod.
func startLab(t *testing.T) (*controlplane.ControlPlane, *controlplane.Nodes) {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.Options{UnsafeNoFsync: true, Progress: t.Output()})
	if err != nil {
		t.Fatalf("control plane: %v", err)
	}
	t.Cleanup(func() {
		if stopErr := cp.Stop(); stopErr != nil {
			t.Errorf("Stop: %v", stopErr)
		}
	})
	nodes, err := controlplane.StartNodes(t.Context(), cp.Admin, 1, 2)
	if err != nil {
		t.Fatalf("nodes: %v", err)
	}
	t.Cleanup(nodes.Stop)
	manifest, err := cp.KCMManifest()
	if err != nil {
		t.Fatal(err)
	}
	manifests := t.TempDir()
	if err = os.WriteFile(filepath.Join(manifests, "kube-controller-manager.yaml"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	runner, err := staticpod.Start(t.Context(), staticpod.Options{
		ManifestDir: manifests, LogDir: cp.Logs, NodeName: nodes.ControlPlane[0],
		Binaries: map[string]string{"kube-controller-manager": cp.Binaries.ControllerManager},
	})
	if err != nil {
		t.Fatalf("static-Pod runner: %v", err)
	}
	t.Cleanup(runner.Stop)
	return cp, nodes
}

// waitSettled returns the window's result when the observer has seen as many changes as were made and none is pending.
// The test's own timeout ends it.
func waitSettled(t *testing.T, ob *observer.Observer, window string, changes int) observer.Result {
	t.Helper()
	for ; t.Context().Err() == nil; <-(clock.RealClock{}).After(50 * time.Millisecond) {
		result, err := ob.Result(window)
		if err != nil {
			t.Fatal(err)
		}
		if settled(result.EndpointSlice, changes) && settled(result.Endpoints, changes) {
			return result
		}
	}
	t.Fatal("the observer did not settle")
	return observer.Result{}
}

func settled(r observer.Resource, changes int) bool {
	return r.Pending == 0 && r.Changes+r.Superseded >= changes
}
