package tests

import (
	"testing"

	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

// newLoad returns Services with one Pod each, all of them published, on worker nodes of their own.
func newLoad(t *testing.T, admin *rest.Config, namespace string, services int) *workload.Workload {
	t.Helper()
	nodes, err := controlplane.StartNodes(t.Context(), admin, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nodes.Stop)
	return populate(t, admin, workload.Options{Namespace: namespace, Services: services, Nodes: nodes.Workers})
}

// populate returns a workload that is published.
func populate(t *testing.T, admin *rest.Config, o workload.Options) *workload.Workload {
	t.Helper()
	w, err := workload.New(admin, o)
	if err != nil {
		t.Fatal(err)
	}
	if err = w.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err = w.WaitConverged(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}
