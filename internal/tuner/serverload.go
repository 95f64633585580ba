package tuner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// serverInterval is the time between two samples of one API server.
type serverInterval struct{ from, to ServerSample }

// longestServerInterval is how far apart they may be: one of three API servers in turn, every 30 s, with one miss. Longer
// ones hide what happened in them.
const longestServerInterval = 3 * time.Minute

// serverIntervals pairs each sample with the one before of the same process, oldest first. Counters that went back, or a
// histogram of another shape, make no interval.
func serverIntervals(samples []ServerSample) []serverInterval {
	last := map[time.Time]ServerSample{}
	var out []serverInterval
	for _, s := range slices.SortedStableFunc(slices.Values(samples), func(a, b ServerSample) int { return a.Time.Compare(b.Time) }) {
		if before, ok := last[s.ProcessStart]; ok {
			if i := (serverInterval{before, s}); i.usable() {
				out = append(out, i)
			}
		}
		last[s.ProcessStart] = s
	}
	return out
}

func (i serverInterval) span() time.Duration { return i.to.Time.Sub(i.from.Time) }

func (i serverInterval) usable() bool {
	a, b := i.from, i.to
	return i.span() > 0 && i.span() <= longestServerInterval &&
		a.Writes <= b.Writes && a.EndpointWrites <= b.EndpointWrites && a.Requests <= b.Requests && a.Refused <= b.Refused &&
		a.Rejected <= b.Rejected && a.QueueWaits <= b.QueueWaits && a.QueueWait <= b.QueueWait &&
		a.EtcdWrites <= b.EtcdWrites && a.EtcdTime <= b.EtcdTime &&
		extends(a.WriteBuckets, b.WriteBuckets) && extends(a.EtcdBuckets, b.EtcdBuckets)
}

// extends says whether a histogram is an earlier one with more in it. One that had no series yet is empty.
func extends(before, after []Bucket) bool {
	if len(before) == 0 {
		return true
	}
	return slices.EqualFunc(before, after, func(a, b Bucket) bool { return a.Bound == b.Bound && a.Count <= b.Count })
}

// endpointRate is writes on Endpoints and EndpointSlices per second.
func (i serverInterval) endpointRate() float64 {
	return float64(i.to.EndpointWrites-i.from.EndpointWrites) / i.span().Seconds()
}

// Load is what an API server did in some time, and how it fared.
type Load struct {
	// From and To are when; Span is how much of that was seen.
	From, To time.Time
	Span     time.Duration
	// Writes is how many requests that change one object it answered, EndpointWrites those of them on Endpoints and
	// EndpointSlices, and WriteLatency their p99; 0 if there were fewer than a percentile needs.
	Writes, EndpointWrites int64
	WriteLatency           time.Duration
	// Requests is how many it answered, of any kind, and Refused the share of those that it refused with 429.
	Requests int64
	Refused  float64
	// QueueWait is how long requests of the priority level workload-high waited on average, and QueueRefused the share of
	// them that was rejected; Queued is how many waited at most when it was asked.
	QueueWait    time.Duration
	QueueRefused float64
	Queued       int64
	// EtcdLatency is the p99 of writes to etcd; 0 if there were fewer than a percentile needs. EtcdMean is their mean.
	EtcdLatency, EtcdMean time.Duration

	waits            int64
	writes, etcd     []Bucket
	refused, dropped int64
	etcdWrites       int64
	etcdTime, queue  time.Duration
}

// ServerLoad is what an API server did in the newest half minute of the samples, or in as long as it took for requests
// enough; the zero value if that is not known.
func ServerLoad(samples []ServerSample) Load {
	return loadOf(newest(serverIntervals(samples), guardWindow))
}

// enough is how many requests a 99th percentile needs, and a share of a hundredth: with fewer, one slow one decides.
const enough = 100

// loadOf adds up intervals.
func loadOf(intervals []serverInterval) Load {
	var l Load
	for _, i := range intervals {
		l.add(i)
	}
	l.Refused = share(l.refused, l.Requests)
	l.QueueRefused = share(l.dropped, l.dropped+l.waits)
	if l.waits >= enough {
		l.QueueWait = l.queue / time.Duration(l.waits)
	}
	if l.etcdWrites > 0 {
		l.EtcdMean = l.etcdTime / time.Duration(l.etcdWrites)
	}
	l.WriteLatency, l.EtcdLatency = p99(l.writes), p99(l.etcd)
	return l
}

func (l *Load) add(i serverInterval) {
	a, b := i.from, i.to
	if l.Span == 0 || a.Time.Before(l.From) {
		l.From = a.Time
	}
	if b.Time.After(l.To) {
		l.To = b.Time
	}
	l.Span += i.span()
	l.Writes += b.Writes - a.Writes
	l.EndpointWrites += b.EndpointWrites - a.EndpointWrites
	l.Requests += b.Requests - a.Requests
	l.refused += b.Refused - a.Refused
	l.waits += b.QueueWaits - a.QueueWaits
	l.dropped += b.Rejected - a.Rejected
	l.queue += b.QueueWait - a.QueueWait
	l.etcdWrites += b.EtcdWrites - a.EtcdWrites
	l.etcdTime += b.EtcdTime - a.EtcdTime
	l.Queued = max(l.Queued, b.Queued)
	l.writes = addGrowth(l.writes, a.WriteBuckets, b.WriteBuckets)
	l.etcd = addGrowth(l.etcd, a.EtcdBuckets, b.EtcdBuckets)
}

// Rate is writes per second.
func (l Load) Rate() float64 {
	if l.Span <= 0 {
		return 0
	}
	return float64(l.Writes) / l.Span.Seconds()
}

// String is the load for a person.
func (l Load) String() string {
	return fmt.Sprintf("%.3g writes/s for %v, p99 %v (etcd: p99 %v, mean %v), %.2g %% of %d requests refused, "+
		"workload-high waited %v on average", l.Rate(), l.Span.Round(time.Second), rounded(l.WriteLatency),
		rounded(l.EtcdLatency), rounded(l.EtcdMean), 100*l.Refused, l.Requests, rounded(l.QueueWait))
}

// share is a part of a whole; 0 if the whole is too small to speak of shares.
func share(part, whole int64) float64 {
	if whole < enough {
		return 0
	}
	return float64(part) / float64(whole)
}

// addGrowth adds what came into a histogram between two samples. Histograms of another shape (of an API server of another
// version) are left out.
func addGrowth(to, before, after []Bucket) []Bucket {
	if len(after) == 0 || (to != nil && !sameBounds(to, after)) {
		return to
	}
	if to == nil {
		to = slices.Clone(after)
		for i := range to {
			to[i].Count = 0
		}
	}
	for i := range to {
		to[i].Count += after[i].Count
		if len(before) > 0 {
			to[i].Count -= before[i].Count
		}
	}
	return to
}

func sameBounds(a, b []Bucket) bool {
	return slices.EqualFunc(a, b, func(a, b Bucket) bool { return a.Bound == b.Bound })
}

// p99 reads the percentile off a cumulative histogram, evenly spread within a bucket; 0 if there are too few. Of the
// lowest bucket nothing is known but that it is not more: then half of it. Of the highest, that it is at least its
// beginning.
func p99(buckets []Bucket) time.Duration {
	if len(buckets) == 0 || buckets[len(buckets)-1].Count < enough {
		return 0
	}
	rank := 0.99 * float64(buckets[len(buckets)-1].Count)
	i, _ := slices.BinarySearchFunc(buckets, rank, func(b Bucket, rank float64) int { return cmp.Compare(float64(b.Count), rank) })
	switch {
	case i == 0:
		return buckets[0].Bound / 2
	case buckets[i].Bound == math.MaxInt64:
		return buckets[i-1].Bound
	}
	low, high := buckets[i-1], buckets[i]
	within := (rank - float64(low.Count)) / float64(high.Count-low.Count)
	return low.Bound + time.Duration(within*float64(high.Bound-low.Bound))
}
