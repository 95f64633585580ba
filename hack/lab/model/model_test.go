package model

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

func TestThePlanIsLargeEnoughAndFitsItsTime(t *testing.T) {
	p := fullPlan(3)
	if cells := len(p.settings) * len(p.workloads); cells < 36 {
		t.Errorf("%d cells, want 36 or more", cells)
	}
	seen := map[v1alpha1.Flags]bool{}
	for _, f := range p.settings {
		if seen[f] {
			t.Errorf("%s is in the plan twice", f)
		}
		seen[f] = true
	}
	if total := p.total(); total < 20*time.Minute || total > 45*time.Minute {
		t.Errorf("the plan takes %s, want it to take half an hour or so", total)
	}
	if total := quickPlan().total(); total > 3*time.Minute {
		t.Errorf("the quick plan takes %s, want less than 3 min", total)
	}
}

func round(p99 float64) trial.Round {
	return trial.Round{
		Flags: v1alpha1.DefaultFlags(), Workload: "incident", Round: 1,
		Slices: trial.Figures{P50: p99 / 4, P99: p99 / 2}, Endpoints: trial.Figures{P50: p99 / 2, P99: p99},
	}
}

func TestCompare(t *testing.T) {
	tests := map[string]struct {
		observed  []float64
		predicted float64
		want      bool
	}{
		"within 15 % of the median":                     {[]float64{10, 10.1, 9.9}, 11.4, true},
		"more than 15 % off":                            {[]float64{10, 10.1, 9.9}, 11.6, false},
		"as far off as the rounds are apart":            {[]float64{8, 10, 12}, 13.9, true},
		"100 ms off where everything is quick":          {[]float64{0.05, 0.05, 0.05}, 0.149, true},
		"more than 100 ms off where all of it is quick": {[]float64{0.05, 0.05, 0.05}, 0.151, false},
		"one round has no spread":                       {[]float64{2}, 2.5, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var rounds []trial.Round
			for _, v := range tt.observed {
				rounds = append(rounds, round(v))
			}
			p := tuner.Prediction{EndpointSlices: tuner.Spread{P99: trial.Span(tt.predicted)}}
			if c := compare(rounds, p); c.Within != tt.want {
				t.Errorf("observed %v, predicted %v: within %t, want %t (tolerance %v)",
					tt.observed, tt.predicted, c.Within, tt.want, c.ToleranceP99Seconds)
			}
		})
	}
}

// recorded is a recording without a cluster: one change a second under the default flags, each published within 10 ms.
func recorded(f v1alpha1.Flags) trial.Round {
	r := round(0.012)
	r.Flags = f
	r.Evidence = tuner.Evidence{Flags: f, Leader: tuner.Led, Demand: lag.Demand{Start: time.Unix(1e9, 0)}}
	for i := range 100 {
		r.Evidence.Demand.Changes = append(r.Evidence.Demand.Changes, lag.Change{
			At: time.Duration(i) * time.Second, Service: int32(i), SliceClass: lag.Closed, EndpointsClass: lag.Closed,
			SliceLag: 10 * time.Millisecond, EndpointsLag: 10 * time.Millisecond,
		})
	}
	r.Evidence.Now = r.Evidence.Demand.Start.Add(2 * time.Minute)
	return r
}

func TestAReplayNeedsNoControlPlane(t *testing.T) {
	raw, out := t.TempDir(), t.TempDir()
	calibration, cell := recorded(v1alpha1.DefaultFlags()), recorded(stage.Flags(100, 200, 50))
	calibration.Round = 0
	for name, v := range map[string]any{
		calibrationName: calibration.Evidence, calibrationName + "-incident": calibration, "100-200-50-50-incident-1": cell,
	} {
		if err := trial.Write(filepath.Join(raw, name+extension), v); err != nil {
			t.Fatal(err)
		}
	}
	result, err := Run(t.Context(), Options{Replay: raw, Out: out, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if result.Total != 1 || result.Within != 1 {
		t.Errorf("%d of %d cells within, want 1 of 1: %+v", result.Within, result.Total, result.Cells)
	}
	svg, err := os.ReadFile(filepath.Join(out, "prediction.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(svg), "<title>"); n != 1 {
		t.Errorf("%d points in the plot, want 1", n)
	}
}

func TestAReplayWithoutACalibrationSaysWhatIsMissing(t *testing.T) {
	_, err := Run(t.Context(), Options{Replay: t.TempDir(), Out: t.TempDir(), Progress: t.Output()})
	if err == nil || !strings.Contains(err.Error(), calibrationName) {
		t.Errorf("Run = %v, want an error that names the missing file", err)
	}
}
