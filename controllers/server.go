package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/metrics"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

const (
	// serverPace is how often the API server's counters are read while they matter, and every quietServer-th time of that
	// otherwise: a thirtieth of a request a second, of an answer of some megabytes.
	serverPace  = 5 * time.Second
	quietServer = 6

	// afterRollout is for how long after a change of flags they matter: the two windows that judge it.
	afterRollout = 2 * time.Minute

	// openLately is how old an open change may be to make them matter: one that never ends must not do so for ever.
	openLately = 10 * time.Minute

	// maxServer is how many samples are kept, of some 2 KiB each: at the pace of an incident 85 minutes, more than the
	// look-back of an incident of the default window.
	maxServer = 1024
)

// serverLog keeps what the API servers told of themselves. It starts empty with the process. A nil one is empty.
type serverLog struct {
	mu      sync.Mutex
	samples []tuner.ServerSample
}

func (l *serverLog) add(s tuner.ServerSample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
	l.samples = slices.Delete(l.samples, 0, max(0, len(l.samples)-maxServer))
}

// between returns the samples of a time, oldest first.
func (l *serverLog) between(from, to time.Time) []tuner.ServerSample {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []tuner.ServerSample
	for _, s := range l.samples {
		if !s.Time.Before(from) && !s.Time.After(to) {
			out = append(out, s)
		}
	}
	return out
}

// serverReader is an API server's counters; internal/scrape has the one that asks it.
type serverReader interface {
	Sample(ctx context.Context) (tuner.ServerSample, error)
}

// serverFeed reads the API server's counters into a log, also on replicas that do not lead.
type serverFeed struct {
	reader  serverReader
	nodes   client.Reader // from the cache
	tracker *lag.Tracker
	metrics *metrics.Set
	clock   clock.WithTicker
	log     *serverLog

	failed string // why the last reading failed, if it did
}

func newServerFeed(
	cfg *rest.Config, mgr ctrl.Manager, tracker *lag.Tracker, figures *metrics.Set, clk clock.PassiveClock,
) (*serverFeed, error) {
	reader, err := scrape.NewAPIServer(cfg)
	if err != nil {
		return nil, fmt.Errorf("set up the readings of the API server's health: %w", err)
	}
	return &serverFeed{
		reader: reader, nodes: mgr.GetClient(), tracker: tracker, metrics: figures, clock: ticking(clk), log: &serverLog{},
	}, nil
}

// ticking is the clock itself, or the real one if it cannot wait.
func ticking(clk clock.PassiveClock) clock.WithTicker {
	if c, ok := clk.(clock.WithTicker); ok {
		return c
	}
	return clock.RealClock{}
}

// NeedLeaderElection is false: every replica gathers evidence.
func (*serverFeed) NeedLeaderElection() bool { return false }

// Start reads until ctx ends. What cannot be read is logged once and tried again.
func (f *serverFeed) Start(ctx context.Context) error {
	ticker := f.clock.NewTicker(serverPace)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%quietServer == 0 || f.busy(ctx) {
			f.read(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (f *serverFeed) read(ctx context.Context) {
	sample, err := f.reader.Sample(ctx)
	if err != nil {
		if ctx.Err() == nil && err.Error() != f.failed {
			ctrl.LoggerFrom(ctx).Error(err, "Read the API server's health; guardrails hold raises where the policy asks for it")
			f.failed = err.Error()
		}
		f.metrics.SetServer(tuner.Load{})
		return
	}
	sample.Time, f.failed = f.clock.Now(), ""
	f.log.add(sample)
	f.metrics.SetServer(tuner.ServerLoad(f.log.between(sample.Time.Add(-openLately), sample.Time)))
}

// busy says whether a decision is likely soon, or a change of flags has to be judged.
func (f *serverFeed) busy(ctx context.Context) bool {
	now := f.clock.Now()
	if _, open := f.tracker.OldestOpen(now.Add(-openLately), now); open {
		return true
	}
	var nodes v1alpha1.EndpointSyncNodeList
	if err := f.nodes.List(ctx, &nodes); err != nil {
		return !errors.Is(ctx.Err(), context.Canceled) // Not known: rather once too often.
	}
	all := nodes.Nodes()
	return anyInFlight(rolloutNodes(all)) || now.Sub(lastChange(all)) < afterRollout
}
