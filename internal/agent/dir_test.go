package agent

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// bareAgent has a manifests directory and a state directory, and nothing else.
func bareAgent(t *testing.T) *Agent {
	t.Helper()
	dir := privateDir(t)
	writeFile(t, filepath.Join(dir, DefaultManifestName), manifestText, 0o600)
	files, err := openStore(filepath.Join(privateDir(t), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closing := files.Close(); closing != nil {
			t.Error(closing)
		}
	})
	now, err := newBootClock()
	if err != nil {
		t.Fatal(err)
	}
	return &Agent{log: logr.Discard(), clock: now, store: files, place: place{dir, DefaultManifestName}, view: newView(), loaded: true}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	tests := map[string]struct {
		prepare func(t *testing.T, dir, manifest string)
		want    string
	}{
		"a symbolic link within the directory": {func(t *testing.T, dir, manifest string) {
			t.Helper()
			replaceBy(t, manifest, func() error {
				writeFile(t, filepath.Join(dir, ".elsewhere"), manifestText, 0o600)
				return os.Symlink(".elsewhere", manifest)
			})
		}, v1alpha1.ReasonUnsupportedLayout},
		"a dangling symbolic link": {func(t *testing.T, _, manifest string) {
			t.Helper()
			replaceBy(t, manifest, func() error { return os.Symlink("/nowhere", manifest) })
		}, v1alpha1.ReasonUnsupportedLayout},
		"a hard link": {func(t *testing.T, dir, manifest string) {
			t.Helper()
			must(t, os.Link(manifest, filepath.Join(dir, ".other-name")))
		}, v1alpha1.ReasonUnsupportedLayout},
		"a directory": {func(t *testing.T, _, manifest string) {
			t.Helper()
			replaceBy(t, manifest, func() error { return os.Mkdir(manifest, 0o700) })
		}, v1alpha1.ReasonUnsupportedLayout},
		"a named pipe, without waiting for a writer": {func(t *testing.T, _, manifest string) {
			t.Helper()
			replaceBy(t, manifest, func() error { return unix.Mkfifo(manifest, 0o600) })
		}, v1alpha1.ReasonUnsupportedLayout},
		"a file that others may write": {func(t *testing.T, _, manifest string) {
			t.Helper()
			must(t, os.Chmod(manifest, 0o666))
		}, v1alpha1.ReasonUnsupportedLayout},
		"a directory that others may write": {func(t *testing.T, dir, _ string) {
			t.Helper()
			must(t, os.Chmod(dir, 0o777))
		}, v1alpha1.ReasonUnsupportedLayout},
		"no file": {func(t *testing.T, _, manifest string) {
			t.Helper()
			must(t, os.Remove(manifest))
		}, v1alpha1.ReasonManifestAbsent},
		"an empty file": {func(t *testing.T, _, manifest string) {
			t.Helper()
			writeFile(t, manifest, "", 0o600)
		}, v1alpha1.ReasonUnsupportedManifest},
		"a file over the limit": {func(t *testing.T, _, manifest string) {
			t.Helper()
			writeFile(t, manifest, manifestText+strings.Repeat("#\n", maxManifest/2), 0o600)
		}, v1alpha1.ReasonUnsupportedManifest},
		"a shell around the program": {func(t *testing.T, _, manifest string) {
			t.Helper()
			writeFile(t, manifest, strings.Replace(manifestText, "- kube-controller-manager\n", "- sh\n    - -c\n    - exec kube-controller-manager\n", 1), 0o600)
		}, v1alpha1.ReasonUnsupportedManifest},
		"a second definition in the directory": {func(t *testing.T, _, manifest string) {
			t.Helper()
			writeFile(t, manifest+".bak", manifestText, 0o600)
		}, v1alpha1.ReasonDuplicateManifest},
		"a second file that is a symbolic link": {func(t *testing.T, dir, _ string) {
			t.Helper()
			must(t, os.Symlink("/nowhere", filepath.Join(dir, "etcd.yaml")))
		}, v1alpha1.ReasonUnsupportedLayout},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := bareAgent(t)
			tt.prepare(t, a.place.dir, filepath.Join(a.place.dir, a.place.name))
			before := listing(t, a.place.dir)
			_, err := a.plan(apply(1))
			if f, ok := errors.AsType[*failure](err); !ok || f.Reason != tt.want {
				t.Errorf("plan() = %v, want reason %s", err, tt.want)
			}
			if after := listing(t, a.place.dir); after != before {
				t.Errorf("the directory holds\n%s, want\n%s", after, before)
			}
		})
	}
}

func TestWhatDoesNotConcernUsIsLeftAlone(t *testing.T) {
	a := bareAgent(t)
	dir := a.place.dir
	writeFile(t, filepath.Join(dir, "etcd.yaml"), "kind: Pod\nmetadata: {name: etcd}\n", 0o644)
	writeFile(t, filepath.Join(dir, ".kube-controller-manager.yaml.swp"), manifestText, 0o600)
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "backup"), 0o700))
	if _, err := a.plan(apply(1)); err != nil {
		t.Errorf("plan() = %v, want no error", err)
	}
}

func TestSwapAndPutOld(t *testing.T) {
	a := bareAgent(t)
	p := planned(t, a)
	must(t, a.swap(opened(a, p), p))
	path := filepath.Join(a.place.dir, a.place.name)
	if got := readFile(t, path); got != string(p.after) {
		t.Errorf("the manifest is\n%s, want\n%s", got, p.after)
	}
	if a.journal.Phase != phaseApplied {
		t.Errorf("phase = %q, want %q", a.journal.Phase, phaseApplied)
	}
	if _, err := os.Stat(filepath.Join(a.place.dir, a.journal.Change.oldFile())); err != nil {
		t.Errorf("the file for a roll-back is not ready: %v", err)
	}
	must(t, os.Remove(filepath.Join(a.place.dir, a.journal.Change.oldFile()))) // it is made again from the backup
	must(t, a.putOld(a.journal.Change, foundH1))
	if got := readFile(t, path); got != manifestText {
		t.Errorf("the manifest is\n%s, want the old one", got)
	}
	must(t, a.tidy())
	if got := listing(t, a.place.dir); got != a.place.name+" -rw-------\n" {
		t.Errorf("the directory holds\n%s, want the manifest alone, mode 0600", got)
	}
}

func TestAForeignEditIsNeverOverwritten(t *testing.T) {
	t.Run("before the rename", func(t *testing.T) {
		a := bareAgent(t)
		p := planned(t, a)
		path := filepath.Join(a.place.dir, a.place.name)
		writeFile(t, path, manifestText+"# mine\n", 0o600)
		err := a.swap(opened(a, p), p)
		if f, ok := errors.AsType[*failure](err); !ok || f.Reason != v1alpha1.ReasonConflictingEdit {
			t.Errorf("swap() = %v, want reason %s", err, v1alpha1.ReasonConflictingEdit)
		}
		if got := readFile(t, path); got != manifestText+"# mine\n" {
			t.Errorf("the manifest is\n%s, want the foreign edit", got)
		}
	})
	t.Run("before the roll-back", func(t *testing.T) {
		a := bareAgent(t)
		p := planned(t, a)
		must(t, a.swap(opened(a, p), p))
		path := filepath.Join(a.place.dir, a.place.name)
		writeFile(t, path, manifestText+"# mine\n", 0o600)
		err := a.putOld(a.journal.Change, foundH1)
		if f, ok := errors.AsType[*failure](err); !ok || f.Reason != v1alpha1.ReasonConflictingEdit {
			t.Errorf("putOld() = %v, want reason %s", err, v1alpha1.ReasonConflictingEdit)
		}
		if got := readFile(t, path); got != manifestText+"# mine\n" {
			t.Errorf("the manifest is\n%s, want the foreign edit", got)
		}
	})
}

func TestWitnessTellsForeignEventsFromOurs(t *testing.T) {
	a := bareAgent(t)
	dir, err := a.place.open()
	must(t, err)
	defer func() { must(t, dir.Close()) }()
	w, err := newWitness(dir, a.place.name)
	must(t, err)
	defer func() { must(t, w.Close()) }()
	must(t, dir.writeNew(tempPrefix+"new", []byte("new"), 0o600, os.Getgid()))
	must(t, dir.replace(tempPrefix+"new", a.place.name))
	if n, err := w.foreign(tempPrefix + "new"); n != 0 || err != nil {
		t.Errorf("after our rename: %d foreign events, %v, want none", n, err)
	}
	writeFile(t, filepath.Join(a.place.dir, a.place.name), "foreign", 0o600)
	must(t, dir.writeNew(tempPrefix+"new", []byte("new"), 0o600, os.Getgid()))
	must(t, dir.replace(tempPrefix+"new", a.place.name))
	if n, err := w.foreign(tempPrefix + "new"); n == 0 || err != nil {
		t.Errorf("after a foreign write: %d foreign events, %v, want some", n, err)
	}
}

func TestJournalThatCannotBeTrustedIsRefused(t *testing.T) {
	a := bareAgent(t)
	p := planned(t, a)
	must(t, a.save(opened(a, p)))
	path := filepath.Join(a.store.dir.path, journalName)
	good := readFile(t, path)
	if j, err := a.store.loadJournal(); err != nil || !reflect.DeepEqual(j.Change, a.journal.Change) {
		t.Fatalf("loadJournal() = %+v, %v, want %+v", j, err, a.journal)
	}
	damaged := map[string]string{
		"cut off":        good[:len(good)-1],
		"a later format": strings.Replace(good, "journal 2", "journal 3", 1),
		"empty":          "",
	}
	for i := range good {
		damaged["bit "+string(rune('a'+i%26))+" at "+good[:0]+strings.Repeat("i", i%7)] = good[:i] + string(good[i]^1) + good[i+1:]
	}
	for name, text := range damaged {
		writeFile(t, path, text, 0o600)
		_, err := a.store.loadJournal()
		if f, ok := errors.AsType[*failure](err); !ok || f.Reason != v1alpha1.ReasonJournalUnreadable {
			t.Errorf("%s: loadJournal() = %v, want reason %s", name, err, v1alpha1.ReasonJournalUnreadable)
		}
	}
}

func TestBackups(t *testing.T) {
	a := bareAgent(t)
	first := []byte("first")
	must(t, a.store.backup(first))
	must(t, a.store.pin(first))
	for i := range 12 {
		must(t, a.store.backup([]byte(strings.Repeat("x", i+1))))
	}
	must(t, a.store.prune(hashOf([]byte("x"))))
	original := hash(strings.TrimSpace(readFile(t, filepath.Join(a.store.dir.path, originalName))))
	if got, err := a.store.load(original); string(got) != "first" || err != nil {
		t.Errorf("the original is %q, %v, want the one that was pinned", got, err)
	}
	if got := strings.Count(listing(t, a.store.dir.path), backupPrefix); got != keptBackups+2 {
		t.Errorf("%d backups are kept, want %d, the original and one that is named", got, keptBackups)
	}
	writeFile(t, filepath.Join(a.store.dir.path, backupPrefix+string(hashOf(first))), "forged", 0o600)
	if _, err := a.store.load(hashOf(first)); err == nil {
		t.Error("a backup with other content than its name says is loaded")
	}
}

func TestASecondAgentIsKeptOut(t *testing.T) {
	a := bareAgent(t)
	if _, err := openStore(a.store.dir.path); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("openStore() = %v, want it to say that another agent runs", err)
	}
}

func TestRemoveTempsLeavesForeignDotFiles(t *testing.T) {
	a := bareAgent(t)
	dir := a.place.dir
	writeFile(t, filepath.Join(dir, ".mine"), "", 0o600)
	writeFile(t, filepath.Join(dir, tempPrefix+"old-0123"), "", 0o600)
	must(t, os.Mkdir(filepath.Join(dir, tempPrefix+"directory"), 0o700))
	must(t, a.tidy())
	if got := listing(t, dir); strings.Contains(got, "old-0123") || !strings.Contains(got, ".mine") || !strings.Contains(got, "directory") {
		t.Errorf("the directory holds\n%s, want only our file gone", got)
	}
}

func TestAFullDiskStopsTheChangeBeforeTheManifest(t *testing.T) {
	a := bareAgent(t)
	if err := unix.Mount("tmpfs", a.place.dir, "tmpfs", 0, "size=8k,mode=0700"); err != nil {
		t.Skipf("needs a file system with a size, which takes root: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(a.place.dir, 0)) })
	writeFile(t, filepath.Join(a.place.dir, a.place.name), manifestText, 0o600)
	p := planned(t, a)
	err := a.swap(opened(a, p), p)
	if f, ok := errors.AsType[*failure](err); !ok || f.Reason != v1alpha1.ReasonNoSpace {
		t.Errorf("swap() = %v, want reason %s", err, v1alpha1.ReasonNoSpace)
	}
	if got := listing(t, a.place.dir); strings.Count(got, "\n") != 1 {
		t.Errorf("the directory holds\n%s, want the manifest alone", got)
	}
	if got := readFile(t, filepath.Join(a.place.dir, a.place.name)); got != manifestText {
		t.Errorf("the manifest is\n%s, want the old one", got)
	}
}

func planned(t *testing.T, a *Agent) plan {
	t.Helper()
	p, err := a.plan(apply(1))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// opened is the journal of a change that is about to be swapped in.
func opened(a *Agent, p plan) journal {
	return journal{Phase: phaseIntent, Change: a.prepare(apply(1), p, running{})}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func replaceBy(t *testing.T, path string, create func() error) {
	t.Helper()
	must(t, os.Remove(path))
	must(t, create())
}

// listing is every name in a directory with its mode, link count and size.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var b strings.Builder
	for _, e := range entries {
		var stat unix.Stat_t
		must(t, unix.Lstat(filepath.Join(dir, e.Name()), &stat))
		b.WriteString(e.Name() + " " + os.FileMode(stat.Mode&0o7777).String() + "\n")
	}
	return b.String()
}

// privateDir is a temporary directory that is closed to others whatever the umask, as the agent wants it.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	return dir
}
