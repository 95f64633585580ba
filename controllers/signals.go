package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// clockTolerance is how far an agent's clock may be from ours before its times are corrected. A report takes a moment to
// come, and what the times are held against, as a cooldown, is many minutes.
const clockTolerance = 30 * time.Second

// maxSignals is how many scrapes are kept for each node: at one every 2 s during an incident, 34 minutes of it.
const maxSignals = 1024

// signalLog keeps what each node's kube-controller-manager told of itself, scrape by scrape, and tells the tracker when
// no kube-controller-manager leads. It starts empty with the process: after a restart of the controller the lag and the
// demand speak alone until new scrapes arrive.
type signalLog struct {
	clock   clock.PassiveClock
	tracker *lag.Tracker
	began   time.Time

	mu      sync.Mutex
	samples map[string][]v1alpha1.KCMSignals
	leads   map[string]bool
	reports map[string]report
}

// report is when a node's newest report came, by our own clock.
type report struct {
	sent     metav1.Time // by the agent's clock: tells reports apart, and no more
	received time.Time   // zero: it was there when we first looked, and may be hours old
	offset   time.Duration
	doubted  time.Duration // offset of a newer report that may have been long on its way; zero: none
}

// next is the report after this one. The offset, from the agent's clock to ours, stays as long as it is about the same. A
// report that is later than those before may be an old one that we missed, or the agent's clock was set back: only the one
// after it tells, so that it does not count as having just come.
func (r report) next(sent metav1.Time, received time.Time) report {
	offset := received.Sub(sent.Time)
	switch {
	case (offset - r.offset).Abs() < clockTolerance:
		offset = r.offset
	case !r.received.IsZero() && offset > r.offset && (r.doubted == 0 || (offset-r.doubted).Abs() >= clockTolerance):
		return report{sent: sent, received: r.received, offset: r.offset, doubted: offset}
	}
	return report{sent: sent, received: received, offset: offset}
}

func newSignalLog(tracker *lag.Tracker, clk clock.PassiveClock) *signalLog {
	return &signalLog{
		clock: clk, tracker: tracker, began: clk.Now(),
		samples: map[string][]v1alpha1.KCMSignals{},
		leads:   map[string]bool{},
		reports: map[string]report{},
	}
}

// record takes one report of a node's agent.
func (l *signalLog) record(n *v1alpha1.EndpointSyncNode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent := n.Status.ReportTime
	if last, known := l.reports[n.Name]; !known {
		l.reports[n.Name] = report{sent: sent}
	} else if !sent.Equal(&last.sent) {
		l.reports[n.Name] = last.next(sent, l.clock.Now())
	}
	seen := l.samples[n.Name]
	signals := n.Status.Signals
	if !signals.Time.IsZero() && (len(seen) == 0 || !seen[len(seen)-1].Time.Equal(&signals.Time)) {
		// Later ones are of before the agent's clock was set back.
		seen = slices.DeleteFunc(seen, func(s v1alpha1.KCMSignals) bool { return s.Time.After(signals.Time.Time) })
		seen = append(seen, signals)
		l.samples[n.Name] = slices.Delete(seen, 0, max(0, len(seen)-maxSignals))
	}
	if leads, known := leadership(n.Status); known {
		l.leads[n.Name] = leads
		l.tellTracker()
	}
}

func (l *signalLog) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.samples, name)
	delete(l.leads, name)
	delete(l.reports, name)
}

// stamped returns the nodes with all times by our own clock: agents' clocks may differ. A report that this process has
// not seen coming counts as one that had just become too old when it began.
func (l *signalLog) stamped(nodes []v1alpha1.EndpointSyncNode) []v1alpha1.EndpointSyncNode {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range nodes {
		known := l.reports[nodes[i].Name]
		at := known.received
		if at.IsZero() {
			at = l.began.Add(-rollout.MaxReportAge - time.Nanosecond)
		}
		shift(&nodes[i].Status, known.offset)
		if !nodes[i].Status.ReportTime.IsZero() {
			nodes[i].Status.ReportTime = metav1.NewTime(at)
		}
	}
	return nodes
}

// shift moves the times that cooldown, budget, settling and the memory of failures rest on. One that lies after the report
// that tells it was taken from a clock that has been set right since, and says nothing.
func shift(s *v1alpha1.EndpointSyncNodeStatus, by time.Duration) {
	if s.ReportTime.IsZero() {
		return
	}
	latest := s.ReportTime.Add(clockTolerance)
	s.Restarts, s.Failed = slices.Clone(s.Restarts), slices.Clone(s.Failed)
	times := []*metav1.Time{&s.Last.StartTime, &s.Last.FinishTime, &s.ManifestChangeTime}
	for i := range s.Restarts {
		times = append(times, &s.Restarts[i])
	}
	for i := range s.Failed {
		times = append(times, &s.Failed[i].Time)
	}
	for _, t := range times {
		switch {
		case t.After(latest):
			*t = metav1.Time{}
		case !t.IsZero():
			*t = metav1.NewTime(t.Add(by))
		}
	}
}

// heard says whether a report of each node that has ever reported has come to this process, or could have. Until then
// nobody knows how old those are that were there.
func (l *signalLog) heard(nodes []v1alpha1.EndpointSyncNode) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Since(l.began) > rollout.MaxReportAge || !slices.ContainsFunc(nodes, func(n v1alpha1.EndpointSyncNode) bool {
		return !n.Status.ReportTime.IsZero() && l.reports[n.Name].received.IsZero()
	})
}

// since returns the scrapes of a node since a time, oldest first, with their times by our own clock.
func (l *signalLog) since(name string, since time.Time) []v1alpha1.KCMSignals {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, offset := l.samples[name], l.reports[name].offset
	first := slices.IndexFunc(all, func(s v1alpha1.KCMSignals) bool { return !s.Time.Add(offset).Before(since) })
	if first < 0 {
		return nil
	}
	lately := slices.Clone(all[first:])
	for i := range lately {
		lately[i].Time = metav1.NewMicroTime(lately[i].Time.Add(offset))
	}
	return lately
}

func (l *signalLog) tellTracker() {
	led := false
	for _, leads := range l.leads {
		led = led || leads
	}
	l.tracker.SetLeader(led, l.clock.Now())
}

// leadership says whether a node's kube-controller-manager leads, and whether that is known. One that is being
// restarted by us, or is down, does not lead, whatever its last scrape said.
func leadership(s v1alpha1.EndpointSyncNodeStatus) (leads, known bool) {
	if s.Leader != nil {
		return *s.Leader, true
	}
	changing := s.Phase == v1alpha1.PhaseApplied || s.Phase == v1alpha1.PhaseRollingBack
	down := s.Healthy != nil && !*s.Healthy
	return false, changing || down
}

// signalFeed hands every report of an agent to the log, also on replicas that do not lead.
type signalFeed struct {
	cache cache.Cache
	log   *signalLog
}

// NeedLeaderElection is false: every replica gathers evidence.
func (*signalFeed) NeedLeaderElection() bool { return false }

// Start runs until ctx ends.
func (f *signalFeed) Start(ctx context.Context) error {
	informer, err := f.cache.GetInformer(ctx, &v1alpha1.EndpointSyncNode{})
	if err != nil {
		return fmt.Errorf("watch EndpointSyncNodes: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    f.see,
		UpdateFunc: func(_, obj any) { f.see(obj) },
		DeleteFunc: f.unsee,
	})
	if err != nil {
		return fmt.Errorf("watch EndpointSyncNodes: %w", err)
	}
	<-ctx.Done()
	return nil
}

func (f *signalFeed) see(obj any) {
	if n, ok := obj.(*v1alpha1.EndpointSyncNode); ok && n.Name != v1alpha1.IsolationProbe {
		f.log.record(n)
	}
}

func (f *signalFeed) unsee(obj any) {
	if tombstone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	if n, ok := obj.(*v1alpha1.EndpointSyncNode); ok {
		f.log.forget(n.Name)
	}
}
