package tuner

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Parameters are those of the model.
type Parameters = kcm.Parameters

// Spread is the lag of all changes in one API, both directions.
type Spread struct {
	P50, P90, P99, Max time.Duration
}

// Prediction is what the model gives for recorded demand.
type Prediction struct {
	EndpointSlices, Endpoints Spread
}

// Predict replays the demand under the flags, all four of which must be set, from full buckets until everything is
// published, and returns the lag that the model gives. Changes that overlap a hand-over or stood at the start of the
// recording are left out.
func Predict(d lag.Demand, f v1alpha1.Flags, p Parameters) Prediction {
	r := newReplay(d, p, d.Start)
	r.run(f)
	return Prediction{EndpointSlices: r.spread(kcm.EndpointSlices), Endpoints: r.spread(kcm.Endpoints)}
}

// Point is one point of the curve that trades QPS against lag.
type Point struct {
	// Flags with the least burst and the fewest workers that are as good as any at this QPS.
	Flags v1alpha1.Flags
	// Prediction under Flags.
	Prediction Prediction
	// Worst is the lag at the objective's percentile in the worst row.
	Worst time.Duration
	// Cost of Flags; see Cost.
	Cost int64
}

// Curve is, for QPS from 5 to its bound, what the recorded demand would have met. Flags without a bound stay as they
// run; all four must be known, else there is no curve.
func Curve(in Inputs) []Point {
	e := in.Evidence
	if !complete(e.Flags) {
		return nil
	}
	z := newSizing(e, Calibrate(e).Parameters, in.Objective)
	s := spaceWithin(in.Bounds, e.Flags)
	var out []Point
	for _, qps := range steps(min(5, s.high.KubeAPIQPS), s.high.KubeAPIQPS) {
		at := s
		at.low.KubeAPIQPS, at.high.KubeAPIQPS = qps, qps
		at.low.KubeAPIBurst = min(at.low.KubeAPIBurst, max(30, qps))
		found := z.cheapest(at)
		out = append(out, Point{
			Flags:      found.flags,
			Prediction: Prediction{EndpointSlices: z.all.spread(kcm.EndpointSlices), Endpoints: z.all.spread(kcm.Endpoints)},
			Worst:      seconds(found.lag),
			Cost:       Cost(found.flags),
		})
	}
	return out
}
