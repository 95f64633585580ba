package controlplane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestNodesAreReadyAndStaySo(t *testing.T) {
	cp := startForTest(t, Options{})
	nodes, err := StartNodes(t.Context(), cp.Admin, 1, 2)
	if err != nil {
		t.Fatalf("StartNodes: %v", err)
	}
	nodes.Stop() // From here on this test beats.
	if diff := cmp.Diff([]string{"control-plane-1", "worker-1", "worker-2"}, nodes.all()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	client, err := kubernetes.NewForConfig(cp.Admin)
	if err != nil {
		t.Fatal(err)
	}
	controlPlanes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: ControlPlaneLabel + "="})
	if err != nil {
		t.Fatal(err)
	}
	if len(controlPlanes.Items) != 1 || controlPlanes.Items[0].Name != "control-plane-1" {
		t.Errorf("%d nodes have the control-plane label, want control-plane-1 alone", len(controlPlanes.Items))
	}

	later := nodes.clock.Now().Add(time.Hour)
	nodes.clock = clocktesting.NewFakeClock(later)
	if err = nodes.beatOnce(t.Context(), "worker-1"); err != nil {
		t.Fatalf("heartbeat: %v", err)
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), "worker-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && (c.Status != corev1.ConditionTrue || !c.LastHeartbeatTime.Time.Equal(later.Truncate(time.Second))) {
			t.Errorf("Ready = %s at %s, want True at %s", c.Status, c.LastHeartbeatTime, later)
		}
	}
	lease, err := client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), "worker-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := lease.Spec.RenewTime.Time, later.Truncate(time.Microsecond); !got.Equal(want) {
		t.Errorf("Lease renewed at %s, want %s", got, want)
	}
}
