package watch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// bound makes one sample that begins at the given time and returns the error bound that the tracker states for it.
func bound(tracker *lag.Tracker, began time.Time) (late time.Duration, known bool) {
	web := lag.LabelsOf(map[string]string{"app": "web"})
	tracker.SetService(lag.Service{Namespace: "shop", Name: "web", Selector: web}, began)
	tracker.Synced(began)
	tracker.SetPod(lag.Pod{
		Namespace: "shop", Name: "a", UID: lag.UID{1}, Labels: web,
		IPs: [2]lag.IP{lag.ParseIP("10.0.0.1")}, Ready: true, Included: true,
	}, began)
	s := tracker.Summary(lag.Query{Now: time.Now()})
	return s.ErrorBound, s.BoundKnown
}

func TestEverySecondHasADelay(t *testing.T) {
	const ms = time.Millisecond
	tests := map[string]struct {
		note func(*delays, time.Time)
		want time.Duration
	}{
		"nothing was late": {func(*delays, time.Time) {}, 0},
		"a stamp was late": {func(d *delays, at time.Time) { d.stamp(at, 30*ms) }, 30 * ms},
		"the largest of a second counts": {func(d *delays, at time.Time) {
			d.stamp(at, 30*ms)
			d.stamp(at, ms)
		}, 30 * ms},
		"a stall in which nothing was stamped": {func(d *delays, at time.Time) { d.stall(at.Add(-200*ms), at.Add(-180*ms)) }, 0},
		"a stamp in a stall": {func(d *delays, at time.Time) {
			d.stamp(at, 0)
			d.stall(at.Add(-20*ms), at.Add(5*ms))
		}, 25 * ms},
		"a stamp right after a stall": {func(d *delays, at time.Time) {
			d.stall(at.Add(-40*ms), at.Add(-10*ms))
			d.stamp(at, 0)
		}, 30 * ms},
		"a stall of several seconds": {func(d *delays, at time.Time) {
			d.stamp(at, 0)
			d.stall(at.Add(-3*time.Second), at.Add(time.Second))
		}, 4 * time.Second},
		"a longer way": {func(d *delays, at time.Time) { d.path(at.Add(-3*time.Second), at, 40*ms) }, 40 * ms},
		"what is known only after the second": {func(d *delays, at time.Time) {
			time.Sleep(2 * time.Second)
			d.stamp(at, time.Second)
		}, time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker := lag.NewTracker(lag.Options{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				tracker.SetLeader(true, time.Now().Add(-300*ms)) // The tracker's seconds are not the clock's.
				d := newDelays(tracker)
				go d.canary(ctx, clock.RealClock{})
				go d.tell(ctx, clock.RealClock{})
				time.Sleep(10700 * ms)
				at := time.Now()
				test.note(d, at)
				time.Sleep(3 * time.Second)
				if got, known := bound(tracker, at); got != test.want+unseenDelay || !known {
					t.Errorf("bound = %v, %v, want %v, true", got, known, test.want+unseenDelay)
				}
			})
		})
	}
}
