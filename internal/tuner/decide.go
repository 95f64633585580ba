package tuner

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Inputs are what Decide rests on.
type Inputs struct {
	Objective  Objective
	Bounds     v1alpha1.Bounds
	Evidence   Evidence
	Bottleneck Bottleneck
	// Failed are settings that were tried on this version and undone; they are not chosen again.
	Failed []v1alpha1.Flags
}

// Decision is what to do about the flags, and why.
type Decision struct {
	// Act says that Flags should be rolled out. Otherwise Reason says why to hold.
	Act bool
	// Flags to write: every flag with a bound, inside its bound and the compiled-in limits; flags without a bound are
	// absent. Zero if no setting was computed; set on some holds too, as a recommendation.
	Flags v1alpha1.Flags
	// Uncapped is what would be chosen without the policy's bounds: all four flags, within the compiled-in limits.
	Uncapped v1alpha1.Flags
	// CurrentLag and PredictedLag are the model's lag at the objective's percentile, worst row, on the recorded demand:
	// under the running flags and under Flags.
	CurrentLag, PredictedLag time.Duration
	// Cost of Flags, and of the running flags; see Cost.
	Cost, CurrentCost int64
	// Reason is one of v1alpha1's.
	Reason string
	// Message is the reason for a person, with figures.
	Message string
}

// Decide says which flags to run with, or why to hold.
func Decide(in Inputs) Decision { return Decision{Reason: v1alpha1.ReasonTooFewSamples} }
