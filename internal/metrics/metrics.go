// Package metrics tells Prometheus what the operator measures, and how well. It counts and derives nothing of its own:
// what a change is, and how it ends, is internal/lag's to say.
//
// No label names a Service, a Pod or a namespace: the number of series does not depend on the cluster's size. Policies are
// named, of which there are few.
package metrics

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// namespace begins each name.
const namespace = "endpointsync"

// The labels. Their values are those of the status of a policy and of the API's own resources.
const (
	labelResource  = "resource"
	labelDirection = "direction"
	labelStratum   = "stratum"
	labelClass     = "class"
	labelKind      = "kind"
	labelType      = "type"
	labelPolicy    = "policy"
	labelFlag      = "flag"
	labelSetting   = "setting"
)

// How a watch begins.
const (
	typeRelist = "relist"
	typeResume = "resume"
)

// How many values an enum of internal/lag has.
const (
	kindCount    = int(lag.KindNamespace) + 1
	stratumCount = int(lag.StratumAfterRestart) + 1
	classCount   = int(lag.Drift) + 1
)

// endings are the classes that a change can end in.
var endings = []lag.Class{
	lag.Closed, lag.Superseded, lag.NotNeeded, lag.Startup, lag.Gap, lag.HandOver, lag.OverCapacity, lag.Unacted,
}

// Native histograms: buckets 9 % wide, so that a percentile is right to 5 %. From a millisecond, below which stamps are
// not told apart, to ten minutes that takes 154 of them. Outliers beyond that may cost resolution for an hour at most.
const (
	nativeFactor     = 1.1
	nativeBuckets    = 160
	nativeZero       = 1e-3
	nativeResetAfter = time.Hour
)

// lagBuckets are for those who do not scrape native histograms, in seconds: objectives lie between 10 ms and ten minutes
// (EndpointSyncPolicy.spec.objective.maxLag), and most of them between one second and thirty, where the steps are small
// enough to tell a met objective from a missed one. A backlog at the default flags lasts up to about a minute.
func lagBuckets() []float64 {
	return []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600}
}

// processingBuckets are in seconds: an event takes some ten microseconds when nothing waits. 10 ms is the most that the
// 99th percentile should be, so that the steps are small around it.
func processingBuckets() []float64 {
	return []float64{
		10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3, 9e-3, 10e-3,
		11e-3, 12.5e-3, 15e-3, 20e-3, 30e-3, 50e-3, 0.1, 0.2, 0.5, 1,
	}
}

// Set is what one process tells of its measuring. Its methods may be called by several goroutines at once.
type Set struct {
	lags       *prometheus.HistogramVec
	changes    *prometheus.CounterVec
	marked     *prometheus.CounterVec
	drifts     *prometheus.CounterVec
	starts     *prometheus.CounterVec
	processing *prometheus.HistogramVec
	policies   policies
	server     *server

	// What the vectors hold, resolved once: the methods below are called for every event.
	cells [2][2]cell
	kinds [kindCount]kind
}

// cell is what is counted of one API in one direction.
type cell struct {
	lags           [stratumCount]prometheus.Observer
	changes        [classCount]prometheus.Counter // nil where no change ends
	marked, drifts prometheus.Counter
}

// kind is what is counted of one watch.
type kind struct {
	processing     prometheus.Observer
	relist, resume prometheus.Counter
	watched        atomic.Bool
}

// New returns a set with every series it will ever have, at zero; those of policies come and go.
func New() *Set {
	s := newVectors()
	for _, r := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		for _, d := range []lag.Direction{lag.DirectionAddition, lag.DirectionRemoval} {
			s.resolve(r, d)
		}
	}
	for k := range s.kinds {
		name := lag.Kind(k).String()
		s.kinds[k].processing = s.processing.WithLabelValues(name)
		s.kinds[k].relist = s.starts.WithLabelValues(name, typeRelist)
		s.kinds[k].resume = s.starts.WithLabelValues(name, typeResume)
	}
	return s
}

func (s *Set) resolve(r lag.Resource, d lag.Direction) {
	c := s.cell(r, d)
	for stratum := range c.lags {
		c.lags[stratum] = s.lags.WithLabelValues(string(r), string(d), lag.Stratum(stratum).String())
	}
	for _, class := range endings {
		c.changes[class] = s.changes.WithLabelValues(string(r), string(d), class.String())
	}
	c.marked, c.drifts = s.marked.WithLabelValues(string(r), string(d)), s.drifts.WithLabelValues(string(r), string(d))
}

func (s *Set) cell(r lag.Resource, d lag.Direction) *cell {
	var resource, direction int
	if r == lag.ResourceEndpoints {
		resource = 1
	}
	if d == lag.DirectionRemoval {
		direction = 1
	}
	return &s.cells[resource][direction]
}

func newVectors() *Set {
	return &Set{
		policies: newPolicies(),
		server:   newServer(),
		lags: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "change_lag_seconds", Help: helpLag, Buckets: lagBuckets(),
			NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBuckets,
			NativeHistogramZeroThreshold: nativeZero, NativeHistogramMinResetDuration: nativeResetAfter,
		}, []string{labelResource, labelDirection, labelStratum}),
		changes: counters("changes_total", helpChanges, labelResource, labelDirection, labelClass),
		marked:  counters("marked_changes_total", helpMarked, labelResource, labelDirection),
		drifts:  counters("drifts_total", helpDrifts, labelResource, labelDirection),
		starts:  counters("watch_starts_total", helpStarts, labelKind, labelType),
		processing: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "watch_processing_seconds", Help: helpProcessing, Buckets: processingBuckets(),
		}, []string{labelKind}),
	}
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// Register adds the set to a registry, with what stands in the tracker whenever it is scraped.
func (s *Set) Register(registry prometheus.Registerer, tracker *lag.Tracker, clk clock.PassiveClock) error {
	for _, c := range []prometheus.Collector{
		s.lags, s.changes, s.marked, s.drifts, s.starts, s.processing,
		s.policies.objective, s.policies.met, s.policies.flags, s.policies.guardrail,
		s.policies.predicted, s.policies.achieved, s.server, newState(tracker, clk, s),
	} {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("register the operator's metrics: %w", err)
		}
	}
	return nil
}

// Ended counts an outcome that ended; it is made for lag.Options.Ended. The lag of a change that ended while its watch
// was broken is that of the watch, so that it is counted and not observed.
func (s *Set) Ended(e lag.Ended) {
	c := s.cell(e.Resource, e.Direction)
	if e.Class == lag.Drift {
		c.drifts.Inc()
		return
	}
	if counter := c.changes[e.Class]; counter != nil {
		counter.Inc()
	}
	if e.Class != lag.Closed && e.Class != lag.HandOver {
		return
	}
	if e.Marked {
		c.marked.Inc()
		return
	}
	c.lags[e.Stratum].Observe(e.Lag.Seconds())
}

// Processed counts an event that the tracker has, and how long that took from its receipt.
func (s *Set) Processed(k lag.Kind, delay time.Duration) {
	s.kinds[k].processing.Observe(delay.Seconds())
}

// Watched counts a watch that began, after a list or where the one before had ended.
func (s *Set) Watched(k lag.Kind, relist bool) { //nolint:revive // The two ways are what is counted.
	s.kinds[k].watched.Store(true)
	if relist {
		s.kinds[k].relist.Inc()
		return
	}
	s.kinds[k].resume.Inc()
}
