package scale

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics of the controller that the benchmark reads. A controller without them gets no figure for them.
const (
	delayMetric = "endpointsync_watch_processing_seconds" // histogram by kind
	openMetric  = "endpointsync_open_changes"             // gauge by resource and direction
	goalMetric  = "go_memstats_next_gc_bytes"             // gauge: twice what is in use, unless the process asks otherwise
)

// families are the metrics of a process.
type families map[string]*dto.MetricFamily

// scraper reads metrics over TLS from a process whose certificate signs itself.
type scraper struct {
	client *http.Client
	url    string
}

func newScraper(address string) scraper {
	return scraper{
		url: "https://" + address + "/metrics",
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
		}},
	}
}

func (s scraper) scrape(ctx context.Context) (families, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer lab")
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("scrape the controller: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // It was read to its end.
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scrape the controller: %s answered %s", s.url, answer.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("scrape the controller: %w", err)
	}
	return parsed, nil
}

// buckets are the counts of a histogram, not added up, by upper bound.
type buckets map[float64]float64

// delays are the buckets of the processing delay, by kind.
func (f families) delays() map[string]buckets {
	out := map[string]buckets{}
	for _, m := range f[delayMetric].GetMetric() {
		kind := ""
		for _, l := range m.GetLabel() {
			if l.GetName() == "kind" {
				kind = l.GetValue()
			}
		}
		if out[kind] == nil {
			out[kind] = buckets{}
		}
		before := uint64(0)
		for _, b := range m.GetHistogram().GetBucket() {
			out[kind][b.GetUpperBound()] += float64(b.GetCumulativeCount() - before)
			before = b.GetCumulativeCount()
		}
		if _, last := out[kind][math.Inf(1)]; !last {
			out[kind][math.Inf(1)] += float64(m.GetHistogram().GetSampleCount() - before)
		}
	}
	return out
}

// minus is what was counted since.
func (b buckets) minus(before buckets) buckets {
	out := maps.Clone(b)
	for bound := range out {
		out[bound] -= before[bound]
	}
	return out
}

func (b buckets) add(other buckets) {
	for bound, count := range other {
		b[bound] += count
	}
}

// quantile is the value that a share q of what was counted does not exceed, interpolated within its bucket as
// Prometheus's histogram_quantile does; false if nothing was counted. Beyond the last bound it is that bound.
func (b buckets) quantile(q float64) (value float64, counted bool) {
	bounds := slices.Sorted(maps.Keys(b))
	total := 0.0
	for _, count := range b {
		total += count
	}
	if total == 0 {
		return 0, false
	}
	rank, sum, lower := q*total, 0.0, 0.0
	for _, bound := range bounds {
		count := b[bound]
		if sum+count >= rank && count > 0 {
			if math.IsInf(bound, 1) {
				return lower, true
			}
			return lower + (bound-lower)*(rank-sum)/count, true
		}
		sum, lower = sum+count, bound
	}
	return lower, true
}

// heapGoal is up to what size the heap may grow before it is collected; 0 if it is not told.
func (f families) heapGoal() int64 {
	goal := 0.0
	for _, m := range f[goalMetric].GetMetric() {
		goal = m.GetGauge().GetValue()
	}
	return int64(goal)
}

// open is how many changes are open by the controller's own account; false if it does not tell.
func (f families) open() (changes float64, told bool) {
	family, told := f[openMetric]
	for _, m := range family.GetMetric() {
		changes += m.GetGauge().GetValue()
	}
	return changes, told
}
