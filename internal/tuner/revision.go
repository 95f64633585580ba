package tuner

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Revision is one change of flags in the past, as a policy's status.history keeps it.
type Revision struct {
	Number   int64
	From, To v1alpha1.Flags
	// Decided is when it was decided, Committed when the last node ran with it; zero if that has not happened.
	Decided, Committed time.Time
	// Version of kube-controller-manager that it was tried on.
	Version string
	// Cause that it was for.
	Cause v1alpha1.BottleneckType
	// Before is the lag that was measured under From, Predicted the model's under To, and Achieved what was measured
	// under To, each at the objective's percentile in the worst row. Achieved is zero until it is known.
	Before, Predicted, Achieved time.Duration
	// Workload is the demand that Before was measured on.
	Workload Workload
	// Met is when the objective was first met under To, at a load like that; zero if it was not.
	Met time.Time
	// Harm says which guardrail was breached, where Effect is EffectHarmed.
	Harm string
	// SpecChanged says that the policy's spec is another by now: what failed then may be tried again.
	SpecChanged bool
	// Purpose says what it was meant to do.
	Purpose Purpose
	// Effect is what came of it.
	Effect Effect
	// Judged is when Effect was settled; failures are forgotten a time to live after it.
	Judged time.Time
}

// Purpose is what a revision is meant to do.
type Purpose string

// The purposes. The zero value is a raise.
const (
	PurposeRaise   Purpose = ""        // meet an objective that is missed
	PurposeCorrect Purpose = "Correct" // meet it after a raise that fell short
	PurposeUndo    Purpose = "Undo"    // put back what ran before a raise that did not help or did harm
	PurposeRelax   Purpose = "Relax"   // lower a setting that is more than is needed
)

// Effect is what came of a revision.
type Effect string

// The effects. The zero value is not known yet.
const (
	EffectPending Effect = ""
	EffectHelped  Effect = "Helped"  // the lag fell as it was meant to, or far enough to keep it
	EffectNone    Effect = "NoGain"  // the lag did not fall
	EffectHarmed  Effect = "Harmed"  // a guardrail was breached after it
	EffectUnknown Effect = "Unknown" // replaced before anything comparable happened
)

// Episode is a burst of demand that is worth remembering: what a lower setting would have to cope with.
type Episode struct {
	Start time.Time
	// Flags that ran, and the lag that was measured, at the objective's percentile in the worst row.
	Flags v1alpha1.Flags
	Lag   time.Duration
	// Model is what the model's parameters were then.
	Model Parameters
	// Demand of the episode; its Start is the episode's.
	Demand lag.Demand
}

// Guardrails are the limits on the API server's health. Zero fields do not limit.
type Guardrails struct {
	// MaxWriteLatency is the p99 of mutating requests above which nothing is raised. Shares of it limit what a request
	// waits for: see Guard.
	MaxWriteLatency time.Duration
	// MaxRefused is the share of requests refused with 429, 0 to 1, above which nothing is raised.
	MaxRefused float64
	// Required says that nothing is raised where the API server's health is not known: somebody asked for the limits.
	Required bool
}
