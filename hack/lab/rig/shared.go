package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
)

// startTimeout bounds what a test binary does before its first test: the control plane's binaries may have to be built.
const startTimeout = 30 * time.Minute

// Environment is what the tests of one binary share, or the trials of one program: programs that are built once, and
// control planes.
type Environment struct {
	dir string

	operator, standin func() (string, error)
	shared            func() (*Cluster, error)

	mu       sync.Mutex
	clusters []*Cluster
}

// Main runs a binary's tests with an environment, and ends every control plane afterwards. Its result is for os.Exit.
//
//	func TestMain(m *testing.M) { os.Exit(rig.Main(m, func(e *rig.Environment) { environment = e })) }
func Main(m *testing.M, use func(*Environment)) int {
	e, err := NewEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		return 1
	}
	log.SetLogger(logr.Discard()) // Else controller-runtime complains after 30 s that nobody did.
	use(e)
	code := m.Run()
	if err = e.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
	}
	return code
}

// NewEnvironment returns an environment for a program that is no test. Close ends it.
func NewEnvironment() (*Environment, error) {
	dir, err := os.MkdirTemp("", "endpoint-sync-rig-")
	if err != nil {
		return nil, err
	}
	e := &Environment{dir: dir}
	e.operator = sync.OnceValues(func() (string, error) { return e.build(repository(), "endpoint-sync-operator", ".") })
	e.standin = sync.OnceValues(func() (string, error) {
		return e.build(filepath.Join(repository(), "hack", "lab"), "standin", "./standin")
	})
	e.shared = sync.OnceValues(func() (*Cluster, error) { return e.start("shared") })
	return e, nil
}

// Close ends every control plane and removes what the environment has built.
func (e *Environment) Close() error { return errors.Join(e.stop(), os.RemoveAll(e.dir)) }

// UseOperator has a binary run that was built before. It must be called before the first use of the operator.
func (e *Environment) UseOperator(path string) {
	e.operator = func() (string, error) { return path, nil }
}

// Operator returns the path of the operator's binary, built from this checkout the first time.
func (e *Environment) Operator(t T) string {
	t.Helper()
	return must(t, e.operator)
}

// StandIn returns the path of the stand-in for kube-controller-manager, built the first time.
func (e *Environment) StandIn(t T) string {
	t.Helper()
	return must(t, e.standin)
}

// Shared returns the control plane that all tests of the binary share, with the operator's manifests installed.
func (e *Environment) Shared(t T) *Cluster {
	t.Helper()
	return must(t, e.shared)
}

// Own starts a control plane that the test has for itself, for example because it stops the API server.
func (e *Environment) Own(t T) *Cluster {
	t.Helper()
	return must(t, func() (*Cluster, error) { return e.start(filepath.Base(t.TempDir())) })
}

func must[V any](t T, f func() (V, error)) V {
	t.Helper()
	value, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (e *Environment) start(name string) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	dir, err := os.MkdirTemp(e.dir, name+"-")
	if err != nil {
		return nil, err
	}
	cp, err := controlplane.Start(ctx, controlplane.Options{Dir: dir, UnsafeNoFsync: true, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	c := &Cluster{ControlPlane: cp}
	e.mu.Lock()
	e.clusters = append(e.clusters, c)
	e.mu.Unlock()
	if err = c.connect(); err != nil {
		return nil, err
	}
	if err = c.install(ctx, filepath.Join(repository(), "config", "default")); err != nil {
		return nil, fmt.Errorf("install the operator: %w", err)
	}
	return c, nil
}

func (e *Environment) stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	for _, c := range e.clusters {
		err = errors.Join(err, c.Stop())
	}
	return err
}

// build compiles a package as the Makefile does, so that the build cache serves both.
func (e *Environment) build(module, name, pkg string) (string, error) {
	path := filepath.Join(e.dir, name)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// repository is the directory of the checkout that this file was compiled from.
func repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(file))))
}
