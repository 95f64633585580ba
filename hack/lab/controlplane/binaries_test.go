package controlplane

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakeGo is a "go" that makes an executable file where -o says and counts its calls.
const fakeGo = `#!/bin/sh
echo "$CGO_ENABLED $*" >> "$LAB_TEST_CALLS"
[ -s go.mod ] && [ -s go.sum ] || exit 7
[ "$LAB_TEST_FAIL" ] && { echo "no such package"; exit 1; }
while [ "$1" != -o ]; do shift; done
mkdir -p "$(dirname "$2")" && : > "$2" && chmod +x "$2"
`

// withFakeGo gives the test an empty cache and a fake toolchain, and returns the file of its calls.
func withFakeGo(t *testing.T) (calls string) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(fakeGo), 0o700); err != nil {
		t.Fatal(err)
	}
	calls = filepath.Join(t.TempDir(), "calls")
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("LAB_TEST_CALLS", calls)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(binDirVariable, "")
	return calls
}

func TestBinariesAreBuiltOnceWhenManyAsk(t *testing.T) {
	calls := withFakeGo(t)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			b, err := EnsureBinaries(t.Context(), io.Discard)
			if err != nil {
				t.Errorf("EnsureBinaries: %v", err)
				return
			}
			for _, path := range []string{b.Etcd, b.APIServer, b.ControllerManager} {
				if err = check(path); err != nil {
					t.Errorf("EnsureBinaries returned %+v, but %v", b, err)
				}
			}
		})
	}
	asking.Wait()
	raw, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(raw), "\n"); got != len(controlPlaneTargets()) {
		t.Errorf("go was called %d times, want %d:\n%s", got, len(controlPlaneTargets()), raw)
	}
	if strings.Count(string(raw), "0 build -trimpath") != len(controlPlaneTargets()) {
		t.Errorf("not all builds are static and trimmed:\n%s", raw)
	}
}

func TestANodeNeedsOnlyWhatTheControlPlaneHasNotBuilt(t *testing.T) {
	calls := withFakeGo(t)
	light, err := EnsureBinaries(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	node, err := EnsureNodeBinaries(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if node.Binaries != light {
		t.Errorf("a node runs %+v, want what the control plane runs: %+v", node.Binaries, light)
	}
	for _, path := range []string{node.Kubeadm, node.Kubectl, node.Kubelet, node.Proxy, node.Scheduler} {
		if err = check(path); err != nil {
			t.Errorf("EnsureNodeBinaries: %v", err)
		}
	}
	raw, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(raw), "\n"), len(controlPlaneTargets())+len(nodeTargets()); got != want {
		t.Errorf("go was called %d times, want %d:\n%s", got, want, raw)
	}
}

func TestAnInterruptedBuildGoesOnWhereItStopped(t *testing.T) {
	calls := withFakeGo(t)
	dir, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if err = os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(filepath.Join(dir, "etcd"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err = EnsureBinaries(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(raw), "\n"), len(controlPlaneTargets())-1; got != want {
		t.Errorf("go was called %d times, want %d:\n%s", got, want, raw)
	}
}

func TestAFailedBuildSaysWhyAndLeavesNoCache(t *testing.T) {
	withFakeGo(t)
	t.Setenv("LAB_TEST_FAIL", "1")
	_, err := EnsureBinaries(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no such package") {
		t.Errorf("EnsureBinaries = %v, want the compiler's words", err)
	}
	dir, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if path != dir+".lock" {
			t.Errorf("a failed build left %s", path)
		}
	}
}

func TestProgressNamesEachBinary(t *testing.T) {
	withFakeGo(t)
	var progress bytes.Buffer
	if _, err := EnsureBinaries(t.Context(), &progress); err != nil {
		t.Fatal(err)
	}
	for _, b := range controlPlaneTargets() {
		if !strings.Contains(progress.String(), b.name+": done, ") {
			t.Errorf("progress does not say that %s is done:\n%s", b.name, progress.String())
		}
	}
}

func TestABinDirThatLacksABinaryIsRefused(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(binDirVariable, dir)
	_, err := EnsureBinaries(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("EnsureBinaries = %v, want an error that names %s", err, dir)
	}
}
