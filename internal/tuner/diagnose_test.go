package tuner

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// cases are worlds whose cause is known, several of each.
func cases() map[v1alpha1.BottleneckType][]world {
	model := Parameters{Base: 20 * time.Millisecond, Capacity: 1500}
	slow := Parameters{Base: 900 * time.Millisecond, Capacity: 1500}
	busy := Parameters{Base: 5 * time.Millisecond, Capacity: 60}
	few := incident(1000, 5*time.Second)
	many := scattered(1, 3000, 700, 20*time.Second)
	return map[v1alpha1.BottleneckType][]world{
		v1alpha1.BottleneckNone: {
			{demand: few, flags: flagsOf(300, 1000, 50, 50), truth: model},
			{demand: incident(1000, 2*time.Minute), flags: v1alpha1.DefaultFlags(), truth: model},
			{demand: incident(0, time.Second), flags: v1alpha1.DefaultFlags(), truth: model},
		},
		v1alpha1.BottleneckNoLeader: {
			{demand: few, flags: v1alpha1.DefaultFlags(), truth: model, leader: Leaderless},
		},
		v1alpha1.BottleneckClientRateLimit: {
			{demand: few, flags: v1alpha1.DefaultFlags(), truth: model},
			{demand: few, flags: flagsOf(20, 30, 50, 50), truth: model},
			{demand: few, flags: flagsOf(50, 100, 5, 5), truth: model},
			{demand: many, flags: v1alpha1.DefaultFlags(), truth: model},
			{demand: few, flags: v1alpha1.DefaultFlags(), truth: model, until: 12 * time.Second},
			{demand: few, flags: v1alpha1.DefaultFlags(), truth: Parameters{Base: 130 * time.Millisecond, Capacity: 1500}},
		},
		v1alpha1.BottleneckWorkers: {
			{demand: few, flags: flagsOf(300, 1000, 2, 2), truth: model},
			{demand: few, flags: flagsOf(500, 1000, 1, 1), truth: model},
			{demand: few, flags: flagsOf(300, 325, 5, 5), truth: Parameters{Base: 60 * time.Millisecond, Capacity: 2000}},
		},
		v1alpha1.BottleneckAPIServer: {
			{demand: few, flags: flagsOf(300, 1000, 5, 5), truth: slow},
			{demand: few, flags: flagsOf(300, 1000, 50, 50), truth: busy},
		},
	}
}

// TestDiagnoseTellsCausesApart is the confusion matrix over the cases, with metrics and without.
func TestDiagnoseTellsCausesApart(t *testing.T) {
	for name, scrape := range map[string]time.Duration{"with metrics": 2 * time.Second, "without metrics": 0} {
		t.Run(name, func(t *testing.T) {
			matrix := make(map[v1alpha1.BottleneckType]map[v1alpha1.BottleneckType]int)
			all := cases()
			for want, worlds := range all {
				matrix[want] = make(map[v1alpha1.BottleneckType]int)
				for i, w := range worlds {
					w.scrape = scrape
					got := Diagnose(w.evidence(), objectiveOf(time.Second))
					matrix[want][got.Type]++
					if got.Type != want {
						t.Errorf("case %d of %s: Diagnose = %s: %s", i, want, got.Type, got.Message)
					}
				}
			}
			t.Log("\n" + table(matrix))
		})
	}
}

func table(matrix map[v1alpha1.BottleneckType]map[v1alpha1.BottleneckType]int) string {
	var out strings.Builder
	causes := slices.Sorted(maps.Keys(matrix))
	fmt.Fprintf(&out, "%-16s", "is \\ said")
	for _, said := range columns(matrix) {
		fmt.Fprintf(&out, "%16s", said)
	}
	for _, is := range causes {
		fmt.Fprintf(&out, "\n%-16s", is)
		for _, said := range columns(matrix) {
			fmt.Fprintf(&out, "%16d", matrix[is][said])
		}
	}
	return out.String()
}

func TestDiagnoseNamesNoFlagWhereNoneIsToBlame(t *testing.T) {
	w := world{demand: incident(1000, time.Minute), flags: flagsOf(300, 1000, 50, 50), scrape: 5 * time.Second}
	w.truth = Parameters{Base: 10 * time.Millisecond, Capacity: 2000}
	e := w.evidence()
	for i := range e.Demand.Changes { // somebody else is slow: a watch, say
		c := &e.Demand.Changes[i]
		c.SliceLag, c.EndpointsLag = c.SliceLag+20*time.Second, c.EndpointsLag+20*time.Second
	}
	e.Lag = summaryOf(e.Demand)
	if got := Diagnose(e, objectiveOf(time.Second)); got.Type != v1alpha1.BottleneckUnknown {
		t.Errorf("Diagnose = %s: %s, want Unknown", got.Type, got.Message)
	}
	e.Signals = nil
	if got := Diagnose(e, objectiveOf(time.Second)); got.Type != v1alpha1.BottleneckUnknown {
		t.Errorf("Diagnose without metrics = %s: %s, want Unknown", got.Type, got.Message)
	}
}

func TestDiagnoseIgnoresARestartBetweenScrapes(t *testing.T) {
	w := cases()[v1alpha1.BottleneckClientRateLimit][0]
	w.scrape = 5 * time.Second
	e := w.evidence()
	for i := range e.Signals {
		e.Signals[i].ProcessStart = e.Signals[i].Time // every scrape another process: nothing can be subtracted
	}
	got := Diagnose(e, objectiveOf(time.Second))
	if got.Type != v1alpha1.BottleneckClientRateLimit || !strings.Contains(got.Message, "no metrics") {
		t.Errorf("Diagnose = %s: %s, want ClientRateLimit by the model alone", got.Type, got.Message)
	}
}

func TestCalibrateFindsTheServersCapacity(t *testing.T) {
	for _, capacity := range []float64{300, 500, 800} {
		w := world{
			demand: incident(1000, time.Duration(650/capacity*float64(time.Second))), flags: v1alpha1.DefaultFlags(),
			truth:  Parameters{Base: 5 * time.Millisecond, Capacity: capacity, PodLatency: time.Duration(20 / capacity * float64(time.Second)), Writers: 32},
			scrape: 5 * time.Second,
		}
		got := Calibrate(w.evidence())
		if got.Capacity < 0.7*capacity || got.Capacity > 1.3*capacity {
			t.Errorf("capacity = %.0f, want %.0f within 30 %%: %s", got.Capacity, capacity, got.Basis)
		}
		if got.Base < 4*time.Millisecond || got.Base > 11*time.Millisecond {
			t.Errorf("base = %v, want about 5ms: %s", got.Base, got.Basis)
		}
	}
}

func TestCalibrateSaysWhatItAssumes(t *testing.T) {
	tests := map[string]struct {
		evidence Evidence
		want     string
	}{
		"nothing was seen": {Evidence{Demand: lag.Demand{Start: start}}, "assumed"},
		"no metrics":       {world{demand: incident(300, time.Minute), flags: v1alpha1.DefaultFlags(), truth: Parameters{Base: time.Millisecond}}.evidence(), "no metrics"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Calibrate(tt.evidence); !strings.Contains(got.Basis, tt.want) || got.Capacity <= 0 || got.Base <= 0 {
				t.Errorf("Calibrate = %+v, want %q in the basis", got, tt.want)
			}
		})
	}
}

// columns are all causes that are or were said, sorted.
func columns(matrix map[v1alpha1.BottleneckType]map[v1alpha1.BottleneckType]int) []v1alpha1.BottleneckType {
	all := slices.Collect(maps.Keys(matrix))
	for _, row := range matrix {
		all = slices.AppendSeq(all, maps.Keys(row))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestAWaitIsCountedBeforeItsRequestIs(t *testing.T) {
	before := Sample{Time: start, ProcessStart: start}
	after := before
	// As two scrapes of a v1.37.2 had it that came within a second of each other.
	after.LimiterWait, after.RequestTime = 3878*time.Millisecond, 3741*time.Millisecond
	if !plausible(before, after) {
		t.Error("waits that are counted before their requests are do not fit together, want them to")
	}
	after.RequestTime /= 3
	if plausible(before, after) {
		t.Error("writes that waited for three times as long as they took fit together, want them not to")
	}
}

func TestAFewRefusedRequestsAreNoCause(t *testing.T) {
	at := func(second, requests, refused int) ServerSample {
		return ServerSample{
			Time: start.Add(time.Duration(second) * time.Second), ProcessStart: start,
			Requests: int64(requests), Refused: int64(refused),
		}
	}
	for name, c := range map[string]struct {
		samples []ServerSample
		want    float64
	}{
		"a watch whose cache is being filled": {[]ServerSample{at(0, 1000, 0), at(5, 1060, 1), at(10, 1120, 2)}, 0},
		"a few of many":                       {[]ServerSample{at(0, 1000, 0), at(5, 1500, 5)}, 0.01},
		"many":                                {[]ServerSample{at(0, 1000, 0), at(5, 1100, 20), at(10, 1200, 21)}, 0.2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pressureOf(c.samples).refused; got != c.want {
				t.Errorf("refused = %v, want %v", got, c.want)
			}
		})
	}
}
