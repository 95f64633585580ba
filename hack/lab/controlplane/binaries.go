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
	"strings"
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

// binDirVariable names a directory that holds the binaries already; nothing is built then.
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

// NodeBinaries are the paths of everything that a control-plane node of kubeadm runs, and of kubectl.
type NodeBinaries struct {
	Binaries

	Kubeadm   string
	Kubectl   string
	Kubelet   string
	Proxy     string
	Scheduler string
}

// binariesIn returns the binaries as they lie in a directory, whether or not they exist.
func binariesIn(dir string) NodeBinaries {
	return NodeBinaries{
		Binaries: Binaries{
			Etcd:              filepath.Join(dir, "etcd"),
			APIServer:         filepath.Join(dir, "kube-apiserver"),
			ControllerManager: filepath.Join(dir, "kube-controller-manager"),
		},
		Kubeadm:   filepath.Join(dir, "kubeadm"),
		Kubectl:   filepath.Join(dir, "kubectl"),
		Kubelet:   filepath.Join(dir, "kubelet"),
		Proxy:     filepath.Join(dir, "kube-proxy"),
		Scheduler: filepath.Join(dir, "kube-scheduler"),
	}
}

// check says why the binary at a path cannot be run.
func check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("find binary: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("find binary: %s is not an executable file", path)
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
	dir, err := ensure(ctx, controlPlaneTargets(), progress)
	return binariesIn(dir).Binaries, err
}

// EnsureNodeBinaries is EnsureBinaries for all that a node runs. Both share one cache, in which nothing is built twice.
func EnsureNodeBinaries(ctx context.Context, progress io.Writer) (NodeBinaries, error) {
	dir, err := ensure(ctx, append(controlPlaneTargets(), nodeTargets()...), progress)
	return binariesIn(dir), err
}

// ensure returns the directory in which all wanted binaries are.
func ensure(ctx context.Context, wanted []target, progress io.Writer) (dir string, err error) {
	if dir = os.Getenv(binDirVariable); dir != "" {
		for _, t := range wanted {
			if err = check(filepath.Join(dir, t.name)); err != nil {
				return "", fmt.Errorf("%s=%s: %w", binDirVariable, dir, err)
			}
		}
		return dir, nil
	}
	if dir, err = CacheDir(); err != nil {
		return "", err
	}
	if len(missing(dir, wanted)) == 0 {
		return dir, nil
	}
	return dir, buildOnce(ctx, dir, wanted, progress)
}

// missing returns those of the wanted binaries that a directory lacks.
func missing(dir string, wanted []target) []target {
	var absent []target
	for _, t := range wanted {
		if check(filepath.Join(dir, t.name)) != nil {
			absent = append(absent, t)
		}
	}
	return absent
}

// buildOnce builds what is missing, under a lock that other processes of the same user honour. Each binary is built in a
// temporary directory beside dir and renamed into dir; so each is complete whenever it exists, and none that an
// interrupted build has finished is lost.
func buildOnce(ctx context.Context, dir string, wanted []target, progress io.Writer) (err error) {
	if err = os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	unlock, err := lock(ctx, dir+".lock", progress)
	if err != nil {
		return err
	}
	defer unlock()
	wanted = missing(dir, wanted) // Somebody else may have built while we waited.
	if len(wanted) == 0 {
		return nil
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".building-")
	if err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	return build(ctx, temp, dir, wanted, progress)
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

// stamp is what makes a component know its version; kubeadm refuses others that do not.
const stamp = "-s -w -X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"

// controlPlaneTargets are what Binaries name.
func controlPlaneTargets() []target {
	return []target{
		{"etcd", "go.etcd.io/etcd/server/v3", "-s -w"},
		{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", stamp},
		{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", stamp},
	}
}

// nodeTargets are what NodeBinaries name besides.
func nodeTargets() []target {
	return []target{
		{"kubelet", "k8s.io/kubernetes/cmd/kubelet", stamp},
		{"kubeadm", "k8s.io/kubernetes/cmd/kubeadm", stamp},
		{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", stamp},
		{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", stamp},
		{"kubectl", "k8s.io/kubernetes/cmd/kubectl", stamp},
	}
}

// build makes binaries from the embedded module file and puts each into dir.
func build(ctx context.Context, temp, dir string, wanted []target, progress io.Writer) error {
	for name, content := range map[string][]byte{"go.mod": binariesMod, "go.sum": binariesSum} {
		if err := os.WriteFile(filepath.Join(temp, name), content, 0o600); err != nil {
			return fmt.Errorf("write module file: %w", err)
		}
	}
	_, _ = fmt.Fprintf(progress, "building %s (Kubernetes %s, etcd %s), once: up to 15 minutes on two cores\n",
		names(wanted), KubernetesVersion, EtcdVersion)
	started := clock.RealClock{}.Now()
	for i, t := range wanted {
		label := fmt.Sprintf("[%d/%d] %s", i+1, len(wanted), t.name)
		stop := every(progressPeriod, func() {
			_, _ = fmt.Fprintf(progress, "%s: building, %s elapsed\n", label, clock.RealClock{}.Since(started).Round(time.Second))
		})
		out, err := goBuild(ctx, temp, t)
		stop()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", t.name, err, out)
		}
		if err = put(filepath.Join(temp, "bin", t.name), dir); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(progress, "%s: done, %s elapsed\n", label, clock.RealClock{}.Since(started).Round(time.Second))
	}
	return nil
}

// put moves a finished binary into the cache.
func put(binary, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	if err := os.Rename(binary, filepath.Join(dir, filepath.Base(binary))); err != nil {
		return fmt.Errorf("put binary in place: %w", err)
	}
	return nil
}

func names(targets []target) string {
	var list []string
	for _, t := range targets {
		list = append(list, t.name)
	}
	return strings.Join(list, ", ")
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
