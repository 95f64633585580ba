package agent

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// crashDirs tells a child process, by its presence, to change the manifest over and over until it is killed: the
// manifests directory and the state directory.
const crashDirs = "AGENT_TEST_CRASH_DIRS"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(crashDirs); dirs != "" {
		go func() { // the parent's end of the pipe closes when it ends, however that comes
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		manifests, state, _ := strings.Cut(dirs, ":")
		if err := changeForever(manifests, state); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// changeForever recovers, then goes through whole changes, half of them rolled back, with the proof left out: only
// the steps that touch files.
func changeForever(manifests, state string) error {
	files, err := openStore(state)
	if err != nil {
		return err
	}
	now, err := newBootClock()
	if err != nil {
		return err
	}
	a := &Agent{log: logr.Discard(), clock: now, store: files, place: place{manifests, DefaultManifestName}, view: newView(), loaded: true}
	if a.journal, err = files.loadJournal(); err != nil {
		return err
	}
	if err := a.tidyUnlessOpen(); err != nil {
		return err
	}
	for round := int64(1); ; round++ {
		if a.journal.Phase.open() {
			at, _, _ := a.place.look(a.journal.Change)
			if err := a.recoverFiles(recoverFrom(a.journal.Phase, at), at); err != nil {
				return err
			}
			continue
		}
		spec := apply(a.journal.ObservedRevision + 1)
		spec.Flags.KubeAPIQPS += int32(rand.N(100))
		p, err := a.plan(spec)
		if err != nil {
			return err
		}
		if p.unchanged() {
			continue
		}
		if err := a.swap(journal{Phase: phaseIntent, Change: a.prepare(spec, p, running{}), ObservedRevision: a.journal.ObservedRevision}, p); err != nil {
			return err
		}
		if round%2 == 0 {
			j := a.journal
			j.Phase = phaseRollingBack
			if err := a.save(j); err != nil {
				return err
			}
			continue // recovery knows how to go on
		}
		a.endWith(v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted, "done")
	}
}

func (a *Agent) tidyUnlessOpen() error {
	if a.journal.Phase.open() {
		return nil
	}
	return a.tidy()
}

// recoverFiles does what resume does to files, with every proof taken for passed.
func (a *Agent) recoverFiles(what remedy, at found) error {
	switch what {
	case remedyForget:
		a.forget()
	case remedyRollBack, remedyPutBack:
		return a.putOld(a.journal.Change, at)
	case remedyProveNew:
		a.endWith(v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted, "done")
	case remedyProveOld:
		a.endWith(v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNeverHealthy, "done")
	default:
		return failf(v1alpha1.ReasonIOError, "nobody else is here, yet the remedy is %s for %s and %s", what, a.journal.Phase, at)
	}
	return nil
}

// TestAKillAtAnyMomentLeavesTheManifestWhole kills a process that changes the manifest over and over, and checks while
// it runs and after each kill that the manifest is whole and that no other name that the kubelet reads appears.
func TestAKillAtAnyMomentLeavesTheManifestWhole(t *testing.T) {
	t.Parallel()
	const kills = 120
	manifests, state := privateDir(t), filepath.Join(privateDir(t), "state")
	writeFile(t, filepath.Join(manifests, DefaultManifestName), manifestText, 0o600)
	executable, err := os.Executable()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { watchWhole(ctx, t, manifests) })
	phases := map[phase]int{}
	for range kills {
		var stderr bytes.Buffer
		child := exec.Command(executable)
		child.Env = append(os.Environ(), crashDirs+"="+manifests+":"+state)
		child.Stderr = &stderr
		stdin, err := child.StdinPipe()
		must(t, err)
		before, _ := os.ReadFile(filepath.Join(state, journalName))
		must(t, child.Start())
		waitForAnother(t, filepath.Join(state, journalName), before)
		pause(t.Context(), rand.N(40*time.Millisecond))
		must(t, child.Process.Kill())
		must(t, stdin.Close())
		if err := child.Wait(); err != nil && stderr.Len() > 0 {
			t.Fatalf("the child ended by itself: %s", stderr.String())
		}
		checkWhole(t, manifests)
		if content, err := os.ReadFile(filepath.Join(state, journalName)); err == nil {
			j, err := parseJournal(content)
			must(t, err)
			phases[j.Phase]++
		}
	}
	cancel()
	group.Wait()
	t.Logf("phases of the journal at %d kills: %v", kills, phases)
	if phases[phaseIntent] == 0 || phases[phaseApplied]+phases[phaseRollingBack] == 0 {
		t.Error("no kill fell before the rename, or none fell after it")
	}
}

// waitForAnother waits until a file's content is another one: the child is at work.
func waitForAnother(t *testing.T, path string, before []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if now, err := os.ReadFile(path); err == nil && !bytes.Equal(now, before) {
			return
		}
		pause(ctx, time.Millisecond)
	}
}

func watchWhole(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	for ctx.Err() == nil && !t.Failed() {
		checkWhole(t, dir)
		pause(ctx, time.Millisecond)
	}
}

// checkWhole checks invariants I1 and I2.
func checkWhole(t *testing.T, dir string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, DefaultManifestName))
	if err != nil {
		t.Errorf("the manifest is gone: %v", err)
		return
	}
	head, tail, _ := strings.Cut(manifestText, "    image:")
	if text := string(content); !strings.HasPrefix(text, head) || !strings.HasSuffix(text, tail) {
		t.Errorf("the manifest is torn:\n%s", text)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Errorf("list the directory: %v", err)
	}
	for _, e := range entries {
		if e.Name() != DefaultManifestName && !strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s appeared in the manifests directory", e.Name())
		}
	}
}
