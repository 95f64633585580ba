package tuner

import (
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// decide runs the whole chain on what a world shows.
func decide(w world, o Objective, b v1alpha1.Bounds) (Bottleneck, Decision) {
	e := w.evidence()
	cause := Diagnose(e, o)
	return cause, Decide(Inputs{Objective: o, Bounds: b, Evidence: e, Bottleneck: cause})
}

func TestDecideOnTheIncident(t *testing.T) {
	tests := map[string]world{
		"slow quorum, paced flips":          {demand: incident(1000, 5*time.Second), truth: Parameters{Base: 35 * time.Millisecond, Capacity: 450, PodLatency: 50 * time.Millisecond}},
		"loopback, flips as fast as can be": {demand: incident(1000, 2200*time.Millisecond), truth: Parameters{Base: 5 * time.Millisecond, Capacity: 520, PodLatency: 70 * time.Millisecond, Writers: 32}},
		"fast":                              {demand: incident(1000, 2200*time.Millisecond), truth: Parameters{Base: 5 * time.Millisecond, Capacity: 2000, PodLatency: 5 * time.Millisecond}},
	}
	for name, w := range tests {
		t.Run(name, func(t *testing.T) {
			w.flags, w.scrape = v1alpha1.DefaultFlags(), 5*time.Second
			classic := Predict(w.demand, flagsOf(300, 325, 5, 5), w.truth)
			best := Predict(w.demand, flagsOf(300, 325, 50, 50), w.truth)
			o := objectiveOf(time.Duration(1.25 * float64(max(best.EndpointSlices.P99, best.Endpoints.P99))))
			began := time.Now()
			cause, d := decide(w, o, boundsTo(300, 1000, 50))
			took := time.Since(began)
			t.Log(cause)
			got := Predict(w.demand, d.Flags, w.truth)
			t.Logf("classic %v best %v objective %v\ngot %v for cost %v (%v) uncapped %v in %v\n%s %s", classic.EndpointSlices.P99, best.EndpointSlices.P99, o.MaxLag, got.EndpointSlices, d.Cost, d.Flags, d.Uncapped, took, d.Reason, d.Message)
			if !d.Act {
				t.Fatal("no act")
			}
		})
	}
}
