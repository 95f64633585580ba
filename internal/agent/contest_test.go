package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func TestWhatCountsAsPuttingASettingBack(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ours := change{Action: v1alpha1.ActionApply, Flags: asked, PolicyGeneration: 1}
	other, later := ours, ours
	other.Flags.KubeAPIQPS++
	later.PolicyGeneration++
	tests := map[string]struct {
		last    v1alpha1.Outcome // of the same setting
		begins  change
		repeats int
	}{
		"after it was committed":                   {v1alpha1.OutcomeCommitted, ours, 1},
		"after somebody displaced it":              {v1alpha1.OutcomeDisplaced, ours, 1},
		"not after we rolled it back ourselves":    {v1alpha1.OutcomeRolledBack, ours, 0},
		"not after a roll-back that failed":        {v1alpha1.OutcomeRollbackFailed, ours, 0},
		"not with another value":                   {v1alpha1.OutcomeCommitted, other, 0},
		"not under another spec of the policy":     {v1alpha1.OutcomeCommitted, later, 0},
		"not when the old values were put back":    {v1alpha1.OutcomeCommitted, change{Action: v1alpha1.ActionRestore}, 0},
		"not when the first change is still under": {"", ours, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := contest{}.begun(ours, at).ended(tt.last).begun(tt.begins, at.Add(time.Hour))
			if len(c.Repeats) != tt.repeats || c.Stood {
				t.Errorf("the contest is %+v, want %d repeats", c, tt.repeats)
			}
		})
	}
}

func TestAThirdRepeatWithinADayIsRefused(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	twice := contest{Flags: asked, PolicyGeneration: 1, Stood: true, Repeats: []time.Time{at, at.Add(-time.Hour)}}
	tests := map[string]struct {
		change func(*contest, *v1alpha1.EndpointSyncNodeSpec)
		after  time.Duration
		want   decisionKind
	}{
		"the third":                           {func(*contest, *v1alpha1.EndpointSyncNodeSpec) {}, time.Minute, decideRefuse},
		"the third, just within the day":      {func(*contest, *v1alpha1.EndpointSyncNodeSpec) {}, 23*time.Hour - time.Second, decideRefuse},
		"one a day after the first":           {func(*contest, *v1alpha1.EndpointSyncNodeSpec) {}, 23 * time.Hour, decideNothing},
		"the second":                          {func(c *contest, _ *v1alpha1.EndpointSyncNodeSpec) { c.Repeats = c.Repeats[:1] }, time.Minute, decideNothing},
		"one that was rolled back in between": {func(c *contest, _ *v1alpha1.EndpointSyncNodeSpec) { c.Stood = false }, time.Minute, decideNothing},
		"other flags":                         {func(_ *contest, s *v1alpha1.EndpointSyncNodeSpec) { s.Flags.KubeAPIBurst++ }, time.Minute, decideNothing},
		"another spec of the policy":          {func(_ *contest, s *v1alpha1.EndpointSyncNodeSpec) { s.PolicyGeneration++ }, time.Minute, decideNothing},
		"a restore":                           {func(_ *contest, s *v1alpha1.EndpointSyncNodeSpec) { s.Action = v1alpha1.ActionRestore }, time.Minute, decideNothing},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, spec := twice, apply(4)
			tt.change(&c, &spec)
			if d := c.decide(spec, at.Add(tt.after)); d.Kind != tt.want {
				t.Errorf("decide() = %+v, want kind %d", d, tt.want)
			}
		})
	}
}

// takenAway has somebody put the old manifest back after each of three changes.
func takenAway(t *testing.T, b *bed) {
	t.Helper()
	for revision := range int64(3) {
		b.cluster.instruct(apply(revision + 1))
		s := b.waitFor(t, "end of the change", ended(revision+1))
		checkEnd(t, s, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
		writeFile(t, b.path(), manifestText, 0o600)
		pause(t.Context(), time.Minute)
	}
}

// checkContended asks once more for what somebody takes away.
func checkContended(t *testing.T, b *bed, revision int64) {
	t.Helper()
	b.cluster.instruct(apply(revision))
	s := b.waitFor(t, "end of the instruction", ended(revision))
	checkEnd(t, s, v1alpha1.OutcomeRefused, v1alpha1.ReasonContended)
	if !strings.Contains(s.Last.Message, asked.String()) || !strings.Contains(s.Last.Message, "edit the policy's spec") {
		t.Errorf("the message is %q, want it to name the flags and the remedy", s.Last.Message)
	}
	checkManifest(t, b, manifestText)
}

func TestASettingThatSomebodyTakesAwayIsPutBackTwice(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, b *bed){
		"and not again, whoever asks and however often the agent starts": func(t *testing.T, b *bed) {
			t.Helper()
			b.stop()
			b.startAgent(t)
			checkContended(t, b, 5)
		},
		"and is unchanged where it stands": func(t *testing.T, b *bed) {
			t.Helper()
			writeFile(t, b.path(), with(t, manifestText, asked), 0o600)
			b.cluster.instruct(apply(5))
			checkEnd(t, b.waitFor(t, "end of the instruction", ended(5)), v1alpha1.OutcomeUnchanged, v1alpha1.ReasonUnchanged)
		},
		"and again under another spec of the policy": func(t *testing.T, b *bed) {
			t.Helper()
			edited, spec := enforcing(), apply(5)
			edited.Generation, spec.PolicyGeneration = 2, 2
			b.setPolicy(edited)
			b.cluster.instruct(spec)
			checkEnd(t, b.waitFor(t, "end of the change", ended(5)), v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
		},
	}
	for name, then := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, only(behaves))
				b.startAgent(t)
				takenAway(t, b)
				checkContended(t, b, 4)
				then(t, b)
			})
		})
	}
}

func TestASettingThatSomebodyDisplacesIsTriedThreeTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.startAgent(t)
		for revision := range int64(3) {
			spec := patiently("1m", "1m")
			spec.Revision = new(revision + 1)
			b.cluster.instruct(spec)
			b.waitFor(t, "phase Applied", inPhase(v1alpha1.PhaseApplied))
			pause(t.Context(), 3*time.Second)
			writeFile(t, b.path(), manifestText, 0o600)
			s := b.waitFor(t, "end of the change", ended(revision+1))
			checkEnd(t, s, v1alpha1.OutcomeDisplaced, v1alpha1.ReasonConflictingEdit)
		}
		checkContended(t, b, 4)
	})
}

// TestACrashCountsARepeatOnce starts with what a crash between intent and rename, or between rename and journal, leaves
// behind of a repeat.
func TestACrashCountsARepeatOnce(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]string{"before the rename": manifestText, "after the rename": with(t, manifestText, asked)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, only(behaves))
				files, err := openStore(b.cfg.StateDir)
				must(t, err)
				must(t, files.backup([]byte(manifestText)))
				must(t, files.saveJournal(journal{
					Phase: phaseIntent, ObservedRevision: 1, Contest: contest{Flags: asked, PolicyGeneration: 1, Stood: true},
					Change: change{
						Revision: 2, Action: v1alpha1.ActionApply, Flags: asked, Proven: asked, PolicyGeneration: 1,
						MinReady: time.Second, HealthTimeout: time.Minute, Began: b.clock.now(),
						H0: hashOf([]byte(manifestText)), H1: hashOf([]byte(with(t, manifestText, asked))), Mode: 0o600, GID: os.Getegid(),
					},
				}))
				must(t, files.Close())
				b.node.awaitUp()
				writeFile(t, b.path(), left, 0o600)
				pause(t.Context(), time.Second) // for the kubelet to see it
				b.cluster.node.Spec = apply(2)
				b.startAgent(t)
				s := b.waitFor(t, "end of revision 2", ended(2))
				checkEnd(t, s, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
				j := b.waitForJournal(t, phaseCommitted)
				if len(j.Contest.Repeats) != 1 || !j.Contest.Stood || len(s.Restarts) != 1 {
					t.Errorf("the contest is %+v after %d restarts, want one repeat and one restart", j.Contest, len(s.Restarts))
				}
			})
		})
	}
}

func TestAJournalOfTheFormatBeforeIsRead(t *testing.T) {
	a := bareAgent(t)
	body := []byte(`{"phase":"committed","observedRevision":7,"restarts":["2026-11-23T12:00:00Z"]}`)
	path := filepath.Join(a.store.dir.path, journalName)
	writeFile(t, path, header(oldestFormat, hashOf(body))+"\n"+string(body), 0o600)
	j, err := a.store.loadJournal()
	if err != nil || j.Phase != phaseCommitted || j.ObservedRevision != 7 || len(j.Restarts) != 1 {
		t.Errorf("loadJournal() = %+v, %v, want revision 7, committed", j, err)
	}
	must(t, a.store.saveJournal(j))
	if got := readFile(t, path); !strings.HasPrefix(got, "endpoint-sync-journal 2 ") {
		t.Errorf("it is saved as %.40q, want the present format", got)
	}
}
