// Package observer is the lab's ground truth: with watches and rules of its own it says when each change of a Pod's
// readiness became visible in EndpointSlices and in Endpoints, and how long kube-controller-manager had no leader.
//
// It shares no code with the operator's tracker, so that each can be held against the other. It knows the lab's workload
// (a Pod belongs to the Service its label names), not Services in general.
package observer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

// Options are what to observe.
type Options struct {
	// Namespace is where the workload is; "" means all.
	Namespace string

	// ServiceLabel is the Pod label that holds the name of the Pod's Service, or the names of several, joined by dots. Pods
	// without it are ignored.
	ServiceLabel string

	// Clock stamps what is received; nil means the machine's.
	Clock clock.PassiveClock
}

// Change is one Pod's readiness change and how long it took to show in one of its Services. Changes are in the order in which they opened.
type Change struct {
	Service, Pod string
	Added        bool          // Became ready (or new and ready); else unready, terminating or gone.
	At           time.Duration // When it happened, since the window's start.
	Lag          time.Duration // Until it showed; if pending, so far.
	Pending      bool
}

// Summary is the distribution of some changes' lag. Percentiles are nearest-rank over all changes, pending ones counted
// with their age so far: a lower bound where Pending is not 0.
type Summary struct {
	Changes, Pending int
	P50, P99, Max    time.Duration
}

// Resource is what happened to one of the two APIs in a window.
type Resource struct {
	Summary // All changes.

	// Added and Removed are the two directions of it.
	Added, Removed Summary

	// Superseded changes were undone before they showed, or needed nothing to show. They are in no Summary.
	Superseded int

	// Series are the changes one by one, for plots; SupersededSeries those that were overtaken, with Lag until then.
	Series, SupersededSeries []Change
}

// Leadership is what happened to the Lease kube-system/kube-controller-manager in a window.
type Leadership struct {
	// Holder is who holds it now.
	Holder string

	// LongestGap is the longest time without a renewal, including the current one. Undisturbed it is about 2 s.
	LongestGap time.Duration

	// HolderChanges is how often another process took over, and Handover the longest time that took, from when the old
	// last renewed the Lease or gave it up to the first renewal by the new; a restart of the same node's process is a change too.
	HolderChanges int
	Handover      time.Duration
}

// Result is what was seen in a window.
type Result struct {
	Window   string
	From, To time.Time // To is now if the window lasts.

	EndpointSlice, Endpoints Resource
	Leadership               Leadership
}

// Observer watches until Stop. Its methods may be called from several goroutines.
type Observer struct {
	options Options
	clock   clock.PassiveClock
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu         sync.Mutex
	pods       map[types.UID]podState
	slices     *ledger
	endpoints  *ledger
	leadership leadership
	windows    []window
}

// podState is what a Pod's membership should be, and since when.
type podState struct {
	services []string
	wanted   bool
	since    time.Time
}

// Start begins to watch and returns when everything that exists has been seen; that is the base line, and no change. The
// context bounds the start only. The first window is named "start".
func Start(ctx context.Context, config *rest.Config, o Options) (*Observer, error) {
	ob, err := newObserver(o)
	if err != nil {
		return nil, err
	}
	c := rest.CopyConfig(config)
	c.QPS = -1
	c.ContentType = "application/vnd.kubernetes.protobuf"
	c.AcceptContentTypes = c.ContentType + ",application/json"
	c.UserAgent = "endpoint-sync-lab-observer"
	c.WarningHandler = rest.NoWarnings{} // That Endpoints are deprecated is known.
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ob.cancel = cancel
	// Pods come last: what is published before a Pod is known is its base line.
	for _, f := range ob.feeds(client) {
		ob.done.Go(func() { f.reflector().RunWithContext(watching) })
		select {
		case <-f.synced:
		case <-ctx.Done():
			ob.Stop()
			return nil, fmt.Errorf("watch %s: %w", f.name, context.Cause(ctx))
		}
	}
	ob.Mark("start")
	return ob, nil
}

func newObserver(o Options) (*Observer, error) {
	if o.ServiceLabel == "" {
		return nil, errors.New("observer: no ServiceLabel")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Observer{
		options: o, clock: o.Clock,
		pods: map[types.UID]podState{}, slices: newLedger(), endpoints: newLedger(),
	}, nil
}

// Stop ends the watches; results can still be asked for.
func (ob *Observer) Stop() {
	ob.cancel()
	ob.done.Wait()
}

// Mark ends the current window and begins another. A change belongs to the window in which it opened.
func (ob *Observer) Mark(name string) {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	now := ob.clock.Now()
	if n := len(ob.windows); n > 0 {
		ob.windows[n-1].to = now
	}
	ob.windows = append(ob.windows, window{name: name, from: now})
}

// Result returns what was seen in the window of that name (the latest, if there are several) up to now. It can be asked
// for again: pending changes go on to age and to close.
func (ob *Observer) Result(name string) (Result, error) {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	for _, w := range slices.Backward(ob.windows) {
		if w.name == name {
			return ob.result(w, ob.clock.Now()), nil
		}
	}
	return Result{}, fmt.Errorf("observer: no window %q", name)
}

func (ob *Observer) result(w window, now time.Time) Result {
	out := Result{
		Window: w.name, From: w.from, To: w.to,
		EndpointSlice: ob.slices.resource(w, now),
		Endpoints:     ob.endpoints.resource(w, now),
		Leadership:    ob.leadership.in(w, now),
	}
	if out.To.IsZero() {
		out.To = now
	}
	return out
}

func (l *ledger) resource(w window, now time.Time) Resource {
	out := Resource{Series: l.changes(w, now)}
	slices.SortFunc(out.Series, func(a, b Change) int { return int(a.At - b.At) })
	var added, removed []Change
	for _, c := range out.Series {
		if c.Added {
			added = append(added, c)
		} else {
			removed = append(removed, c)
		}
	}
	out.Summary, out.Added, out.Removed = summarise(out.Series), summarise(added), summarise(removed)
	out.SupersededSeries = l.overtaken(w)
	out.Superseded = len(out.SupersededSeries)
	return out
}

// sawPod takes a Pod as it is now. A Pod seen for the first time is a change only if it is new since Start.
func (ob *Observer) sawPod(pod *corev1.Pod, baseline bool, now time.Time) { //nolint:revive // How the Pod was learned is a fact about it.
	names := pod.Labels[ob.options.ServiceLabel]
	if names == "" {
		return
	}
	before, known := ob.pods[pod.UID]
	after := podState{services: strings.Split(names, "."), wanted: belongs(pod), since: now}
	if known && before.wanted == after.wanted {
		return
	}
	ob.pods[pod.UID] = after
	if !known && (baseline || !after.wanted) {
		return
	}
	ob.want(pod.UID, after, before.since)
}

func (ob *Observer) lostPod(uid types.UID, now time.Time) {
	before, known := ob.pods[uid]
	if !known {
		return
	}
	delete(ob.pods, uid)
	if before.wanted {
		ob.want(uid, podState{services: before.services, since: now}, before.since)
	}
	for _, service := range before.services {
		ob.slices.forget(member{uid, service})
		ob.endpoints.forget(member{uid, service})
	}
}

func (ob *Observer) want(uid types.UID, s podState, before time.Time) {
	for _, service := range s.services {
		e := entry{member: member{uid, service}, added: s.wanted, opened: s.since}
		ob.slices.want(e, before)
		ob.endpoints.want(e, before)
	}
}

// belongs says whether clients of the Service should reach the Pod.
func belongs(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil || pod.Status.PodIP == "" {
		return false
	}
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return false
	}
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func shownBySlice(slice *discoveryv1.EndpointSlice) map[member]bool {
	out := map[member]bool{}
	for _, e := range slice.Endpoints {
		if e.TargetRef != nil && ptr.Deref(e.Conditions.Ready, true) {
			out[member{e.TargetRef.UID, slice.Labels[discoveryv1.LabelServiceName]}] = true
		}
	}
	return out
}

func shownByEndpoints(endpoints *corev1.Endpoints) map[member]bool {
	out := map[member]bool{}
	for _, subset := range endpoints.Subsets {
		for _, address := range subset.Addresses {
			if address.TargetRef != nil {
				out[member{address.TargetRef.UID, endpoints.Name}] = true
			}
		}
	}
	return out
}

func (ob *Observer) sawLease(lease *coordinationv1.Lease, now time.Time) {
	if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); holder != "" {
		ob.leadership.renewed(holder, now)
	} else {
		ob.leadership.released(now)
	}
}
