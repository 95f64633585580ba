package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

const (
	// tick is how often progress is shown.
	tick = time.Second
	// ticksPerLease is how many ticks lie between two readings of the Lease, which is renewed every two seconds.
	ticksPerLease = 2
	// ticksPerRead is how many ticks lie between two readings of flags and counters.
	ticksPerRead = 5
	// settle is for how long the watches go on after the end: they tell about each second how late its stamps were, when
	// it is over and by a ticker of one second.
	settle = 2200 * time.Millisecond
	// readTimeout ends a reading that hangs: the measurement goes on without it.
	readTimeout = 3 * time.Second
	// syncGrace is how long before we hear that the first lists are in the tracker may have begun to record: nothing is
	// recorded before, so that more does no harm.
	syncGrace = time.Second
	// worstShown and worstPrinted are how many Services are listed while it measures, and in the result.
	worstShown, worstPrinted = 5, 10
	// syncTimeout is how long the first lists may take: 150,000 Pods need less than half of it.
	syncTimeout = 2 * time.Minute
)

// kcmNamespace and kcmLabel are where kubeadm-like platforms show kube-controller-manager's mirror Pods.
const (
	kcmNamespace = "kube-system"
	kcmName      = "kube-controller-manager"
	kcmLabel     = "component"
)

// feed fills a tracker from watches; internal/watch has the one for API servers.
type feed interface {
	Start(ctx context.Context) error
	WaitSynced(ctx context.Context) error
}

// kcm is what a kube-controller-manager tells of itself.
type kcm interface {
	Configuration(ctx context.Context) (scrape.Configuration, error)
	Signals(ctx context.Context) (scrape.Signals, error)
}

// apiServer is what an API server tells of itself.
type apiServer interface {
	Sample(ctx context.Context) (tuner.ServerSample, error)
}

// session measures over one person's connection for a while: it watches, and reads on the side what it may of
// kube-controller-manager. It writes nothing.
type session struct {
	client  client.Reader
	feed    feed
	tracker *lag.Tracker
	clock   clock.WithTicker
	kcm     kcm    // nil: none was given
	kcmURL  string // of kcm

	apiServer apiServer                                         // nil: none was given
	look      func(ctx context.Context) (platform.Facts, error) // nil: nobody looks at the platform
	current   v1alpha1.Flags
	narrow    string // the only namespace that is watched; empty: all
	noCRD     bool   // the operator's kinds are not installed
	platform  platform.Finding
	view      view

	since    time.Time // when it began; zero while the first lists are awaited
	until    time.Time // when it ended
	cause    tuner.Bottleneck
	lease    leaseWatch
	readings readings
	first    running // at the beginning
	signals  []v1alpha1.KCMSignals
	server   []tuner.ServerSample
	unread   unreadable // what could not be read, with the latest reason
}

// view is what is asked about what is measured.
type view struct {
	scope     report.Scope
	measured  func(lag.Service) bool // nil: all Services
	objective tuner.Objective
}

// newScheme returns the types that measure and plan read.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("build the scheme: %w", err)
	}
	return scheme, nil
}

// run measures for a while, or until ctx ends if that is zero; the end of ctx is no error. It returns when the
// watches have ended.
func (s *session) run(ctx context.Context, length time.Duration, show func(progress) error) error {
	if s.unread == nil {
		s.unread = make(unreadable)
	}
	// An interrupt ends the measurement first and the watches after it: that they end is no gap of it.
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.feed.Start(watching) }()
	err := s.measure(ctx, length, show)
	if s.until = s.clock.Now(); err == nil && !s.since.IsZero() {
		<-s.clock.After(settle)
	}
	stop()
	if err == nil && s.since.IsZero() {
		err = errors.New("measure: ended before the first lists of Pods, Services, EndpointSlices and Endpoints were in")
	}
	return errors.Join(err, <-ended)
}

func (s *session) measure(ctx context.Context, length time.Duration, show func(progress) error) error {
	var p progress
	ticker := s.clock.NewTicker(tick)
	defer ticker.Stop()
	synced := make(chan error, 1)
	syncing, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	go func() { synced <- s.feed.WaitSynced(syncing) }()
	var over <-chan time.Time
	for n := 0; ; n++ {
		select {
		case err := <-synced:
			if err != nil {
				return fmt.Errorf("measure (needs list and watch on pods, services, endpoints and endpointslices): %w", err)
			}
			synced = nil
			s.since = s.clock.Now()
			s.read(ctx)
			s.first = s.readings.running(s.current)
			p.soFar = func() *report.Progress { return s.soFar(length) }
			if length > 0 {
				over = s.clock.After(length)
			}
		case <-over:
			s.read(ctx)
			return nil
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			s.poll(ctx, n)
		}
		p.now = s.clock.Now()
		if err := show(p); err != nil {
			return err
		}
	}
}

// poll reads the Lease at each tick and the rest at some.
func (s *session) poll(ctx context.Context, n int) {
	switch {
	case s.since.IsZero():
	case n%ticksPerRead == 0:
		s.read(ctx)
		s.cause = tuner.Diagnose(s.evidence(s.clock.Now(), s.view.measured), s.view.objective)
	case n%ticksPerLease == 0:
		reading, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		s.readLease(reading)
	}
}

// read reads everything that lies beside the watches. What cannot be read is noted and not an error.
func (s *session) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s.readLease(ctx)
	s.readNodes(ctx)
	s.readPlatform(ctx)
	s.readKCM(ctx)
	s.readServer(ctx)
	if s.kcm == nil || s.readings.flagz == nil {
		s.readPods(ctx)
	}
}

// note keeps why something could not be read, and forgets it when it could. A reading that our own end cut short says
// nothing.
func (s *session) note(ctx context.Context, what source, err error) bool {
	switch {
	case err == nil:
		delete(s.unread, what)
		return true
	case !errors.Is(context.Cause(ctx), context.Canceled):
		s.unread[what] = err.Error()
	}
	return false
}

func (s *session) readLease(ctx context.Context) {
	var lease coordinationv1.Lease
	err := s.client.Get(ctx, types.NamespacedName{Namespace: kcmNamespace, Name: kcmName}, &lease)
	if s.note(ctx, whoLeads, err) {
		s.lease.see(lease.Spec, s.clock.Now(), s.tracker)
	}
}

func (s *session) readNodes(ctx context.Context) {
	if s.noCRD {
		return
	}
	var nodes v1alpha1.EndpointSyncNodeList
	err := s.client.List(ctx, &nodes)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		s.noCRD = true
		return
	}
	if !s.note(ctx, whatAgentsReport, err) {
		return
	}
	s.readings.nodes = nodes.Nodes()
	slices.SortFunc(s.readings.nodes, func(a, b v1alpha1.EndpointSyncNode) int { return cmp.Compare(a.Name, b.Name) })
	if leader := s.readings.leader(); leader != nil && s.kcm == nil {
		s.addSignals(leader.Status.Signals)
	}
}

// readPlatform looks at who renders the control plane until that is known: it does not change.
func (s *session) readPlatform(ctx context.Context) {
	if s.look == nil || s.platform.Platform != "" {
		return
	}
	facts, err := s.look(ctx)
	if s.note(ctx, whichPlatform, err) {
		s.platform = platform.Detect(facts)
	}
}

func (s *session) readKCM(ctx context.Context) {
	if s.kcm == nil {
		return
	}
	configuration, err := s.kcm.Configuration(ctx)
	if s.note(ctx, flagsAtURL, err) {
		s.readings.flagz, s.readings.flagzURL = &configuration.Flags, s.kcmURL
		s.readings.settings = configuration.Settings
	}
	signals, err := s.kcm.Signals(ctx)
	if dropped := (*scrape.SampleError)(nil); errors.As(err, &dropped) {
		err = nil
	}
	if s.note(ctx, metricsAtURL, err) {
		signals.KCM.Time.Time = s.clock.Now()
		s.addSignals(signals.KCM)
	}
}

func (s *session) readServer(ctx context.Context) {
	if s.apiServer == nil {
		return
	}
	sample, err := s.apiServer.Sample(ctx)
	if sample.Time = s.clock.Now(); s.note(ctx, serverHealth, err) {
		s.server = append(s.server, sample)
	}
}

func (s *session) readPods(ctx context.Context) {
	var pods corev1.PodList
	err := s.client.List(ctx, &pods, client.InNamespace(kcmNamespace), client.MatchingLabels{kcmLabel: kcmName})
	if s.note(ctx, kcmPods, err) {
		s.readings.pods, s.readings.holder = pods.Items, s.lease.holder
	}
}

// addSignals keeps a scrape that is newer than the last.
func (s *session) addSignals(k v1alpha1.KCMSignals) {
	n := len(s.signals)
	if k.Time.IsZero() || (n > 0 && !s.signals[n-1].Time.Before(&k.Time)) {
		return
	}
	s.signals = append(s.signals, k)
}

// soFar is what the measurement shows until now.
func (s *session) soFar(total time.Duration) *report.Progress {
	now := s.clock.Now()
	return &report.Progress{
		Scope: s.view.scope, Elapsed: now.Sub(s.since), Total: total, Cause: s.cause,
		Lag: s.summary(lag.Query{Now: now, Measured: s.view.measured, Worst: worstShown}),
	}
}

// summary asks the tracker about the time of the measurement, with what stood when it began.
func (s *session) summary(q lag.Query) lag.Summary {
	q.Since = s.since.Add(-syncGrace)
	out := s.tracker.Summary(q)
	if out.From.Before(s.since) {
		out.From = s.since
	}
	return out
}

// evidence is what was measured until now, of the Services that are measured.
func (s *session) evidence(now time.Time, measured func(lag.Service) bool) tuner.Evidence {
	e := tuner.Evidence{
		Now: now, Flags: s.readings.running(s.current).flags, Leader: s.lease.state, Signals: controllers.Samples(s.signals),
		Server: s.server,
		Lag:    s.summary(lag.Query{Now: now, Measured: measured, Worst: worstPrinted}),
		Demand: s.tracker.Demand(s.since.Add(-syncGrace), now), Settings: controllers.Settings(s.readings.otherwise()),
	}
	if leader := s.readings.leader(); leader != nil {
		e.Version = leader.Status.KCMVersion
	}
	if e.Leader == tuner.LeaderUnknown && published(e.Lag) {
		e.Leader = tuner.Led // What is published, somebody publishes.
	}
	return e
}

// published says whether any change was.
func published(s lag.Summary) bool {
	return slices.ContainsFunc(s.Stats, func(stat lag.Stat) bool { return stat.Closed > 0 })
}

// leaseWatch follows kube-controller-manager's Lease by our own clock, as leader election itself does: it does not
// trust the time in it, only that it moves.
type leaseWatch struct {
	holder  string
	renewed time.Time // as the Lease says
	moved   time.Time // when we saw renewed or holder change
	state   tuner.LeaderState
}

const (
	// leaseDuration of kube-controller-manager where the Lease does not say: its default.
	leaseDuration = 15 * time.Second
	// clockSkew between this machine and the control plane that is put up with at the first reading.
	clockSkew = time.Minute
)

// see takes one reading and tells the tracker when the leader ceased and began to lead.
func (l *leaseWatch) see(spec coordinationv1.LeaseSpec, now time.Time, tracker *lag.Tracker) {
	holder, renewed, lasts := "", time.Time{}, leaseDuration
	if spec.HolderIdentity != nil {
		holder = *spec.HolderIdentity
	}
	if spec.RenewTime != nil {
		renewed = spec.RenewTime.Time
	}
	if spec.LeaseDurationSeconds != nil {
		lasts = time.Duration(*spec.LeaseDurationSeconds) * time.Second
	}
	before := *l
	moved := holder != l.holder || !renewed.Equal(l.renewed)
	if moved {
		l.holder, l.renewed, l.moved = holder, renewed, now
	}
	stale := now.Sub(l.moved) > lasts || (before.moved.IsZero() && now.Sub(renewed) > lasts+clockSkew)
	switch {
	case holder == "" || stale:
		l.state = tuner.Leaderless
		tracker.SetLeader(false, l.moved)
	case before.state == tuner.Led && holder != before.holder:
		tracker.SetLeader(false, before.moved)
		tracker.SetLeader(true, now)
	case moved:
		l.state = tuner.Led
		tracker.SetLeader(true, now)
	}
}

// preflight asks for one object of each kind that is watched, so that a missing permission is told at once and by
// name.
func preflight(ctx context.Context, c client.Reader, namespace string) error {
	for _, list := range []client.ObjectList{
		&corev1.PodList{}, &corev1.ServiceList{}, &discoveryv1.EndpointSliceList{}, &corev1.EndpointsList{},
	} {
		if err := c.List(ctx, list, client.InNamespace(namespace), client.Limit(1)); err != nil {
			return fmt.Errorf("read what is measured: %w", err)
		}
	}
	return nil
}
