package cluster

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

type nobody struct{}

func (nobody) Changed(int32)          {}
func (nobody) Published(API, []int32) {}

// incident is so many Services with one Pod each, all of which change within some seconds.
func incident(n int, over float64) *Truth {
	t := &Truth{Services: n, Base: 0.002, Capacity: 5000, Watch: 0.001, End: 300}
	for i := range n {
		t.ServiceOf = append(t.ServiceOf, int32(i))
		t.Changes = append(t.Changes, Change{At: 1 + over*float64(i)/float64(n), Pod: int32(i)})
	}
	return t
}

func flags(qps, burst, workers int32) v1alpha1.Flags {
	return v1alpha1.Flags{
		KubeAPIQPS: qps, KubeAPIBurst: burst,
		ConcurrentEndpointSyncs: workers, ConcurrentServiceEndpointSyncs: workers,
	}
}

// p99 is the 99th percentile of the lags in an API.
func p99(c *Cluster, in API) float64 {
	var lags []float64
	for i := range c.truth.Changes {
		lags = append(lags, c.Lag(in, i))
	}
	slices.Sort(lags)
	return lags[len(lags)*99/100]
}

func TestTheIncidentTakesAsLongAsWasMeasured(t *testing.T) {
	tests := map[string]struct {
		flags    v1alpha1.Flags
		capacity float64
		low      float64
		high     float64
	}{
		"the defaults":                          {flags(20, 30, 5), 5000, 42, 45},
		"workers alone do not help":             {flags(20, 30, 50), 5000, 42, 45},
		"tokens help":                           {flags(300, 325, 50), 5000, 0, 0.5},
		"a server of 250 writes a second binds": {flags(300, 325, 50), 250, 3, 7},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			truth := incident(1000, 5)
			truth.Capacity = tt.capacity
			c := New(truth, tt.flags, nobody{})
			c.Advance(truth.End)
			for in := range APIs {
				if got := p99(c, in); got < tt.low || got > tt.high {
					t.Errorf("p99 in API %d = %.2f s, want %.2f to %.2f", in, got, tt.low, tt.high)
				}
			}
		})
	}
}

func TestEverythingIsPublishedInTheEnd(t *testing.T) {
	truth := incident(400, 5)
	truth.Seed, truth.Noise, truth.Drift, truth.Watch, truth.Others = 7, 0.4, 0.2, 0.03, 2
	truth.Slow = []Spell{{From: 2, To: 10, Factor: 20}}
	truth.Deaf = []Spell{{From: 3, To: 5, Factor: 4}}
	truth.Storms = []Storm{{At: 4, Requests: 5000}}
	for i, change := range slices.Clone(truth.Changes) { // each Pod flips back, some before they were published
		change.At, change.Ready = change.At+float64(i%40), !change.Ready
		truth.Changes = append(truth.Changes, change)
	}
	slices.SortStableFunc(truth.Changes, func(a, b Change) int { return int(math.Copysign(1, a.At-b.At)) })
	run := func() *Cluster {
		c := New(truth, flags(20, 30, 5), nobody{})
		c.Advance(12)
		c.Stop()
		c.Advance(40)
		c.Lead(flags(50, 60, 10))
		c.Advance(truth.End)
		return c
	}
	c := run()
	for pod := range truth.ServiceOf {
		for in := range APIs {
			if c.Shown(in, int32(pod)) != c.Ready(int32(pod)) {
				t.Errorf("API %d shows Pod %d as ready=%v, and it is not so", in, pod, c.Shown(in, int32(pod)))
			}
		}
	}
	if c.Busy() {
		t.Error("the cluster is busy after everything was published")
	}
	if diff := cmp.Diff(c.lag, run().lag); diff != "" {
		t.Errorf("the same truth gave another history (-first +second):\n%s", diff)
	}
}

func TestOneServiceIsInOneHandOnly(t *testing.T) {
	truth := &Truth{Services: 1, Base: 0.2, Capacity: 5000, Watch: 0.001, End: 60}
	for i := range 50 {
		truth.ServiceOf = append(truth.ServiceOf, 0)
		truth.Changes = append(truth.Changes, Change{At: 1 + float64(i)*0.01, Pod: int32(i)})
	}
	c := New(truth, flags(500, 500, 50), nobody{})
	c.Advance(truth.End)
	if got := c.Counters().Writes; got > 12 {
		t.Errorf("%d writes for 50 Pods of one Service that changed within half a second, want a few", got)
	}
	if got := p99(c, Slices); got < 0.2 {
		t.Errorf("p99 = %.3f s, want at least one write", got)
	}
}

func TestANamespaceDeletionIsFasterWithHigherFlags(t *testing.T) {
	took := func(f v1alpha1.Flags) (loaded float64) {
		truth := &Truth{Services: 1, ServiceOf: []int32{0}, Base: 0.002, Capacity: 3000, End: 120, Storms: []Storm{{At: 1, Requests: 60000}}}
		c := New(truth, f, nobody{})
		for c.Advance(2); c.Busy(); c.Advance(c.Now() + 0.5) {
			loaded = c.Now()
		}
		return loaded
	}
	if low, high := took(flags(20, 30, 5)), took(flags(300, 325, 50)); high >= low {
		t.Errorf("the deletion took %.1f s at the defaults and %.1f s at 300/325, want less", low, high)
	}
}
