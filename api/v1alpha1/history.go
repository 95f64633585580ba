package v1alpha1

// Purpose is what a change of flags is meant to do.
// +kubebuilder:validation:Enum=Raise;Correct;Undo;Relax;Repeat
type Purpose string

// The purposes.
const (
	PurposeRaise   Purpose = "Raise"   // meet an objective that is missed
	PurposeCorrect Purpose = "Correct" // meet it after a raise that fell short
	PurposeUndo    Purpose = "Undo"    // put back what ran before a change that did not help or did harm
	PurposeRelax   Purpose = "Relax"   // lower a setting that is more than is needed
	PurposeRepeat  Purpose = "Repeat"  // give nodes again what somebody took from them, or what they did not take at first
)

// Effect is what came of a change of flags.
// +kubebuilder:validation:Enum=Helped;NoGain;Harmed;Unknown
type Effect string

// The effects. An empty one is not known yet.
const (
	EffectHelped  Effect = "Helped"  // the objective is met, or the lag fell far enough to keep the change
	EffectNoGain  Effect = "NoGain"  // the lag did not fall
	EffectHarmed  Effect = "Harmed"  // a guardrail was breached after it
	EffectUnknown Effect = "Unknown" // replaced before anything comparable happened
)

// Why a change is undone, or flags are lowered.
const (
	ReasonDidNotHelp = "DidNotHelp"
	ReasonHarmed     = "Harmed"
	ReasonRelaxed    = "MoreThanNeeded"
)

// Load is how much demand a figure rests on.
type Load struct {
	// changes that were seen; those of a hand-over do not count.
	// +required
	// +kubebuilder:validation:Minimum=0
	Changes *int64 `json:"changes,omitempty"`

	// peak is the most changes in ten seconds.
	// +required
	// +kubebuilder:validation:Minimum=0
	Peak *int64 `json:"peak,omitempty"`
}
