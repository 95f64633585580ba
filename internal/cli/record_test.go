package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/trace"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// recorded runs measure --record over a scenario until length, or until ctx ends.
func recorded(ctx context.Context, t *testing.T, o measureOptions, play scenario) (stderr string, err error) {
	t.Helper()
	play.tracker = lag.NewTracker(lag.Options{})
	s := &session{client: fakeClient(t, renewing(), kcmPod("cp-1")), tracker: play.tracker, clock: clock.RealClock{}, feed: play}
	c, _, progress := testConsole(report.FormatJSON)
	err = o.measure(ctx, s, "https://test.example", c)
	if coded := (*exitError)(nil); errors.As(err, &coded) && coded.ExitStatus() == statusObjectiveMissed {
		err = nil
	}
	return progress.String(), err
}

func readTrace(t *testing.T, path string) trace.Trace {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := trace.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// onlyFile checks that nothing else is left in a directory.
func onlyFile(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("the directory has %q, want %q", names, want)
	}
}

func TestMeasureRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "incident.trace")
		o := measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99, record: path}
		stderr, err := recorded(t.Context(), t, o, scenario{services: 400, perLag: 50 * time.Millisecond})
		if err != nil || !strings.Contains(stderr, "plan --trace "+path) {
			t.Errorf("measure = %v, with %q on standard error, want how to replay it", err, stderr)
		}
		got := readTrace(t, path)
		if n := len(got.Evidence.Demand.Changes); n != 400 || got.Evidence.Leader != tuner.Led ||
			got.Objective.MaxLag != 2*time.Second || got.FlagsFrom != trace.FromPod || got.Assumed || got.Scope.Selected {
			t.Errorf("%d changes, leader %v, objective %+v, flags from %q, want 400 and what the session saw",
				n, got.Evidence.Leader, got.Objective, got.FlagsFrom)
		}
		onlyFile(t, filepath.Dir(path), "incident.trace")
	})
}

func TestMeasureRecordsUntilItIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "incident.trace")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		o := measureOptions{maxLag: 2 * time.Second, percentile: 99, record: path}
		if _, err := recorded(ctx, t, o, scenario{services: 800, perLag: 50 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		got := readTrace(t, path)
		if row := got.Evidence.Lag.Stats[0]; row.Open < 300 || row.Closed < 100 {
			t.Errorf("lag = %+v, want what was published and what was open at the interrupt", row)
		}
	})
}

func TestMeasureRecordsNothingWhenItNeverBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "incident.trace")
		o := measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99, record: path}
		if _, err := recorded(t.Context(), t, o, scenario{err: errors.New("forbidden")}); err == nil {
			t.Error("measure = nil, want the error of the watches")
		}
		onlyFile(t, filepath.Dir(path))
	})
}

func TestMeasureKeepsAFileThatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "incident.trace")
		if err := os.WriteFile(path, []byte("yesterday"), 0o600); err != nil {
			t.Fatal(err)
		}
		o := measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99, record: path}
		before := time.Now()
		_, err := recorded(t.Context(), t, o, scenario{services: 400, perLag: time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), "--force") || time.Since(before) != 0 {
			t.Errorf("measure = %v after %v, want a refusal at once that names --force", err, time.Since(before))
		}
		if text, _ := os.ReadFile(path); string(text) != "yesterday" {
			t.Errorf("the file is %q now", text)
		}
		o.force = true
		if _, err := recorded(t.Context(), t, o, scenario{services: 400, perLag: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		if n := len(readTrace(t, path).Evidence.Demand.Changes); n != 400 {
			t.Errorf("%d changes, want 400", n)
		}
		onlyFile(t, filepath.Dir(path), "incident.trace")
	})
}

func TestMeasureSaysAtOnceThatItCannotRecord(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"no such directory": filepath.Join(dir, "lost", "x.trace"), "a directory": dir} {
		o := measureOptions{record: path, force: true}
		if _, err := o.recording(); err == nil || !strings.Contains(err.Error(), "--record") {
			t.Errorf("%s: recording = %v, want an error that names --record", name, err)
		}
	}
	onlyFile(t, dir)
}

func TestARecordingIsNotLostToAFileThatCameMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "incident.trace")
	r, err := (&measureOptions{record: path}).recording()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept := r.temp.Name()
	if err := r.save(trace.Trace{Tool: "test"}); err == nil || !strings.Contains(err.Error(), kept) {
		t.Fatalf("save = %v, want an error that says where the trace is", err)
	}
	if got := readTrace(t, kept); got.Tool != "test" {
		t.Errorf("%s has %+v", kept, got)
	}
}
