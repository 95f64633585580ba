package show

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	namespace = "shop"
	poll      = 200 * time.Millisecond
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

// scene is a control plane with kube-controller-manager, a workload, and the observer.
type scene struct {
	Options
	*stage.Stage

	work     *workload.Workload
	observer *observer.Observer
	objects  client.Client
	clock    clock.WithTicker
	began    time.Time
	watchdog []func() error // fails when a process that must run has ended
}

// newScene brings all of it up, with every endpoint in place and kube-controller-manager at its default flags.
func newScene(ctx context.Context, o Options) (_ *scene, err error) {
	s := &scene{Options: o, clock: clock.RealClock{}}
	s.began = s.clock.Now()
	s.sayf("starting etcd and kube-apiserver %s (the first time they are built from Go modules: 15 minutes)", controlplane.KubernetesVersion)
	if s.Stage, err = stage.New(ctx, controlplane.Options{Progress: o.Progress}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	scheme := runtime.NewScheme()
	if err = v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if s.objects, err = client.New(s.CP.Admin, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	s.sayf("setting up %d Services with one Pod each", s.Services)
	if err = s.RunWith(ctx, stage.SetupFlags()); err != nil {
		return nil, err
	}
	if s.work, err = s.Populate(ctx, workload.Options{Namespace: namespace, Services: s.Services}); err != nil {
		return nil, err
	}
	s.sayf("kube-controller-manager at its default flags")
	if err = s.RunWith(ctx, v1alpha1.Flags{}); err != nil {
		return nil, err
	}
	s.observer, err = observer.Start(ctx, s.CP.Admin, observer.Options{Namespace: namespace, ServiceLabel: workload.ServiceLabel})
	if err != nil {
		return nil, err
	}
	s.Defer(func() error { s.observer.Stop(); return nil })
	return s, nil
}

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

// waitFor polls until the condition holds; the context bounds it.
func (s *scene) waitFor(ctx context.Context, what string, condition wait.ConditionWithContextFunc) error {
	return stage.WaitFor(ctx, what, poll, func(ctx context.Context) (bool, error) {
		if err := s.alive(); err != nil {
			return false, err
		}
		return condition(ctx)
	})
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
