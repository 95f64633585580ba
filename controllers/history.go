package controllers

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

func newestRevision(p pass) int64 {
	var newest int64
	for _, n := range p.Nodes {
		if n.Spec.PolicyName == p.Policy.Name {
			newest = max(newest, value(n.Spec.Revision))
		}
	}
	return newest
}

// history adds what was handed to a node and is not there yet, and completes what nodes have ended. Entries are newest
// first. An entry that was lost with a status that could not be written is made good by a later pass.
func history(before []v1alpha1.HistoryEntry, p pass) []v1alpha1.HistoryEntry {
	next := slices.Clone(before)
	newest := max(newestRevision(p), p.Handed)
	known := slices.ContainsFunc(next, func(e v1alpha1.HistoryEntry) bool { return e.Revision == newest })
	if newest > 0 && !known {
		next = slices.Insert(next, 0, entry(p, newest))
		next = next[:min(len(next), maxHistory)]
	}
	for i := range next {
		complete(&next[i], p)
		judged(&next[i], p.Past)
	}
	if len(next) > 0 && speaksOf(p, next[0]) {
		next[0].After = LagStatus(p.Evidence.Lag)
	}
	return next
}

func entry(p pass, revision int64) v1alpha1.HistoryEntry {
	objective, size := ObjectiveOf(p.Policy.Spec.Objective), tuner.WorkloadOf(p.Evidence.Demand)
	e := v1alpha1.HistoryEntry{
		Revision: revision, Time: metav1.NewTime(p.Now), From: p.Evidence.Flags, To: p.Plan.Target.Flags,
		Bottleneck: p.Bottleneck.Type, PredictedLag: duration(p.Decision.PredictedLag), Before: LagStatus(p.Evidence.Lag),
		KCMVersion: p.Evidence.Version, PolicyGeneration: p.Policy.Generation,
		MeasuredLag: duration(tuner.Before(p.Verdict, objective, p.Decision.CurrentLag)),
		Load:        v1alpha1.Load{Changes: new(int64(size.Changes)), Peak: new(int64(size.Peak))},
	}
	for _, n := range p.Nodes {
		if value(n.Spec.Revision) == revision {
			e.To = n.Spec.Flags
		}
	}
	e.Purpose = purposeOf(e, p)
	return e
}

// duration is empty where there is none.
func duration(d time.Duration) v1alpha1.Duration {
	if d <= 0 {
		return ""
	}
	return v1alpha1.DurationOf(d)
}

// complete says how a change ended once every node that was told it has ended it and none is left to be told: badly if it
// ended badly anywhere, which ends the rollout at once.
func complete(e *v1alpha1.HistoryEntry, p pass) {
	told, well := 0, 0
	for _, n := range p.Nodes {
		last := n.Status.Last
		if value(n.Spec.Revision) == e.Revision {
			told++
		}
		if last.Revision != e.Revision {
			continue
		}
		if d, ok := last.HandOver.Value(); ok && d > handOverOf(*e) {
			e.HandOver = last.HandOver
		}
		if last.Outcome != v1alpha1.OutcomeCommitted && last.Outcome != v1alpha1.OutcomeUnchanged {
			e.Outcome, e.Reason, e.Message = last.Outcome, last.Reason, bounded(onNode(n.Name, last.Message, len(p.Nodes)))
			return
		}
		well++
	}
	if well == 0 || well < told || (stillToTell(e.To, p.Nodes) && e.Revision == newestRevision(p)) {
		return
	}
	e.Outcome = ""
	var messages []string
	for _, n := range p.Nodes {
		last := n.Status.Last
		if last.Revision != e.Revision {
			continue
		}
		if e.Outcome != v1alpha1.OutcomeCommitted { // A change on one node is a change.
			e.Outcome, e.Reason = last.Outcome, last.Reason
		}
		messages = append(messages, onNode(n.Name, last.Message, len(p.Nodes)))
	}
	e.Message = bounded(strings.Join(messages, "; "))
}

func handOverOf(e v1alpha1.HistoryEntry) time.Duration {
	d, _ := e.HandOver.Value()
	return d
}

// onNode says on which of several nodes something happened.
func onNode(name, message string, of int) string {
	if of == 1 {
		return message
	}
	return "node " + name + ": " + message
}

// stillToTell says whether some node has not been told a setting yet.
func stillToTell(f v1alpha1.Flags, nodes []v1alpha1.EndpointSyncNode) bool {
	return slices.ContainsFunc(nodes, func(n v1alpha1.EndpointSyncNode) bool {
		return f != (v1alpha1.Flags{}) && n.Spec.Flags != f
	})
}

// speaksOf says whether this pass's lag is that since a committed change: only for as long as the window reaches back
// to it.
func speaksOf(p pass, e v1alpha1.HistoryEntry) bool {
	window, _ := p.Policy.Spec.Objective.Window.Value()
	return slices.ContainsFunc(p.Nodes, func(n v1alpha1.EndpointSyncNode) bool {
		last := n.Status.Last
		return last.Revision == e.Revision && last.Outcome == v1alpha1.OutcomeCommitted &&
			p.Now.Sub(last.FinishTime.Time) <= window
	})
}
