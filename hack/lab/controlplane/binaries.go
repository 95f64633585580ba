package controlplane

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
)

// The versions that the lab runs. They are those of binaries.mod, the module file the binaries are built from; a test
// holds the two together.
const (
	KubernetesVersion = "v1.37.2"
	EtcdVersion       = "v3.7.3"
)

// binDirVariable names a directory that holds the three binaries already; nothing is built then.
const binDirVariable = "LAB_BIN"

// binaries.mod and binaries.sum are a go.mod and go.sum of their own, so that Kubernetes' dependencies neither weigh on
// nor are moved by the lab's, and the binaries are what upstream's own versions make them.
var (
	//go:embed binaries.mod
	binariesMod []byte
	//go:embed binaries.sum
	binariesSum []byte
)

// Binaries are the paths of the control plane's executables.
type Binaries struct {
	Etcd              string
	APIServer         string
	ControllerManager string
}

// binariesIn returns the binaries as they lie in a directory, whether or not they exist.
func binariesIn(dir string) Binaries {
	return Binaries{
		Etcd:              filepath.Join(dir, "etcd"),
		APIServer:         filepath.Join(dir, "kube-apiserver"),
		ControllerManager: filepath.Join(dir, "kube-controller-manager"),
	}
}

func (b Binaries) check() error {
	for _, path := range []string{b.Etcd, b.APIServer, b.ControllerManager} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("find binary: %w", err)
		}
		if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			return fmt.Errorf("find binary: %s is not an executable file", path)
		}
	}
	return nil
}

// CacheDir is where the binaries are kept between runs, outside any source tree.
func CacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache directory (set LAB_BIN or XDG_CACHE_HOME): %w", err)
	}
	return filepath.Join(cache, "endpoint-sync-lab", KubernetesVersion+"-etcd-"+EtcdVersion), nil
}

// EnsureBinaries returns the control plane's binaries: those of the directory in LAB_BIN if it is set, else those of the
// cache, which it builds from Go modules the first time (12 to 15 minutes on two cores; seconds with a warm Go build
// cache). Processes that ask at the same time build once. Progress is written as lines, and may be io.Discard.
func EnsureBinaries(ctx context.Context, progress io.Writer) (Binaries, error) {
	if dir := os.Getenv(binDirVariable); dir != "" {
		b := binariesIn(dir)
		if err := b.check(); err != nil {
			return Binaries{}, fmt.Errorf("%s=%s: %w", binDirVariable, dir, err)
		}
		return b, nil
	}
	dir, err := CacheDir()
	if err != nil {
		return Binaries{}, err
	}
	if b := binariesIn(dir); b.check() == nil {
		return b, nil
	}
	return buildOnce(ctx, dir, progress)
}

// buildOnce builds into a temporary directory beside dir and renames it to dir, under a lock that other processes of the
// same user honour; so dir is complete whenever it exists.
func buildOnce(ctx context.Context, dir string, progress io.Writer) (_ Binaries, err error) {
	if err = os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return Binaries{}, fmt.Errorf("make cache: %w", err)
	}
	unlock, err := lock(ctx, dir+".lock", progress)
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	if b := binariesIn(dir); b.check() == nil {
		return b, nil // Somebody else built while we waited.
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".building-")
	if err != nil {
		return Binaries{}, fmt.Errorf("make cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err = build(ctx, temp, progress); err != nil {
		return Binaries{}, err
	}
	if err = os.RemoveAll(dir); err != nil { // Incomplete, or the check above would have passed.
		return Binaries{}, fmt.Errorf("replace incomplete cache: %w", err)
	}
	if err = os.Rename(filepath.Join(temp, "bin"), dir); err != nil {
		return Binaries{}, fmt.Errorf("put binaries in place: %w", err)
	}
	return binariesIn(dir), nil
}

// lock takes an exclusive file lock, which the kernel releases when the process ends, however it ends.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	unlock = func() { _ = f.Close() }
	told := false
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			unlock()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			_, _ = fmt.Fprintf(progress, "another process builds the control plane's binaries; waiting for it\n")
			told = true
		}
		select {
		case <-ctx.Done():
			unlock()
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		case <-clock.RealClock{}.After(lockPoll):
		}
	}
}

// lockPoll is how often a waiting process asks for the lock again: short against a build of minutes.
const lockPoll = 500 * time.Millisecond

// target is one binary and how it is built.
type target struct {
	name, pkg, ldflags string
}

func targets() []target {
	const version = "-s -w -X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
	return []target{
		{"etcd", "go.etcd.io/etcd/server/v3", "-s -w"},
		{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", version},
		{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", version},
	}
}

// build makes temp/bin with the three binaries, from the embedded module file.
func build(ctx context.Context, temp string, progress io.Writer) error {
	for name, content := range map[string][]byte{"go.mod": binariesMod, "go.sum": binariesSum} {
		if err := os.WriteFile(filepath.Join(temp, name), content, 0o600); err != nil {
			return fmt.Errorf("write module file: %w", err)
		}
	}
	_, _ = fmt.Fprintf(progress, "building etcd %s, kube-apiserver and kube-controller-manager %s, once: "+
		"up to 15 minutes on two cores\n", EtcdVersion, KubernetesVersion)
	started := clock.RealClock{}.Now()
	for i, t := range targets() {
		label := fmt.Sprintf("[%d/%d] %s", i+1, len(targets()), t.name)
		stop := every(progressPeriod, func() {
			_, _ = fmt.Fprintf(progress, "%s: building, %s elapsed\n", label, clock.RealClock{}.Since(started).Round(time.Second))
		})
		out, err := goBuild(ctx, temp, t)
		stop()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", t.name, err, out)
		}
		_, _ = fmt.Fprintf(progress, "%s: done, %s elapsed\n", label, clock.RealClock{}.Since(started).Round(time.Second))
	}
	return nil
}

// progressPeriod is how often a long build says that it is alive.
const progressPeriod = 10 * time.Second

func goBuild(ctx context.Context, temp string, t target) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", t.ldflags, "-o", filepath.Join(temp, "bin", t.name), t.pkg)
	cmd.Dir = temp
	// The caller's workspace and flags are about the caller's module, not about this one.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly", "GO111MODULE=on")
	return cmd.CombinedOutput()
}

// every calls f each period until stop is called; stop returns when f is not running and will not run again.
func every(period time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	ticker := clock.RealClock{}.NewTicker(period)
	go func() {
		defer close(ended)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C():
				f()
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
