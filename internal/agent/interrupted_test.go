package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// patiently is an instruction whose proof takes long enough to be interrupted.
func patiently(healthTimeout, minReady v1alpha1.Duration) v1alpha1.EndpointSyncNodeSpec {
	spec := apply(1)
	spec.HealthTimeout, spec.MinReady = healthTimeout, minReady
	return spec
}

// interrupt gives an instruction and returns once the manifest has been replaced and the proof has begun.
func (b *bed) interrupt(t *testing.T, spec v1alpha1.EndpointSyncNodeSpec) {
	t.Helper()
	b.cluster.instruct(spec)
	b.waitFor(t, "phase Applied", inPhase(v1alpha1.PhaseApplied))
	pause(t.Context(), 5*time.Second)
}

func TestAProofGoesOnAfterARestartWithTheTimeThatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(neverHealthy))
		b.startAgent(t)
		asked := time.Now()
		b.interrupt(t, patiently("1m", "1s"))
		b.stop()
		pause(t.Context(), 20*time.Second)
		b.startAgent(t)
		b.waitFor(t, "phase RollingBack", inPhase(v1alpha1.PhaseRollingBack))
		if took := time.Since(asked); took < time.Minute || took > 64*time.Second {
			t.Errorf("it is rolled back %s after the instruction, want 1m after the swap", took)
		}
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNeverHealthy)
		checkManifest(t, b, manifestText)
	})
}

func TestAProofThatIsOverdueStillLooksBeforeItJudges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.startAgent(t)
		b.interrupt(t, patiently("1m", "20s"))
		b.stop()
		pause(t.Context(), 10*time.Minute)
		b.startAgent(t)
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
		if len(s.Restarts) != 1 {
			t.Errorf("restarts are %v, want one", s.Restarts)
		}
		checkManifest(t, b, with(t, manifestText, asked))
	})
}

func TestAProofBeginsAnewAfterAReboot(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		how     behaviour
		outcome v1alpha1.Outcome
		reason  string
		after   time.Duration // since the reboot
		leaves  string
	}{
		"a process that is never healthy gets the whole time again": {
			neverHealthy, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNeverHealthy, time.Minute, manifestText,
		},
		"a process that is healthy must be so for all of minReady again": {
			behaves, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted, 20 * time.Second, with(t, manifestText, asked),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, only(tt.how))
				b.startAgent(t)
				b.interrupt(t, patiently("1m", "20s"))
				pause(t.Context(), 10*time.Second)
				b.stop()
				b.node.reboot()
				b.clock = bootedAgo("second", 30*time.Second)
				rebooted := time.Now()
				b.startAgent(t)
				s := b.waitFor(t, "end of revision 1", ended(1))
				checkEnd(t, s, tt.outcome, tt.reason)
				if took := time.Since(rebooted); took < tt.after || took > tt.after+10*time.Second {
					t.Errorf("it ended %s after the reboot, want %s", took, tt.after)
				}
				checkManifest(t, b, tt.leaves)
			})
		})
	}
}

func TestAWipedStateDirectoryIsLearntBackFromTheStatus(t *testing.T) {
	t.Parallel()
	t.Run("a change in flight counts as ended, and its manifest stays", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, only(behaves))
			b.startAgent(t)
			b.interrupt(t, patiently("5m", "2m"))
			b.stop()
			must(t, os.RemoveAll(b.cfg.StateDir))
			reports := len(b.cluster.statuses)
			b.startAgent(t)
			s := b.waitFor(t, "end of revision 1", ended(1))
			checkEnd(t, s, v1alpha1.OutcomeRefused, v1alpha1.ReasonJournalUnreadable)
			checkManifest(t, b, with(t, manifestText, asked))
			for _, s := range b.cluster.statuses[reports:] {
				if s.ObservedRevision == 0 && s.Phase != v1alpha1.PhaseApplied {
					t.Fatalf("the status says phase %q before the agent has learnt from it", s.Phase)
				}
			}
			b.cluster.instruct(apply(2))
			s = b.waitFor(t, "end of revision 2", ended(2))
			checkEnd(t, s, v1alpha1.OutcomeUnchanged, v1alpha1.ReasonUnchanged)
			b.restore(3)
			s = b.waitFor(t, "end of revision 3", ended(3))
			checkEnd(t, s, v1alpha1.OutcomeRefused, v1alpha1.ReasonJournalUnreadable)
		})
	})
	t.Run("a change that has ended is not made again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, only(neverHealthy))
			b.startAgent(t)
			b.cluster.instruct(apply(1))
			before := b.waitFor(t, "end of revision 1", ended(1))
			b.stop()
			must(t, os.RemoveAll(b.cfg.StateDir))
			b.startAgent(t)
			pause(t.Context(), time.Minute)
			after := b.cluster.status()
			if d := cmp.Diff(before.Last, after.Last); d != "" || len(after.Restarts) != 2 || len(after.Failed) != 1 {
				t.Errorf("restarts %v, failed %v, last (-before +after):\n%s", after.Restarts, after.Failed, d)
			}
			b.cluster.instruct(apply(2))
			s := b.waitFor(t, "end of revision 2", ended(2))
			checkEnd(t, s, v1alpha1.OutcomeRefused, v1alpha1.ReasonSettingFailedBefore)
			checkManifest(t, b, manifestText)
		})
	})
}

// TestAChangeThatNeverBeganIsMadeThoughTheStatusHasItOpen starts with what a crash between intent and rename of a
// node's first change leaves behind.
func TestAChangeThatNeverBeganIsMadeThoughTheStatusHasItOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		files, err := openStore(b.cfg.StateDir)
		must(t, err)
		must(t, files.saveJournal(journal{Phase: phaseIntent, Change: change{
			Revision: 1, Action: v1alpha1.ActionApply, Flags: asked,
			H0: hashOf([]byte(manifestText)), H1: hashOf([]byte(with(t, manifestText, asked))), Mode: 0o600, GID: os.Getegid(),
		}}))
		must(t, files.Close())
		b.cluster.node.Status.Phase = v1alpha1.PhaseIntent
		b.cluster.node.Spec = apply(1)
		b.startAgent(t)
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	})
}

func TestSomebodyElsesEditDuringAChangeIsLeftAlone(t *testing.T) {
	t.Parallel()
	theirs := with(t, manifestText, v1alpha1.Flags{KubeAPIQPS: 33})
	tests := map[string]struct {
		during v1alpha1.ChangePhase
		writes string // nothing: the file is removed
	}{
		"another manifest during the proof":     {v1alpha1.PhaseApplied, theirs},
		"the old manifest during the proof":     {v1alpha1.PhaseApplied, manifestText},
		"no manifest during the proof":          {v1alpha1.PhaseApplied, ""},
		"another manifest during the roll-back": {v1alpha1.PhaseRollingBack, theirs},
		"no manifest during the roll-back":      {v1alpha1.PhaseRollingBack, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				starts := 0
				b := newBed(t, func(v1alpha1.Flags) behaviour {
					if starts++; starts > 1 && tt.during == v1alpha1.PhaseRollingBack {
						return neverHealthy
					}
					return behaves
				})
				b.startAgent(t)
				b.cluster.instruct(patiently("10s", "1m"))
				b.waitFor(t, "phase "+string(tt.during), inPhase(tt.during))
				pause(t.Context(), 3*time.Second)
				if tt.writes == "" {
					must(t, os.Remove(b.path()))
				} else {
					writeFile(t, b.path(), tt.writes, 0o600)
				}
				s := b.waitFor(t, "end of revision 1", ended(1))
				checkEnd(t, s, v1alpha1.OutcomeDisplaced, v1alpha1.ReasonConflictingEdit)
				pause(t.Context(), 10*time.Minute)
				checkManifest(t, b, tt.writes)
				if tt.writes != "" { // a restore has nothing to put back either
					b.restore(2)
					s = b.waitFor(t, "end of revision 2", ended(2))
					checkEnd(t, s, v1alpha1.OutcomeUnchanged, v1alpha1.ReasonUnchanged)
					checkManifest(t, b, tt.writes)
				}
			})
		})
	}
}

func TestAfterThreeAttemptsARollBackIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(neverHealthy))
		b.startAgent(t)
		b.interrupt(t, patiently("20s", "1s"))
		h0 := hashOf([]byte(manifestText))
		must(t, os.Remove(filepath.Join(b.cfg.StateDir, backupPrefix+string(h0))))
		must(t, os.Remove(filepath.Join(b.cfg.ManifestDir, change{H0: h0}.oldFile())))
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeRollbackFailed, v1alpha1.ReasonIOError)
		if len(s.Restarts) != 1 {
			t.Errorf("restarts are %v, want the change's alone", s.Restarts)
		}
		pause(t.Context(), 10*time.Minute)
		checkManifest(t, b, with(t, manifestText, asked))
		checkDirectory(t, b)
		b.restore(2)
		s = b.waitFor(t, "end of revision 2", ended(2))
		checkEnd(t, s, v1alpha1.OutcomeCommitted, v1alpha1.ReasonRestored)
		checkManifest(t, b, manifestText)
	})
}

// waitingRollBack is a roll-back that waits because the manifest has a second link, as a backup by hard links makes one.
func waitingRollBack(t *testing.T) (b *bed, link string) {
	t.Helper()
	b = newBed(t, only(neverHealthy))
	b.startAgent(t)
	b.interrupt(t, patiently("20s", "1s"))
	link = filepath.Join(b.cfg.StateDir, "link")
	must(t, os.Link(b.path(), link))
	b.waitFor(t, "phase RollingBack", inPhase(v1alpha1.PhaseRollingBack))
	return b, link
}

func TestARollBackWaitsForAManifestThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, link := waitingRollBack(t)
		pause(t.Context(), 10*time.Minute)
		checkManifest(t, b, with(t, manifestText, asked))
		ready := meta.FindStatusCondition(b.cluster.status().Conditions, v1alpha1.ConditionReady)
		if ready.Reason != v1alpha1.ReasonUnsupportedLayout || !strings.Contains(ready.Message, "link") {
			t.Errorf("the agent says %s: %s, want it to name what the roll-back waits for", ready.Reason, ready.Message)
		}
		must(t, os.Remove(link))
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNeverHealthy)
		checkManifest(t, b, manifestText)
		checkDirectory(t, b)
	})
}

func TestAManifestThatVanishesInARollBackLeavesTheVerdict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := waitingRollBack(t)
		pause(t.Context(), time.Minute)
		must(t, os.Remove(b.path()))
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNeverHealthy)
		if len(s.Failed) != 1 {
			t.Errorf("failed settings are %v, want the one that was rolled back", s.Failed)
		}
		checkManifest(t, b, manifestText)
	})
}

func TestATakingBackThatNeverBeganStillNeedNotWait(t *testing.T) {
	a := bareAgent(t)
	s := situation{Instruction: apply(7), Now: a.clock.now(), MinInterval: time.Hour}
	tookPlace(&s, written{Name: v1alpha1.FlagKubeAPIQPS, Value: "25"})
	s.Instruction.Flags.KubeAPIQPS = 25
	a.journal = s.Journal
	a.journal.Change = a.prepare(s.Instruction, plan{}, running{})
	a.journal.Phase = phaseIntent
	a.forget() // The rename was not done.
	if s.Journal = a.journal; s.Journal.Phase != phaseNone {
		t.Fatalf("phase %q, want none", s.Journal.Phase)
	}
	if d := checkInterval(s); d.Kind != decideNothing {
		t.Errorf("checkInterval() = %+v, want no wait", d)
	}
}

func TestAKubeletThatDoesNotPickTheChangeUpCostsNoRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.startAgent(t)
		b.waitFor(t, "health", func(s v1alpha1.EndpointSyncNodeStatus) bool { return s.Healthy != nil && *s.Healthy })
		b.node.setDeaf()
		b.cluster.instruct(patiently("1m", "1s"))
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNotPickedUp)
		if len(s.Restarts) != 0 || len(s.Failed) != 0 {
			t.Errorf("restarts are %v and failed settings %v, want none of both", s.Restarts, s.Failed)
		}
		checkManifest(t, b, manifestText)
		checkDirectory(t, b)
	})
}

// checkManifest fails unless the manifest has this text; with none, it must be absent.
func checkManifest(t *testing.T, b *bed, want string) {
	t.Helper()
	got, err := os.ReadFile(b.path())
	if err != nil && (want != "" || !os.IsNotExist(err)) {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("the manifest is\n%s, want\n%s", got, want)
	}
}
