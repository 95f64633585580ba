package scrape

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Signals is what one process says about itself. Absent fields could not be read.
type Signals struct {
	// KCM are the counters. Their Time is the caller's to set.
	KCM v1alpha1.KCMSignals

	// Leader says whether the process leads kube-controller-manager.
	Leader *bool

	// Version of the process, such as v1.37.2.
	Version string

	// ReleaseOnExit says whether the process gives up its leadership at once when it ends; nil if it does not tell.
	ReleaseOnExit *bool

	// Fingerprint of the serving certificate that came with the answer, as Probe returns it.
	Fingerprint string
}

// ProcessStart returns when the process started, zero if that is not known. Two processes differ in it.
func (s Signals) ProcessStart() time.Time { return s.KCM.ProcessStartTime.Time }

// SampleError names samples that were dropped because they make no sense.
type SampleError struct{ Dropped []string }

// Error lists what was dropped, at most five of it.
func (e *SampleError) Error() string {
	return fmt.Sprintf("drop %d samples of /metrics: %q", len(e.Dropped), e.Dropped[:min(5, len(e.Dropped))])
}

// ParseSignals reads the Prometheus text format. A sample that is NaN, infinite, negative or given twice is dropped,
// named in a *SampleError, and absent from the result, which is otherwise valid.
func ParseSignals(text []byte) (Signals, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return Signals{}, fmt.Errorf("parse /metrics: %w", err)
	}
	r := reader{families: families}
	signals := Signals{
		KCM: v1alpha1.KCMSignals{
			Writes:                  r.writes("rest_client_request_duration_seconds", count),
			LimiterWaitMilliseconds: r.writes("rest_client_rate_limiter_duration_seconds", milliseconds),
			RequestMilliseconds:     r.writes("rest_client_request_duration_seconds", milliseconds),
			StaleSyncs:              r.syncs("stale"),
			FailedSyncs:             r.syncs("error"),
			Endpoints:               r.queue("endpoint"),
			EndpointSlices:          r.queue("endpoint_slice"),
		},
		Version: r.version(),
	}
	if start, ok := r.value("process_start_time_seconds", nil); ok && start > 0 && start < 1e11 {
		signals.KCM.ProcessStartTime = metav1.MicroTime{Time: time.UnixMicro(int64(math.Round(start * 1e6))).UTC()}
	}
	leads, ok := r.value("leader_election_master_status", labels{nameLabel: "kube-controller-manager"})
	if ok {
		leader := leads == 1
		signals.Leader = &leader
	}
	if on, told := r.value("kubernetes_feature_enabled", labels{nameLabel: releaseGate}); told {
		signals.ReleaseOnExit = new(on == 1)
	}
	if len(r.dropped) > 0 {
		return signals, &SampleError{Dropped: r.dropped}
	}
	return signals, nil
}

// nameLabel tells the series of a family apart by what they are of.
const nameLabel = "name"

type labels map[string]string

// reader picks samples out of parsed metrics and remembers those that it dropped.
type reader struct {
	families map[string]*dto.MetricFamily
	dropped  []string
}

// find returns the metrics of a family that carry all the labels.
func (r *reader) find(family string, want labels) []*dto.Metric {
	var found []*dto.Metric
	for _, m := range r.families[family].GetMetric() {
		if carries(m, want) {
			found = append(found, m)
		}
	}
	return found
}

func carries(m *dto.Metric, want labels) bool {
	matched := 0
	for _, pair := range m.GetLabel() {
		if value, ok := want[pair.GetName()]; ok && value == pair.GetValue() {
			matched++
		}
	}
	return matched == len(want)
}

// one returns the only metric of a family with the labels, or nil.
func (r *reader) one(family string, want labels) *dto.Metric {
	switch found := r.find(family, want); len(found) {
	case 0:
		return nil
	case 1:
		return found[0]
	default:
		r.drop(family, errors.New("given more than once"))
		return nil
	}
}

func (r *reader) drop(family string, why error) {
	r.dropped = append(r.dropped, family+": "+why.Error())
}

// value returns the only counter, gauge or untyped value of a family with the labels.
func (r *reader) value(family string, want labels) (float64, bool) {
	m := r.one(family, want)
	var v float64
	switch {
	case m == nil:
		return 0, false
	case m.Gauge != nil:
		v = m.Gauge.GetValue()
	case m.Counter != nil:
		v = m.Counter.GetValue()
	case m.Untyped != nil:
		v = m.Untyped.GetValue()
	default:
		r.drop(family, errors.New("not a single value"))
		return 0, false
	}
	if err := sane(v); err != nil {
		r.drop(family, err)
		return 0, false
	}
	return v, true
}

// part takes one number out of a histogram.
type part func(*dto.Histogram) float64

func count(h *dto.Histogram) float64        { return float64(h.GetSampleCount()) }
func milliseconds(h *dto.Histogram) float64 { return h.GetSampleSum() * 1e3 }

// writes sums a histogram over hosts and mutating verbs. One sample that makes no sense makes the sum absent. A family
// that is there without any write counts 0: the process has not written yet.
func (r *reader) writes(family string, take part) *int64 {
	if r.families[family] == nil {
		return nil
	}
	sum, series := 0.0, map[string]bool{}
	for _, m := range r.families[family].GetMetric() {
		verb, key := identity(m)
		if !isWrite(verb) {
			continue
		}
		if series[key] || m.Histogram == nil {
			r.drop(family, errors.New("given more than once or no histogram"))
			return nil
		}
		series[key] = true
		v := take(m.Histogram)
		if err := sane(v); err != nil {
			r.drop(family, err)
			return nil
		}
		sum += v
	}
	return whole(sum)
}

// identity returns the verb of a series, and all its labels as one text.
func identity(m *dto.Metric) (verb, key string) {
	var b strings.Builder
	for _, pair := range m.GetLabel() {
		fmt.Fprintf(&b, "%q=%q,", pair.GetName(), pair.GetValue())
		if pair.GetName() == "verb" {
			verb = pair.GetValue()
		}
	}
	return verb, b.String()
}

func isWrite(verb string) bool {
	switch verb {
	case "POST", "PUT", "PATCH", "DELETE":
		return true
	}
	return false
}

// syncs reads how many syncs of the EndpointSlice controller had a result. A result that has not come up yet has no
// series, and counts 0 once another has.
func (r *reader) syncs(result string) *int64 {
	const family = "endpoint_slice_controller_syncs"
	if r.families[family] == nil {
		return nil
	}
	if len(r.find(family, labels{"result": result})) == 0 {
		return new(int64(0))
	}
	if n, ok := r.value(family, labels{"result": result}); ok {
		return whole(n)
	}
	return nil
}

// queue reads one work queue's metrics.
func (r *reader) queue(name string) v1alpha1.QueueSignals {
	want := labels{nameLabel: name}
	signals := v1alpha1.QueueSignals{
		Syncs:            r.histogram("workqueue_work_duration_seconds", want, count),
		WaitMilliseconds: r.histogram("workqueue_queue_duration_seconds", want, milliseconds),
		WorkMilliseconds: r.histogram("workqueue_work_duration_seconds", want, milliseconds),
	}
	if depth, ok := r.value("workqueue_depth", want); ok {
		signals.Depth = whole(depth)
	}
	return signals
}

func (r *reader) histogram(family string, want labels, take part) *int64 {
	m := r.one(family, want)
	if m == nil {
		return nil
	}
	if m.Histogram == nil {
		r.drop(family, errors.New("no histogram"))
		return nil
	}
	v := take(m.Histogram)
	if err := sane(v); err != nil {
		r.drop(family, err)
		return nil
	}
	return whole(v)
}

func (r *reader) version() string {
	m := r.one("kubernetes_build_info", nil)
	for _, pair := range m.GetLabel() {
		if pair.GetName() == "git_version" && len(pair.GetValue()) <= 64 {
			return pair.GetValue()
		}
	}
	return ""
}

// maxSample is the largest number that a float64 counts up to without gaps: a counter beyond it is nonsense.
const maxSample = 1 << 53

func sane(v float64) error {
	switch {
	case math.IsNaN(v):
		return errors.New("not a number")
	case math.IsInf(v, 0):
		return errors.New("infinite")
	case v < 0:
		return errors.New("negative")
	case v > maxSample:
		return errors.New("too large")
	}
	return nil
}

// whole rounds a sum of sane samples, or returns nil if it has left what fits.
func whole(v float64) *int64 {
	if v < 0 || v > maxSample {
		return nil
	}
	n := int64(math.Round(v))
	return &n
}
