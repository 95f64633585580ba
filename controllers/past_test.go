package controllers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// turned feeds the bench's tracker with the incident once more, each Pod turning the other way, from a time on.
func (b bench) turned(from time.Time, back bool) {
	_, demand := incident()
	pod := func(i int, c lag.Change) lag.Pod {
		name := "pod-" + string(rune('a'+i%26)) + time.Duration(i).String()
		return lag.Pod{
			Namespace: "shop", Name: name, UID: lag.ParseUID(name), Labels: lag.LabelsOf(map[string]string{"app": name}),
			IPs: [2]lag.IP{lag.ParseIP("10.0.0.1")}, Ready: (c.Direction == lag.DirectionRemoval) == back, Included: true,
		}
	}
	for i, c := range demand.Changes {
		b.Tracker.SetPod(pod(i, c), from.Add(c.At))
	}
	for i, c := range demand.Changes {
		publish(b.Tracker, pod(i, c), from.Add(c.At+c.SliceLag))
	}
}

// at moves the clock and lets the agent report.
func (b bench) at(t *testing.T, when time.Time) {
	t.Helper()
	b.clock.SetTime(when)
	n := b.node(t)
	n.Status.ReportTime = metav1.NewTime(when)
	if err := b.client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeThatDoesNotHelpIsUndoneAndRemembered(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	b.reconcile(t)
	first := b.node(t).Spec
	if *first.Revision != 1 {
		t.Fatalf("the node was told revision %d, want 1; conditions %+v", *first.Revision, b.policy(t).Status.Conditions)
	}
	b.clock.SetTime(now.Add(time.Minute))
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	b.reconcile(t)

	b.turned(now.Add(2*time.Minute), true) // as late as before: it was not the flags
	b.at(t, now.Add(4*time.Minute))
	b.reconcile(t)
	undo := b.node(t).Spec
	if *undo.Revision != 2 || undo.Flags != v1alpha1.DefaultFlags() {
		t.Fatalf("the node was told %+v, want revision 2 with what ran before, within the cooldown; conditions %+v",
			undo, b.policy(t).Status.Conditions)
	}
	history := b.policy(t).Status.History
	if len(history) != 2 || history[0].Purpose != v1alpha1.PurposeUndo || history[1].Purpose != v1alpha1.PurposeRaise {
		t.Fatalf("history %+v, want a raise and its undoing", history)
	}
	if h := history[1]; h.Effect != v1alpha1.EffectNoGain || h.AchievedLag == "" || h.JudgedTime.IsZero() ||
		h.KCMVersion != "v1.37.2" || h.PolicyGeneration != 1 || value(h.Load.Changes) != 1000 {
		t.Errorf("history %+v, want the judgement with what it rests on", h)
	}
	b.clock.SetTime(now.Add(5 * time.Minute))
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	b.reconcile(t)

	b.turned(now.Add(40*time.Minute), false)
	b.at(t, now.Add(42*time.Minute))
	b.reconcile(t)
	if got := *b.node(t).Spec.Revision; got != 2 {
		t.Errorf("revision %d after the undoing, want 2: the setting had failed", got)
	}
	p := b.policy(t)
	wantCondition(t, p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSettingFailedBefore)
	wantCondition(t, p, v1alpha1.ConditionStalled, metav1.ConditionFalse, "")
	wantCondition(t, p, v1alpha1.ConditionObjectiveMet, metav1.ConditionFalse, v1alpha1.ReasonObjectiveMissed)
	if p.Status.History[0].Effect != "" {
		t.Errorf("the undoing was judged: %+v", p.Status.History[0])
	}
	if events := b.recorded(); !strings.Contains(events, "Warning NoGain Revision 1: lag 43") {
		t.Errorf("no Event says that the raise did not help:\n%s", events)
	}
}

// recorded are the Events so far, one a line.
func (b bench) recorded() string {
	var all strings.Builder
	for len(b.events.Events) > 0 {
		all.WriteString(<-b.events.Events + "\n")
	}
	return all.String()
}

func TestPastOfHistory(t *testing.T) {
	s := valid()
	decided, judged := metav1.NewTime(now.Add(-3*time.Hour)), metav1.NewTime(now.Add(-2*time.Hour))
	from, to := v1alpha1.DefaultFlags(), v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 200}
	s.Policy.Generation = 2
	s.Policy.Status.History = []v1alpha1.HistoryEntry{
		{Revision: 3, Time: decided, From: from, To: to, Purpose: v1alpha1.PurposeCorrect, PolicyGeneration: 2},
		{
			Revision: 2, Time: decided, From: from, To: to, Purpose: v1alpha1.PurposeRaise, PolicyGeneration: 1, KCMVersion: "v1.37.2",
			Bottleneck: v1alpha1.BottleneckWorkers, MeasuredLag: "43s", PredictedLag: "1.5s", AchievedLag: "2s",
			Load:   v1alpha1.Load{Changes: new(int64(1000)), Peak: new(int64(900))},
			Effect: v1alpha1.EffectHarmed, Harm: "p99 is 3s", JudgedTime: judged, MetTime: judged, Outcome: v1alpha1.OutcomeCommitted,
		},
		{Revision: 1, Time: decided, From: from, To: to, Outcome: v1alpha1.OutcomeRolledBack},
	}
	s.Nodes[0].Status.Last = v1alpha1.ChangeResult{Revision: 3, Outcome: v1alpha1.OutcomeCommitted, FinishTime: judged}
	want := []tuner.Revision{
		{Number: 3, From: from, To: to, Decided: decided.Time, Committed: judged.Time, Purpose: tuner.PurposeCorrect},
		{
			Number: 2, From: from, To: to, Decided: decided.Time, Committed: decided.Time, Version: "v1.37.2",
			Cause: v1alpha1.BottleneckWorkers, Before: 43 * time.Second, Predicted: 1500 * time.Millisecond, Achieved: 2 * time.Second,
			Workload: tuner.Workload{Changes: 1000, Peak: 900}, Effect: tuner.EffectHarmed, Harm: "p99 is 3s",
			Judged: judged.Time, Met: judged.Time, SpecChanged: true,
		},
		{Number: 1, From: from, To: to, Decided: decided.Time},
	}
	if diff := cmp.Diff(want, pastOf(s)); diff != "" {
		t.Errorf("pastOf (-want +got):\n%s", diff)
	}
}

// TestGivingBackWhatWasThereBeforeAFailureIsARepeat: nothing was decided, and no window or budget is to be spared.
func TestGivingBackWhatWasThereBeforeAFailureIsARepeat(t *testing.T) {
	raised, more := v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 200}, v1alpha1.Flags{KubeAPIQPS: 200, KubeAPIBurst: 200}
	p := pass{Situation: valid(), Handed: 3, Conclusion: Conclusion{goesOn: true}}
	p.Policy.Status.History = []v1alpha1.HistoryEntry{
		{Revision: 2, From: raised, To: more, Outcome: v1alpha1.OutcomeRolledBack},
		{Revision: 1, From: v1alpha1.DefaultFlags(), To: raised, Outcome: v1alpha1.OutcomeCommitted},
	}
	if got := purposeOf(v1alpha1.HistoryEntry{Revision: 3, To: raised}, p); got != v1alpha1.PurposeRepeat {
		t.Errorf("purposeOf = %s, want %s", got, v1alpha1.PurposeRepeat)
	}
}

func TestPurposeOfALostEntry(t *testing.T) {
	raised := v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 200}
	p := pass{Situation: valid()}
	p.Policy.Status.History = []v1alpha1.HistoryEntry{{Revision: 1, From: v1alpha1.DefaultFlags(), To: raised}}
	tests := map[string]struct {
		to   v1alpha1.Flags
		want v1alpha1.Purpose
	}{
		"back to what ran before": {v1alpha1.Flags{KubeAPIQPS: 20, KubeAPIBurst: 30}, v1alpha1.PurposeUndo},
		"further up":              {v1alpha1.Flags{KubeAPIQPS: 150, KubeAPIBurst: 300}, v1alpha1.PurposeRaise},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := purposeOf(v1alpha1.HistoryEntry{Revision: 2, To: tt.to}, p); got != tt.want {
				t.Errorf("purposeOf = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestEvidenceFromBeforeAChangeJudgesNothing(t *testing.T) {
	s := valid()
	s.Nodes[0].Status.Running = v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 200}.Or(v1alpha1.DefaultFlags())
	s.Evidence.Flags = s.Nodes[0].Status.Running
	s.Policy.Status.History = []v1alpha1.HistoryEntry{{
		Revision: 1, Time: metav1.NewTime(now.Add(-time.Minute)), From: v1alpha1.DefaultFlags(), To: s.Evidence.Flags,
		MeasuredLag: "43s", Load: v1alpha1.Load{Changes: new(int64(1000)), Peak: new(int64(1000))}, Outcome: v1alpha1.OutcomeCommitted,
	}}
	if got := Conclude(s).Past[0].Effect; got != tuner.EffectPending {
		t.Errorf("effect %q by evidence from before the change, want none", got)
	}
	s.Policy.Status.History[0].Time = metav1.NewTime(now.Add(-time.Hour))
	if got := Conclude(s).Past[0].Effect; got != tuner.EffectNone {
		t.Errorf("effect %q by evidence since the change, want %q", got, tuner.EffectNone)
	}
}
