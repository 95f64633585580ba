// Package controllers holds the thin reconcilers: they gather what is known into plain values, ask the pure packages
// what to conclude and what to do next, write that, and report it. They decide nothing themselves.
package controllers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	served "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/metrics"
	"github.com/endpointsync/endpoint-sync-operator/internal/watch"
)

// Leader election at the pace of what it guards: decisions that take minutes, not seconds. A renewal every ten seconds
// is a tenth of a request a second.
const (
	leaseDuration = 60 * time.Second
	renewDeadline = 40 * time.Second
	retryPeriod   = 10 * time.Second
)

// Options are how the controller process runs.
type Options struct {
	Clock          clock.PassiveClock
	LeaderElect    bool
	Namespace      string // of the operator's own Lease and ConfigMap
	MetricsAddress string // "0": none
	ProbeAddress   string // "0": none
	TLS            []func(*tls.Config)
}

// Scheme returns the types that the operator reads and writes.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("build the scheme: %w", err)
		}
	}
	return scheme, nil
}

// Run measures and reconciles until ctx ends. Every replica measures, so that a new leader has its evidence; only the
// leader decides.
func Run(ctx context.Context, cfg *rest.Config, opts Options) error {
	mgr, err := newManager(cfg, opts)
	if err != nil {
		return err
	}
	figures := metrics.New()
	tracker, feed, err := newMeasurement(cfg, mgr, figures, opts.Clock)
	if err != nil {
		return err
	}
	signals := newSignalLog(tracker, opts.Clock)
	if err = mgr.AddReadyzCheck("measuring", measuring(feed)); err != nil {
		return fmt.Errorf("add a readiness check: %w", err)
	}
	if err = mgr.Add(feed); err != nil {
		return fmt.Errorf("add the endpoint watches: %w", err)
	}
	if err = mgr.Add(&signalFeed{cache: mgr.GetCache(), log: signals}); err != nil {
		return fmt.Errorf("add the node watch: %w", err)
	}
	server, err := newServerFeed(cfg, mgr, tracker, figures, opts.Clock)
	if err != nil {
		return err
	}
	if err = mgr.Add(server); err != nil {
		return fmt.Errorf("add the readings of the API server's health: %w", err)
	}
	platforms, err := addPlatformWatch(cfg, mgr, opts.Clock)
	if err != nil {
		return err
	}
	if err := (&NodeReconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Signals: signals, Clock: opts.Clock}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the node reconciler: %w", err)
	}
	policies := &PolicyReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: opts.Namespace, Clock: opts.Clock,
		Tracker: tracker, Signals: signals, Server: server.log, Metrics: figures,
		Events: mgr.GetEventRecorder("endpoint-sync-controller"), Synced: feed.Synced, Platform: platforms.finding,
		Episodes: &episodeBook{
			client: mgr.GetClient(), live: mgr.GetAPIReader(), clock: opts.Clock, namespace: opts.Namespace,
		},
	}
	if err := policies.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the policy reconciler: %w", err)
	}
	return mgr.Start(ctx)
}

// newMeasurement returns a tracker and what feeds it, with every figure of both in the registry that the manager serves.
func newMeasurement(
	cfg *rest.Config, mgr ctrl.Manager, figures *metrics.Set, clk clock.PassiveClock,
) (*lag.Tracker, *watch.Feed, error) {
	tracker := lag.NewTracker(lag.Options{Ended: figures.Ended})
	if err := figures.Register(served.Registry, tracker, clk); err != nil {
		return nil, nil, err
	}
	feed, err := watch.NewFeed(cfg, tracker, watch.Options{
		Logger: mgr.GetLogger().WithName("watch"), Processed: figures.Processed, Watched: figures.Watched,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("set up the endpoint watches: %w", err)
	}
	return tracker, feed, nil
}

// measuring is the check that the first lists are in: what changes before that is no sample.
func measuring(feed *watch.Feed) healthz.Checker {
	return func(*http.Request) error {
		if !feed.Synced() {
			return errors.New("the first lists of what is measured are not in")
		}
		return nil
	}
}

func newManager(cfg *rest.Config, opts Options) (ctrl.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                        scheme,
		LeaderElection:                opts.LeaderElect,
		LeaderElectionID:              "endpoint-sync-controller",
		LeaderElectionNamespace:       opts.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(retryPeriod),
		HealthProbeBindAddress:        opts.ProbeAddress,
		Metrics: metricsserver.Options{
			BindAddress:    opts.MetricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
			TLSOpts:        opts.TLS,
		},
		Cache:  cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&coordinationv1.Lease{}}}},
	})
	if err != nil {
		return nil, fmt.Errorf("set up the manager: %w", err)
	}
	for _, add := range []func(string, healthz.Checker) error{mgr.AddHealthzCheck, mgr.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return nil, fmt.Errorf("add a health check: %w", err)
		}
	}
	return mgr, nil
}
