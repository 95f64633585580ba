package agent

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

// only makes the stand-in behave so with the flags that are asked for, and well with all others.
func only(how behaviour) func(v1alpha1.Flags) behaviour {
	return func(f v1alpha1.Flags) behaviour {
		if f == asked {
			return how
		}
		return behaves
	}
}

// checkDirectory fails unless the manifest is the only file in its directory, dot-files included.
func checkDirectory(t *testing.T, b *bed) {
	t.Helper()
	entries, err := os.ReadDir(b.cfg.ManifestDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != DefaultManifestName {
			t.Errorf("%s is left in the manifests directory", e.Name())
		}
	}
}

func TestAChangeIsCommittedAndRestored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, commitAndRestore)
}

func commitAndRestore(t *testing.T) {
	b := newBed(t, only(behaves))
	b.startAgent(t)
	b.cluster.instruct(apply(1))
	s := b.waitFor(t, "end of revision 1", ended(1))
	if s.Last.Outcome != v1alpha1.OutcomeCommitted {
		t.Fatalf("the change ended %s: %s: %s, want %s", s.Last.Outcome, s.Last.Reason, s.Last.Message, v1alpha1.OutcomeCommitted)
	}
	want, err := manifest.Edit([]byte(manifestText), manifest.Settings(asked))
	if err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, b.path()); got != string(want) {
		t.Errorf("the manifest is\n%s, want\n%s", got, want)
	}
	if s.Last.HandOver == "" || len(s.Restarts) != 1 {
		t.Errorf("hand-over %q and restarts %v, want a hand-over and one restart", s.Last.HandOver, s.Restarts)
	}
	b.waitFor(t, "running flags", func(s v1alpha1.EndpointSyncNodeStatus) bool {
		return s.Running == asked && s.Leader != nil && *s.Leader
	})
	b.waitFor(t, "manifest hash", func(s v1alpha1.EndpointSyncNodeStatus) bool { return s.ManifestHash == string(hashOf(want)) })
	checkDirectory(t, b)

	again := apply(2)
	b.cluster.instruct(again)
	if s = b.waitFor(t, "end of revision 2", ended(2)); s.Last.Outcome != v1alpha1.OutcomeUnchanged || len(s.Restarts) != 1 {
		t.Errorf("the same values again end %s after %d restarts, want %s after 1", s.Last.Outcome, len(s.Restarts), v1alpha1.OutcomeUnchanged)
	}

	b.restore(3)
	if s = b.waitFor(t, "end of revision 3", ended(3)); s.Last.Reason != v1alpha1.ReasonRestored {
		t.Errorf("the restore ended %s: %s: %s, want %s", s.Last.Outcome, s.Last.Reason, s.Last.Message, v1alpha1.ReasonRestored)
	}
	if got := readFile(t, b.path()); got != manifestText {
		t.Errorf("the manifest is\n%s, want the original bytes", got)
	}
	checkDirectory(t, b)
}

func TestABadSettingIsRolledBack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		how    behaviour
		reason string
	}{
		"a process that exits at once":          {exits, v1alpha1.ReasonNeverStarted},
		"a process that exits again and again":  {exitsLater, v1alpha1.ReasonCrashLooping},
		"a process that never gets healthy":     {neverHealthy, v1alpha1.ReasonNeverHealthy},
		"a process that ignores its flags":      {ignoresFlags, v1alpha1.ReasonWrongFlags},
		"a process whose flags cannot be read":  {unauthorized, v1alpha1.ReasonInconclusive},
		"a process after which nobody leads it": {behaves, v1alpha1.ReasonNeverLeader},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { failAndRefuse(t, tt.how, tt.reason) })
		})
	}
}

// failAndRefuse has a setting rolled back and asks for it again.
func failAndRefuse(t *testing.T, how behaviour, reason string) {
	t.Helper()
	b := newBed(t, only(how))
	b.cluster.noBeat = reason == v1alpha1.ReasonNeverLeader
	b.startAgent(t)
	b.cluster.instruct(apply(1))
	s := b.waitFor(t, "end of revision 1", ended(1))
	checkEnd(t, s, v1alpha1.OutcomeRolledBack, reason)
	if got := readFile(t, b.path()); got != manifestText {
		t.Errorf("the manifest is\n%s, want the old one", got)
	}
	if len(s.Restarts) != 2 {
		t.Errorf("restarts are %v, want one for the change and one for the roll-back", s.Restarts)
	}
	checkDirectory(t, b)
	b.cluster.instruct(apply(2))
	s = b.waitFor(t, "end of revision 2", ended(2))
	blamed := reason != v1alpha1.ReasonInconclusive
	if refused := s.Last.Reason == v1alpha1.ReasonSettingFailedBefore; refused != blamed {
		t.Errorf("the same setting again ends %s: %s", s.Last.Outcome, s.Last.Reason)
	}
}

// checkEnd fails unless the last change ended so.
func checkEnd(t *testing.T, s v1alpha1.EndpointSyncNodeStatus, outcome v1alpha1.Outcome, reason string) {
	t.Helper()
	if s.Last.Outcome != outcome || s.Last.Reason != reason {
		t.Fatalf("the change ended %s: %s: %s, want %s: %s", s.Last.Outcome, s.Last.Reason, s.Last.Message, outcome, reason)
	}
}

func TestARollBackNeedsNoAPIServer(t *testing.T) {
	t.Parallel()
	for _, how := range []behaviour{exits, neverHealthy, unauthorized} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { rollBackAlone(t, how) })
		})
	}
}

// rollBackAlone has a change fail after the API server has died.
func rollBackAlone(t *testing.T, how behaviour) {
	t.Helper()
	starts := 0
	b := newBed(t, func(f v1alpha1.Flags) behaviour {
		starts++
		switch {
		case f == asked:
			return how
		case starts == 1:
			return behaves
		}
		return unauthorized // with the API server dead, no process can check a token
	})
	b.startAgent(t)
	b.cluster.instruct(apply(1))
	b.waitFor(t, "phase Applied", inPhase(v1alpha1.PhaseApplied))
	b.cluster.kill()
	j := b.waitForJournal(t, phaseRolledBack)
	if got := readFile(t, b.path()); got != manifestText || j.Last.Outcome != v1alpha1.OutcomeRolledBack {
		t.Errorf("the change ended %s: %s: %s with the manifest\n%s, want it rolled back", j.Last.Outcome, j.Last.Reason, j.Last.Message, got)
	}
	checkDirectory(t, b)
}

func inPhase(p v1alpha1.ChangePhase) func(v1alpha1.EndpointSyncNodeStatus) bool {
	return func(s v1alpha1.EndpointSyncNodeStatus) bool { return s.Phase == p }
}

// waitForJournal waits for the journal on disk to have a phase.
func (b *bed) waitForJournal(t *testing.T, want phase) journal {
	t.Helper()
	var j journal
	b.waitFor(t, "phase "+string(want), func(v1alpha1.EndpointSyncNodeStatus) bool {
		content, err := os.ReadFile(b.cfg.StateDir + "/" + journalName)
		if err != nil {
			return false
		}
		j, err = parseJournal(content)
		if err != nil && !strings.Contains(err.Error(), "first line") {
			t.Fatal(err)
		}
		return err == nil && j.Phase == want
	})
	return j
}
