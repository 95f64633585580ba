package qualify

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/proxy"
)

// Names of the scenarios.
const (
	KilledController = "a"
	KilledAgents     = "b"
	Partitions       = "c"
	TwoControllers   = "d"
	BadValues        = "e"
	Observing        = "f"
)

// scenarios are all of them, in the order of the table.
func scenarios() []Scenario {
	return []Scenario{
		{Name: KilledController, What: "controller killed at each write"},
		{Name: KilledAgents, What: "each agent killed in each phase"},
		{Name: Partitions, What: "each pair cut apart"},
		{Name: TwoControllers, What: "two controllers that lead"},
		{Name: BadValues, What: "values that end the process"},
		{Name: unfaulted, What: "without a fault, between others"},
	}
}

// unfaulted names the runs that only prepare others. They are watched all the same.
const unfaulted = "–"

// pair is a rollout of new flags with one fault, and the one that puts the old ones back with another.
type pair struct {
	apply, restore step
}

// step is a rollout's fault, made anew for each attempt. None has no fault and belongs to no scenario.
type step struct {
	scenario string
	fault    func() fault
}

func (s step) make() (scenario string, f fault) {
	if s.fault == nil {
		return unfaulted, fault{name: "none"}
	}
	return s.scenario, s.fault()
}

// countingPairs are rollouts whose writes are counted.
func (p *player) countingPairs() []pair {
	keep := func(d direction) func([]proxy.Write) {
		return func(writes []proxy.Write) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.result.Writes[string(d)] = nil
			for _, w := range writes {
				p.result.Writes[string(d)] = append(p.result.Writes[string(d)], w.String())
			}
		}
	}
	count := func(d direction) step {
		return step{KilledController, func() fault { return counted(keep(d)) }}
	}
	return []pair{{count(applying), count(restoring)}}
}

// writePairs are kills before and after each write that was counted, and one more for those that come only sometimes.
func (p *player) writePairs() []pair {
	points := func(d direction) []step {
		var steps []step
		for n := 1; n <= len(p.result.Writes[string(d)])+1; n++ {
			for _, when := range []moment{beforeWrite, afterWrite} {
				steps = append(steps, step{KilledController, func() fault { return killedAt(n, when) }})
			}
		}
		return steps
	}
	pairs := zip(points(applying), points(restoring))
	if p.Points > 0 { // Spread over all of them.
		var some []pair
		for i := range p.Points {
			some = append(some, pairs[i*len(pairs)/p.Points])
		}
		return some
	}
	return pairs
}

// quickPairs are all pairs that are about order, but those that have to be counted first.
func (p *player) quickPairs() []pair {
	var pairs []pair
	if p.plays(KilledAgents) {
		pairs = append(pairs, agentPairs()...)
	}
	if p.plays(Partitions) {
		pairs = append(pairs, partitionPairs()...)
	}
	if p.plays(TwoControllers) {
		pairs = append(pairs, twoPairs(p.Runs)...)
	}
	return pairs
}

// agentPairs kill each agent in each phase, of a rollout and of its undoing.
func agentPairs() []pair {
	var pairs []pair
	for i := range 3 {
		for _, phase := range []string{notBegun, phaseIntent, phaseApplied, phaseCommitted} {
			s := step{KilledAgents, func() fault { return agentKilled(i, phase) }}
			pairs = append(pairs, pair{s, s})
		}
		for _, phase := range []string{phaseRollingBack, phaseRolledBack} {
			pairs = append(pairs, pair{apply: step{KilledAgents, func() fault { return agentKilled(i, phase) }}})
		}
	}
	return pairs
}

// partitionPairs cut the controller, each agent and each kube-controller-manager off from the API server.
func partitionPairs() []pair {
	var pairs []pair
	add := func(who party, i int, phase string, long time.Duration) {
		pairs = append(pairs, pair{apply: step{Partitions, func() fault { return cut(who, i, phase, long) }}})
	}
	add(theController, 0, phaseApplied, briefly)
	add(theController, 1, phaseApplied, forLong)
	for i := range 3 {
		add(theAgent, i, notBegun, briefly)
		add(theAgent, i, phaseApplied, briefly)
		add(theAgent, i, phaseApplied, tooLong)
		add(theProcess, i, notBegun, briefly)
		add(theProcess, i, phaseApplied, briefly)
	}
	return pairs
}

// twoPairs are rollouts under two controllers: in three of five both run freely, in the others one is late; and a few with
// a leader that was overtaken.
func twoPairs(runs int) []pair {
	const lateWrites = 6 // Two or three for each node.
	var pairs []pair
	for i := range min(overtakings, runs/10) {
		pairs = append(pairs, pair{
			apply:   step{TwoControllers, func() fault { return overtaken(1 + i%lateWrites) }},
			restore: step{TwoControllers, twoAtOnce},
		})
	}
	for i := 0; 2*len(pairs) < runs; i++ {
		free, late := step{TwoControllers, twoAtOnce}, step{TwoControllers, func() fault { return oneLate(1 + i/2%lateWrites) }}
		pairs = append(pairs, []pair{{free, free}, {late, late}, {free, free}, {late, late}, {free, free}}[i%5])
	}
	return pairs
}

func (p *player) rollBackPairs() []pair {
	var pairs []pair
	if p.plays(BadValues) {
		for i := range p.RollBacks {
			apiServer := []string{apiUp, apiGone}[i%2]
			pairs = append(pairs, pair{apply: step{BadValues, func() fault { return badValues(apiServer) }}})
		}
	}
	return pairs
}

// zip pairs steps off; where one list is longer, the others have no fault.
func zip(applies, restores []step) []pair {
	pairs := make([]pair, max(len(applies), len(restores)))
	for i := range pairs {
		if i < len(applies) {
			pairs[i].apply = applies[i]
		}
		if i < len(restores) {
			pairs[i].restore = restores[i]
		}
	}
	return pairs
}
