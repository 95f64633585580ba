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

func TestTheWayIsLongerWhenRenewalsAgree(t *testing.T) {
	const ms = time.Millisecond
	tests := map[string]struct {
		ways []time.Duration // of renewals every two seconds
		want time.Duration
	}{
		"too few":                              {[]time.Duration{4 * ms, 90 * ms}, 0},
		"all alike":                            {[]time.Duration{4 * ms, 4 * ms, 4 * ms, 4 * ms}, 0},
		"one slow write":                       {[]time.Duration{4 * ms, 4 * ms, 90 * ms, 5 * ms}, ms},
		"two of three are slow":                {[]time.Duration{4 * ms, 90 * ms, 5 * ms, 50 * ms}, 46 * ms},
		"clocks that differ":                   {[]time.Duration{-4 * ms, -6 * ms, -6 * ms, -3 * ms}, 0},
		"a way that has been longer for long":  {append([]time.Duration{0}, repeated(61, 50*ms)...), 0},
		"a way that has been longer for a bit": {append([]time.Duration{0}, repeated(30, 50*ms)...), 50 * ms},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var r renewals
			r.add("before", renewal{at: time.Unix(0, 0), after: -time.Minute}) // Another holder's clock is another.
			var got time.Duration
			at := time.Unix(0, 0)
			for _, way := range test.ways {
				at = at.Add(2 * time.Second)
				_, got = r.add("now", renewal{at: at, after: way})
			}
			if got != test.want {
				t.Errorf("add() = %v, want %v", got, test.want)
			}
			if kept := int(keptRenewals/(2*time.Second)) + 1; len(r.latest) > kept {
				t.Errorf("%d renewals are kept, want at most %d", len(r.latest), kept)
			}
		})
	}
}

func repeated(n int, way time.Duration) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = way
	}
	return all
}
