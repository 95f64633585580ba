package tuner

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Spread is the lag of all changes in one resource, both directions.
type Spread struct {
	P50, P90, P99, Max time.Duration
}

// Prediction is what the model says that the recorded demand would have met.
type Prediction struct {
	EndpointSlices, Endpoints Spread
}

// Point is one point of the curve that trades QPS against lag.
type Point struct {
	// Flags are the cheapest at this QPS.
	Flags v1alpha1.Flags
	// Prediction under Flags.
	Prediction Prediction
	// Worst is the lag at the objective's percentile in the worst row.
	Worst time.Duration
	// Cost of Flags; see Cost.
	Cost int64
	// Chosen marks the point that Decide takes.
	Chosen bool
}

// Calibrate takes the model's parameters from the evidence.
func Calibrate(e Evidence) Calibration { return Calibration{} }

// Calibration is the model's parameters and what they rest on.
type Calibration struct {
	Parameters
	// Basis says for a person what was measured and what had to be assumed.
	Basis string
}

// Predict replays the demand under flags.
func Predict(d lag.Demand, f v1alpha1.Flags, p Parameters) Prediction { return Prediction{} }

// Curve is, for QPS from 5 to the bound, the cheapest setting and what it would bring.
func Curve(in Inputs) []Point { return nil }
