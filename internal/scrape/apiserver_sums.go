package scrape

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// server adds up what an API server tells series by series.
type server struct{ reader }

// selection says which series of a family count: those that it returns true for.
type selection func(labels map[string]string) bool

func (r *server) sample() tuner.ServerSample {
	var s tuner.ServerSample
	if start, ok := r.value(serverStart, nil); ok && start > 0 && start < 1e11 {
		s.ProcessStart = time.UnixMicro(int64(math.Round(start * 1e6))).UTC()
	}
	all := r.sum(serverWrites, isServerWrite)
	s.Writes, s.WriteTime = all.count, all.time
	if s.WriteBuckets = all.buckets; r.families[serverSLI] != nil {
		s.WriteBuckets = r.sum(serverSLI, isServerWrite).buckets
	}
	pods := r.sum(serverWrites, func(l map[string]string) bool { return isServerWrite(l) && isPod(l) })
	s.PodWrites, s.PodWriteTime = pods.count, pods.time
	endpoints := r.sum(serverWrites, func(l map[string]string) bool { return isServerWrite(l) && isEndpoint(l) })
	s.EndpointWrites, s.EndpointWriteTime = endpoints.count, endpoints.time
	s.Requests = r.sum(serverRequests, func(map[string]string) bool { return true }).count
	s.Refused = r.sum(serverRequests, func(l map[string]string) bool { return l["code"] == "429" }).count
	ofOurs := func(l map[string]string) bool { return l["priority_level"] == ours }
	s.Queued, s.Rejected = r.sum(serverQueued, ofOurs).count, r.sum(serverRejected, ofOurs).count
	waits := r.sum(serverWaits, func(l map[string]string) bool { return ofOurs(l) && l["execute"] != "false" })
	s.QueueWaits, s.QueueWait = waits.count, waits.time
	etcd := r.sum(serverEtcd, func(l map[string]string) bool { return slices.Contains(etcdWrites(), l["operation"]) })
	s.EtcdWrites, s.EtcdTime, s.EtcdBuckets = etcd.count, etcd.time, etcd.buckets
	return s
}

func isServerWrite(l map[string]string) bool {
	return slices.Contains(writeVerbs(), l["verb"]) && l["dry_run"] == ""
}

func isPod(l map[string]string) bool { return l["group"] == "" && l["resource"] == "pods" }

func isEndpoint(l map[string]string) bool {
	return (l["group"] == "" && l["resource"] == "endpoints") ||
		(l["group"] == "discovery.k8s.io" && l["resource"] == "endpointslices")
}

// sum is what several series come to: of histograms, or of single values, which are counts.
type sum struct {
	count   int64
	time    time.Duration
	buckets []tuner.Bucket
}

// sum adds up the series of a family that count. A value that makes no sense is dropped, and named.
func (r *server) sum(family string, counts selection) sum {
	var total, seconds float64
	var buckets []tuner.Bucket
	series := map[string]bool{}
	for _, m := range r.families[family].GetMetric() {
		if !counts(labelsOf(m)) {
			continue
		}
		_, key := identity(m)
		n, took, err := numbers(m)
		err = errors.Join(err, sane(n), sane(took))
		if series[key] {
			err = errors.Join(err, errors.New("given more than once"))
		}
		if series[key] = true; err == nil {
			buckets, err = addBuckets(buckets, m.GetHistogram())
		}
		if err != nil {
			r.drop(family, err)
			return sum{}
		}
		total, seconds = total+n, seconds+took
	}
	if err := errors.Join(sane(total), sane(seconds*float64(time.Second)/1024)); err != nil { // 2⁶³ ns are 2⁵³ times 1024.
		r.drop(family, err)
		return sum{}
	}
	return sum{count: int64(math.Round(total)), time: time.Duration(seconds * float64(time.Second)), buckets: buckets}
}

func labelsOf(m *dto.Metric) map[string]string {
	out := make(map[string]string, len(m.GetLabel()))
	for _, pair := range m.GetLabel() {
		out[pair.GetName()] = pair.GetValue()
	}
	return out
}

// numbers are a histogram's count and sum, or a single value.
func numbers(m *dto.Metric) (n, seconds float64, err error) {
	switch {
	case m.Histogram != nil:
		return float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum(), nil
	case m.Counter != nil:
		return m.Counter.GetValue(), 0, nil
	case m.Gauge != nil:
		return m.Gauge.GetValue(), 0, nil
	case m.Untyped != nil:
		return m.Untyped.GetValue(), 0, nil
	}
	return 0, 0, errors.New("neither a histogram nor a single value")
}

// addBuckets adds a histogram to others of the same bounds.
func addBuckets(to []tuner.Bucket, h *dto.Histogram) ([]tuner.Bucket, error) {
	given := h.GetBucket()
	if len(given) == 0 {
		return to, nil
	}
	slices.SortFunc(given, func(a, b *dto.Bucket) int { return cmp.Compare(a.GetUpperBound(), b.GetUpperBound()) })
	if to == nil {
		to = make([]tuner.Bucket, len(given))
		for i, b := range given {
			to[i].Bound = boundOf(b)
		}
	}
	if len(to) != len(given) {
		return nil, errors.New("its series have different buckets")
	}
	var below uint64
	for i, b := range given {
		n := b.GetCumulativeCount()
		if boundOf(b) != to[i].Bound || n < below || n > maxSample {
			return nil, errors.New("its buckets differ between series, or fall")
		}
		to[i].Count, below = to[i].Count+int64(n), n
	}
	return to, nil
}

// boundOf is the largest duration for the bucket of everything.
func boundOf(b *dto.Bucket) time.Duration {
	if seconds := b.GetUpperBound(); seconds < math.MaxInt64/float64(time.Second) {
		return time.Duration(math.Round(seconds * float64(time.Second)))
	}
	return math.MaxInt64
}
