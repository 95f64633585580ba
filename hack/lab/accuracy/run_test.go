package accuracy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// watcherRole, given in the environment, makes the test binary a watching process.
const watcherRole = "LAB_ACCURACY_WATCHER"

func TestMain(m *testing.M) {
	role := os.Getenv(watcherRole)
	if role == "" {
		os.Exit(m.Run())
	}
	err := Watch(context.Background(), WatchOptions{
		Role: Role(role), Kubeconfig: os.Args[1], Out: os.Args[2], Commands: os.Stdin, Ready: os.Stdout,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestRunOnARealControlPlane makes a run as small as can be. On a machine that does other things too it says nothing
// about the size of the errors, but that all three tell of the same changes.
func TestRunOnARealControlPlane(t *testing.T) {
	r, err := Run(t.Context(), Options{
		Out: t.TempDir(), Services: 20, SteadyServices: 50, PacedBursts: 1, Calm: 6 * time.Second, Progress: t.Output(),
		Watcher: func(ctx context.Context, o WatchOptions) *exec.Cmd {
			cmd := exec.CommandContext(ctx, os.Args[0], o.Kubeconfig, o.Out)
			cmd.Env = append(os.Environ(), watcherRole+"="+string(o.Role))
			return cmd
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for truth, f := range map[string]figures{"observer": r.figures, "audit log": r.Audit} {
		if f.Changes < 2*20 || f.Lags != 2*f.Changes || f.Disputed+f.OnlySubject+f.OnlyTruth != 0 {
			t.Errorf("against the %s: %d changes with %d lags, %d disputed, %d seen by the subject only, %d by the other only; want 40 or more, twice as many, and no disagreement",
				truth, f.Changes, f.Lags, f.Disputed, f.OnlySubject, f.OnlyTruth)
		}
		if f.MaxErrorAllSeconds > time.Second.Seconds() {
			t.Errorf("against the %s: an error of %g s", truth, f.MaxErrorAllSeconds)
		}
		if f.Windows == 0 || f.P95BoundSeconds == nil {
			t.Errorf("against the %s: %d windows, 95th percentile of the bounds %v, want one at least, with a bound", truth, f.Windows, f.P95BoundSeconds)
		}
	}
	if r.SubjectClasses[classClosed] != r.Lags || len(r.PerWindow) < r.Windows {
		t.Errorf("%d samples for %d lags, %d windows listed of %d", r.SubjectClasses[classClosed], r.Lags, len(r.PerWindow), r.Windows)
	}
}
