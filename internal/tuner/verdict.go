package tuner

import "github.com/endpointsync/endpoint-sync-operator/internal/lag"

// Outcome is what can be said about an objective.
type Outcome int

// The outcomes.
const (
	Inconclusive Outcome = iota
	Met
	Missed
)

// Judgement is a verdict with the row of the summary that decided it.
type Judgement struct {
	Outcome Outcome
	// Row is the worst row: the one that was missed by most, or the one with the largest lag.
	Row lag.Stat
	// Message is the verdict for a person.
	Message string
}

// Verdict holds every row of the summary that has a direction against the objective.
func Verdict(s lag.Summary, o Objective) Judgement {
	return Judgement{}
}
