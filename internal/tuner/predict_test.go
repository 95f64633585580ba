package tuner

import (
	"slices"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func TestCurve(t *testing.T) {
	w := clusters()["a fast API server"]
	in := w.inputs(objectiveOf(2*time.Second), boundsTo(300, 1000, 50))
	points := Curve(in, Decide(in))
	if len(points) == 0 || points[0].Flags.KubeAPIQPS != 5 || points[len(points)-1].Flags.KubeAPIQPS != 300 {
		t.Fatalf("Curve = %d points, want from QPS 5 to 300", len(points))
	}
	running := Cost(in.Evidence.Flags)
	for i, p := range points {
		if p.Cost != Cost(p.Flags) || p.Added != p.Cost-running || p.Worst <= 0 {
			t.Errorf("point %+v, want its cost %d, %d of that added, and a lag", p, Cost(p.Flags), Cost(p.Flags)-running)
		}
		if i > 0 && p.Flags.KubeAPIQPS < points[i-1].Flags.KubeAPIQPS {
			t.Errorf("point %d is not in order of QPS", i)
		}
		if p.Flags.KubeAPIBurst > refillSeconds*p.Flags.KubeAPIQPS {
			t.Errorf("%v: a bucket that is never full again", p.Flags)
		}
	}
	if got := Curve(Inputs{}, Decision{}); got != nil {
		t.Errorf("Curve without flags = %v, want none", got)
	}
	in.Evidence.Demand.Changes = nil
	if got := Curve(in, Decision{}); got != nil {
		t.Errorf("Curve without changes = %v, want none", got)
	}
}

// marked returns the points that a mark is on.
func marked(points []Point, mark func(Point) bool) []Point {
	return slices.DeleteFunc(slices.Clone(points), func(p Point) bool { return !mark(p) })
}

func TestTheCurveMarksWhatWasDecided(t *testing.T) {
	qpsOnly := v1alpha1.Bounds{KubeAPIQPS: v1alpha1.QPSBound{Min: 20, Max: 203}}
	tests := map[string]struct {
		maxLag time.Duration
		bounds v1alpha1.Bounds
		change func(*Inputs)
		act    bool
		reason string
		flags  bool
	}{
		"a setting that meets the objective": {2 * time.Second, boundsTo(300, 1000, 50), nil, true, v1alpha1.ReasonObjectiveMissed, true},
		"the best that the bounds allow":     {2 * time.Second, boundsTo(47, 60, 20), nil, true, v1alpha1.ReasonBoundReached, true},
		"a bound on one flag only":           {6 * time.Second, qpsOnly, nil, true, v1alpha1.ReasonObjectiveMissed, true},
		"a QPS that is no step of the grid":  {time.Second, boundsTo(173, 1000, 50), nil, true, v1alpha1.ReasonObjectiveMissed, true},
		"no bound, no setting":               {2 * time.Second, v1alpha1.Bounds{}, nil, false, v1alpha1.ReasonNoCheaperSetting, false},
		"the objective is met":               {5 * time.Minute, boundsTo(300, 1000, 50), nil, false, v1alpha1.ReasonObjectiveMet, false},
		"a setting that was rolled back": {2 * time.Second, boundsTo(300, 1000, 50), func(in *Inputs) {
			in.Failed = []v1alpha1.Flags{Decide(*in).Flags}
		}, false, v1alpha1.ReasonSettingFailedBefore, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := clusters()["a fast API server"].inputs(objectiveOf(tt.maxLag), tt.bounds)
			if tt.change != nil {
				tt.change(&in)
			}
			d := Decide(in)
			if d.Act != tt.act || d.Reason != tt.reason || (d.Flags != v1alpha1.Flags{}) != tt.flags {
				t.Fatalf("%+v is not the case in question", d)
			}
			checkMarks(t, in, d, Curve(in, d))
		})
	}
}

func checkMarks(t *testing.T, in Inputs, d Decision, points []Point) {
	t.Helper()
	chosen := marked(points, func(p Point) bool { return p.Chosen })
	inView := marked(points, func(p Point) bool { return p.InView })
	decided := slices.Concat(chosen, inView)
	if len(chosen) > 0 && !d.Act || len(inView) > 0 && d.Act || len(decided) > 1 || len(decided) == 0 && d.Flags != (v1alpha1.Flags{}) {
		t.Fatalf("%d chosen and %d in view for %+v", len(chosen), len(inView), d)
	}
	if len(decided) == 1 {
		if got := decided[0]; got.Flags != d.Flags.Or(in.Evidence.Flags) || got.Cost != d.Cost || got.Worst != d.PredictedLag {
			t.Errorf("the marked point is %+v, want the flags, cost and lag of %+v", got, d)
		}
	}
	current := marked(points, func(p Point) bool { return p.Current })
	if len(current) != 1 || current[0].Flags != in.Evidence.Flags || current[0].Added != 0 ||
		d.CurrentLag != 0 && current[0].Worst != d.CurrentLag {
		t.Errorf("the running flags are %+v, want once, at no added cost, with the lag of %+v", current, d)
	}
	uncapped := marked(points, func(p Point) bool { return p.Uncapped })
	capped := d.Uncapped != (v1alpha1.Flags{}) && (len(decided) == 0 || d.Uncapped != decided[0].Flags)
	if capped != (len(uncapped) == 1) || capped && uncapped[0].Flags != d.Uncapped {
		t.Errorf("without bounds: %+v, want %v", uncapped, d.Uncapped)
	}
	for i, p := range points {
		if slices.ContainsFunc(points[:i], func(o Point) bool { return o.Flags == p.Flags }) {
			t.Errorf("%v is there twice", p.Flags)
		}
	}
}
