package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Options says what to watch. The zero value watches all namespaces by the system's clock and logs nothing.
type Options struct {
	// Clock stamps what the watches say; nil is the system's.
	Clock clock.WithTicker
	// Namespace limits the watches to one namespace; empty is all.
	Namespace string
	// Logger hears of watches that end or cannot begin; the zero value discards.
	Logger logr.Logger
	// Processed hears, for every event, how long it took from its receipt until the tracker had it. It is called from one
	// goroutine, which it must not hold up. nil: nobody.
	Processed func(kind lag.Kind, delay time.Duration)
	// Watched hears when a watch begins: a relist or a resumption. It is called from several goroutines. nil: nobody.
	Watched func(kind lag.Kind, relist bool)
}

// Feed keeps a tracker up to date. It costs one watch for each of Pods, Services, EndpointSlices, Endpoints, Namespaces
// and Nodes (names and labels only), half a small request a second, five while much happens, and renewals of the
// watches, every five to ten minutes; the last three may be forbidden. It has a connection of its own, so that nothing
// else delays what it receives. It is a manager.Runnable that runs on every replica.
type Feed struct {
	clock   clock.WithTicker
	tracker *lag.Tracker
	options Options
	server  *url.URL
	client  *http.Client
	all     []*kind
	queue   *queue
	delays  *delays
	streams sync.WaitGroup

	synced  chan struct{}
	mu      sync.Mutex
	waiting int // kinds without their first list
}

// The times of client-go's own dialer (tlsTransportCache.get in k8s.io/client-go/transport).
const (
	dialTimeout = 30 * time.Second
	keepAlive   = 30 * time.Second
)

// NewFeed returns a feed that reads with the given configuration; the configuration itself is not changed.
func NewFeed(config *rest.Config, tracker *lag.Tracker, options Options) (*Feed, error) {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Logger.GetSink() == nil {
		options.Logger = logr.Discard()
	}
	config = rest.CopyConfig(config)
	config.Timeout = 0 // it would end every watch
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext
	}
	config.Dial = timed(dial, options.Clock)
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("build a client for the watches: %w", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the address of the API server: %w", err)
	}
	f := &Feed{
		clock: options.Clock, tracker: tracker, options: options, server: server, client: client,
		queue: newQueue(), delays: newDelays(tracker), synced: make(chan struct{}),
	}
	f.all = f.kinds()
	f.waiting = len(f.all)
	return f, nil
}

// Run feeds the tracker until ctx ends.
func Run(ctx context.Context, config *rest.Config, tracker *lag.Tracker, options Options) error {
	f, err := NewFeed(config, tracker, options)
	if err != nil {
		return err
	}
	return f.Start(ctx)
}

// Start feeds the tracker until ctx ends; nothing of it runs after it has returned. It must be called once. Watches that
// fail are retried, with their error logged and kept for WaitSynced.
func (f *Feed) Start(ctx context.Context) error {
	ctx = logr.NewContext(ctx, f.options.Logger)
	var applying, running sync.WaitGroup
	applying.Go(f.apply)
	running.Go(func() { f.delays.canary(ctx, f.clock) })
	running.Go(func() { f.delays.tell(ctx, f.clock) })
	running.Go(func() { f.probe(ctx) })
	for _, k := range f.all {
		s := &source{feed: f, kind: k}
		reflector := cache.NewReflectorWithOptions(s, nil, s, cache.ReflectorOptions{
			Name: k.name, TypeDescription: k.name, Logger: &f.options.Logger, Clock: f.clock,
		})
		running.Go(func() { reflector.RunWithContext(ctx) })
	}
	running.Wait()
	f.streams.Wait() // Their requests end with ctx.
	f.queue.close()
	applying.Wait()
	f.client.CloseIdleConnections()
	return nil
}

// NeedLeaderElection says that every replica measures.
func (f *Feed) NeedLeaderElection() bool { return false }

// Synced says whether all first lists reached the tracker, so that it records changes.
func (f *Feed) Synced() bool {
	select {
	case <-f.synced:
		return true
	default:
		return false
	}
}

// WaitSynced returns when all first lists reached the tracker. If ctx ends before, the error says what is missing and
// why.
func (f *Feed) WaitSynced(ctx context.Context) error {
	select {
	case <-f.synced:
		return nil
	case <-ctx.Done():
	}
	errs := []error{fmt.Errorf("wait for the first lists: %w", ctx.Err())}
	for _, k := range f.all {
		errs = append(errs, k.missing())
	}
	return errors.Join(errs...)
}

// listed counts a kind that has its first list; with the last one the tracker begins to record.
func (f *Feed) listed(k *kind) {
	k.mu.Lock()
	first := k.waiting
	k.waiting = false
	k.mu.Unlock()
	if !first {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.tracker.Synced(f.clock.Now())
		close(f.synced)
	}
}
