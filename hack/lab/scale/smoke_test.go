package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
)

// TestASmallClusterIsMeasuredFromEndToEnd runs the real controller, server and rivals.
func TestASmallClusterIsMeasuredFromEndToEnd(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := run{
		Options: Options{
			Operator: build(t, root, filepath.Join(dir, "operator")),
			Lab:      build(t, filepath.Join(root, "hack", "lab"), filepath.Join(dir, "lab")),
			Root:     root, Out: dir, Steady: time.Second, Settle: time.Second, How: Churn{Rate: 500, Lag: 50 * time.Millisecond}, Progress: t.Output(),
		},
		shape: ShapeOf(500), churn: 3 * time.Second, logs: filepath.Join(dir, "logs"),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	p, err := r.point(ctx)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "logs", "controller.log"))
		t.Fatalf("%v\n%s", err, log)
	}
	checkPoint(t, p)
	result := Result{Points: []Point{p}}
	var table bytes.Buffer
	if err = outdir.WriteJSON(dir, "result.json", result); err == nil {
		err = result.print(&table)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
	checkResult(t, filepath.Join(dir, "result.json"))
}

func build(t *testing.T, module, path string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, ".")
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", path, err, out)
	}
	return path
}

func checkPoint(t *testing.T, p Point) {
	t.Helper()
	c := p.Controller
	for what, is := range map[string]bool{
		"peaks of all three":                     min(p.ControllerRSSBytes, p.PlainInformersRSSBytes, p.DefaultCacheRSSBytes) > 10<<20,
		"processor time":                         p.ControllerCores > 0,
		"500 changes a second":                   c.ChangesPerSecond > 250,
		"the Pods' events and two writes":        c.EventsPerSecond > 2*c.ChangesPerSecond,
		"no list while nothing changes":          c.ListsSteady == 0,
		"no list during the churn":               c.ListsChurn == 0 && c.WatchesExpired == 0,
		"one list of each kind by the informers": p.Plain.Lists == 6 && p.Default.Lists == 6,
		"sizes":                                  p.Sizes.PodProtobuf > 0,
	} {
		if !is {
			t.Errorf("want %s, got %+v", what, p)
		}
	}
}

// checkResult holds the file against the fields that its readers need.
func checkResult(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Points  []map[string]any
		Tracker map[string]any
	}
	if err = json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{
		"pods", "services", "controllerRSSBytes", "plainInformersRSSBytes", "defaultCacheRSSBytes", "controllerCores", "p99DelaySeconds",
	} {
		if _, exists := got.Points[0][field]; !exists {
			t.Errorf("point has no %s", field)
		}
	}
	for _, field := range []string{"eventsPerSecond", "bytesPerChange", "allocsPerChange"} {
		if _, exists := got.Tracker[field]; !exists {
			t.Errorf("tracker has no %s", field)
		}
	}
}
