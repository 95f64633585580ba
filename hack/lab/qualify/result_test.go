package qualify

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAResultSumsUpItsRuns(t *testing.T) {
	r := Result{Runs: []Rollout{
		{Scenario: KilledController, Reached: true, Ended: endDesired, Seconds: 12},
		{Scenario: KilledController, Ended: endDesired, Seconds: 11},
		{Scenario: KilledController, Reached: true, Ended: endStopped, Seconds: 30, TwoInFlight: 1, Problems: []string{"a and b"}},
		{Scenario: BadValues, Reached: true, Ended: endStopped, RollBackSeconds: 58, APIServer: apiUp},
		{Scenario: BadValues, Reached: true, Ended: endStopped, RollBackSeconds: 54, APIServer: apiUp},
		{Scenario: BadValues, Reached: true, Ended: endStopped, RollBackSeconds: 61, APIServer: apiGone},
	}}.summed(scenarios())
	want := []Scenario{
		{
			Name: KilledController, What: "controller killed at each write", Runs: 3, NotReached: 1, Desired: 2, Stopped: 1,
			TwoInFlight: 1, Failed: 1, LongestRun: 30,
		},
		{Name: BadValues, What: "values that end the process", Runs: 3, Stopped: 3},
	}
	if diff := cmp.Diff(want, r.Scenarios); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}
	rollBacks := []RollBack{
		{APIServer: apiUp, Seconds: []float64{54, 58}, MedianSeconds: 56, MaxSeconds: 58},
		{APIServer: apiGone, Seconds: []float64{61}, MedianSeconds: 61, MaxSeconds: 61},
	}
	if diff := cmp.Diff(rollBacks, r.RollBacks); diff != "" {
		t.Errorf("roll-backs (-want +got):\n%s", diff)
	}
	if got := r.Problems(); len(got) != 1 || !strings.Contains(got[0], "a and b") {
		t.Errorf("Problems() = %q, want one", got)
	}
}

func TestThePlanHasWhatWasAskedFor(t *testing.T) {
	count := func(pairs []pair, scenario string, part string) int {
		n := 0
		for _, p := range pairs {
			for _, s := range []step{p.apply, p.restore} {
				if name, f := s.make(); name == scenario && strings.Contains(f.name, part) {
					n++
				}
			}
		}
		return n
	}
	for _, runs := range []int{1, 5, 6, 100, 121} {
		if got := count(twoPairs(runs), TwoControllers, ""); got < runs || got > runs+1 {
			t.Errorf("%d runs of two controllers planned, want %d, or one more", got, runs)
		}
	}
	if got := count(twoPairs(defaultRuns), TwoControllers, "past its Lease"); got != overtakings {
		t.Errorf("%d leaders are to be overtaken, want %d", got, overtakings)
	}
	for _, phase := range []string{notBegun, phaseIntent, phaseApplied, phaseCommitted, phaseRollingBack, phaseRolledBack} {
		for _, agent := range []string{"node 1", "node 2", "node 3"} {
			if count(agentPairs(), KilledAgents, "agent of "+agent+" killed, phase "+phase) == 0 {
				t.Errorf("no plan to kill the agent of %s in phase %s", agent, phase)
			}
		}
	}
	p := &player{Options: Options{RollBacks: 24}.withDefaults(), result: Result{Writes: map[string][]string{
		string(applying): slices.Repeat([]string{"PATCH x"}, 7), string(restoring): slices.Repeat([]string{"PATCH x"}, 4),
	}}}
	if got, want := count(p.writePairs(), KilledController, ""), 2*(7+1)+2*(4+1); got != want {
		t.Errorf("%d kills at writes planned, want %d", got, want)
	}
	p.Points = 3
	if got := len(p.writePairs()); got != 3 {
		t.Errorf("%d pairs planned, want the 3 asked for", got)
	}
	if up, gone := count(p.rollBackPairs(), BadValues, "server "+apiUp), count(p.rollBackPairs(), BadValues, "server "+apiGone); up != 12 || gone != 12 {
		t.Errorf("%d roll-backs with the API server up and %d without, want 12 each", up, gone)
	}
}
