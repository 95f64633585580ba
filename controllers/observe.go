package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// observe gathers everything that the pass concludes from. It reads and does not judge.
func (r *PolicyReconciler) observe(
	ctx context.Context, s Situation, policies []v1alpha1.EndpointSyncPolicy, nodes []v1alpha1.EndpointSyncNode,
) (Situation, error) {
	if len(policies) == 0 {
		return s, fmt.Errorf("policy %s went while it was being observed", s.Policy.Name)
	}
	s.Nodes, s.Synced = r.Signals.stamped(nodes), r.Synced()
	s.InCharge, s.Platform = policies[0].Name, r.Platform()
	s.Guardrails = GuardrailsOf(s.Policy.Spec.Guardrails)
	s.Policy.Spec = s.Policy.Spec.WithDefaults()
	if s.Measured, s.Invalid = Measured(s.Policy.Spec.Services); s.Invalid != "" {
		return s, nil
	}
	window, ok := s.Policy.Spec.Objective.Window.Value()
	if !ok {
		s.Invalid = fmt.Sprintf("spec.objective.window is %q, want a duration from 1m to 24h", s.Policy.Spec.Objective.Window)
		return s, nil
	}
	change := lastChange(nodes)
	since := r.evidenceSince(s.Now, window, change)
	s.Evidence = tuner.Evidence{
		Now:      s.Now,
		Lag:      r.Tracker.Summary(lag.Query{Now: s.Now, Since: since, Measured: s.Measured}),
		Demand:   r.Tracker.Demand(since, s.Now),
		HandOver: HandOver(nodes),
		Server:   r.Server.between(since, s.Now), ServerBefore: r.Server.between(change.Add(-beforeChange), change),
	}
	if leader, ok := leaderOf(nodes); ok {
		s.Evidence.Leader, s.Evidence.Flags = tuner.Led, leader.Status.Running
		s.Evidence.Signals = Samples(r.Signals.since(leader.Name, since))
		s.Evidence.Settings, s.Evidence.Version = Settings(leader.Status.Settings), leader.Status.KCMVersion
	} else {
		s.Evidence.Leader = leaderlessness(nodes)
	}
	if s.Synced && s.InCharge == s.Policy.Name {
		s.Episodes = r.Episodes.with(ctx, s.Evidence, ObjectiveOf(s.Policy.Spec.Objective))
	}
	return s, nil
}

// fleet returns all policies, the one in charge first, and all nodes by name.
func (r *PolicyReconciler) fleet(ctx context.Context) ([]v1alpha1.EndpointSyncPolicy, []v1alpha1.EndpointSyncNode, error) {
	policies, err := PoliciesByAge(ctx, r.Client)
	if err != nil {
		return nil, nil, fmt.Errorf("list policies: %w", err)
	}
	var nodes v1alpha1.EndpointSyncNodeList
	if err := r.Client.List(ctx, &nodes); err != nil {
		return nil, nil, fmt.Errorf("list EndpointSyncNodes: %w", err)
	}
	return policies, byName(nodes), nil
}

// byName returns what stands for nodes, in the order of their names.
func byName(list v1alpha1.EndpointSyncNodeList) []v1alpha1.EndpointSyncNode {
	nodes := list.Nodes()
	slices.SortFunc(nodes, func(a, b v1alpha1.EndpointSyncNode) int { return cmp.Compare(a.Name, b.Name) })
	return nodes
}

// PoliciesByAge returns all policies, the one in charge first: the oldest, by name if two are equally old.
func PoliciesByAge(ctx context.Context, c client.Reader) ([]v1alpha1.EndpointSyncPolicy, error) {
	var list v1alpha1.EndpointSyncPolicyList
	if err := c.List(ctx, &list); err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.EndpointSyncPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return list.Items, nil
}

// Measured returns which Services a policy speaks of, nil for all, or why its selectors cannot be used.
func Measured(scope v1alpha1.ServiceScope) (filter func(lag.Service) bool, invalid string) {
	if scope == (v1alpha1.ServiceScope{}) {
		return nil, ""
	}
	namespaces, err := selectorOf(scope.NamespaceSelector)
	if err != nil {
		return nil, "spec.services.namespaceSelector: " + err.Error()
	}
	services, err := selectorOf(scope.Selector)
	if err != nil {
		return nil, "spec.services.selector: " + err.Error()
	}
	return func(s lag.Service) bool {
		return namespaces.Matches(s.NamespaceLabels) && services.Matches(s.Labels)
	}, ""
}

func selectorOf(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

// beforeChange is for how long before a change of flags the API server's health is looked at, to compare it with that
// since.
const beforeChange = 10 * time.Minute

// longestIncident is how far an incident that is still open may draw out the window, in multiples of it: what never
// shows, because nobody will ever act on it, must not keep all evidence for ever.
const longestIncident = 6

// evidenceSince is when the evidence begins: with the window, but not before the last change of flags, and not after
// the oldest change that is still open; else the worst of a long incident would leave the figures while it lasts.
func (r *PolicyReconciler) evidenceSince(now time.Time, window time.Duration, change time.Time) time.Time {
	since := later(now.Add(-window), change)
	if oldest, open := r.Tracker.OldestOpen(later(now.Add(-longestIncident*window), change), now); open && oldest.Before(since) {
		return oldest
	}
	return since
}

// lastChange is when flags last changed on any node: lag measured before speaks of other flags.
func lastChange(nodes []v1alpha1.EndpointSyncNode) time.Time {
	var last time.Time
	for _, n := range nodes {
		switch n.Status.Last.Outcome {
		case v1alpha1.OutcomeCommitted, v1alpha1.OutcomeRolledBack, v1alpha1.OutcomeRollbackFailed, v1alpha1.OutcomeDisplaced:
			last = later(last, n.Status.Last.FinishTime.Time)
		case v1alpha1.OutcomeUnchanged, v1alpha1.OutcomeRefused:
		}
	}
	return last
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func leaderOf(nodes []v1alpha1.EndpointSyncNode) (v1alpha1.EndpointSyncNode, bool) {
	for _, n := range nodes {
		if leads, known := leadership(n.Status); known && leads {
			return n, true
		}
	}
	return v1alpha1.EndpointSyncNode{}, false
}

// leaderlessness tells "nobody leads" from "we cannot see who leads".
func leaderlessness(nodes []v1alpha1.EndpointSyncNode) tuner.LeaderState {
	for _, n := range nodes {
		if _, known := leadership(n.Status); !known {
			return tuner.LeaderUnknown
		}
	}
	if len(nodes) == 0 {
		return tuner.LeaderUnknown
	}
	return tuner.Leaderless
}

// Samples turns scrapes as agents report them, oldest first, into what the tuner takes. A scrape without a counter is
// left out: what is not known is not zero.
func Samples(scrapes []v1alpha1.KCMSignals) []tuner.Sample {
	out := make([]tuner.Sample, 0, len(scrapes))
	for _, s := range scrapes {
		if s.Writes == nil || s.LimiterWaitMilliseconds == nil || s.RequestMilliseconds == nil ||
			!known(s.Endpoints) || !known(s.EndpointSlices) {
			continue
		}
		out = append(out, tuner.Sample{
			Time:           s.Time.Time,
			ProcessStart:   s.ProcessStartTime.Time,
			Writes:         *s.Writes,
			LimiterWait:    milliseconds(s.LimiterWaitMilliseconds),
			RequestTime:    milliseconds(s.RequestMilliseconds),
			StaleSyncs:     value(s.StaleSyncs),
			FailedSyncs:    value(s.FailedSyncs),
			Endpoints:      queue(s.Endpoints),
			EndpointSlices: queue(s.EndpointSlices),
		})
	}
	return out
}

// Settings turns settings as agents report them into what the tuner takes. What is not known is taken for the default.
func Settings(s v1alpha1.KCMSettings) tuner.Settings {
	out := tuner.Settings{
		EndpointsOff:  s.EndpointsController != nil && !*s.EndpointsController,
		ReleaseOnExit: s.ReleaseOnExit != nil && *s.ReleaseOnExit,
	}
	out.SliceBatch, _ = s.EndpointSliceBatchPeriod.Value()
	out.EndpointsBatch, _ = s.EndpointsBatchPeriod.Value()
	return out
}

func known(q v1alpha1.QueueSignals) bool {
	return q.Depth != nil && q.Syncs != nil && q.WaitMilliseconds != nil && q.WorkMilliseconds != nil
}

func queue(q v1alpha1.QueueSignals) tuner.QueueSample {
	return tuner.QueueSample{
		Depth: value(q.Depth), Syncs: value(q.Syncs),
		Wait: milliseconds(q.WaitMilliseconds), Work: milliseconds(q.WorkMilliseconds),
	}
}

func milliseconds(v *int64) time.Duration { return time.Duration(value(v)) * time.Millisecond }

func value(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}

// HandOver is about how long no kube-controller-manager acts while a rollout changes all nodes.
func HandOver(nodes []v1alpha1.EndpointSyncNode) time.Duration {
	return rollout.HandOver(len(nodes), releasing(nodes))
}

// releasing says whether the kube-controller-manager of every node is known to give the Lease up when it ends.
func releasing(nodes []v1alpha1.EndpointSyncNode) bool {
	return len(nodes) > 0 && !slices.ContainsFunc(nodes, func(n v1alpha1.EndpointSyncNode) bool {
		gate := n.Status.Settings.ReleaseOnExit
		return gate == nil || !*gate
	})
}
