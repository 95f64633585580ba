package sweep

import (
	"slices"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

func TestTheGridGoesFromCheapToDear(t *testing.T) {
	g := grid()
	if len(g) != 90 {
		t.Errorf("%d settings, want 5 x 6 x 3", len(g))
	}
	if !slices.IsSortedFunc(g, func(a, b v1alpha1.Flags) int { return int(tuner.Cost(a) - tuner.Cost(b)) }) {
		t.Error("the grid is not in the order of cost")
	}
}

func TestTokenBound(t *testing.T) {
	tests := map[string]struct {
		services int
		flags    v1alpha1.Flags
		want     time.Duration
	}{
		// (0.99·1000 − 30)/20 − 1.1·0.99·5 − 0.25 s; 43 s were measured.
		"the incident at the defaults":          {1000, v1alpha1.DefaultFlags(), 42305 * time.Millisecond},
		"more workers bring no tokens":          {1000, stage.Flags(20, 30, 50), 42305 * time.Millisecond},
		"a burst for everything leaves nothing": {400, stage.Flags(100, 396, 5), -2428 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tokenBound(trial.Incident(tt.services), tt.flags); (got - tt.want).Abs() > time.Millisecond {
				t.Errorf("tokenBound = %s, want %s", got, tt.want)
			}
		})
	}
}

func rounds(p99 ...float64) measured {
	var m measured
	for _, v := range p99 {
		m.rounds = append(m.rounds, trial.Round{Slices: trial.Figures{P99: v}})
	}
	return m
}

func TestSettles(t *testing.T) {
	tests := map[string]struct {
		m    measured
		want bool
	}{
		"nothing was measured":           {rounds(), false},
		"one round far above":            {rounds(2.6), true},
		"one round far below":            {rounds(1.5), true},
		"one round near the objective":   {rounds(1.9), false},
		"as many rounds as there may be": {rounds(1.9, 2.1, 2), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.m.settles(2*time.Second, 3); got != tt.want {
				t.Errorf("settles = %t, want %t", got, tt.want)
			}
		})
	}
}

func TestResultConcludes(t *testing.T) {
	r := Result{Objectives: []Objective{
		{Restarts: 1, CostRatio: 0.9}, {Restarts: 2, CostRatio: 1.2}, {Restarts: 1},
	}}
	r.conclude()
	want := Result{Objectives: r.Objectives, MedianRestarts: 1, MaxRestarts: 2, MaxCostRatio: 1.2}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(Objective{})); diff != "" {
		t.Errorf("conclude (-want +got):\n%s", diff)
	}
}

func TestMedianOfTwoIsTheWorse(t *testing.T) {
	if got := rounds(1, 3).median(); got != 3 {
		t.Errorf("median = %v, want 3", got)
	}
}
