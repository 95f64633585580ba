package accuracy

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParsePressure(t *testing.T) {
	const text = "some avg10=0.00 avg60=0.00 avg300=0.17 total=4321385831\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
	if got, err := parsePressure([]byte(text)); err != nil || got != 4321385831*time.Microsecond {
		t.Errorf("parsePressure() = %s, %v, want 1h12m1.385831s", got, err)
	}
	if _, err := parsePressure([]byte("full total=7\n")); err == nil {
		t.Error("parsePressure() of a text without some = no error")
	}
}

// sample is a change seen by both: the subject stamps its beginning and end late by so much.
type sample struct{ from, lag, beginsLate, endsLate time.Duration }

func seen(windows []float64, bounds []stated, samples ...sample) observations {
	o := observations{began: start(), pressure: windows, phases: make([]string, len(windows)), subject: recording{Stated: bounds}}
	for i, s := range samples {
		truth := at(s.from, s.lag)
		truth.Pod = string(rune('a' + i))
		ours := truth
		ours.From, ours.Lag = truth.From.Add(s.beginsLate), s.lag+s.endsLate-s.beginsLate
		o.subject.Changes = append(o.subject.Changes, ours)
		o.observer.Changes = append(o.observer.Changes, truth)
	}
	o.audit = o.observer.Changes
	return o
}

func TestJudge(t *testing.T) {
	const second, ms = time.Second, time.Millisecond
	within := func(d time.Duration, later ...time.Duration) stated {
		s := stated{Bound: bound{true, d}}
		for _, l := range later {
			s.Later = append(s.Later, bound{true, l})
		}
		return s
	}
	type figs struct {
		Changes, Windows, Within, LeftOut, OnlySubject, OnlyTruth int
		P99, Max, MaxAll                                          float64
	}
	tests := map[string]struct {
		seen observations
		want figs
	}{
		"one change within its bound": {
			seen([]float64{0}, []stated{within(5 * ms)}, sample{second, second, 0, 4 * ms}),
			figs{Changes: 1, Windows: 1, Within: 1, P99: 0.004, Max: 0.004, MaxAll: 0.004},
		},
		"one change beyond its bound": {
			seen([]float64{0}, []stated{within(3 * ms)}, sample{second, second, 0, 4 * ms}),
			figs{Changes: 1, Windows: 1, P99: 0.004, Max: 0.004, MaxAll: 0.004},
		},
		"no bound was stated": {
			seen([]float64{0}, []stated{{}}, sample{second, second, 0, 0}),
			figs{Changes: 1, Windows: 1},
		},
		"a window under pressure is left out of the error and not out of the bound": {
			seen([]float64{0, pressureThreshold + 0.01}, []stated{within(5 * ms), within(5 * ms)}, sample{second, second, 0, ms}, sample{11 * second, second, 0, 9 * ms}),
			figs{Changes: 2, Windows: 2, Within: 1, LeftOut: 1, P99: 0.001, Max: 0.001, MaxAll: 0.009},
		},
		"a window without changes does not count": {
			seen([]float64{0, 0, 0}, []stated{within(5 * ms), {}, {}}, sample{second, second, 0, 0}),
			figs{Changes: 1, Windows: 1, Within: 1},
		},
		"a change that is published later is held to what is stated then": {
			seen([]float64{0, 0}, []stated{within(5*ms, 20*ms), within(5 * ms)}, sample{second, 12 * second, 0, 15 * ms}),
			figs{Changes: 1, Windows: 1, Within: 1, P99: 0.015, Max: 0.015, MaxAll: 0.015},
		},
		"and its age to what was stated at the window's end": {
			seen([]float64{0, 0}, []stated{within(5*ms, 20*ms), within(5 * ms)}, sample{second, 12 * second, 15 * ms, 15 * ms}),
			figs{Changes: 1, Windows: 1},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := judge(test.seen)
			for truth, f := range map[string]figures{"observer": r.figures, "audit": r.Audit} {
				got := figs{
					f.Changes, f.Windows, f.WindowsWithinBound, f.WindowsLeftOut, f.OnlySubject, f.OnlyTruth,
					f.P99ErrorSeconds, f.MaxErrorSeconds, f.MaxErrorAllSeconds,
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", truth, diff)
				}
			}
		})
	}
}

func TestNoBoundCoversAChangeThatOnlyOneSaw(t *testing.T) {
	for name, change := range map[string]func(*observations){
		"the subject":  func(o *observations) { o.observer.Changes = nil },
		"the observer": func(o *observations) { o.subject.Changes = nil },
	} {
		t.Run(name, func(t *testing.T) {
			o := seen([]float64{0}, []stated{{Bound: bound{true, time.Hour}}}, sample{time.Second, time.Second, 0, 0})
			change(&o)
			if r := judge(o); r.Windows != 1 || r.WindowsWithinBound != 0 || r.OnlySubject+r.OnlyTruth != 1 {
				t.Errorf("judge() = %d of %d windows within bound, %d unmatched, want 0 of 1, 1",
					r.WindowsWithinBound, r.Windows, r.OnlySubject+r.OnlyTruth)
			}
		})
	}
}

func TestAMissingBoundIsWorseThanAnyOther(t *testing.T) {
	o := seen([]float64{0, 0, 0}, []stated{{Bound: bound{true, time.Millisecond}}, {Bound: bound{true, time.Millisecond}}, {}},
		sample{time.Second, 0, 0, 0}, sample{11 * time.Second, 0, 0, 0}, sample{21 * time.Second, 0, 0, 0})
	r := judge(o)
	if r.MedianBoundSeconds == nil || *r.MedianBoundSeconds != 0.001 || r.P95BoundSeconds != nil {
		t.Errorf("median and 95th percentile of the bounds = %v, %v, want 0.001 and none", r.MedianBoundSeconds, r.P95BoundSeconds)
	}
}

func TestHistogramKeepsEveryErrorAndItsSign(t *testing.T) {
	errors := []time.Duration{0, 1, -1, time.Millisecond, -time.Millisecond, time.Hour, -time.Hour}
	want := []bucket{
		{-60, -1, 1}, {-0.001, -0.0005, 1}, {-0.0001, 0, 1}, {0, 0.0001, 2}, {0.001, 0.002, 1}, {1, 60, 1},
	}
	if diff := cmp.Diff(want, histogram(errors)); diff != "" {
		t.Errorf("histogram() (-want +got):\n%s", diff)
	}
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	sorted := make([]float64, 100)
	for i := range sorted {
		sorted[i] = float64(i + 1)
	}
	for p, want := range map[float64]float64{0.5: 50, 0.95: 95, 0.99: 99, 1: 100} {
		if got := percentile(sorted, p); got != want {
			t.Errorf("percentile(1..100, %g) = %g, want %g", p, got, want)
		}
	}
	if got := percentile([]float64{math.Inf(1)}, 0.5); !math.IsInf(got, 1) {
		t.Errorf("percentile(infinity) = %g", got)
	}
}
