package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/trace"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// incidentRecording is of 150 Services at the default flags, and what measure said of them.
func incidentRecording(t *testing.T) (path string, said report.Measurement) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "incident.trace")
	synctest.Test(t, func(t *testing.T) {
		o := measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99, record: path}
		said = measured(t, o, scenario{services: 150, perLag: 50 * time.Millisecond, late: 3 * time.Millisecond}, renewing())
	})
	return path, said
}

// ran runs the program with no kubeconfig to be found.
func ran(t *testing.T, stdin []byte, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "lost"))
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	var out, progress bytes.Buffer
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(bytes.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&progress)
	err = root.ExecuteContext(t.Context())
	return out.String(), progress.String(), err
}

func replayedDocument(t *testing.T, stdin []byte, args ...string) report.Plan {
	t.Helper()
	stdout, _, err := ran(t, stdin, append([]string{"plan", "-o", "json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var document report.Plan
	if err := json.Unmarshal([]byte(stdout), &document); err != nil {
		t.Fatalf("standard output is not JSON: %v\n%s", err, stdout)
	}
	return document
}

func TestPlanOfATraceSaysWhatMeasureSaid(t *testing.T) {
	path, said := incidentRecording(t)
	got := replayedDocument(t, nil, "--trace", path)
	if diff := cmp.Diff(said.Recommendation, got.Recommendation); diff != "" || !got.Recommendation.Change {
		t.Errorf("the recommendation is another than measure's, or none (-measure +plan):\n%s", diff)
	}
	if diff := cmp.Diff(said.Lag, got.Lag); diff != "" {
		t.Errorf("lag (-measure +plan):\n%s", diff)
	}
	if got.Verdict != said.Verdict || got.Bottleneck.Message != said.Bottleneck.Message || got.Objective != said.Objective {
		t.Errorf("verdict %+v, bottleneck %q, want measure's %+v, %q", got.Verdict, got.Bottleneck.Message, said.Verdict, said.Bottleneck.Message)
	}
	if got.Trace == nil || got.Trace.File != path || got.Step.Kind != "" || len(got.Conditions) != 0 || got.Policy.Name != "" || got.Policy.Mode != "Recommend" {
		t.Errorf("plan = %+v, want a replay without a cluster", got)
	}
	checkCurve(t, got)
}

func TestPlanReadsATraceFromStandardInput(t *testing.T) {
	path, said := incidentRecording(t)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := replayedDocument(t, file, "--trace", "-"); got.Recommendation.Cost != said.Recommendation.Cost {
		t.Errorf("cost %d, want %d", got.Recommendation.Cost, said.Recommendation.Cost)
	}
}

func TestPlanOfATraceForAPolicy(t *testing.T) {
	path, _ := incidentRecording(t)
	got := replayedDocument(t, nil, "--trace", path, "-f", "testdata/policy.yaml")
	policy, err := readPolicy("testdata/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got.Policy.Name != policy.Name || got.Policy.File != "testdata/policy.yaml" {
		t.Errorf("policy = %+v, want the file's", got.Policy)
	}
	maxLag, _ := policy.Spec.WithDefaults().Objective.MaxLag.Value()
	if got.Objective.MaxLagSeconds != maxLag.Seconds() {
		t.Errorf("objective = %+v, want the policy's %v", got.Objective, maxLag)
	}
}

func TestPlanOfATraceForOtherFlags(t *testing.T) {
	path, _ := incidentRecording(t)
	got := replayedDocument(t, nil, "--trace", path, "--current", "kube-api-qps=40")
	if got.Running.Flags[v1alpha1.FlagKubeAPIQPS] != 40 || got.Running.Flags[v1alpha1.FlagKubeAPIBurst] != 30 || !got.Running.Assumed {
		t.Errorf("running = %+v, want 40 and the recorded rest", got.Running)
	}
}

func TestPlanOfATraceRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		want string
	}{
		"a policy's name":        {[]string{"--trace", text, "default"}, "--file"},
		"a length":               {[]string{"--trace", text, "--for", "1m"}, "--for"},
		"a kubeconfig":           {[]string{"--trace", text, "--kubeconfig", "x"}, "--kubeconfig"},
		"a file of another kind": {[]string{"--trace", text}, "it is not a trace"},
		"no file":                {[]string{"--trace", filepath.Join(dir, "lost")}, "lost"},
		"an empty name":          {[]string{"--trace="}, "its name is empty"},
		"a page in no directory": {[]string{"--trace", text, "--html", filepath.Join(dir, "lost", "plan.html")}, "--html: write to the directory"},
		"a page for a directory": {[]string{"--trace", text, "--html", dir}, "is a directory"},
		"a page without a name":  {[]string{"--trace", text, "--html="}, "give the name of a file"},
		"a flag that is not one": {[]string{"--wat"}, "plan --help"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, _, err := ran(t, nil, append([]string{"plan"}, tt.args...)...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("plan = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestPlanWritesAPageWholeOrNotAtAll(t *testing.T) {
	path, _ := incidentRecording(t)
	page := filepath.Join(t.TempDir(), "plan.html")
	for range 2 { // the second time it replaces what is there
		if _, _, err := ran(t, nil, "plan", "--trace", path, "--html", page); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil || !bytes.Contains(text, []byte("</html>")) {
		t.Errorf("the page is %d bytes, %v", len(text), err)
	}
	onlyFile(t, filepath.Dir(page), "plan.html")
	if _, _, err := ran(t, nil, "plan", "--trace", path, "--html", filepath.Join(t.TempDir(), "lost", "plan.html")); err == nil || !strings.Contains(err.Error(), "--html") {
		t.Errorf("plan = %v, want an error that names --html", err)
	}
}

func TestEverySourceHasANameInRecordings(t *testing.T) {
	names := map[string]bool{}
	for _, what := range []source{whoLeads, flagsAtURL, metricsAtURL, serverHealth, kcmPods, whatAgentsReport, whichNodes, namespaceLabels} {
		if name := sourceNames[what]; name == "" || names[name] {
			t.Errorf("%q is named %q", what, name)
		} else {
			names[name] = true
		}
	}
	recorded := trace.Trace{Scope: trace.Scope{Narrow: true, Unread: []string{"Lease", "APIServer"}}, FlagsBefore: v1alpha1.DefaultFlags()}
	text := strings.Join(limitsOf(recorded, v1alpha1.Flags{}).notSeen(recorded.Evidence), "\n")
	for _, want := range []string{"who leads", "API server's health", "the one that was watched", "the flags changed"} {
		if !strings.Contains(text, want) {
			t.Errorf("what was not seen lacks %q:\n%s", want, text)
		}
	}
}

func TestARecordingNamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{tracker: lag.NewTracker(lag.Options{}), narrow: "secret-namespace", unread: unreadable{whoLeads: "secret-error"}}
		s.since, s.until = time.Now(), time.Now()
		s.readings.flagz, s.readings.flagzURL = new(v1alpha1.DefaultFlags()), "https://secret-url"
		s.view.scope = report.Scope{Cluster: "https://secret-cluster", Namespace: "secret-namespace", Service: "secret-service"}
		recorded := s.trace()
		text, err := json.Marshal(recorded)
		if err != nil || strings.Contains(string(text), "secret") {
			t.Errorf("the recording has a name in it (%v):\n%s", err, text)
		}
		if !recorded.Scope.Narrow || len(recorded.Scope.Unread) != 1 {
			t.Errorf("scope = %+v, want that it was narrow and that one source was not read", recorded.Scope)
		}
	})
}

// TestTheExamplesReplay keeps the recordings that the documentation names replayable: a simulated incident that is over,
// and a real kube-controller-manager v1.37.2 at its default flags with two of them, the second of which was still being
// worked off when it ended.
func TestTheExamplesReplay(t *testing.T) {
	tests := map[string]struct {
		change bool
		reason string
	}{
		"simulated.trace": {true, v1alpha1.ReasonObjectiveMissed},
		"real.trace":      {false, v1alpha1.ReasonBacklogDraining},
	}
	examples, err := filepath.Glob(filepath.Join("..", "trace", "testdata", "*.trace"))
	if err != nil || len(examples) != len(tests) {
		t.Fatalf("examples %v, %v, want %d", examples, err, len(tests))
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := replayedDocument(t, nil, "--trace", filepath.Join("..", "trace", "testdata", name))
			if got.Bottleneck.Type != string(v1alpha1.BottleneckClientRateLimit) || len(got.Curve) < 10 {
				t.Errorf("%s and %d settings, want the rate limit and a curve", got.Bottleneck.Type, len(got.Curve))
			}
			if r := got.Recommendation; r.Change != tt.change || r.Reason != tt.reason || len(r.Flags) != 4 || r.AddedCost != r.Cost-got.Running.Cost {
				t.Errorf("recommendation = %+v, want change %t (%s), a setting, and what it adds to %d", r, tt.change, tt.reason, got.Running.Cost)
			}
			checkCurve(t, got)
		})
	}
}

func TestPlanOfATraceWithoutAnObjectiveSaysSo(t *testing.T) {
	recorded, err := readRecording(filepath.Join("..", "trace", "testdata", "simulated.trace"), nil)
	if err != nil {
		t.Fatal(err)
	}
	recorded.Objective = tuner.Objective{}
	var file bytes.Buffer
	if err = trace.Write(&file, recorded); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := ran(t, file.Bytes(), "plan", "--trace", "-")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(stdout), " ")
	for _, want := range []string{"Replayed from standard input", "the default objective, because none was recorded", "C chosen"} {
		if !strings.Contains(words, want) {
			t.Errorf("the plan lacks %q:\n%s", want, stdout)
		}
	}
}
