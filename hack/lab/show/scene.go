package show

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	namespace    = "shop"
	manifestName = "kube-controller-manager.yaml"
	// setupPace are the flags under which the endpoints of a new workload are made: it is not part of what is shown.
	setupQPS, setupBurst, setupWorkers = 1000, 2000, 50
	poll                               = 200 * time.Millisecond
)

// Options are what the demo and the benchmark take.
type Options struct {
	Operator string // path of the operator's binary
	Config   string // the repository's config directory
	Out      string // directory for the results
	Services int
	Rounds   int           // of the benchmark
	Pace     workload.Pace // of an incident; zero: as fast as can be
	Progress io.Writer
}

// scene is a control plane whose kube-controller-manager a static-Pod runner keeps, a workload, and the observer.
type scene struct {
	Options
	cp       *controlplane.ControlPlane
	nodes    *controlplane.Nodes
	runner   *staticpod.Runner
	work     *workload.Workload
	observer *observer.Observer
	kube     kubernetes.Interface
	objects  client.Client
	clock    clock.WithTicker
	began    time.Time
	manifest []byte         // as kubeadm writes it: no flag of ours
	undo     []func() error // ends what was started
	watchdog []func() error // fails when a process that must run has ended
}

// newScene brings all of it up, with every endpoint in place and kube-controller-manager at its default flags.
func newScene(ctx context.Context, o Options) (_ *scene, err error) {
	s := &scene{Options: o, clock: clock.RealClock{}}
	s.began = s.clock.Now()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.sayf("starting etcd and kube-apiserver %s (the first time they are built from Go modules: 15 minutes)", controlplane.KubernetesVersion)
	if s.cp, err = controlplane.Start(ctx, controlplane.Options{Progress: o.Progress}); err != nil {
		return s, err
	}
	s.undo = append(s.undo, s.cp.Stop)
	if s.nodes, err = controlplane.StartNodes(ctx, s.cp.Admin, 1, 4); err != nil {
		return s, err
	}
	s.undo = append(s.undo, func() error { s.nodes.Stop(); return nil })
	if err = s.clients(); err != nil {
		return s, err
	}
	if s.manifest, err = s.cp.KCMManifest(); err != nil {
		return s, err
	}
	if err = s.populate(ctx); err != nil {
		return s, err
	}
	s.sayf("kube-controller-manager at its default flags")
	if err = s.runDefaults(ctx); err != nil {
		return s, err
	}
	s.observer, err = observer.Start(ctx, s.cp.Admin, observer.Options{Namespace: namespace, ServiceLabel: workload.ServiceLabel})
	if err != nil {
		return s, err
	}
	s.undo = append(s.undo, func() error { s.observer.Stop(); return nil })
	return s, nil
}

func (s *scene) clients() (err error) {
	if s.kube, err = kubernetes.NewForConfig(s.cp.Admin); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	scheme := runtime.NewScheme()
	if err = v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	if s.objects, err = client.New(s.cp.Admin, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return nil
}

// populate makes the workload's endpoints under a fast kube-controller-manager, which then goes.
func (s *scene) populate(ctx context.Context) (err error) {
	s.sayf("setting up %d Services with one Pod each", s.Services)
	dir := filepath.Join(s.cp.Dir, "setup-manifests")
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fast := v1alpha1.Flags{
		KubeAPIQPS: setupQPS, KubeAPIBurst: setupBurst,
		ConcurrentEndpointSyncs: setupWorkers, ConcurrentServiceEndpointSyncs: setupWorkers,
	}
	if err = writeManifest(dir, withFlags(s.manifest, fast)); err != nil {
		return err
	}
	runner, err := s.startRunner(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release(ctx, runner)) }()
	s.work, err = workload.New(s.cp.Admin, workload.Options{Namespace: namespace, Services: s.Services, Nodes: s.nodes.Workers})
	if err != nil {
		return err
	}
	if err = s.work.Setup(ctx); err != nil {
		return err
	}
	return s.work.WaitConverged(ctx)
}

// release ends a runner and frees the Lease that its process held, so that the next one leads at once.
func (s *scene) release(ctx context.Context, runner *staticpod.Runner) error {
	runner.Stop()
	err := s.kube.CoordinationV1().Leases("kube-system").Delete(ctx, "kube-controller-manager", metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("free the Lease of kube-controller-manager: %w", err)
	}
	return nil
}

func (s *scene) runDefaults(ctx context.Context) (err error) {
	if err = os.MkdirAll(s.manifestDir(), 0o700); err != nil {
		return err
	}
	return s.runWith(ctx, s.manifest)
}

// runWith replaces the running kube-controller-manager by one with the given manifest, and returns when it leads.
func (s *scene) runWith(ctx context.Context, manifest []byte) (err error) {
	if s.runner != nil {
		if err = s.release(ctx, s.runner); err != nil {
			return err
		}
	} else {
		s.undo = append(s.undo, func() error { s.runner.Stop(); return nil })
	}
	if err = writeManifest(s.manifestDir(), manifest); err != nil {
		return err
	}
	if s.runner, err = s.startRunner(ctx, s.manifestDir()); err != nil {
		return err
	}
	return s.waitFor(ctx, "kube-controller-manager to lead", func(ctx context.Context) (bool, error) {
		lease, err := s.kube.CoordinationV1().Leases("kube-system").Get(ctx, "kube-controller-manager", metav1.GetOptions{})
		return err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "", nil
	})
}

func (s *scene) startRunner(ctx context.Context, dir string) (*staticpod.Runner, error) {
	return staticpod.Start(ctx, staticpod.Options{
		ManifestDir: dir, LogDir: s.cp.Logs, NodeName: s.node(), Client: s.kube,
		Binaries: map[string]string{"kube-controller-manager": s.cp.Binaries.ControllerManager},
	})
}

func (s *scene) manifestDir() string { return filepath.Join(s.cp.Dir, "manifests") }
func (s *scene) node() string        { return s.nodes.ControlPlane[0] }

// incident flips every Pod and waits until all of it shows, saying how it goes.
func (s *scene) incident(ctx context.Context, name string) (workload.FlipResult, observer.Result, error) {
	s.observer.Mark(name)
	type ended struct {
		flip workload.FlipResult
		err  error
	}
	done := make(chan ended, 1)
	go func() {
		flip, err := s.work.FlipAt(ctx, s.Pace)
		if err == nil {
			err = s.work.WaitConverged(ctx)
		}
		done <- ended{flip, err}
	}()
	ticker := s.clock.NewTicker(3 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case end := <-done:
			if end.err != nil {
				return end.flip, observer.Result{}, fmt.Errorf("incident %s: %w", name, end.err)
			}
			result, err := s.settled(ctx, name)
			return end.flip, result, err
		case <-ticker.C():
			if r, err := s.observer.Result(name); err == nil {
				s.sayf("  EndpointSlices %4d of %d changes visible, Endpoints %4d, oldest wait %s",
					r.EndpointSlice.Changes-r.EndpointSlice.Pending, s.Services,
					r.Endpoints.Changes-r.Endpoints.Pending, max(oldest(r.EndpointSlice), oldest(r.Endpoints)).Round(time.Second))
			}
		}
	}
}

// settled waits until the observer has seen the end too.
func (s *scene) settled(ctx context.Context, name string) (observer.Result, error) {
	var result observer.Result
	err := s.waitFor(ctx, "the observer to have seen all of it", func(context.Context) (done bool, err error) {
		result, err = s.observer.Result(name)
		return result.EndpointSlice.Pending+result.Endpoints.Pending == 0 && result.EndpointSlice.Changes == s.Services, err
	})
	return result, err
}

func oldest(r observer.Resource) time.Duration {
	var age time.Duration
	for _, c := range r.Series {
		if c.Pending {
			age = max(age, c.Lag)
		}
	}
	return age
}

// restarts is how many processes the present runner started after its first.
func (s *scene) restarts() int { return len(s.runner.Processes()) - 1 }

// waitFor polls until the condition holds; the context bounds it.
func (s *scene) waitFor(ctx context.Context, what string, condition wait.ConditionWithContextFunc) error {
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		if err := s.alive(); err != nil {
			return false, err
		}
		return condition(ctx)
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, errors.Join(err, context.Cause(ctx)))
	}
	return nil
}

// pause lets token buckets fill and watches settle.
func (s *scene) pause(ctx context.Context, d time.Duration) error {
	timer := s.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *scene) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Progress, "%6.1fs  %s\n", s.clock.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// close ends everything, the last started first.
func (s *scene) close() error {
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}
