package controllers

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/metrics"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// bench is a reconciler over a fake API server, whose tracker has seen an incident at the default flags.
type bench struct {
	*PolicyReconciler
	client client.Client
	clock  *clocktesting.FakePassiveClock
	events *events.FakeRecorder
}

func newBench(t *testing.T, policies ...*v1alpha1.EndpointSyncPolicy) bench {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	node := healthyNode()
	node.ResourceVersion = ""
	builder := fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&v1alpha1.EndpointSyncPolicy{}, &v1alpha1.EndpointSyncNode{}).WithObjects(&node)
	for _, p := range policies {
		builder = builder.WithObjects(p)
	}
	b := bench{client: builder.Build(), clock: clocktesting.NewFakePassiveClock(now), events: events.NewFakeRecorder(64)}
	tracker := trackedIncident()
	b.PolicyReconciler = &PolicyReconciler{
		Client: b.client, Live: b.client, Namespace: "endpoint-sync-system", Clock: b.clock, Tracker: tracker, Metrics: metrics.New(),
		Signals: newSignalLog(tracker, b.clock), Events: b.events, Synced: func() bool { return true },
		Platform: func() platform.Finding { return patchable },
	}
	return b
}

// trackedIncident feeds a tracker with the changes of incident.
func trackedIncident() *lag.Tracker {
	_, demand := incident()
	tracker := lag.NewTracker(lag.Options{})
	pod := func(i int, ready bool) lag.Pod {
		name := "pod-" + string(rune('a'+i%26)) + time.Duration(i).String()
		return lag.Pod{
			Namespace: "shop", Name: name, UID: lag.ParseUID(name), Labels: lag.LabelsOf(map[string]string{"app": name}),
			IPs: [2]lag.IP{lag.ParseIP("10.0.0.1")}, Ready: ready, Included: true,
		}
	}
	started := demand.Start.Add(-time.Minute)
	for i, change := range demand.Changes {
		p := pod(i, change.Direction == lag.DirectionRemoval)
		tracker.SetService(lag.Service{Namespace: "shop", Name: p.Name, Selector: p.Labels}, started)
		tracker.SetPod(p, started)
		publish(tracker, p, started)
	}
	tracker.Synced(started)
	for i, change := range demand.Changes {
		tracker.SetPod(pod(i, change.Direction == lag.DirectionAddition), demand.Start.Add(change.At))
	}
	for i, change := range demand.Changes {
		p := pod(i, change.Direction == lag.DirectionAddition)
		publish(tracker, p, demand.Start.Add(change.At+change.SliceLag))
	}
	return tracker
}

func publish(tracker *lag.Tracker, p lag.Pod, at time.Time) {
	var ready []lag.Address
	if p.Ready {
		ready = []lag.Address{{PodUID: p.UID, IP: p.IPs[0]}}
	}
	tracker.SetSlice(lag.Slice{Namespace: p.Namespace, Name: p.Name + "-x", Service: p.Name, Ready: ready}, at)
	tracker.SetEndpoints(lag.Endpoints{Namespace: p.Namespace, Name: p.Name, Ready: ready}, at)
}

func policyObject(mode v1alpha1.Mode) *v1alpha1.EndpointSyncPolicy {
	p := valid().Policy
	p.Spec.Mode = mode
	p.Spec.Guardrails = v1alpha1.Guardrails{} // as it was written: nobody asked for limits
	p.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
	return &p
}

func (b bench) reconcile(t *testing.T) ctrl.Result {
	t.Helper()
	b.hear(t)
	request := ctrl.Request{NamespacedName: types.NamespacedName{Name: "default"}}
	result, err := b.Reconcile(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// hear has the controller see reports coming that are as they are now, and finds older ones there.
func (b bench) hear(t *testing.T) {
	t.Helper()
	var list v1alpha1.EndpointSyncNodeList
	if err := b.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for _, n := range list.Items {
		if b.clock.Since(n.Status.ReportTime.Time) <= rollout.MaxReportAge {
			before := n.DeepCopy()
			before.Status.ReportTime = metav1.NewTime(n.Status.ReportTime.Add(-10 * time.Second))
			b.Signals.record(before)
		}
		b.Signals.record(&n)
	}
}

func (b bench) node(t *testing.T) *v1alpha1.EndpointSyncNode {
	t.Helper()
	var n v1alpha1.EndpointSyncNode
	if err := b.client.Get(t.Context(), client.ObjectKey{Name: "cp-1"}, &n); err != nil {
		t.Fatal(err)
	}
	return &n
}

func (b bench) policy(t *testing.T) *v1alpha1.EndpointSyncPolicy {
	t.Helper()
	var p v1alpha1.EndpointSyncPolicy
	if err := b.client.Get(t.Context(), client.ObjectKey{Name: "default"}, &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// end plays the agent: the change that the node was told ends.
func (b bench) end(t *testing.T, outcome v1alpha1.Outcome, reason string) {
	t.Helper()
	n := b.node(t)
	n.Status.ObservedRevision = *n.Spec.Revision
	n.Status.ReportTime = metav1.NewTime(b.clock.Now())
	n.Status.Last = v1alpha1.ChangeResult{
		Revision: *n.Spec.Revision, Outcome: outcome, Reason: reason, Message: "as played by the test", Flags: n.Spec.Flags,
		StartTime: metav1.NewTime(now), FinishTime: metav1.NewTime(b.clock.Now()), HandOver: "31.5s",
	}
	n.Status.Restarts = []metav1.Time{metav1.NewTime(now)}
	if outcome == v1alpha1.OutcomeCommitted {
		n.Status.Running = n.Spec.Flags.Or(n.Status.Running)
	}
	if err := b.client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func wantCondition(t *testing.T, p *v1alpha1.EndpointSyncPolicy, name string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	c := meta.FindStatusCondition(p.Status.Conditions, name)
	if c == nil || c.Status != status || (reason != "" && c.Reason != reason) {
		t.Errorf("condition %s = %+v, want %s %s", name, c, status, reason)
	}
}

func TestEnforceRollsOutOnceAndReports(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	b.reconcile(t)

	told := b.node(t).Spec
	if *told.Revision != 1 || told.Action != v1alpha1.ActionApply || told.Flags.KubeAPIQPS == 0 {
		t.Fatalf("node was told %+v, want revision 1 with flags; conditions %+v", told, b.policy(t).Status.Conditions)
	}
	p := b.policy(t)
	wantCondition(t, p, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonRolloutStarted)
	wantCondition(t, p, v1alpha1.ConditionReady, metav1.ConditionFalse, "")
	wantCondition(t, p, v1alpha1.ConditionStalled, metav1.ConditionFalse, "")
	wantCondition(t, p, v1alpha1.ConditionObjectiveMet, metav1.ConditionFalse, v1alpha1.ReasonObjectiveMissed)
	if p.Status.Bottleneck.Type != v1alpha1.BottleneckClientRateLimit {
		t.Errorf("bottleneck %+v, want ClientRateLimit", p.Status.Bottleneck)
	}
	if len(p.Status.History) != 1 || p.Status.History[0].PredictedLag == "" || len(p.Status.History[0].Before) != 6 {
		t.Errorf("history %+v, want one entry with the evidence it rests on", p.Status.History)
	}

	b.reconcile(t) // In flight: nothing new.
	if got := *b.node(t).Spec.Revision; got != 1 {
		t.Fatalf("revision %d while the node is in flight, want 1", got)
	}

	b.clock.SetTime(now.Add(time.Minute))
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	b.reconcile(t)
	p = b.policy(t)
	wantCondition(t, p, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
	wantCondition(t, p, v1alpha1.ConditionObjectiveMet, metav1.ConditionUnknown, v1alpha1.ReasonTooFewSamples)
	if h := p.Status.History[0]; h.Outcome != v1alpha1.OutcomeCommitted || h.HandOver != "31.5s" {
		t.Errorf("history %+v, want committed with its hand-over", h)
	}
	if p.Status.Recommended.Snippet == "" {
		t.Error("the recommendation was lost with the rollout")
	}
	if got := *b.node(t).Spec.Revision; got != 1 {
		t.Errorf("revision %d after the commit, want 1: one change is enough", got)
	}
}

func TestRollbackStallsUntilTheSpecChanges(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	b.reconcile(t)
	b.clock.SetTime(now.Add(time.Minute))
	b.end(t, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonCrashLooping)
	n := b.node(t)
	n.Status.Failed = []v1alpha1.FailedSetting{{
		Flags: n.Spec.Flags, KCMVersion: "v1.37.2", PolicyGeneration: 1, Time: metav1.NewTime(now), Reason: v1alpha1.ReasonCrashLooping,
	}}
	if err := b.client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	b.reconcile(t)
	wantCondition(t, b.policy(t), v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRolledBack)

	b.clock.SetTime(now.Add(3 * time.Hour))
	b.end(t, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonCrashLooping)
	b.reconcile(t)
	if got := *b.node(t).Spec.Revision; got != 1 {
		t.Errorf("revision %d, want 1: the values that failed were tried again", got)
	}
}

func TestObserveAndRecommendInstructNobody(t *testing.T) {
	for _, mode := range []v1alpha1.Mode{v1alpha1.ModeObserve, v1alpha1.ModeRecommend} {
		t.Run(string(mode), func(t *testing.T) {
			b := newBench(t, policyObject(mode))
			before := b.node(t)
			b.reconcile(t)
			if got := b.node(t); got.ResourceVersion != before.ResourceVersion {
				t.Errorf("the node was written: %+v", got.Spec)
			}
			p := b.policy(t)
			wantCondition(t, p, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
			if recommended := p.Status.Recommended.Snippet != ""; recommended != (mode == v1alpha1.ModeRecommend) {
				t.Errorf("recommendation %+v in mode %s", p.Status.Recommended, mode)
			}
		})
	}
}

func TestTheOlderPolicyActs(t *testing.T) {
	older := policyObject(v1alpha1.ModeObserve)
	older.Name, older.CreationTimestamp = "older", metav1.NewTime(now.Add(-2*time.Hour))
	b := newBench(t, policyObject(v1alpha1.ModeEnforce), older)
	b.reconcile(t)
	wantCondition(t, b.policy(t), v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonConflict)
	if got := *b.node(t).Spec.Revision; got != 0 {
		t.Errorf("revision %d handed out for a policy in conflict, want 0", got)
	}
}

func TestDeletionRestoresWhereAskedTo(t *testing.T) {
	tests := map[string]struct {
		policy v1alpha1.DeletionPolicy
		action v1alpha1.Action
	}{
		"restore": {v1alpha1.DeletionRestore, v1alpha1.ActionRestore},
		"retain":  {v1alpha1.DeletionRetain, v1alpha1.ActionApply},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := policyObject(v1alpha1.ModeEnforce)
			p.Spec.DeletionPolicy = test.policy
			b := newBench(t, p)
			b.reconcile(t)
			b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
			if err := b.client.Delete(t.Context(), b.policy(t)); err != nil {
				t.Fatal(err)
			}
			b.reconcile(t)
			if got := b.node(t).Spec.Action; got != test.action {
				t.Fatalf("action %s after the deletion, want %s", got, test.action)
			}
			if test.action != v1alpha1.ActionRestore {
				return
			}
			b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonRestored)
			if result := b.reconcile(t); result.RequeueAfter != 0 || *b.node(t).Spec.Revision != 2 {
				t.Errorf("restore goes on after it ended: %+v, %+v", result, b.node(t).Spec)
			}
		})
	}
}

// TestRestoreOfANodeWhoseClockIsLate: nobody is left to see that it is waited for.
func TestRestoreOfANodeWhoseClockIsLate(t *testing.T) {
	p := policyObject(v1alpha1.ModeEnforce)
	p.Spec.DeletionPolicy = v1alpha1.DeletionRestore
	b := newBench(t, p)
	b.reconcile(t)
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	for range 2 {
		b.clock.SetTime(b.clock.Now().Add(10 * time.Second))
		n := b.node(t)
		n.Status.ReportTime = metav1.NewTime(b.clock.Now().Add(-time.Hour))
		if err := b.client.Status().Update(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		b.hear(t)
	}
	if err := b.client.Delete(t.Context(), b.policy(t)); err != nil {
		t.Fatal(err)
	}
	b.reconcile(t)
	if got := b.node(t).Spec.Action; got != v1alpha1.ActionRestore {
		t.Errorf("action %s, want Restore", got)
	}
}

func TestRestoreIsNotStoppedByAPolicyThatOnlyObserves(t *testing.T) {
	p := policyObject(v1alpha1.ModeEnforce)
	p.Spec.DeletionPolicy = v1alpha1.DeletionRestore
	observer := policyObject(v1alpha1.ModeObserve)
	observer.Name, observer.CreationTimestamp = "later", metav1.NewTime(now)
	b := newBench(t, p, observer)
	b.reconcile(t)
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	if err := b.client.Delete(t.Context(), b.policy(t)); err != nil {
		t.Fatal(err)
	}
	b.reconcile(t)
	if got := b.node(t).Spec.Action; got != v1alpha1.ActionRestore {
		t.Errorf("action %s, want Restore", got)
	}
}

func TestTheLastWordOfADeletedPolicyCounts(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	b.reconcile(t)
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	last := b.policy(t)
	last.Spec.DeletionPolicy = v1alpha1.DeletionRestore // patched and deleted before a pass could see it
	if err := b.client.Delete(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	b.remember(last)
	b.reconcile(t)
	if got := b.node(t).Spec; got.Action != v1alpha1.ActionRestore || got.DeletionPolicy != v1alpha1.DeletionRestore {
		t.Errorf("action %s with deletion policy %s, want Restore, which the agent asks of both", got.Action, got.DeletionPolicy)
	}
}

func TestALostHistoryEntryIsMadeGood(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	b.reconcile(t)
	p := b.policy(t)
	p.Status.History = nil // as if the patch of that pass had failed
	if err := b.client.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	b.reconcile(t)
	h := b.policy(t).Status.History
	if len(h) != 1 || h[0].Revision != 1 || h[0].To != b.node(t).Spec.Flags {
		t.Errorf("history %+v, want the revision that the node was told", h)
	}
}

func TestDeletionPolicyFollowsThePolicyWithoutANewRevision(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	b.reconcile(t)
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	p := b.policy(t)
	p.Spec.DeletionPolicy = v1alpha1.DeletionRestore
	if err := b.client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	b.reconcile(t)
	if got := b.node(t).Spec; got.DeletionPolicy != v1alpha1.DeletionRestore || *got.Revision != 1 {
		t.Errorf("node spec %+v, want deletionPolicy Restore at revision 1", got)
	}
}

func TestEventsCarryTheReasonsOfConditions(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	b.reconcile(t)
	close(b.events.Events)
	var all []string
	for e := range b.events.Events {
		all = append(all, e)
	}
	seen := strings.Join(all, "\n")
	for _, want := range []string{v1alpha1.ReasonRolloutStarted, v1alpha1.ReasonObjectiveMissed} {
		if !strings.Contains(seen, want) {
			t.Errorf("no Event with reason %s in:\n%s", want, seen)
		}
	}
}
