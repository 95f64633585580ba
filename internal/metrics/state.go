package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// The error bound is that of changes which began within boundWindow, until boundDelay ago: the delay of a second is told
// when it is over, later on a machine that is short of CPU.
const (
	boundWindow = time.Minute
	boundDelay  = 5 * time.Second
)

// state is what stands in the tracker, read whenever it is scraped.
type state struct {
	tracker *lag.Tracker
	clock   clock.PassiveClock
	set     *Set

	mu    sync.Mutex
	wrong map[cellKey]float64
}

// cellKey names an API and a direction.
type cellKey struct {
	resource  lag.Resource
	direction lag.Direction
}

// rise returns the wrong endpoint seconds so far as a counter, which never falls. What ended just before a scrape and is
// heard of just after it was counted until the scrape; Prometheus would take the difference for a restart.
func (s *state) rise(t lag.Total) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := cellKey{t.Resource, t.Direction}
	s.wrong[key] = max(s.wrong[key], t.WrongEndpointSeconds)
	return s.wrong[key]
}

func newState(tracker *lag.Tracker, clk clock.PassiveClock, set *Set) *state {
	return &state{tracker: tracker, clock: clk, set: set, wrong: map[cellKey]float64{}}
}

var (
	openDesc      = desc("open_changes", helpOpen, labelResource, labelDirection)
	oldestDesc    = desc("oldest_open_change_seconds", helpOldest, labelResource, labelDirection)
	wrongDesc     = desc("wrong_endpoint_seconds_total", helpWrong, labelResource, labelDirection)
	boundDesc     = desc("measurement_error_bound_seconds", helpBound)
	receivingDesc = desc("watch_receiving", helpReceiving, labelKind)
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Describe lists what Collect may send.
func (*state) Describe(all chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, oldestDesc, wrongDesc, boundDesc, receivingDesc} {
		all <- d
	}
}

// Collect reads the tracker, once for the totals and once for the last minute.
func (s *state) Collect(out chan<- prometheus.Metric) {
	now := s.clock.Now()
	for _, t := range s.tracker.Totals(now) {
		send := func(d *prometheus.Desc, as prometheus.ValueType, value float64) {
			out <- prometheus.MustNewConstMetric(d, as, value, string(t.Resource), string(t.Direction))
		}
		send(openDesc, prometheus.GaugeValue, float64(t.Open))
		send(oldestDesc, prometheus.GaugeValue, t.OldestOpen.Seconds())
		send(wrongDesc, prometheus.CounterValue, s.rise(t))
	}
	until := now.Add(-boundDelay)
	recent := s.tracker.Summary(lag.Query{Since: until.Add(-boundWindow), Now: until})
	if recent.BoundKnown && samples(recent) > 0 {
		out <- prometheus.MustNewConstMetric(boundDesc, prometheus.GaugeValue, recent.ErrorBound.Seconds())
	}
	for k := range s.set.kinds {
		receiving := 0.0
		if s.set.kinds[k].watched.Load() && s.tracker.Receiving(lag.Kind(k)) {
			receiving = 1
		}
		out <- prometheus.MustNewConstMetric(receivingDesc, prometheus.GaugeValue, receiving, lag.Kind(k).String())
	}
}

func samples(s lag.Summary) int {
	n := 0
	for _, row := range s.Stats {
		n += row.Samples()
	}
	return n
}
