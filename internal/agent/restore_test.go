package agent

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

// applying is an instruction to set these flags.
func applying(revision int64, flags v1alpha1.Flags) v1alpha1.EndpointSyncNodeSpec {
	spec := apply(revision)
	spec.Flags = flags
	return spec
}

// restore has the policy deleted, with the restore that its deletionPolicy asks for.
func (b *bed) restore(revision int64) {
	b.setPolicy(nil)
	spec := applying(revision, v1alpha1.Flags{})
	spec.Action, spec.DeletionPolicy = v1alpha1.ActionRestore, v1alpha1.DeletionRestore
	b.cluster.instruct(spec)
}

func (b *bed) setPolicy(p *v1alpha1.EndpointSyncPolicy) {
	b.cluster.mu.Lock()
	defer b.cluster.mu.Unlock()
	b.cluster.pol = p
}

// with edits a manifest as a person would.
func with(t *testing.T, text string, flags v1alpha1.Flags) string {
	t.Helper()
	edited, err := manifest.Edit([]byte(text), manifest.Settings(flags))
	must(t, err)
	return string(edited)
}

// step is one thing that happens to a node, and what the manifest is afterwards.
type step struct {
	apply   v1alpha1.Flags // the controller asks for these
	person  v1alpha1.Flags // or a person writes these
	restore bool           // or the policy is deleted
	again   bool           // or the agent is started again
	ends    string         // reason with which the instruction ends
	leaves  string
}

func TestARestorePutsBackWhatWeHaveChangedAndNothingElse(t *testing.T) {
	t.Parallel()
	qps, more, burst := v1alpha1.Flags{KubeAPIQPS: 100}, v1alpha1.Flags{KubeAPIQPS: 200}, v1alpha1.Flags{KubeAPIBurst: 200}
	byHand, bad := v1alpha1.Flags{KubeAPIBurst: 77}, v1alpha1.Flags{KubeAPIQPS: 66}
	withQPS, withHand := with(t, manifestText, qps), with(t, manifestText, byHand)
	tests := map[string][]step{
		"a flag that we never touched keeps what a person gave it, also after a restart": {
			{apply: qps, ends: v1alpha1.ReasonCommitted, leaves: withQPS},
			{person: byHand, leaves: with(t, withQPS, byHand)},
			{again: true, leaves: with(t, withQPS, byHand)},
			{restore: true, ends: v1alpha1.ReasonRestored, leaves: withHand},
		},
		"a flag goes back to what it was before our first change of that flag": {
			{apply: qps, ends: v1alpha1.ReasonCommitted, leaves: withQPS},
			{person: byHand, leaves: with(t, withQPS, byHand)},
			{apply: burst, ends: v1alpha1.ReasonCommitted, leaves: with(t, withQPS, burst)},
			{apply: more, ends: v1alpha1.ReasonCommitted, leaves: with(t, with(t, withQPS, burst), more)},
			{restore: true, ends: v1alpha1.ReasonRestored, leaves: withHand},
		},
		"after a restore a person's edit is the new original": {
			{apply: qps, ends: v1alpha1.ReasonCommitted, leaves: withQPS},
			{restore: true, ends: v1alpha1.ReasonRestored, leaves: manifestText},
			{person: more, leaves: with(t, manifestText, more)},
			{apply: qps, ends: v1alpha1.ReasonCommitted, leaves: withQPS},
			{restore: true, ends: v1alpha1.ReasonRestored, leaves: with(t, manifestText, more)},
		},
		"a restore that has nothing to change lets go as well": {
			{apply: qps, ends: v1alpha1.ReasonCommitted, leaves: withQPS},
			{person: v1alpha1.Flags{}, leaves: manifestText},
			{restore: true, ends: v1alpha1.ReasonUnchanged, leaves: manifestText},
			{person: more, leaves: with(t, manifestText, more)},
			{restore: true, ends: v1alpha1.ReasonUnchanged, leaves: with(t, manifestText, more)},
		},
		"a change that was rolled back is none of ours": {
			{apply: bad, ends: v1alpha1.ReasonNeverHealthy, leaves: manifestText},
			{person: more, leaves: with(t, manifestText, more)},
			{restore: true, ends: v1alpha1.ReasonUnchanged, leaves: with(t, manifestText, more)},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { walk(t, steps, bad) })
		})
	}
}

// walk takes a node through the steps.
func walk(t *testing.T, steps []step, bad v1alpha1.Flags) {
	t.Helper()
	b := newBed(t, func(f v1alpha1.Flags) behaviour {
		if f.KubeAPIQPS == bad.KubeAPIQPS {
			return neverHealthy
		}
		return behaves
	})
	b.startAgent(t)
	for i, s := range steps {
		revision := int64(i + 1)
		switch {
		case s.apply != v1alpha1.Flags{}:
			b.setPolicy(enforcing())
			b.cluster.instruct(applying(revision, s.apply))
		case s.restore:
			b.restore(revision)
		case s.again:
			b.stop()
			b.startAgent(t)
		default:
			writeFile(t, b.path(), s.leaves, 0o600)
		}
		if s.ends != "" {
			got := b.waitFor(t, "end of the instruction", ended(revision)).Last
			if got.Reason != s.ends {
				t.Fatalf("step %d ended %s: %s: %s, want %s", i, got.Outcome, got.Reason, got.Message, s.ends)
			}
		}
		if got := readFile(t, b.path()); got != s.leaves {
			t.Fatalf("step %d leaves\n%s", i, manifest.Diff(DefaultManifestName, []byte(s.leaves), []byte(got)))
		}
	}
	checkDirectory(t, b)
}

// TestTheOriginalIsKeptForPeople finds the manifest as it was before our first change in the state directory.
func TestTheOriginalIsKeptForPeople(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.startAgent(t)
		for i, flags := range []v1alpha1.Flags{{KubeAPIQPS: 100}, {KubeAPIQPS: 200}} {
			b.cluster.instruct(applying(int64(i+1), flags))
			b.waitFor(t, "end of the change", ended(int64(i+1)))
		}
		name, err := os.ReadFile(filepath.Join(b.cfg.StateDir, originalName))
		must(t, err)
		if want := string(hashOf([]byte(manifestText))) + "\n"; string(name) != want {
			t.Errorf("the original is %q, want %q", name, want)
		}
		if got := readFile(t, filepath.Join(b.cfg.StateDir, backupPrefix+string(name[:64]))); got != manifestText {
			t.Errorf("its backup is\n%s, want\n%s", got, manifestText)
		}
	})
}
