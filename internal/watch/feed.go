package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Options says what to watch. The zero value watches all namespaces by the system's clock and logs nothing.
type Options struct {
	// Clock stamps what the watches say; nil is the system's.
	Clock clock.PassiveClock
	// Namespace limits the watches to one namespace; empty is all.
	Namespace string
	// Logger hears of watches that end or cannot begin; the zero value discards.
	Logger logr.Logger
}

// Feed keeps a tracker up to date. It costs one list and one watch for each of Pods, Services, EndpointSlices, Endpoints
// and Namespaces (names and labels only), and no request after that but to renew the watches. It is a manager.Runnable
// that runs on every replica.
type Feed struct {
	clients clients
	tracker *lag.Tracker
	options Options
	sinks   []*sink

	synced  chan struct{}
	mu      sync.Mutex
	waiting int // sinks without their first list
}

// clients are the API clients a feed reads with.
type clients struct {
	kube       kubernetes.Interface
	namespaces metadata.Interface
}

// protobuf is the cheapest encoding of the built-in kinds.
const protobuf = "application/vnd.kubernetes.protobuf"

// NewFeed returns a feed that reads with the given configuration, asking for protobuf; the configuration itself is not
// changed.
func NewFeed(config *rest.Config, tracker *lag.Tracker, options Options) (*Feed, error) {
	config = rest.CopyConfig(config)
	config.Timeout = 0                        // it would end every watch
	config.WarningHandler = rest.NoWarnings{} // Endpoints is deprecated, and read knowingly
	namespaces, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("build a client for namespaces: %w", err)
	}
	config.ContentType = protobuf
	config.AcceptContentTypes = protobuf + ",application/json"
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("build a client for pods, services and endpoints: %w", err)
	}
	return newFeed(clients{kube: kube, namespaces: namespaces}, tracker, options), nil
}

func newFeed(c clients, tracker *lag.Tracker, options Options) *Feed {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Logger.GetSink() == nil {
		options.Logger = logr.Discard()
	}
	f := &Feed{clients: c, tracker: tracker, options: options, synced: make(chan struct{})}
	f.sinks = []*sink{f.pods(), f.services(), f.endpointSlices(), f.endpoints(), f.namespaces()}
	f.waiting = len(f.sinks)
	for _, s := range f.sinks {
		s.clock, s.listed = options.Clock, f.listed
	}
	return f
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
	var running sync.WaitGroup
	for _, s := range f.sinks {
		reflector := cache.NewReflectorWithOptions(s.source, s.example, s, cache.ReflectorOptions{
			Name: s.name, Logger: &f.options.Logger,
		})
		running.Go(func() { reflector.RunWithContext(ctx) })
	}
	running.Wait()
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
	for _, s := range f.sinks {
		errs = append(errs, s.missing())
	}
	return errors.Join(errs...)
}

// listed counts a sink that has its first list; with the last one the tracker begins to record.
func (f *Feed) listed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.tracker.Synced(f.options.Clock.Now())
		close(f.synced)
	}
}
