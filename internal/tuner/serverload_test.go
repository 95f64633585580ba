package tuner

import (
	"math"
	"testing"
	"time"
)

func TestP99(t *testing.T) {
	buckets := func(below100, below200, all int64) []Bucket {
		return []Bucket{{100 * time.Millisecond, below100}, {200 * time.Millisecond, below200}, {math.MaxInt64, all}}
	}
	tests := map[string]struct {
		buckets []Bucket
		want    time.Duration
	}{
		"nothing":                                {nil, 0},
		"too few":                                {buckets(99, 99, 99), 0},
		"all in the lowest bucket: half of it":   {buckets(100, 100, 100), 50 * time.Millisecond},
		"within a bucket, evenly spread":         {buckets(0, 1000, 1000), 199 * time.Millisecond},
		"at the border of a bucket":              {buckets(990, 1000, 1000), 50 * time.Millisecond},
		"just beyond the border":                 {buckets(980, 1000, 1000), 150 * time.Millisecond},
		"above all bounds: at least the highest": {buckets(0, 100, 1000), 200 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := p99(tt.buckets); got.Round(time.Millisecond) != tt.want {
				t.Errorf("p99(%v) = %v, want %v", tt.buckets, got, tt.want)
			}
		})
	}
}

func TestServerIntervals(t *testing.T) {
	tests := map[string]struct {
		change func(*ServerSample)
		want   int
	}{
		"two samples of a process":           {func(*ServerSample) {}, 1},
		"another process":                    {func(s *ServerSample) { s.ProcessStart = s.ProcessStart.Add(time.Second) }, 0},
		"a counter that went back":           {func(s *ServerSample) { s.Refused = -1 }, 0},
		"a histogram that went back":         {func(s *ServerSample) { s.EtcdBuckets = newAPIServer().now.EtcdBuckets[:1] }, 0},
		"a histogram that is gone":           {func(s *ServerSample) { s.WriteBuckets = nil }, 0},
		"a gauge that went back":             {func(s *ServerSample) { s.Queued = -1 }, 1},
		"the same time":                      {func(s *ServerSample) { s.Time = guardStart }, 0},
		"too long a time to see into":        {func(s *ServerSample) { s.Time = guardStart.Add(longestServerInterval + time.Second) }, 0},
		"as long a time as may be seen into": {func(s *ServerSample) { s.Time = guardStart.Add(longestServerInterval) }, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			samples := newAPIServer().run(5*time.Second, fine()).samples
			tt.change(&samples[1])
			if got := serverIntervals(samples); len(got) != tt.want {
				t.Errorf("serverIntervals() = %d intervals, want %d", len(got), tt.want)
			}
		})
	}
}

func TestServerLoadTellsWhatItSaw(t *testing.T) {
	h := fine()
	h.refused, h.rejected, h.queue = 0.1, 0.5, 20*time.Millisecond
	got := ServerLoad(newAPIServer().run(time.Minute, h).samples)
	if got.Span != guardWindow || got.Rate() != 40 || got.Refused != 0.1 || got.EtcdMean != h.etcd || got.QueueWait != h.queue {
		t.Errorf("ServerLoad() = %+v, want %v with %+v", got, guardWindow, h)
	}
	if want := 1.0 / 3; math.Abs(got.QueueRefused-want) > 1e-9 { // 40 started and 20 rejected
		t.Errorf("QueueRefused = %v, want %v", got.QueueRefused, want)
	}
	if got := ServerLoad(nil); got.Span != 0 || got.Rate() != 0 {
		t.Errorf("ServerLoad() of nothing = %+v", got)
	}
}
