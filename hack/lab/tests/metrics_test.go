package tests

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	// metricsServices make an incident of about 8 s at the default flags.
	metricsServices = 200
	// metricsReader is the role of config/rbac/metrics.yaml.
	metricsReader = "endpoint-sync-metrics-reader"
	// stampError is how far the stamps of the observer and of the operator may lie apart on a machine that runs all of the
	// control plane besides, on average and where a percentile meets a bucket's edge.
	stampError = 50 * time.Millisecond
)

// TestMetrics scrapes the controller as Prometheus would, through an incident, and holds what it says against the
// observer.
func TestMetrics(t *testing.T) {
	cluster := environment.Own(t)
	node := rig.New(t, environment, cluster, rig.Options{RealKCM: true})
	load := newLoad(t, cluster.Admin, "metrics", metricsServices)
	addresses, err := controlplane.FreeAddresses(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	address := addresses[0]
	node.StartController(t, "--metrics-bind-address="+address)
	cluster.ApplyPolicy(t, policyName, modePolicy(v1alpha1.ModeObserve))
	awaitPolicy(t, cluster, "the controller to measure", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return is(p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonObserving)
	})
	prometheus := newScraper(t, cluster, address)
	truth, err := observer.Start(t.Context(), cluster.Admin, observer.Options{Namespace: "metrics", ServiceLabel: workload.ServiceLabel})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(truth.Stop)

	before := prometheus.scrape(t.Context(), t)
	if open := before.total("endpointsync_open_changes", nil); open != 0 {
		t.Errorf("%g changes are open before the incident, want 0", open)
	}
	truth.Mark("incident")
	if _, err = load.Flip(t.Context()); err != nil {
		t.Fatal(err)
	}
	during := prometheus.scrape(t.Context(), t)
	if open, oldest := during.total("endpointsync_open_changes", nil), during.total("endpointsync_oldest_open_change_seconds", nil); open == 0 || oldest == 0 {
		t.Errorf("%g changes are open in the incident, the oldest ages adding up to %g s, want both to rise", open, oldest)
	}
	if err = load.WaitConverged(t.Context()); err != nil {
		t.Fatal(err)
	}
	var after exposition
	rig.Await(t, reportLimit, func() string {
		return fmt.Sprintf("no open change; %g are", after.total("endpointsync_open_changes", nil))
	}, func(ctx context.Context) bool {
		after = prometheus.scrape(ctx, t)
		return after.total("endpointsync_open_changes", nil) == 0
	})
	want, err := truth.Result("incident")
	if err != nil {
		t.Fatal(err)
	}
	if oldest := after.total("endpointsync_oldest_open_change_seconds", nil); oldest != 0 {
		t.Errorf("the oldest open changes are %g s old with none open", oldest)
	}
	for _, row := range rowsOf(want) {
		row.compare(t, before, after)
	}
	after.compareWatches(t)
}

// compareWatches checks what is told of the watches and of how well they measure.
func (e exposition) compareWatches(t *testing.T) {
	t.Helper()
	bound := e.total("endpointsync_measurement_error_bound_seconds", nil)
	if bound <= 0 {
		t.Error("no error bound although changes began in the last minute")
	}
	for _, kind := range []string{"pods", "services", "endpointslices", "endpoints", "nodes", "namespaces"} {
		of := map[string]string{"kind": kind}
		if e.total("endpointsync_watch_receiving", of) != 1 {
			t.Errorf("the watch of %s is not caught up", kind)
		}
		relists := e.total("endpointsync_watch_starts_total", map[string]string{"kind": kind, "type": "relist"})
		if relists != 1 {
			t.Errorf("%g relists of %s, want 1: at the start", relists, kind)
		}
		h := e.histogram("endpointsync_watch_processing_seconds", of)
		if h.count > 0 {
			low, high := h.bucketOf(0.99)
			t.Logf("%s: %d events, p99 of processing %s to %s", kind, h.count, low, high)
		}
	}
	for _, kind := range []string{"pods", "endpointslices", "endpoints"} {
		if n := e.histogram("endpointsync_watch_processing_seconds", map[string]string{"kind": kind}).count; n < metricsServices {
			t.Errorf("%d events of %s were processed, want %d and more", n, kind, metricsServices)
		}
	}
	t.Logf("error bound %g s", bound)
}

// row is what the observer saw in one API and direction.
type row struct {
	observer.Summary
	labels map[string]string
	sum    time.Duration
}

func rowsOf(r observer.Result) []row {
	var rows []row
	for name, resource := range map[string]observer.Resource{"EndpointSlice": r.EndpointSlice, "Endpoints": r.Endpoints} {
		for direction, summary := range map[string]observer.Summary{"Addition": resource.Added, "Removal": resource.Removed} {
			one := row{Summary: summary, labels: map[string]string{"resource": name, "direction": direction}}
			for _, c := range resource.Series {
				if c.Added == (direction == "Addition") {
					one.sum += c.Lag
				}
			}
			rows = append(rows, one)
		}
	}
	return rows
}

func (r row) compare(t *testing.T, before, after exposition) {
	t.Helper()
	if r.Pending > 0 || r.Changes != metricsServices/2 {
		t.Errorf("%v: the observer saw %d changes, %d of them pending; want %d, 0", r.labels, r.Changes, r.Pending, metricsServices/2)
	}
	closed := map[string]string{"class": "Closed", "resource": r.labels["resource"], "direction": r.labels["direction"]}
	if got := after.total("endpointsync_changes_total", closed) - before.total("endpointsync_changes_total", closed); got != float64(r.Changes) {
		t.Errorf("%v: %g changes closed, the observer saw %d", r.labels, got, r.Changes)
	}
	h := after.histogram("endpointsync_change_lag_seconds", r.labels).without(before.histogram("endpointsync_change_lag_seconds", r.labels))
	if h.count != uint64(r.Changes) || h.native == 0 {
		t.Errorf("%v: the histogram holds %d changes in %d native buckets, the observer saw %d", r.labels, h.count, h.native, r.Changes)
	}
	low, high := h.bucketOf(0.99)
	if r.P99 < low-stampError || r.P99 > high+stampError {
		t.Errorf("%v: p99 is in the bucket from %s to %s, the observer saw %s", r.labels, low, high, r.P99)
	}
	wrong := after.total("endpointsync_wrong_endpoint_seconds_total", r.labels) - before.total("endpointsync_wrong_endpoint_seconds_total", r.labels)
	if diff := math.Abs(wrong - r.sum.Seconds()); diff > stampError.Seconds()*float64(r.Changes) {
		t.Errorf("%v: wrong for %g endpoint-seconds, the observer saw %g", r.labels, wrong, r.sum.Seconds())
	}
	t.Logf("%v: %d changes, p99 %s in %s to %s, wrong for %.3f of %.3f endpoint-seconds", r.labels, r.Changes, r.P99, low, high, wrong, r.sum.Seconds())
}

// exposition is one scrape.
type exposition map[string]*dto.MetricFamily

// total adds up the series that have the labels.
func (e exposition) total(name string, labels map[string]string) float64 {
	var sum float64
	for _, m := range e[name].GetMetric() {
		if matches(m, labels) {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

func matches(m *dto.Metric, labels map[string]string) bool {
	found := 0
	for _, l := range m.GetLabel() {
		if want, asked := labels[l.GetName()]; asked && want == l.GetValue() {
			found++
		}
	}
	return found == len(labels)
}

// histogram is a sum of classic histograms with the same bounds, and the number of native buckets they have besides.
type histogram struct {
	count  uint64
	bounds []float64
	upTo   []uint64
	native int
}

func (e exposition) histogram(name string, labels map[string]string) histogram {
	var sum histogram
	for _, m := range e[name].GetMetric() {
		if !matches(m, labels) {
			continue
		}
		h := m.GetHistogram()
		if sum.bounds == nil {
			sum.bounds, sum.upTo = make([]float64, len(h.GetBucket())), make([]uint64, len(h.GetBucket()))
		}
		for i, b := range h.GetBucket() {
			sum.bounds[i] = b.GetUpperBound()
			sum.upTo[i] += b.GetCumulativeCount()
		}
		sum.count += h.GetSampleCount()
		sum.native += len(h.GetPositiveDelta())
	}
	return sum
}

func (h histogram) without(earlier histogram) histogram {
	for i := range earlier.upTo {
		h.upTo[i] -= earlier.upTo[i]
	}
	h.count -= earlier.count
	return h
}

// bucketOf returns the bounds of the bucket that a percentile is in.
func (h histogram) bucketOf(p float64) (low, high time.Duration) {
	rank := uint64(math.Ceil(p * float64(h.count)))
	for i, n := range h.upTo {
		high = time.Duration(h.bounds[i] * float64(time.Second))
		if n >= rank {
			return low, high
		}
		low = high
	}
	return low, math.MaxInt64
}

// scraper asks the controller for its metrics.
type scraper struct {
	client *http.Client
	url    string
	token  string
}

// newScraper returns one that may, after it has made sure that others may not.
func newScraper(t *testing.T, c *rig.Cluster, address string) scraper {
	t.Helper()
	s := scraper{url: "https://" + address + "/metrics", client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the controller signs its own certificate
	}}}
	t.Cleanup(s.client.CloseIdleConnections)
	rig.Await(t, reportLimit, func() string { return "the controller to serve on " + address }, func(ctx context.Context) bool {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		return err == nil && connection.Close() == nil
	})
	for name, want := range map[string]int{"": http.StatusUnauthorized, "stranger": http.StatusForbidden} {
		s.token = tokenOf(t, c, name)
		if got := s.status(t.Context(), t); got != want {
			t.Errorf("scrape as %q = %d, want %d", name, got, want)
		}
	}
	s.token = tokenOf(t, c, "prometheus")
	_, err := c.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: metricsReader},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: operator.Namespace, Name: "prometheus"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rig.Await(t, reportLimit, func() string { return "the metrics to be served to Prometheus" }, func(ctx context.Context) bool {
		return s.status(ctx, t) == http.StatusOK
	})
	return s
}

// tokenOf makes a ServiceAccount and returns a token of it; none for none.
func tokenOf(t *testing.T, c *rig.Cluster, name string) string {
	t.Helper()
	if name == "" {
		return ""
	}
	accounts := c.Client.CoreV1().ServiceAccounts(operator.Namespace)
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	answer, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

func (s scraper) get(ctx context.Context, t *testing.T) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (s scraper) status(ctx context.Context, t *testing.T) int {
	t.Helper()
	res := s.get(ctx, t)
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

func (s scraper) scrape(ctx context.Context, t *testing.T) exposition {
	t.Helper()
	res := s.get(ctx, t)
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("scrape = %s, want 200", res.Status)
	}
	all := exposition{}
	decoder := expfmt.NewDecoder(res.Body, expfmt.ResponseFormat(res.Header))
	for {
		family := &dto.MetricFamily{}
		switch err := decoder.Decode(family); {
		case err == nil:
			all[family.GetName()] = family
		case errors.Is(err, io.EOF):
			return all
		default:
			t.Fatal(err)
		}
	}
}
