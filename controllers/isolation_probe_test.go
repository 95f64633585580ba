package controllers

import (
	"errors"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func TestTheProbeIsKeptAndIsNoNode(t *testing.T) {
	probe := &v1alpha1.EndpointSyncNode{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.IsolationProbe}}
	namesake := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: v1alpha1.IsolationProbe, Labels: map[string]string{controlPlaneLabel: ""},
	}}
	tests := map[string]struct {
		there    []client.Object
		terminal bool
	}{
		"it is made where it is missing":                     {},
		"it stays although no Node has its name":             {there: []client.Object{probe}},
		"a Node of its name is refused, and the probe stays": {there: []client.Object{namesake}, terminal: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			scheme, err := Scheme()
			if err != nil {
				t.Fatal(err)
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(tt.there...).Build()
			request := ctrl.Request{NamespacedName: client.ObjectKey{Name: v1alpha1.IsolationProbe}}
			_, err = (&NodeReconciler{Client: c}).Reconcile(t.Context(), request)
			if terminal := errors.Is(err, reconcile.TerminalError(nil)); terminal != tt.terminal || !terminal && err != nil {
				t.Errorf("Reconcile() = %v, want a terminal error: %t", err, tt.terminal)
			}
			var all v1alpha1.EndpointSyncNodeList
			if err := c.List(t.Context(), &all); err != nil {
				t.Fatal(err)
			}
			isProbe := func(n v1alpha1.EndpointSyncNode) bool { return n.Name == v1alpha1.IsolationProbe }
			if !slices.ContainsFunc(all.Items, isProbe) || slices.ContainsFunc(all.Nodes(), isProbe) {
				t.Errorf("the objects are %v and the nodes %v, want the probe among the former only", all.Items, all.Nodes())
			}
		})
	}
}

func TestTheProbesStatusIsNoEvidence(t *testing.T) {
	b := newBench(t)
	feed := signalFeed{log: b.Signals}
	for _, name := range []string{"cp-1", v1alpha1.IsolationProbe} {
		n := healthyNode()
		n.Name = name
		feed.see(&n)
	}
	if len(b.Signals.reports) != 1 || len(b.Signals.leads) != 1 {
		t.Errorf("reports are %v and leaders %v, want those of cp-1 alone", b.Signals.reports, b.Signals.leads)
	}
}
