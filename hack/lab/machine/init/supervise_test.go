package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

// asInit makes the test's own program the one under test.
const asInit = "LAB_TEST_INIT"

func TestMain(m *testing.M) {
	if spec := os.Getenv(asInit); spec != "" {
		os.Exit(run([]string{"init", spec}))
	}
	os.Exit(m.Run())
}

// longest is how long anything may take; nothing takes a tenth of it on an idle machine.
const longest = time.Minute

// first is a first process, without a machine around it.
type first struct {
	boot.Spec

	dir string
	cmd *exec.Cmd
}

func startFirst(t *testing.T, units ...boot.Unit) *first {
	t.Helper()
	f := &first{dir: t.TempDir()}
	for i := range units {
		units[i].Log = f.path(units[i].Name + ".log")
	}
	f.Spec = boot.Spec{Units: units, Socket: f.path("socket")}
	if err := f.Write(f.path("spec")); err != nil {
		t.Fatal(err)
	}
	f.cmd = exec.Command(os.Args[0])
	f.cmd.Env = append(os.Environ(), asInit+"="+f.path("spec"), "DIR="+f.dir)
	f.cmd.Stderr = os.Stderr
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.cmd.Process.Signal(unix.SIGTERM); err == nil {
			_ = f.cmd.Wait()
		}
	})
	return f
}

func (f *first) path(name string) string { return filepath.Join(f.dir, name) }

func (f *first) lines(name string) []string {
	text, _ := os.ReadFile(f.path(name))
	return strings.Fields(string(text))
}

func (f *first) ask(t *testing.T, request, unit string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	return boot.Ask(ctx, f.Socket, request, unit)
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, longest, true,
		func(context.Context) (bool, error) { return condition(), nil })
	if err != nil {
		t.Fatalf("wait until %s: %v", what, err)
	}
}

func shell(name, script string) boot.Unit {
	return boot.Unit{Name: name, Command: []string{"/bin/sh", "-c", script}}
}

func TestAUnitThatEndsIsStartedAgain(t *testing.T) {
	f := startFirst(t, shell("short", `echo run >> "$DIR/runs"`))
	until(t, "it has run twice", func() bool { return len(f.lines("runs")) >= 2 })
}

func TestAUnitWaitsForTheFilesItNeeds(t *testing.T) {
	needy := shell("needy", `echo run >> "$DIR/runs"; exec sleep 1000`)
	dir := t.TempDir()
	needy.Needs = [][]string{{filepath.Join(dir, "a"), filepath.Join(dir, "b")}, {filepath.Join(dir, "c")}}
	other := shell("other", `echo run >> "$DIR/others"; exec sleep 1000`)
	f := startFirst(t, needy, other)
	until(t, "the other runs", func() bool { return len(f.lines("others")) == 1 })
	if err := os.WriteFile(filepath.Join(dir, "b"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.ask(t, boot.StopUnit, "other"); err != nil { // The file has been seen by then.
		t.Fatal(err)
	}
	if got := f.lines("runs"); len(got) > 0 {
		t.Errorf("it ran before all files were there: %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "c"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "it runs", func() bool { return len(f.lines("runs")) == 1 })
}

func TestAStoppedUnitIsGoneAndStaysSoUntilItIsStarted(t *testing.T) {
	f := startFirst(t, shell("unit", `echo $$ >> "$DIR/pids"; trap 'echo asked >> "$DIR/asked"; exit' TERM; while :; do sleep 0.01; done`))
	until(t, "it runs", func() bool { return len(f.lines("pids")) == 1 })
	if err := f.ask(t, boot.StopUnit, "unit"); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if _, err := os.Stat(filepath.Join("/proc", f.lines("pids")[0])); err == nil {
		t.Error("it was said to be gone, but runs")
	}
	if got := f.lines("asked"); len(got) != 1 {
		t.Errorf("it was asked to end %d times, want once", len(got))
	}
	if err := f.ask(t, boot.StartUnit, "unit"); err != nil {
		t.Fatalf("start: %v", err)
	}
	until(t, "it runs again", func() bool { return len(f.lines("pids")) == 2 })
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	f := startFirst(t, shell("unit", "exec sleep 1000"))
	for _, request := range [][2]string{{boot.StopUnit, "other"}, {"explode", "unit"}, {boot.StopUnit, "unit and more"}} {
		if err := f.ask(t, request[0], request[1]); err == nil {
			t.Errorf("%q was done", request)
		}
	}
}

func TestATermEndsUnitsInOppositeOrder(t *testing.T) {
	script := `trap 'sleep 0.1; echo NAME >> "$DIR/ended"; exit' TERM; echo run >> "$DIR/runs"; while :; do sleep 0.01; done`
	f := startFirst(t, shell("one", strings.ReplaceAll(script, "NAME", "one")), shell("two", strings.ReplaceAll(script, "NAME", "two")))
	until(t, "both run", func() bool { return len(f.lines("runs")) == 2 })
	if err := f.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if got := strings.Join(f.lines("ended"), " "); got != "two one" {
		t.Errorf("units ended in the order %q, want %q", got, "two one")
	}
}
