package tuner

import (
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func flagsOf(q, b, e, s int32) v1alpha1.Flags {
	return v1alpha1.Flags{KubeAPIQPS: q, KubeAPIBurst: b, ConcurrentEndpointSyncs: e, ConcurrentServiceEndpointSyncs: s}
}

// incident is n Services with one Pod each, all of which change over the given time.
func incident(n int, over time.Duration) lag.Demand {
	d := lag.Demand{Start: time.Unix(1_700_000_000, 0)}
	for i := range n {
		d.Changes = append(d.Changes, lag.Change{
			At: over * time.Duration(i) / time.Duration(n), Service: int32(i), Direction: lag.DirectionRemoval,
			SliceClass: lag.Closed, EndpointsClass: lag.Closed,
		})
	}
	return d
}

func TestScratch(t *testing.T) {
	d := incident(1000, 5*time.Second)
	for _, p := range []Parameters{{Base: 5 * time.Millisecond}, {Base: 5 * time.Millisecond, Capacity: 430}} {
		for _, f := range []v1alpha1.Flags{flagsOf(20, 30, 5, 5), flagsOf(20, 30, 50, 50), flagsOf(300, 325, 5, 5), flagsOf(300, 325, 50, 50), flagsOf(50, 1000, 50, 50)} {
			began := time.Now()
			x := Predict(d, f, p)
			t.Logf("%v %v %v %v", p.Capacity, f, x.EndpointSlices, time.Since(began))
		}
	}
}
