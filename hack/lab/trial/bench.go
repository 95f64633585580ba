package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
	"github.com/endpointsync/endpoint-sync-operator/internal/watch"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	poll = 200 * time.Millisecond
	// refillMargin is added to the time in which an empty bucket fills.
	refillMargin = 500 * time.Millisecond
	// roundTimeout bounds a round: 3,000 Services at 20 qps take two and a half minutes.
	roundTimeout = 10 * time.Minute
	// startTimeout bounds the start of a kube-controller-manager.
	startTimeout = 2 * time.Minute
)

// Bench is a control plane with workloads and everything that observes them. Its methods are for one goroutine.
type Bench struct {
	*stage.Stage

	clock    clock.WithTicker
	began    time.Time
	progress io.Writer
	crowds   map[string]crowd
	services int
	observer *observer.Observer
	tracker  *lag.Tracker
	sampler  *sampler

	flags   v1alpha1.Flags
	drained time.Time // when the last round was published, so that buckets fill from then on
	rounds  int
}

// crowd is a workload that exists.
type crowd struct {
	Workload
	made *workload.Workload
}

// Open brings everything up, with all endpoints published and kube-controller-manager at its default flags.
func Open(ctx context.Context, progress io.Writer, workloads []Workload) (_ *Bench, err error) {
	b := &Bench{clock: clock.RealClock{}, progress: progress, crowds: map[string]crowd{}}
	b.began = b.clock.Now()
	if b.Stage, err = stage.New(ctx, controlplane.Options{Progress: progress}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if err = b.RunWith(ctx, stage.SetupFlags()); err != nil {
		return nil, err
	}
	for _, w := range workloads {
		b.Sayf("setting up %q: %d Services with %d Pods each", w.Name, w.Services, w.PodsPerService)
		made, failed := b.Populate(ctx, workload.Options{
			Namespace: w.Name, Services: w.Services, PodsPerService: w.PodsPerService,
		})
		if failed != nil {
			return nil, failed
		}
		b.crowds[w.Name] = crowd{w, made}
		b.services += w.Services
	}
	if err = b.observe(ctx); err != nil {
		return nil, err
	}
	return b, b.Set(ctx, v1alpha1.DefaultFlags())
}

// observe starts the independent observer and the operator's own feed and tracker.
func (b *Bench) observe(ctx context.Context) (err error) {
	b.observer, err = observer.Start(ctx, b.CP.Admin, observer.Options{ServiceLabel: workload.ServiceLabel})
	if err != nil {
		return err
	}
	b.Defer(func() error { b.observer.Stop(); return nil })
	b.tracker = lag.NewTracker(lag.Options{})
	feed, err := watch.NewFeed(b.CP.Admin, b.tracker, watch.Options{})
	if err != nil {
		return err
	}
	feeding, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- feed.Start(feeding) }()
	b.Defer(func() error { stop(); return <-ended })
	if err = feed.WaitSynced(ctx); err != nil {
		return err
	}
	b.sampler = &sampler{clock: b.clock}
	if b.sampler.kcm, err = scrape.NewKCM(b.CP.KCMURL, b.CP.Admin, ""); err != nil {
		return err
	}
	plain := rest.CopyConfig(b.CP.Admin)
	plain.DisableCompression = true // Compressing would cost the API server more than sending, once a second.
	b.sampler.server, err = scrape.NewAPIServer(plain)
	return err
}

// Set restarts kube-controller-manager with the given flags, and returns when it has looked at every Service once: its
// queues are empty then and its buckets full.
func (b *Bench) Set(ctx context.Context, f v1alpha1.Flags) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := b.RunWith(ctx, f); err != nil {
		return err
	}
	b.flags, b.drained = f, b.clock.Now()
	all := int64(b.services)
	idle := func(q v1alpha1.QueueSignals) bool {
		return q.Syncs != nil && *q.Syncs >= all && q.Depth != nil && *q.Depth == 0
	}
	return stage.WaitFor(ctx, "kube-controller-manager to have looked at every Service", poll, func(ctx context.Context) (bool, error) {
		k, err := b.sampler.readSignals(ctx)
		return err == nil && idle(k.Endpoints) && idle(k.EndpointSlices), nil // Until it serves, it is not idle.
	})
}

// Play makes a workload's incident once, from full buckets, and returns what was seen when all of it is published.
func (b *Bench) Play(ctx context.Context, name string) (Round, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, roundTimeout, errors.New("the round did not end in time"))
	defer cancel()
	c := b.crowds[name]
	sampling, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { b.sampler.run(sampling) })
	defer func() { stop(); running.Wait() }()
	from := b.clock.Now()
	if err := b.until(ctx, b.drained.Add(Refill(b.flags))); err != nil {
		return Round{}, err
	}
	b.rounds++
	window := fmt.Sprintf("round-%d", b.rounds)
	b.observer.Mark(window)
	begin := b.clock.Now()
	flip, err := c.made.FlipAt(ctx, c.Pace)
	if err != nil {
		return Round{}, err
	}
	seen, err := b.published(ctx, window, c.Pods())
	if err != nil {
		return Round{}, err
	}
	b.drained = b.clock.Now()
	stop()
	running.Wait()
	return Round{
		Flags: b.flags, Workload: c.Name, Services: c.Services, Pods: c.Pods(), FlipSeconds: flip.Duration.Seconds(),
		Slices: figuresOf(seen.EndpointSlice), Endpoints: figuresOf(seen.Endpoints),
		Evidence: b.evidence(from, begin),
	}, nil
}

// Evidence is what the operator would know of all that happened since a time.
func (b *Bench) Evidence(since time.Time) tuner.Evidence { return b.evidence(since, since) }

// Now is the time by the clock that evidence is stamped with.
func (b *Bench) Now() time.Time { return b.clock.Now() }

// evidence takes counters from a little earlier than changes: they tell what the API server does without load.
func (b *Bench) evidence(counters, changes time.Time) tuner.Evidence {
	now := b.clock.Now()
	signals, samples := b.sampler.since(counters)
	return tuner.Evidence{
		Now: now, Flags: b.flags, Leader: tuner.Led, Version: controlplane.KubernetesVersion,
		Signals: signals, Server: samples,
		Lag:    b.tracker.Summary(lag.Query{Since: changes, Now: now}),
		Demand: b.tracker.Demand(changes, now),
	}
}

// published waits until both the observer and the tracker have seen all of it.
func (b *Bench) published(ctx context.Context, window string, pods int) (observer.Result, error) {
	var seen observer.Result
	all := func(r observer.Resource) bool { return r.Pending == 0 && r.Changes+r.Superseded >= pods }
	err := stage.WaitFor(ctx, "everything to be published", poll, func(context.Context) (done bool, err error) {
		seen, err = b.observer.Result(window)
		return all(seen.EndpointSlice) && all(seen.Endpoints), err
	})
	if err != nil {
		return seen, err
	}
	since := seen.From
	return seen, stage.WaitFor(ctx, "the tracker to see it too", poll, func(context.Context) (bool, error) {
		for _, s := range b.tracker.Summary(lag.Query{Since: since, Now: b.clock.Now()}).Stats {
			if s.Open > 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// Refill is for how long a round waits after the one before, or after a restart: until empty buckets are full.
func Refill(f v1alpha1.Flags) time.Duration {
	return time.Duration(float64(f.KubeAPIBurst)/float64(max(f.KubeAPIQPS, 1))*float64(time.Second)) + refillMargin
}

func (b *Bench) until(ctx context.Context, t time.Time) error {
	timer := b.clock.NewTimer(-b.clock.Since(t))
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Sayf reports progress.
func (b *Bench) Sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, "%7.1fs  %s\n", b.clock.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}
