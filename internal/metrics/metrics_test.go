package metrics

import (
	"bytes"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// stage is a set that is registered, with a tracker to play to.
type stage struct {
	set      *Set
	tracker  *lag.Tracker
	clock    *clocktesting.FakePassiveClock
	registry *prometheus.Registry
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{set: New(), clock: clocktesting.NewFakePassiveClock(start), registry: prometheus.NewPedanticRegistry()}
	s.tracker = lag.NewTracker(lag.Options{Ended: s.set.Ended})
	if err := s.set.Register(s.registry, s.tracker, s.clock); err != nil {
		t.Fatal(err)
	}
	return s
}

// pod returns the only Pod of the stage's only Service.
func pod() lag.Pod {
	return lag.Pod{
		Namespace: "default", Name: "web-0", UID: lag.ParseUID("web-0"), IPs: [2]lag.IP{lag.ParseIP("10.0.0.1")},
		Labels: lag.LabelsOf(map[string]string{"app": "web"}), Included: true,
	}
}

// play makes a Service whose Pod becomes ready at the start, and is in its slice two seconds later and in its Endpoints
// never.
func (s *stage) play() {
	s.tracker.SetService(lag.Service{
		Namespace: "default", Name: "web", Selector: lag.LabelsOf(map[string]string{"app": "web"}),
	}, start.Add(-time.Minute))
	s.tracker.SetPod(pod(), start.Add(-time.Minute))
	s.tracker.Synced(start.Add(-time.Minute))
	ready := pod()
	ready.Ready = true
	s.tracker.SetPod(ready, start)
	s.tracker.SetSlice(lag.Slice{
		Namespace: "default", Name: "web-x", Service: "web",
		Ready: []lag.Address{{PodUID: ready.UID, IP: ready.IPs[0]}},
	}, start.Add(2*time.Second))
}

// gather returns the family of a name, nil without one.
func (s *stage) gather(t testing.TB, name string) *dto.MetricFamily {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	return nil
}

func TestNamesAndHelpFollowTheConventions(t *testing.T) {
	s := newStage(t)
	s.play()
	s.tracker.SetDelay(start, time.Millisecond)
	s.tracker.SetDelay(start.Add(2*time.Second), time.Millisecond)
	s.set.SetPolicy("default", Policy{MaxLag: time.Second, Outcome: tuner.Met, Running: v1alpha1.DefaultFlags()})
	s.clock.SetTime(start.Add(10 * time.Second))
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNothingIsKnownAtTheStartAndEverySeriesIsThere(t *testing.T) {
	s := newStage(t)
	for name, want := range map[string]int{
		"endpointsync_change_lag_seconds":              12, // two APIs, two directions, three strata
		"endpointsync_changes_total":                   32, // eight classes
		"endpointsync_marked_changes_total":            4,
		"endpointsync_drifts_total":                    4,
		"endpointsync_open_changes":                    4,
		"endpointsync_oldest_open_change_seconds":      4,
		"endpointsync_wrong_endpoint_seconds_total":    4,
		"endpointsync_measurement_error_bound_seconds": 0,
		"endpointsync_watch_receiving":                 6,
		"endpointsync_watch_starts_total":              12,
		"endpointsync_watch_processing_seconds":        6,
	} {
		series := s.gather(t, name).GetMetric()
		if len(series) != want {
			t.Errorf("%s has %d series, want %d", name, len(series), want)
		}
		for _, m := range series {
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()); v != 0 {
				t.Errorf("%s%v = %g, want 0", name, m.GetLabel(), v)
			}
		}
	}
}

func TestScrapeOfAnIncident(t *testing.T) {
	s := newStage(t)
	s.play()
	s.clock.SetTime(start.Add(12 * time.Second))
	for _, at := range []time.Duration{0, 2 * time.Second} {
		s.tracker.SetDelay(start.Add(at), 3*time.Millisecond)
	}
	s.set.Watched(lag.KindPod, true)
	s.set.Watched(lag.KindPod, false)
	s.set.Watched(lag.KindSlice, true)
	s.tracker.SetReceiving(lag.KindSlice, false, start.Add(11*time.Second))
	const want = `
# HELP endpointsync_open_changes ` + helpOpen + `
# TYPE endpointsync_open_changes gauge
endpointsync_open_changes{direction="Addition",resource="EndpointSlice"} 0
endpointsync_open_changes{direction="Addition",resource="Endpoints"} 1
endpointsync_open_changes{direction="Removal",resource="EndpointSlice"} 0
endpointsync_open_changes{direction="Removal",resource="Endpoints"} 0
# HELP endpointsync_oldest_open_change_seconds ` + helpOldest + `
# TYPE endpointsync_oldest_open_change_seconds gauge
endpointsync_oldest_open_change_seconds{direction="Addition",resource="EndpointSlice"} 0
endpointsync_oldest_open_change_seconds{direction="Addition",resource="Endpoints"} 12
endpointsync_oldest_open_change_seconds{direction="Removal",resource="EndpointSlice"} 0
endpointsync_oldest_open_change_seconds{direction="Removal",resource="Endpoints"} 0
# HELP endpointsync_wrong_endpoint_seconds_total ` + helpWrong + `
# TYPE endpointsync_wrong_endpoint_seconds_total counter
endpointsync_wrong_endpoint_seconds_total{direction="Addition",resource="EndpointSlice"} 2
endpointsync_wrong_endpoint_seconds_total{direction="Addition",resource="Endpoints"} 12
endpointsync_wrong_endpoint_seconds_total{direction="Removal",resource="EndpointSlice"} 0
endpointsync_wrong_endpoint_seconds_total{direction="Removal",resource="Endpoints"} 0
# HELP endpointsync_measurement_error_bound_seconds ` + helpBound + `
# TYPE endpointsync_measurement_error_bound_seconds gauge
endpointsync_measurement_error_bound_seconds 0.003
# HELP endpointsync_watch_receiving ` + helpReceiving + `
# TYPE endpointsync_watch_receiving gauge
endpointsync_watch_receiving{kind="endpoints"} 0
endpointsync_watch_receiving{kind="endpointslices"} 0
endpointsync_watch_receiving{kind="namespaces"} 0
endpointsync_watch_receiving{kind="nodes"} 0
endpointsync_watch_receiving{kind="pods"} 1
endpointsync_watch_receiving{kind="services"} 0
# HELP endpointsync_watch_starts_total ` + helpStarts + `
# TYPE endpointsync_watch_starts_total counter
endpointsync_watch_starts_total{kind="endpoints",type="relist"} 0
endpointsync_watch_starts_total{kind="endpoints",type="resume"} 0
endpointsync_watch_starts_total{kind="endpointslices",type="relist"} 1
endpointsync_watch_starts_total{kind="endpointslices",type="resume"} 0
endpointsync_watch_starts_total{kind="namespaces",type="relist"} 0
endpointsync_watch_starts_total{kind="namespaces",type="resume"} 0
endpointsync_watch_starts_total{kind="nodes",type="relist"} 0
endpointsync_watch_starts_total{kind="nodes",type="resume"} 0
endpointsync_watch_starts_total{kind="pods",type="relist"} 1
endpointsync_watch_starts_total{kind="pods",type="resume"} 1
endpointsync_watch_starts_total{kind="services",type="relist"} 0
endpointsync_watch_starts_total{kind="services",type="resume"} 0
`
	err := testutil.GatherAndCompare(s.registry, strings.NewReader(want), "endpointsync_open_changes",
		"endpointsync_oldest_open_change_seconds", "endpointsync_wrong_endpoint_seconds_total",
		"endpointsync_measurement_error_bound_seconds", "endpointsync_watch_receiving", "endpointsync_watch_starts_total")
	if err != nil {
		t.Error(err)
	}
	if got := testutil.ToFloat64(s.set.changes.WithLabelValues("EndpointSlice", "Addition", "Closed")); got != 1 {
		t.Errorf("%g closed additions in slices, want 1", got)
	}
}

func TestWrongEndpointSecondsNeverFall(t *testing.T) {
	s := newStage(t)
	s.play()
	s.clock.SetTime(start.Add(10 * time.Second))
	wrong := func() (sum float64) {
		for _, m := range s.gather(t, "endpointsync_wrong_endpoint_seconds_total").GetMetric() {
			sum += m.GetCounter().GetValue()
		}
		return sum
	}
	before := wrong()
	// Published, and received, before that scrape; the tracker hears of it only now.
	s.tracker.SetEndpoints(lag.Endpoints{
		Namespace: "default", Name: "web", Ready: []lag.Address{{PodUID: pod().UID, IP: pod().IPs[0]}},
	}, start.Add(9*time.Second))
	if after := wrong(); before != 12 || after != before {
		t.Errorf("%g wrong endpoint-seconds, then %g, want 12 twice", before, after)
	}
}

func TestTheErrorBoundIsAbsentWhereItIsNotKnown(t *testing.T) {
	tests := map[string]struct {
		play func(*stage)
		now  time.Duration
		want bool
	}{
		"a change whose delays are known": {func(s *stage) {
			s.play()
			s.tracker.SetDelay(start, time.Millisecond)
			s.tracker.SetDelay(start.Add(2*time.Second), time.Millisecond)
		}, 10 * time.Second, true},
		"no change in the last minute": {func(s *stage) {
			s.play()
			s.tracker.SetDelay(start, time.Millisecond)
			s.tracker.SetDelay(start.Add(2*time.Second), time.Millisecond)
		}, 2 * time.Minute, false},
		"nobody told the delay":      {(*stage).play, 10 * time.Second, false},
		"no change at all, no delay": {func(*stage) {}, 10 * time.Second, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			test.play(s)
			s.clock.SetTime(start.Add(test.now))
			if got := s.gather(t, "endpointsync_measurement_error_bound_seconds") != nil; got != test.want {
				t.Errorf("the bound is there: %v, want %v", got, test.want)
			}
		})
	}
}

func TestWhatIsObservedAsLag(t *testing.T) {
	ended := func(class lag.Class, stratum lag.Stratum) lag.Ended {
		return lag.Ended{
			Resource: lag.ResourceEndpoints, Direction: lag.DirectionRemoval, Class: class, Stratum: stratum, Lag: 3 * time.Second,
		}
	}
	marked := ended(lag.Closed, lag.StratumNormal)
	marked.Marked = true
	tests := map[string]struct {
		ended                           lag.Ended
		lag, changes, marked, drifts    float64
		alsoClass, alsoStratumOfTheSame string
	}{
		"a published change":            {ended(lag.Closed, lag.StratumNormal), 1, 1, 0, 0, "Closed", "Normal"},
		"one soon after a restart":      {ended(lag.Closed, lag.StratumAfterRestart), 1, 1, 0, 0, "Closed", "AfterRestart"},
		"one of a hand-over":            {ended(lag.HandOver, lag.StratumHandOver), 1, 1, 0, 0, "HandOver", "HandOver"},
		"one whose end was seen late":   {marked, 0, 1, 1, 0, "Closed", "Normal"},
		"an overtaken change":           {ended(lag.Superseded, lag.StratumNormal), 0, 1, 0, 0, "Superseded", "Normal"},
		"one that needed no write":      {ended(lag.NotNeeded, lag.StratumNormal), 0, 1, 0, 0, "NotNeeded", "Normal"},
		"one of unknown beginning":      {ended(lag.Startup, lag.StratumNormal), 0, 1, 0, 0, "Startup", "Normal"},
		"one that began in a gap":       {ended(lag.Gap, lag.StratumNormal), 0, 1, 0, 0, "Gap", "Normal"},
		"one beyond 1,000 addresses":    {ended(lag.OverCapacity, lag.StratumNormal), 0, 1, 0, 0, "OverCapacity", "Normal"},
		"one that nobody acts on":       {ended(lag.Unacted, lag.StratumNormal), 0, 1, 0, 0, "Unacted", "Normal"},
		"a drift, which is no change":   {ended(lag.Drift, lag.StratumNormal), 0, 0, 0, 1, "", "Normal"},
		"an open change ends never":     {ended(lag.Open, lag.StratumNormal), 0, 0, 0, 0, "", "Normal"},
		"nor does one that is of none ": {ended(0, lag.StratumNormal), 0, 0, 0, 0, "", "Normal"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.set.Ended(test.ended)
			for _, m := range s.gather(t, "endpointsync_change_lag_seconds").GetMetric() {
				want := 0.0
				if has(m, "resource", "Endpoints") && has(m, "direction", "Removal") && has(m, "stratum", test.alsoStratumOfTheSame) {
					want = test.lag
				}
				if h := m.GetHistogram(); h.GetSampleSum() != 3*want || float64(h.GetSampleCount()) != want {
					t.Errorf("%v: %d changes of %g s, want %g of 3 s", m.GetLabel(), h.GetSampleCount(), h.GetSampleSum(), want)
				}
			}
			for _, m := range s.gather(t, "endpointsync_changes_total").GetMetric() {
				want := 0.0
				if has(m, "resource", "Endpoints") && has(m, "direction", "Removal") && has(m, "class", test.alsoClass) {
					want = test.changes
				}
				if got := m.GetCounter().GetValue(); got != want {
					t.Errorf("changes%v = %g, want %g", m.GetLabel(), got, want)
				}
			}
			if got := testutil.ToFloat64(s.set.marked.WithLabelValues("Endpoints", "Removal")); got != test.marked {
				t.Errorf("marked = %g, want %g", got, test.marked)
			}
			if got := testutil.ToFloat64(s.set.drifts.WithLabelValues("Endpoints", "Removal")); got != test.drifts {
				t.Errorf("drifts = %g, want %g", got, test.drifts)
			}
		})
	}
}

func has(m *dto.Metric, name, value string) bool {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue() == value
		}
	}
	return false
}

// scrape asks as Prometheus does, for protobuf.
func (s *stage) scrape(t *testing.T, name string) *dto.MetricFamily {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	answer := recorder{header: http.Header{}}
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}).ServeHTTP(&answer, request)
	decoder := expfmt.NewDecoder(&answer.body, expfmt.ResponseFormat(answer.header))
	for {
		var f dto.MetricFamily
		if err = decoder.Decode(&f); err != nil {
			t.Fatalf("no %s: %v", name, err)
		}
		if f.GetName() == name {
			return &f
		}
	}
}

// recorder is an http.ResponseWriter.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func TestTheLagIsANativeHistogramToo(t *testing.T) {
	s := newStage(t)
	const lags = 1000
	for i := range lags {
		s.set.Ended(lag.Ended{
			Resource: lag.ResourceEndpointSlice, Direction: lag.DirectionAddition, Class: lag.Closed,
			Lag: time.Duration(i) * 10 * time.Millisecond,
		})
	}
	for _, m := range s.scrape(t, "endpointsync_change_lag_seconds").GetMetric() {
		if !has(m, "resource", "EndpointSlice") || !has(m, "direction", "Addition") || !has(m, "stratum", "Normal") {
			continue
		}
		h := m.GetHistogram()
		if len(h.GetBucket()) != len(lagBuckets()) || len(h.GetPositiveSpan()) == 0 || h.GetZeroThreshold() != nativeZero {
			t.Fatalf("%d classic buckets, %d native spans, zero below %g", len(h.GetBucket()), len(h.GetPositiveSpan()), h.GetZeroThreshold())
		}
		width := math.Exp2(math.Exp2(-float64(h.GetSchema())))
		if width > nativeFactor {
			t.Errorf("native buckets are %.0f %% wide, want at most %.0f %%", (width-1)*100, (nativeFactor-1)*100)
		}
		total := h.GetZeroCount()
		at := int64(0)
		for _, delta := range h.GetPositiveDelta() {
			at += delta
			total += uint64(at)
		}
		if total != lags {
			t.Errorf("native buckets hold %d changes, want %d", total, lags)
		}
		return
	}
	t.Fatal("no series of slices and additions")
}

func TestNativeBucketsReachFromAMillisecondToTheLongestObjective(t *testing.T) {
	s := newStage(t)
	for v := nativeZero * 1.01; v <= 600; v *= 1.05 {
		s.set.Ended(lag.Ended{
			Resource: lag.ResourceEndpointSlice, Direction: lag.DirectionAddition, Class: lag.Closed,
			Lag: time.Duration(v * float64(time.Second)),
		})
	}
	for _, m := range s.scrape(t, "endpointsync_change_lag_seconds").GetMetric() {
		h := m.GetHistogram()
		if h.GetSampleCount() > 0 && (len(h.GetPositiveDelta()) > nativeBuckets || h.GetSchema() != 3 || h.GetZeroThreshold() != nativeZero) {
			t.Errorf("%d buckets of schema %d with zero below %g: resolution was given up", len(h.GetPositiveDelta()), h.GetSchema(), h.GetZeroThreshold())
		}
	}
}

func TestTheSetLivesBesideTheUsualCollectors(t *testing.T) {
	s := newStage(t)
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := s.registry.Register(c); err != nil {
			t.Error(err)
		}
	}
	if err := s.set.Register(s.registry, s.tracker, s.clock); err == nil {
		t.Error("a second registration succeeds, want an error that says so")
	}
}

func TestEverythingMayHappenAtOnce(t *testing.T) {
	s := newStage(t)
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for i := range 500 {
				s.set.Processed(lag.Kind((worker+i)%kindCount), time.Duration(i)*time.Microsecond)
				s.set.Watched(lag.Kind((worker+i)%kindCount), i%2 == 0)
				p := pod()
				p.Ready = i%2 == 0
				s.tracker.SetPod(p, start.Add(time.Duration(i)*time.Millisecond))
			}
		})
	}
	for range 10 {
		s.gather(t, "endpointsync_open_changes")
	}
	running.Wait()
	var events uint64
	for _, m := range s.gather(t, "endpointsync_watch_processing_seconds").GetMetric() {
		events += m.GetHistogram().GetSampleCount()
	}
	if events != 2000 {
		t.Errorf("%d events processed, want 2000", events)
	}
}
