package rig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/utils/clock"
)

// watchPoll is how often the watcher reads the manifest, besides inotify.
const watchPoll = 10 * time.Millisecond

// Watcher sees what becomes of a manifest and of its directory, from outside: by reading it every 10 ms and by inotify.
type Watcher struct {
	path    string
	notify  *fsnotify.Watcher
	clock   clock.WithTicker
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	seen     map[string]int // hash of the content to how many reads saw it
	order    []Sighting     // without repeats in a row
	strange  map[string]bool
	problems []string
	reads    int
	swaps    int
}

// Sighting is a content of the manifest, by its hash, and when it was first seen.
type Sighting struct {
	Hash string
	At   time.Time
}

// Hash is the sha256 of content in hex.
func Hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// Watch follows the manifest in a directory until the test ends.
func Watch(t T, manifestDir string) *Watcher {
	t.Helper()
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	if err = notify.Add(manifestDir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w := &Watcher{
		path: filepath.Join(manifestDir, ManifestName), notify: notify, clock: clock.RealClock{}, cancel: cancel,
		seen: map[string]int{}, strange: map[string]bool{},
	}
	w.running.Go(func() { w.run(ctx) })
	t.Cleanup(w.stop)
	return w
}

func (w *Watcher) stop() {
	w.cancel()
	w.running.Wait()
}

func (w *Watcher) run(ctx context.Context) {
	tick := w.clock.NewTicker(watchPoll)
	defer tick.Stop()
	for {
		w.look()
		select {
		case <-ctx.Done():
			if err := w.notify.Close(); err != nil {
				w.problemf("close inotify: %v", err)
			}
			return
		case e := <-w.notify.Events:
			w.event(e)
		case err := <-w.notify.Errors:
			w.problemf("inotify: %v", err)
		case <-tick.C():
		}
	}
}

// event notes what no careful writer does. A rename over the manifest is a Create of it and nothing else.
func (w *Watcher) event(e fsnotify.Event) {
	name := filepath.Base(e.Name)
	switch {
	case strings.HasPrefix(name, "."):
	case e.Name != w.path:
		w.stranger(name)
	case e.Op.Has(fsnotify.Remove), e.Op.Has(fsnotify.Rename):
		w.problemf("the manifest was taken away (%s)", e.Op)
	case e.Op.Has(fsnotify.Write):
		w.problemf("the manifest was written in place (%s)", e.Op)
	case e.Op.Has(fsnotify.Create):
		w.swapped()
	}
}

func (w *Watcher) swapped() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.swaps++
}

func (w *Watcher) look() {
	content, err := os.ReadFile(w.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.problemf("the manifest is absent")
	case err != nil:
		w.problemf("the manifest cannot be read: %v", err)
	default:
		w.content(Hash(content))
	}
	entries, err := os.ReadDir(filepath.Dir(w.path))
	if err != nil {
		w.problemf("the directory cannot be read: %v", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != filepath.Base(w.path) {
			w.stranger(e.Name())
		}
	}
}

func (w *Watcher) content(hash string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	w.seen[hash]++
	if len(w.order) == 0 || w.order[len(w.order)-1].Hash != hash {
		w.order = append(w.order, Sighting{hash, w.clock.Now()})
	}
}

func (w *Watcher) stranger(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strange[name] = true
}

func (w *Watcher) problemf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := fmt.Sprintf(format, args...); !slices.Contains(w.problems, p) {
		w.problems = append(w.problems, p)
	}
}

// Sightings returns the contents in the order in which they came, to within 10 ms.
func (w *Watcher) Sightings() []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order)
}

// Reads returns how often the manifest was read.
func (w *Watcher) Reads() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads
}

// Swaps returns how often the manifest was renamed over, also by the same content.
func (w *Watcher) Swaps() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.swaps
}

// Verify fails the test for each of the Problems.
func (w *Watcher) Verify(t T, allowed ...string) {
	t.Helper()
	for _, p := range w.Problems(allowed...) {
		t.Error(p)
	}
}

// Problems says if the manifest ever was absent, torn or anything but one of the allowed contents, or if any other name
// without a leading dot appeared beside it.
func (w *Watcher) Problems(allowed ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := slices.Clone(w.problems)
	for _, name := range slices.Sorted(maps.Keys(w.strange)) {
		found = append(found, fmt.Sprintf("a file that the kubelet would read appeared: %q", name))
	}
	for hash, reads := range w.seen {
		if !slices.Contains(allowed, hash) {
			found = append(found, fmt.Sprintf("the manifest had unexpected content %s (in %d of %d reads)", hash, reads, w.reads))
		}
	}
	return found
}
