package show

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// TestDemo plays the demo with fewer Services and holds the operator's figures against the observer's.
func TestDemo(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	operator := filepath.Join(out, "endpoint-sync-operator")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", operator, ".")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	text, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("build the operator: %v\n%s", err, text)
	}
	err = Demo(t.Context(), Options{
		Operator: operator, Config: filepath.Join(root, "config"), Out: out, Services: 600, Progress: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	var result demoResult
	if text, err = os.ReadFile(filepath.Join(out, "result.json")); err != nil {
		t.Fatal(err)
	}
	if err = json.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	if result.KCMRestarts != 1 || result.Bottleneck != string(v1alpha1.BottleneckClientRateLimit) || len(result.Phases) != 2 {
		t.Fatalf("%d restarts, bottleneck %s, %d phases; want 1, ClientRateLimit, 2:\n%s",
			result.KCMRestarts, result.Bottleneck, len(result.Phases), text)
	}
	for _, p := range result.Phases {
		agree(t, p.Name+", EndpointSlices", p.EndpointSlice, p.Observer.EndpointSlice)
		agree(t, p.Name+", Endpoints", p.Endpoints, p.Observer.Endpoints)
	}
	before, after := result.Phases[0].Observer.EndpointSlice, result.Phases[1].Observer.EndpointSlice
	if after.P99Seconds >= before.P99Seconds/2 {
		t.Errorf("p99 %.2f s before and %.2f s after: the change did not help", before.P99Seconds, after.P99Seconds)
	}
}

// agree checks the operator's own figures: within 5 % or 50 ms of the observer's, whichever is larger.
func agree(t *testing.T, what string, own, observed lagFigures) {
	t.Helper()
	if own.Changes+own.Apart != observed.Changes {
		t.Errorf("%s: the operator counted %d changes and %d apart, the observer %d", what, own.Changes, own.Apart, observed.Changes)
	}
	if own.Apart*2 > observed.Changes { // A watch that broke, or a leader that was lost, on a machine that has other things to do.
		t.Errorf("%s: the operator keeps %d of %d changes out of its figures, want it to rest on most", what, own.Apart, observed.Changes)
	}
	for name, pair := range map[string][2]float64{
		"p50": {own.P50Seconds, observed.P50Seconds}, "p99": {own.P99Seconds, observed.P99Seconds},
	} {
		if allowed := max(0.05*pair[1], 0.05); math.Abs(pair[0]-pair[1]) > allowed {
			t.Errorf("%s: %s is %.3f s by the operator and %.3f s by the observer, want within %.3f s", what, name, pair[0], pair[1], allowed)
		}
	}
}
