package watch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// bound makes one sample and returns the error bound that the tracker states for it, once both its seconds are told.
func bound(t *testing.T, tracker *lag.Tracker, began time.Time) (time.Duration, bool) {
	t.Helper()
	pod, web := lag.Pod{
		Namespace: "shop", Name: "a", UID: lag.UID{1}, Labels: lag.LabelsOf(map[string]string{"app": "web"}),
		IPs: [2]lag.IP{lag.ParseIP("10.0.0.1")}, Ready: true, Included: true,
	}, lag.LabelsOf(map[string]string{"app": "web"})
	tracker.SetService(lag.Service{Namespace: "shop", Name: "web", Selector: web}, began)
	tracker.Synced(began)
	tracker.SetPod(pod, began)
	s := tracker.Summary(lag.Query{Now: time.Now()})
	return s.ErrorBound, s.BoundKnown
}

func TestEverySecondHasADelay(t *testing.T) {
	tests := map[string]struct {
		note func(*delays, time.Time)
		want time.Duration
	}{
		"nothing was late":                  {func(*delays, time.Time) {}, unseenDelay},
		"a stamp was late":                  {func(d *delays, at time.Time) { d.note(at, at, 30*time.Millisecond) }, 30*time.Millisecond + unseenDelay},
		"the largest of a second counts":    {func(d *delays, at time.Time) { d.note(at, at, 30*time.Millisecond); d.note(at, at, time.Millisecond) }, 30*time.Millisecond + unseenDelay},
		"a stall counts for all its time":   {func(d *delays, at time.Time) { d.note(at.Add(-3*time.Second), at.Add(3*time.Second), time.Minute) }, time.Minute + unseenDelay},
		"what comes after the second ended": {func(d *delays, at time.Time) { time.Sleep(2 * time.Second); d.note(at, at, time.Second) }, time.Second + unseenDelay},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker := lag.NewTracker(lag.Options{})
				d, ctx := newDelays(tracker), t.Context()
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				tracker.SetLeader(true, time.Now().Add(-300*time.Millisecond)) // The tracker's seconds are not the clock's.
				go d.canary(ctx, clock.RealClock{})
				go d.tell(ctx, clock.RealClock{})
				time.Sleep(10700 * time.Millisecond)
				at := time.Now()
				test.note(d, at)
				time.Sleep(3 * time.Second)
				if got, known := bound(t, tracker, at); got != test.want || !known {
					t.Errorf("bound = %v, %v, want %v, true", got, known, test.want)
				}
			})
		})
	}
}
