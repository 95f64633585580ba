package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// source is something that a session reads besides what is measured, and can do without.
type source string

// unreadable is why sources could not be read.
type unreadable map[source]string

// The sources, and what a reader of the result misses without them.
const (
	whoLeads         source = "who leads kube-controller-manager (Lease kube-system/kube-controller-manager)"
	flagsAtURL       source = "the flags at --kcm-url"
	metricsAtURL     source = "the metrics at --kcm-url"
	serverHealth     source = "the API server's health (get on nonResourceURLs /metrics): whether it bears a raise is not known"
	kcmPods          source = "kube-controller-manager's Pods in kube-system, and so the flags in their commands"
	whatAgentsReport source = "what the operator's agents report (EndpointSyncNodes)"
	whichPlatform    source = "who renders kube-controller-manager's command line: the snippet is kubeadm's"
	whichNodes       source = "which Nodes exist: a Pod counts as expected in EndpointSlices although its Node is gone"
	namespaceLabels  source = "the labels of namespaces"
)

// limits are what bounds what a session, or a recording of one, can know.
type limits struct {
	narrow     string     // which other namespaces are not watched; empty: all are
	unread     unreadable // what could not be read, with the latest reason
	first, now running
}

func (s *session) limits() limits {
	l := limits{unread: s.unread, first: s.first, now: s.readings.running(s.current)}
	if s.narrow != "" {
		l.narrow = "other namespaces than " + s.narrow
	}
	return l
}

// notSeen is what a reader of the result has to know about its limits, what matters most first.
func (l limits) notSeen(e tuner.Evidence) []string {
	var out []string
	add := func(said bool, format string, args ...any) {
		if said {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(l.narrow != "", "%s (no permission): their changes share kube-controller-manager's budget and are missing from the model", l.narrow)
	out = append(out, blind(e.Lag)...)
	out = append(out, l.missing(whoLeads)...)
	add(l.now.assumed, "the flags that kube-controller-manager runs with: %s; cause, prediction and cost rest on that (see --current)", l.now.source)
	add(l.now.flags != l.first.flags, "the flags changed while this measured, from %s to %s: the lag is of both", l.first.flags, l.now.flags)
	out = append(out, l.missing(flagsAtURL, metricsAtURL)...)
	add(len(e.Signals) < 2, "kube-controller-manager's own metrics (give --kcm-url where it can be reached): the cause is judged from the changes alone")
	out = append(out, apart(e.Lag)...)
	add(published(e.Lag) && !e.Lag.BoundKnown, "how late the stamps of the watches were: no error bound can be given")
	out = append(out, l.missing(serverHealth, kcmPods, whichPlatform, whatAgentsReport, whichNodes, namespaceLabels)...)
	return append(out,
		"what changed before the measurement began: if kube-controller-manager was busy, its rate limit was partly spent already",
		"what comes before and after: how long a kubelet takes to report a Pod, and kube-proxy to follow what is published")
}

// missing says why sources could not be read, of those that could not.
func (l limits) missing(sources ...source) []string {
	var out []string
	for _, what := range sources {
		if why, unread := l.unread[what]; unread {
			out = append(out, fmt.Sprintf("%s: %s", what, why))
		}
	}
	return out
}

// blind tells of the times in which a watch was broken, one line for each kind of object.
func blind(s lag.Summary) []string {
	var out []string
	for kind, all := range byKind(s.Blind) {
		if len(all) == 0 {
			continue
		}
		times := make([]string, 0, len(all))
		for _, b := range all[max(0, len(all)-blindShown):] {
			times = append(times, span(b))
		}
		if more := len(all) - blindShown; more > 0 {
			times = append(times, fmt.Sprintf("and %d times before", more))
		}
		consequence := "changes that it told of then have no lag"
		if k := lag.Kind(kind); k == lag.KindSlice || k == lag.KindEndpoints {
			consequence = "lags that end then may be too long"
		}
		out = append(out, fmt.Sprintf("%s %s, when the watch was broken: %s", all[0].Kind, strings.Join(times, ", "), consequence))
	}
	return out
}

// blindShown is how many gaps of one kind are told, the latest; the document has them all.
const blindShown = 3

// byKind returns the gaps of each kind of object.
func byKind(all []lag.Blindness) [lag.KindNamespace + 1][]lag.Blindness {
	var out [lag.KindNamespace + 1][]lag.Blindness
	for _, b := range all {
		out[b.Kind] = append(out[b.Kind], b)
	}
	return out
}

func span(b lag.Blindness) string {
	const form = "15:04:05.0"
	if b.To.IsZero() {
		return "from " + b.From.UTC().Format(form) + " on"
	}
	return fmt.Sprintf("from %s to %s (%s)", b.From.UTC().Format(form), b.To.UTC().Format(form), b.To.Sub(b.From).Round(100*time.Millisecond))
}

// apart tells of changes that were seen and count for nothing.
func apart(s lag.Summary) []string {
	var startup, gap, handOver int
	for _, stat := range s.Stats {
		if stat.Direction == lag.DirectionAny {
			startup, gap, handOver = max(startup, stat.Startup), max(gap, stat.Gap), max(handOver, stat.HandOver)
		}
	}
	var out []string
	for _, c := range []struct {
		n    int
		what string
	}{
		{startup, "since when %d endpoints were wrong that were so already when the measurement began"},
		{gap, "since when %d endpoints were wrong that changed while the watch was broken that tells of it"},
		{handOver, "what the lag of %d changes would have been with a leader: none led while they were open"},
	} {
		if c.n > 0 {
			out = append(out, fmt.Sprintf(c.what, c.n))
		}
	}
	return out
}

// sourceNames are the sources as recordings name them.
var sourceNames = map[source]string{
	whoLeads: "Lease", flagsAtURL: "Flagz", metricsAtURL: "Metrics", kcmPods: "Pods", whatAgentsReport: "Agents",
	whichPlatform: "Platform", whichNodes: "Nodes", namespaceLabels: "Namespaces", serverHealth: "APIServer",
}

// checkOptional asks for one object of each kind that the watches can do without, and notes what may not be read.
func (s *session) checkOptional(ctx context.Context) {
	for _, kind := range []struct {
		name    string
		without source
	}{{"NodeList", whichNodes}, {"NamespaceList", namespaceLabels}} {
		var list metav1.PartialObjectMetadataList
		list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind.name))
		s.note(ctx, kind.without, s.client.List(ctx, &list, client.Limit(1)))
	}
}
