package report

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

var start = time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC)

// stat is one row with a backlog of open changes when open is above zero.
func stat(r lag.Resource, d lag.Direction, changes, open int) lag.Stat {
	s := lag.Stat{
		Resource: r, Direction: d, Changes: changes + 3, Closed: changes - open, Open: open, Startup: 1, HandOver: 2,
		P50: lag.Quantile{Value: 20500 * time.Millisecond}, P90: lag.Quantile{Value: 39 * time.Second},
		P99: lag.Quantile{Value: 42123 * time.Millisecond}, Max: lag.Quantile{Value: 43 * time.Second},
		WrongEndpointSeconds: 20512.5, Episodes: 1, OldestStartup: 12 * time.Second,
	}
	if changes > 0 {
		s.P999 = s.Max
	}
	if open > 0 {
		s.P99.LowerBound, s.Max.LowerBound, s.OldestOpen = true, true, 43*time.Second
		s.P999, s.Startup, s.StartupOpen, s.Gap, s.Changes, s.Marked = s.Max, 7, 4, 2, s.Changes+8, 3
	}
	return s
}

// summary has something of everything that a summary can have.
func summary() lag.Summary {
	return lag.Summary{
		From: start, To: start.Add(time.Minute),
		Stats: []lag.Stat{
			stat(lag.ResourceEndpointSlice, lag.DirectionAny, 1000, 0),
			stat(lag.ResourceEndpointSlice, lag.DirectionRemoval, 1000, 0),
			{Resource: lag.ResourceEndpointSlice, Direction: lag.DirectionAddition},
			stat(lag.ResourceEndpoints, lag.DirectionAny, 1000, 25),
		},
		HandOver:     []lag.Stat{{Resource: lag.ResourceEndpointSlice, Direction: lag.DirectionAny, Changes: 2, Closed: 2, Max: lag.Quantile{Value: 33 * time.Second}}},
		AfterRestart: []lag.Stat{{Resource: lag.ResourceEndpointSlice, Direction: lag.DirectionAny}},
		Removal:      lag.Quantile{Value: 42600 * time.Millisecond}, Removals: 1002,
		ErrorBound: 3200 * time.Microsecond, BoundKnown: true,
		Blind: []lag.Blindness{
			{Kind: lag.KindSlice, From: start.Add(10 * time.Second), To: start.Add(12500 * time.Millisecond)},
			{Kind: lag.KindPod, From: start.Add(55 * time.Second)},
		},
		Worst: []lag.ServiceStat{
			{Namespace: "shop", Name: "cart", Changes: 12, Open: 2, Max: lag.Quantile{Value: 43 * time.Second, LowerBound: true}, WrongEndpointSeconds: 512.25},
			{Namespace: "shop", Name: "old", WrongEndpointSeconds: 12},
		},
	}
}

// incident is a fixed measurement of 1,000 Services at the default flags.
func incident() Basis {
	running := v1alpha1.DefaultFlags()
	demand := lag.Demand{Start: start}
	for i := range 100 {
		at := time.Duration(i) * 50 * time.Millisecond
		demand.Changes = append(demand.Changes, lag.Change{
			At: at, Service: int32(i), Direction: lag.DirectionRemoval,
			SliceClass: lag.Closed, SliceLag: at * 8, EndpointsClass: lag.Open, EndpointsLag: at * 6,
		})
	}
	return Basis{
		Scope:     Scope{Cluster: "https://10.0.0.1:6443"},
		Objective: tuner.Objective{Percentile: 0.99, MaxLag: 2 * time.Second, MinSamples: 300},
		Evidence: tuner.Evidence{
			Now: start.Add(time.Minute), Flags: running, Leader: tuner.Led, Demand: demand,
			Lag: summary(),
		},
		Verdict: tuner.Judgement{
			Outcome: tuner.Missed, Row: stat(lag.ResourceEndpoints, lag.DirectionRemoval, 1000, 25),
			Message: "Endpoints Removal: p99 of 1000 changes is >= 42.1s, objective 2s",
		},
		Bottleneck: tuner.Bottleneck{
			Type:    v1alpha1.BottleneckClientRateLimit,
			Message: "of 2000 writes, 97 % of the time went into waiting for tokens, 4ms per write into the API server",
		},
		Decision: tuner.Decision{
			Act:        true,
			Flags:      v1alpha1.Flags{KubeAPIQPS: 120, KubeAPIBurst: 400, ConcurrentEndpointSyncs: 20, ConcurrentServiceEndpointSyncs: 20},
			Uncapped:   v1alpha1.Flags{KubeAPIQPS: 120, KubeAPIBurst: 700, ConcurrentEndpointSyncs: 20, ConcurrentServiceEndpointSyncs: 20},
			CurrentLag: 43 * time.Second, PredictedLag: 1800 * time.Millisecond, Cost: 469000, CurrentCost: 54350,
			Reason: v1alpha1.ReasonObjectiveMissed, Message: "predicted 1.8s instead of 43s (objective 2s)",
		},
		Source:  "the command of Pod kube-system/kube-controller-manager-cp-1",
		NotSeen: []string{"kube-controller-manager's own metrics (give --kcm-url where it can be reached): the cause is judged from the changes alone"},
	}
}

func samplePlan() *Plan {
	b := incident()
	yes := true
	point := func(f v1alpha1.Flags, p99 time.Duration) tuner.Point {
		return tuner.Point{
			Flags: f, Worst: p99, Cost: tuner.Cost(f), Added: tuner.Cost(f) - tuner.Cost(v1alpha1.DefaultFlags()),
			Prediction: tuner.Prediction{EndpointSlices: tuner.Spread{P50: p99 / 2, P99: p99}, Endpoints: tuner.Spread{P50: p99 / 2, P99: p99}},
		}
	}
	flags := func(qps, burst int32) v1alpha1.Flags {
		return v1alpha1.Flags{KubeAPIQPS: qps, KubeAPIBurst: burst, ConcurrentEndpointSyncs: 20, ConcurrentServiceEndpointSyncs: 20}
	}
	var points []tuner.Point
	for qps := int32(5); qps <= 300; qps += 5 {
		switch qps {
		case 20:
			now := point(v1alpha1.DefaultFlags(), 43*time.Second)
			now.Current = true
			points = append(points, now)
		case 120:
			chosen, uncapped := point(flags(qps, 400), 1800*time.Millisecond), point(flags(qps, 700), 1600*time.Millisecond)
			chosen.Chosen, uncapped.Uncapped = true, true
			points = append(points, chosen, uncapped)
			continue
		}
		points = append(points, point(flags(qps, 30), time.Duration(860/qps)*time.Second))
	}
	return &Plan{
		Policy:     PolicyRef{Name: "default", Mode: "Enforce", InCharge: "default"},
		Assessment: Assess(b),
		Conditions: Conditions([]metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRolloutStarted, Message: "starting on node cp-1 (1 of 1 left)"},
		}),
		Nodes: Nodes([]v1alpha1.EndpointSyncNode{{
			ObjectMeta: metav1.ObjectMeta{Name: "cp-1"},
			Status:     v1alpha1.EndpointSyncNodeStatus{Healthy: &yes, Leader: &yes, Running: v1alpha1.DefaultFlags()},
		}}),
		Step: Step{
			Kind: "Start", Node: "cp-1", Revision: 1, Reason: v1alpha1.ReasonRolloutStarted, Message: "starting on node cp-1 (1 of 1 left)",
			Flags: FlagsOf(b.Decision.Flags), Restarts: 1, HandOver: "about 31 to 33 s without an acting kube-controller-manager",
		},
		Curve: Curve(points),
	}
}

func TestDocumentsAsTextAndJSON(t *testing.T) {
	unremarkable := Basis{
		Objective: incident().Objective, Evidence: tuner.Evidence{Flags: v1alpha1.DefaultFlags()},
		Decision: tuner.Decision{Reason: v1alpha1.ReasonTooFewSamples, Message: "0 changes seen, 300 needed"}, Source: "assumed", Assumed: true,
	}
	tests := map[string]struct {
		document Document
		format   Format
	}{
		"measurement.txt":  {&Measurement{Assess(incident())}, FormatTable},
		"measurement.json": {&Measurement{Assess(incident())}, FormatJSON},
		"measurement.yaml": {&Measurement{Assess(incident())}, FormatYAML},
		"progress.txt":     {&Progress{Elapsed: 12400 * time.Millisecond, Total: time.Minute, Lag: summary(), Cause: incident().Bottleneck}, FormatTable},
		"nothing.txt":      {&Measurement{Assess(unremarkable)}, FormatTable},
		"nothing.json":     {&Measurement{Assess(unremarkable)}, FormatJSON},
		"plan.txt":         {samplePlan(), FormatTable},
		"plan.json":        {samplePlan(), FormatJSON},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := Print(&out, tt.document, tt.format, Style{Width: 100}); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

func TestAPlanThatHoldsSaysThatNothingIsChosen(t *testing.T) {
	tests := map[string]struct {
		change func(*Plan)
		want   []string
	}{
		"a setting in view": {func(d *Plan) {
			for i := range d.Curve {
				d.Curve[i].InView, d.Curve[i].Chosen = d.Curve[i].Chosen, false
			}
		}, []string{"None is chosen (BacklogDraining); the setting in view is marked.", "V in view"}},
		"no setting": {func(d *Plan) {
			d.Recommendation.Flags, d.Recommendation.Uncapped = nil, nil
			for i := range d.Curve {
				d.Curve[i].Chosen, d.Curve[i].Uncapped = false, false
			}
		}, []string{"None is chosen (BacklogDraining).", "N now"}},
		"no bounds": {func(d *Plan) {
			d.Recommendation.Flags = nil
			for i := range d.Curve {
				d.Curve[i].Chosen = false
			}
		}, []string{"No flag has a bound", "WITHOUT BOUNDS", "U no bounds"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := samplePlan()
			d.Recommendation.Change, d.Recommendation.Reason = false, v1alpha1.ReasonBacklogDraining
			tt.change(d)
			var text bytes.Buffer
			if err := d.Text(&text, Style{Width: 100}); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("the text lacks %q:\n%s", want, text.String())
				}
			}
			if page := pageOf(t, d); strings.Contains(text.String(), "C chosen") || strings.Contains(page, "chosen: ") || !strings.Contains(page, "None is chosen") {
				t.Errorf("text or page say that a setting is chosen:\n%s", text.String())
			}
		})
	}
}

func TestTextWithoutColorHasNoEscapes(t *testing.T) {
	var plain, painted bytes.Buffer
	for _, d := range []Document{&Measurement{Assess(incident())}, samplePlan()} {
		if err := d.Text(&plain, Style{}); err != nil {
			t.Fatal(err)
		}
		if err := d.Text(&painted, Style{Color: true}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(plain.String(), "\x1b") {
		t.Errorf("plain text has escape codes: %q", plain.String())
	}
	if !strings.Contains(painted.String(), "\x1b[31mMissed\x1b[0m") {
		t.Error("the verdict is not painted where colours are welcome")
	}
}

func TestMet(t *testing.T) {
	for outcome, want := range map[string]bool{OutcomeMet: true, OutcomeInconclusive: true, OutcomeMissed: false} {
		m := Measurement{Assessment{Verdict: Verdict{Outcome: outcome}}}
		if got := m.Met(); got != want {
			t.Errorf("Met() with outcome %s = %t, want %t", outcome, got, want)
		}
	}
}

func TestTableAlignsNumbersToTheRight(t *testing.T) {
	var out bytes.Buffer
	err := Table(&out, []string{"NAME", "LAG", "NOTE"}, [][]string{
		{"a", "1.50s", "first"}, {"longer", "\x1b[31m≥42.1s\x1b[0m"}, {"b", "-", "x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "NAME       LAG  NOTE\na        1.50s  first\nlonger  \x1b[31m≥42.1s\x1b[0m\nb            -  x\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("Table (-want +got):\n%s", diff)
	}
}

func TestSeconds(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0s", 0.0004: "0ms", 0.0123: "12ms", 0.9994: "999ms", 0.9996: "1.00s", 1.234: "1.23s", 9.99: "9.99s", 9.996: "10.0s",
		42.123: "42.1s", 59.96: "1m0s", 125.4: "2m5s", -1: "-", math.NaN(): "-", math.Inf(1): "-",
	} {
		if got := Seconds(v); got != want {
			t.Errorf("Seconds(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 54350: "54,350", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestCleanTakesControlOfTheTerminalAway(t *testing.T) {
	if got, want := Clean("a\x1b[2Jb\nc\u202ed\x00\u009b1m"), "a[2Jb cd1m"; got != want {
		t.Errorf("Clean = %q, want %q", got, want)
	}
}

func TestLagPlotWithoutPointsIsEmpty(t *testing.T) {
	var out bytes.Buffer
	if err := LagPlot(&out, []Series{{Name: "nothing"}}, PlotOptions{Caption: "Lag"}); err != nil || out.Len() > 0 {
		t.Errorf("LagPlot = %q, %v, want nothing", out.String(), err)
	}
}

func TestLagPlotOfOnePointAndOfEqualPoints(t *testing.T) {
	for name, points := range map[string][]Point{"one": {{3, 1}}, "equal": {{3, 0}, {3, 0}}, "no lag": {{0, 0}, {9, 0}}} {
		var out bytes.Buffer
		if err := LagPlot(&out, []Series{{Name: "a", Points: points}}, PlotOptions{Style: Style{Width: 40}}); err != nil || !strings.Contains(out.String(), "* a") {
			t.Errorf("%s: LagPlot = %q, %v, want a plot", name, out.String(), err)
		}
	}
}

func TestLiveRedrawsOnATerminalOnly(t *testing.T) {
	var file, terminal bytes.Buffer
	for _, l := range []*Live{NewLive(&file, Style{}), NewLive(&terminal, Style{Terminal: true, Width: 8})} {
		for _, text := range []string{"one\ntwo\n", "\x1b[31m0123456789\x1b[0m"} {
			if err := l.Update(text); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Clear(); err != nil {
			t.Fatal(err)
		}
	}
	if want := "one\ntwo\n\x1b[31m0123456789\x1b[0m\n"; file.String() != want {
		t.Errorf("to a file: %q, want %q", file.String(), want)
	}
	want := "one\ntwo\n\x1b[2A\r\x1b[J\x1b[31m01234567\x1b[0m\n\x1b[1A\r\x1b[J"
	if terminal.String() != want {
		t.Errorf("to a terminal: %q, want %q", terminal.String(), want)
	}
}

func TestDetectIsPlainForAFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := Detect(f, func(string) string { return "" }); got != (Style{}) {
		t.Errorf("Detect = %+v, want plain", got)
	}
}

func TestWriteErrorsAreReported(t *testing.T) {
	for _, f := range []Format{FormatTable, FormatJSON, FormatYAML} {
		if err := Print(broken{}, samplePlan(), f, Style{}); !errors.Is(err, errBroken) {
			t.Errorf("Print as %s = %v, want %v", f, err, errBroken)
		}
	}
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestStatusLagKeepsLowerBounds(t *testing.T) {
	rows := StatusLag([]v1alpha1.Lag{{Resource: "Endpoints", Direction: "Removal", Changes: new(int64(10)), Open: new(int64(4)), P50: "1.5s", P99: ">=42s"}})
	want := []Lag{{
		Resource: "Endpoints", Direction: "Removal", Changes: 10, Closed: 6, Open: 4,
		P50Seconds: new(1.5), P99Seconds: new(42.0), P99LowerBound: true,
	}}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("StatusLag (-want +got):\n%s", diff)
	}
}

func TestParseFormat(t *testing.T) {
	for _, name := range []string{"table", "json", "yaml"} {
		if f, err := ParseFormat(name); err != nil || string(f) != name {
			t.Errorf("ParseFormat(%q) = %q, %v", name, f, err)
		}
	}
	if _, err := ParseFormat("wide"); err == nil || !strings.Contains(err.Error(), `"wide"`) {
		t.Errorf("ParseFormat(wide) = %v, want an error that names it", err)
	}
}
