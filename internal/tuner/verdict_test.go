package tuner

import (
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// lags is demand of n changes of which the last late ones took 10 s and the others 10 ms.
func lags(n, late int) lag.Demand {
	d := incident(n, time.Second)
	for i := range d.Changes {
		c := &d.Changes[i]
		c.SliceLag, c.EndpointsLag = 10*time.Millisecond, 10*time.Millisecond
		if i >= n-late {
			c.SliceLag = 10 * time.Second
		}
	}
	return d
}

func TestVerdict(t *testing.T) {
	open := lags(400, 0)
	for i := range 5 {
		open.Changes[i].SliceClass = lag.Open
	}
	additions := lags(500, 0)
	for i := range 3 {
		additions.Changes[i].Direction = lag.DirectionAddition
	}
	tests := map[string]struct {
		demand lag.Demand
		want   Outcome
	}{
		"nothing changed": {lags(0, 0), Inconclusive},
		"298 changes without a violation are too few":       {lags(298, 0), Inconclusive},
		"299 changes without a violation are enough":        {lags(299, 0), Met},
		"ten of a thousand may be late":                     {lags(1000, 10), Met},
		"eleven of a thousand may not":                      {lags(1000, 11), Missed},
		"one late change of twenty may be chance":           {lags(20, 1), Inconclusive},
		"eleven late changes of twenty are not":             {lags(20, 11), Missed},
		"one late change of two is not":                     {lags(2, 1), Missed},
		"open changes that may still become late":           {open, Inconclusive},
		"three good ones in the other direction do no harm": {additions, Met},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Verdict(summaryOf(tt.demand), objectiveOf(2*time.Second))
			if got.Outcome != tt.want {
				t.Errorf("Verdict = %v (%s), want %v", got.Outcome, got.Message, tt.want)
			}
		})
	}
}

func TestTheRowThatDecidesIsTheWorst(t *testing.T) {
	got := Verdict(summaryOf(lags(1000, 500)), objectiveOf(2*time.Second))
	if got.Row.Resource != lag.ResourceEndpointSlice || got.Row.Direction != lag.DirectionRemoval {
		t.Errorf("Verdict decided by %s %s, want EndpointSlice Removal", got.Row.Resource, got.Row.Direction)
	}
}

func TestConclusive(t *testing.T) {
	for percentile, want := range map[float64]int{0.99: 299, 0.95: 59, 0.9: 29, 0.5: 5} {
		if got := conclusive(percentile); got != want {
			t.Errorf("conclusive(%v) = %d, want %d", percentile, got, want)
		}
	}
}

func TestChance(t *testing.T) {
	if got := chance(1, 299, 0.01); got < 0.9504 || got > 0.9506 {
		t.Errorf("chance of one in 299 at 1 %% = %v, want 0.9505", got)
	}
	if got := chance(0, 10, 0.01); got != 1 {
		t.Errorf("chance of none or more = %v, want 1", got)
	}
}
