package controllers

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// TestAReportThatWasThereAlreadyIsNotFresh: a controller that has just started cannot tell a report of a second ago from
// one of a machine that died yesterday, whatever the clock of its agent said.
func TestAReportThatWasThereAlreadyIsNotFresh(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(now)
	signals := newSignalLog(lag.NewTracker(lag.Options{}), clk)
	n := healthyNode()
	fresh := func() bool {
		at := signals.stamped([]v1alpha1.EndpointSyncNode{*n.DeepCopy()})[0].Status.ReportTime
		return clk.Since(at.Time) <= rollout.MaxReportAge
	}
	if fresh() {
		t.Error("a report that nobody has seen coming is fresh")
	}
	signals.record(&n)
	if fresh() {
		t.Error("a report that was there already is fresh")
	}
	clk.SetTime(now.Add(time.Second))
	signals.record(&n)
	if fresh() {
		t.Error("the same report again is fresh")
	}
	if never := standby("cp-2"); signals.heard([]v1alpha1.EndpointSyncNode{n, never}) {
		t.Error("a report that was there already was heard")
	} else if never.Status.ReportTime = (metav1.Time{}); !signals.heard([]v1alpha1.EndpointSyncNode{never}) {
		t.Error("a node that has never reported is waited for")
	}
	n.Status.ReportTime = metav1.NewTime(now.Add(-time.Hour)) // The agent's clock is late.
	signals.record(&n)
	if !fresh() {
		t.Error("a report that has just come is not fresh")
	}
	if !signals.heard([]v1alpha1.EndpointSyncNode{n}) {
		t.Error("a report that has just come was not heard")
	}
	clk.SetTime(clk.Now().Add(rollout.MaxReportAge + time.Second))
	if fresh() {
		t.Error("an old report is fresh")
	}
	if !signals.heard([]v1alpha1.EndpointSyncNode{standby("cp-2")}) {
		t.Error("a node that is silent is waited for without end")
	}
}

// TestAReportThatWasLongOnItsWayIsNotFresh: what a watch brings after a gap may be the last word of a machine that has died
// since. The report after it tells whether it was that, or the agent's clock was set back.
func TestAReportThatWasLongOnItsWayIsNotFresh(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(now)
	signals := newSignalLog(lag.NewTracker(lag.Options{}), clk)
	n := healthyNode()
	after := func(d, late time.Duration) (age time.Duration) {
		clk.SetTime(clk.Now().Add(d))
		n.Status.ReportTime = metav1.NewTime(clk.Now().Add(-late))
		signals.record(&n)
		at := signals.stamped([]v1alpha1.EndpointSyncNode{*n.DeepCopy()})[0].Status.ReportTime
		return clk.Since(at.Time)
	}
	after(0, 0)
	for _, step := range []struct {
		what       string
		d, late    time.Duration
		wantAge    time.Duration
		wantOffset time.Duration
	}{
		{"in time", 10 * time.Second, 0, 0, 0},
		{"after a gap", 10 * time.Minute, 9 * time.Minute, 10 * time.Minute, 0},
		{"in time again", 10 * time.Second, 0, 0, 0},
		{"by a clock that was set back", 10 * time.Second, time.Hour, 10 * time.Second, 0},
		{"by that clock again", 10 * time.Second, time.Hour, 0, time.Hour},
		{"by a clock that was set right", 10 * time.Second, 0, 0, 0},
	} {
		age := after(step.d, step.late)
		if offset := signals.reports[n.Name].offset; age != step.wantAge || offset != step.wantOffset {
			t.Errorf("%s: %s old, clock off by %s; want %s and %s", step.what, age, offset, step.wantAge, step.wantOffset)
		}
	}
}

// TestWhatAWrongClockWroteIsNotWaitedFor: a node that boots a year ahead and is set right would keep a cooldown for a year.
func TestWhatAWrongClockWroteIsNotWaitedFor(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(now)
	signals := newSignalLog(lag.NewTracker(lag.Options{}), clk)
	n := healthyNode()
	ahead := metav1.NewTime(now.AddDate(1, 0, 0))
	s := &n.Status
	s.ReportTime = metav1.NewTime(now)
	s.Last.FinishTime, s.Last.StartTime, s.ManifestChangeTime, s.Restarts = ahead, metav1.NewTime(now), ahead, []metav1.Time{ahead}
	s.Signals.Time = metav1.NewMicroTime(ahead.Time)
	signals.record(&n)
	s.Signals.Time = metav1.NewMicroTime(now)
	signals.record(&n)
	got := signals.stamped([]v1alpha1.EndpointSyncNode{*n.DeepCopy()})[0].Status
	if !got.Last.FinishTime.IsZero() || !got.ManifestChangeTime.IsZero() || !got.Restarts[0].IsZero() {
		t.Errorf("times of a wrong clock are kept: %+v", got)
	}
	if !got.Last.StartTime.Equal(&s.Last.StartTime) {
		t.Errorf("started at %s, want %s as reported", got.Last.StartTime, s.Last.StartTime)
	}
	if scrapes := signals.since(n.Name, now.Add(-time.Minute)); len(scrapes) != 1 || !scrapes[0].Time.Time.Equal(now) {
		t.Errorf("scrapes %+v, want the one of the clock that is right", scrapes)
	}
}

// TestTimesOfAnotherClockAreCorrected: a cooldown must not be void because a node's clock is late.
func TestTimesOfAnotherClockAreCorrected(t *testing.T) {
	tests := map[string]struct{ late, want time.Duration }{
		"half an hour late":  {30 * time.Minute, 0},
		"a day early":        {-24 * time.Hour, 0},
		"as good as ours":    {time.Second, time.Second},
		"the report is slow": {clockTolerance - time.Second, clockTolerance - time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakePassiveClock(now)
			signals := newSignalLog(lag.NewTracker(lag.Options{}), clk)
			by := func(ago time.Duration) metav1.Time { return metav1.NewTime(clk.Now().Add(-ago - test.late)) }
			n := healthyNode()
			n.Status.ReportTime = by(10 * time.Second)
			signals.record(&n)
			for range 3 { // Reports take more or less long.
				clk.SetTime(clk.Now().Add(11 * time.Second))
				n.Status.ReportTime = by(0)
				signals.record(&n)
			}
			s := &n.Status
			s.Last.FinishTime, s.ManifestChangeTime, s.Restarts = by(time.Minute), by(time.Minute), []metav1.Time{by(time.Minute)}
			s.Failed = []v1alpha1.FailedSetting{{Time: by(time.Minute)}}
			s.Signals.Time = metav1.NewMicroTime(by(time.Minute).Time)
			signals.record(&n)
			got := signals.stamped([]v1alpha1.EndpointSyncNode{*n.DeepCopy()})[0].Status
			for what, at := range map[string]metav1.Time{
				"finished": got.Last.FinishTime, "changed": got.ManifestChangeTime, "restarted": got.Restarts[0], "failed": got.Failed[0].Time,
			} {
				if ago := clk.Since(at.Time); ago != time.Minute+test.want {
					t.Errorf("%s %s ago, want %s", what, ago, time.Minute+test.want)
				}
			}
			if at := signals.since(n.Name, time.Time{})[0].Time; clk.Since(at.Time) != time.Minute+test.want {
				t.Errorf("scraped at %s, want %s ago", at, time.Minute+test.want)
			}
			if !got.Last.StartTime.IsZero() {
				t.Errorf("started at %s, want no time where there was none", got.Last.StartTime)
			}
		})
	}
}
