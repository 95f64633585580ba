package controllers

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func TestARecordOutlivesItsNodeWhileItsAgentMayBeAtWork(t *testing.T) {
	tests := map[string]struct {
		change  func(*v1alpha1.EndpointSyncNode)
		later   time.Duration
		deleted bool
	}{
		"a node at rest is forgotten at once": {
			func(*v1alpha1.EndpointSyncNode) {}, 0, true,
		},
		"one in the middle of a change keeps its record": {
			func(n *v1alpha1.EndpointSyncNode) { n.Spec.Revision = new(int64(1)) }, time.Minute, false,
		},
		"one whose agent has been silent for five minutes is forgotten": {
			func(n *v1alpha1.EndpointSyncNode) { n.Status.Phase = v1alpha1.PhaseApplied }, silenceLimit, true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			scheme, err := Scheme()
			if err != nil {
				t.Fatal(err)
			}
			n := healthyNode()
			n.ResourceVersion = ""
			test.change(&n)
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&n).Build()
			clk := clocktesting.NewFakePassiveClock(now)
			signals := newSignalLog(lag.NewTracker(lag.Options{}), clk)
			before := n.DeepCopy()
			before.Status.ReportTime = metav1.NewTime(now.Add(-10 * time.Second))
			signals.record(before)
			signals.record(&n)
			clk.SetTime(now.Add(test.later))
			r := &NodeReconciler{Client: c, Live: c, Signals: signals, Clock: clk}
			result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: n.Name}})
			if err != nil {
				t.Fatal(err)
			}
			err = c.Get(t.Context(), client.ObjectKeyFromObject(&n), &n)
			if got := apierrors.IsNotFound(err); got != test.deleted || (!got && result.RequeueAfter <= 0) {
				t.Errorf("deleted: %v, looked at again after %s; want deleted: %v, or a time", got, result.RequeueAfter, test.deleted)
			}
		})
	}
}
