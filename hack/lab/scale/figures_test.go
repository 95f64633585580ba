package scale

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestUsageIsReadFromProc(t *testing.T) {
	const status = "Name:\tcontroller\nVmPeak:\t 2000 kB\nVmHWM:\t  1500 kB\nVmRSS:\t  1000 kB\nRssAnon:\t 800 kB\n"
	tests := map[string]struct {
		status, stat string
		want         usage
		refused      bool
	}{
		"a plain name": {
			status, "7 (controller) S 1 7 7 0 -1 4 100 0 0 0 250 50 0 0 20 0 9 0 100",
			usage{rss: 1000 << 10, peak: 1500 << 10, anonymous: 800 << 10, cpu: 3 * time.Second},
			false,
		},
		"a name with spaces and parentheses": {
			status, "7 (a ) b) S 1 7 7 0 -1 4 100 0 0 0 1 2 0 0 20 0 9 0 100",
			usage{rss: 1000 << 10, peak: 1500 << 10, anonymous: 800 << 10, cpu: 30 * time.Millisecond},
			false,
		},
		"a process that is gone":   {"Name:\tcontroller\n", "7 (controller) Z 1 7 7 0 -1 4 100 0 0 0 1 2 0 0 20", usage{}, true},
		"a line that is too short": {status, "7 (controller) S 1", usage{}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseUsage(test.status, test.stat)
			if test.refused {
				if err == nil {
					t.Errorf("parseUsage() = %+v, want an error", got)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("parseUsage() = %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestQuantileIsInterpolatedWithinItsBucket(t *testing.T) {
	inf := math.Inf(1)
	tests := map[string]struct {
		b       buckets
		q, want float64
		counted bool
	}{
		"nothing was counted":        {buckets{1: 0, inf: 0}, 0.99, 0, false},
		"in the middle of a bucket":  {buckets{1: 0, 2: 100, inf: 0}, 0.5, 1.5, true},
		"in the first bucket":        {buckets{1: 100, 2: 0, inf: 0}, 0.25, 0.25, true},
		"in a later bucket":          {buckets{1: 98, 2: 0, 4: 2, inf: 0}, 0.99, 3, true},
		"beyond all bounds":          {buckets{1: 10, 2: 0, inf: 90}, 0.99, 2, true},
		"at the bound of its bucket": {buckets{1: 99, 2: 1, inf: 0}, 0.99, 1, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, counted := test.b.quantile(test.q)
			if math.Abs(got-test.want) > 1e-9 || counted != test.counted {
				t.Errorf("quantile(%v) = %v, %v, want %v, %v", test.q, got, counted, test.want, test.counted)
			}
		})
	}
}

func TestDelaysAreThoseBetweenTwoScrapes(t *testing.T) {
	before := parse(t, `# TYPE endpointsync_watch_processing_seconds histogram
endpointsync_watch_processing_seconds_bucket{kind="pods",le="0.001"} 0
endpointsync_watch_processing_seconds_bucket{kind="pods",le="0.01"} 100
endpointsync_watch_processing_seconds_bucket{kind="pods",le="+Inf"} 150
endpointsync_watch_processing_seconds_sum{kind="pods"} 1
endpointsync_watch_processing_seconds_count{kind="pods"} 150
`)
	after := parse(t, `# TYPE endpointsync_watch_processing_seconds histogram
endpointsync_watch_processing_seconds_bucket{kind="pods",le="0.001"} 100
endpointsync_watch_processing_seconds_bucket{kind="pods",le="0.01"} 200
endpointsync_watch_processing_seconds_bucket{kind="pods",le="+Inf"} 250
endpointsync_watch_processing_seconds_sum{kind="pods"} 1
endpointsync_watch_processing_seconds_count{kind="pods"} 250
endpointsync_watch_processing_seconds_bucket{kind="endpoints",le="0.001"} 0
endpointsync_watch_processing_seconds_bucket{kind="endpoints",le="0.01"} 100
endpointsync_watch_processing_seconds_bucket{kind="endpoints",le="+Inf"} 100
endpointsync_watch_processing_seconds_sum{kind="endpoints"} 1
endpointsync_watch_processing_seconds_count{kind="endpoints"} 100
# TYPE endpointsync_open_changes gauge
endpointsync_open_changes{resource="Endpoints",direction="Addition"} 2
endpointsync_open_changes{resource="Endpoints",direction="Removal"} 1
# TYPE go_memstats_next_gc_bytes gauge
go_memstats_next_gc_bytes 4.194304e+06
`)
	all, byKind := delays(before.delays(), after.delays())
	got := map[string]float64{"all": *all, "pods": *byKind["pods"], "endpoints": *byKind["endpoints"]}
	want := map[string]float64{"all": 0.001 + 0.009*0.98, "pods": 0.00099, "endpoints": 0.001 + 0.009*0.99}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })); diff != "" {
		t.Errorf("p99 (-want +got):\n%s", diff)
	}
	if open, told := after.open(); open != 3 || !told {
		t.Errorf("open() = %v, %v, want 3, true", open, told)
	}
	if goal := after.heapGoal(); goal != 4<<20 {
		t.Errorf("heapGoal() = %d, want 4 MiB", goal)
	}
	if all, byKind = delays(families{}.delays(), families{}.delays()); all != nil || len(byKind) != 0 {
		t.Errorf("delays of a controller without the metric = %v, %v, want none", all, byKind)
	}
	if _, told := before.open(); told {
		t.Error("open() is told by a controller without the metric")
	}
}

func parse(t *testing.T, text string) families {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestGrowthLeavesOutTheFirstMinute(t *testing.T) {
	var samples []sample
	for second := range 180 {
		rss := int64(1000 + 10*second)
		if second < 60 {
			rss = int64(500 * second)
		}
		samples = append(samples, sample{at: time.Duration(second) * time.Second, used: usage{rss: rss}})
	}
	bytes, perMinute := growth(samples, 3*time.Minute)
	if bytes != 1190 || math.Abs(perMinute-600) > 1e-6 {
		t.Errorf("growth = %d bytes, %v a minute, want 1190 and 600", bytes, perMinute)
	}
	if bytes, perMinute = growth(samples[:1], time.Second); bytes != 0 || perMinute != 0 {
		t.Errorf("growth over one sample = %d, %v, want none", bytes, perMinute)
	}
}

func TestBenchmarkIsReadFromWhatGoTestPrints(t *testing.T) {
	const good = `goos: linux
goarch: amd64
pkg: example.com/internal/lag
BenchmarkTracker/100_services_of_10_pods 	  500000	      2186 ns/op	   1372093 events/s	     823 B/op	       5 allocs/op
BenchmarkTracker/10000_services_of_10_pods 	  200000	      5648 ns/op	    531122 events/s	     851 B/op	       4 allocs/op
BenchmarkTracker/100_services_of_10_pods 	  500000	      2186 ns/op	   1372099 events/s	     823 B/op	       5 allocs/op
BenchmarkTracker/10000_services_of_10_pods 	  200000	      5648 ns/op	    531199 events/s	     852 B/op	       4 allocs/op
BenchmarkTracker/10000_services_of_10_pods 	  200000	      5648 ns/op	    531100 events/s	     850 B/op	       4 allocs/op
BenchmarkOther 	  200000	      5648 ns/op
PASS
`
	got, err := parseBenchmark(strings.NewReader(good))
	if err != nil || *got.EventsPerSecond != 531122 || *got.BytesPerChange != 851 || *got.AllocsPerChange != 4 || len(got.Sizes) != 2 {
		t.Errorf("parseBenchmark() = %+v, %v, want the medians of the largest size", got, err)
	}
	for name, text := range map[string]string{
		"no benchmark":   "PASS\n",
		"no events/s":    "BenchmarkTracker/1 \t 5 \t 2186 ns/op \t 823 B/op \t 5 allocs/op\n",
		"a broken line":  "BenchmarkTracker/1 \t 5 \t x ns/op\n",
		"another's only": "BenchmarkOther \t 5 \t 2186 ns/op\n",
	} {
		if got, err := parseBenchmark(strings.NewReader(text)); err == nil {
			t.Errorf("%s: parseBenchmark() = %+v, want an error", name, got)
		}
	}
}
