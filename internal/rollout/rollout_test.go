package rollout

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

var (
	start  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wanted = v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 400, ConcurrentEndpointSyncs: 20, ConcurrentServiceEndpointSyncs: 20}
)

func yes() *bool { return new(true) }
func no() *bool  { return new(false) }

// valid is three healthy nodes at their defaults, b leading, with every allowance free.
func valid() Plan {
	node := func(name string, leads *bool) Node {
		return Node{
			Name: name, Phase: v1alpha1.PhaseIdle, Running: v1alpha1.DefaultFlags(),
			Healthy: true, Leader: leads, Reported: start,
		}
	}
	return Plan{
		Nodes:       []Node{node("a", no()), node("b", yes()), node("c", no())},
		Target:      Target{Action: v1alpha1.ActionApply, Flags: wanted},
		Cooldown:    30 * time.Minute,
		MaxRestarts: 6,
		Period:      24 * time.Hour,
		RetryAfter:  30 * time.Minute,
		FailedFor:   24 * time.Hour,
		Policy:      "default",
		Generation:  1,
	}
}

func told(n *Node, outcome v1alpha1.Outcome) {
	n.Revision, n.Action, n.Flags, n.Policy, n.Generation = 3, v1alpha1.ActionApply, wanted, "default", 1
	n.Ended, n.Outcome, n.Finished, n.Running = 3, outcome, start, wanted
}

// lost lets every node have been told, and one of them run something else since.
func lost(p *Plan, i int, changed time.Time) {
	for j := range p.Nodes {
		told(&p.Nodes[j], v1alpha1.OutcomeCommitted)
	}
	p.Nodes[i].Running, p.Nodes[i].Changed = v1alpha1.DefaultFlags(), changed
}

// refusedMore lets a node that has the target have been told other flags, and have rolled them back.
func refusedMore(n *Node, running v1alpha1.Flags) {
	told(n, v1alpha1.OutcomeRolledBack)
	n.Revision, n.Ended, n.Reason, n.Running = 4, 4, v1alpha1.ReasonNotPickedUp, running
	n.Flags.KubeAPIQPS++
}

// takenAfterAFailure is that somebody rewrote the manifest of a node so long ago that had rolled back what it was told last.
func takenAfterAFailure(ago time.Duration) func(*Plan) {
	return func(p *Plan) {
		lost(p, 1, start)
		p.Nodes[1].Running = wanted
		refusedMore(&p.Nodes[0], v1alpha1.DefaultFlags())
		p.Nodes[0].Changed, p.Nodes[0].Generation, p.Target.Revision = start.Add(-ago), 0, 3
	}
}

// refusedStepBack is that a node refused a step back so long ago.
func refusedStepBack(ago time.Duration) func(*Plan) {
	return func(p *Plan) {
		told(&p.Nodes[0], v1alpha1.OutcomeRefused)
		p.Nodes[0].Reason, p.Target.Exempt, p.RetryAfter = v1alpha1.ReasonOutdated, true, 24*time.Hour
		p.Nodes[0].Finished = start.Add(-ago)
	}
}

func TestNext(t *testing.T) {
	tests := map[string]struct {
		change func(*Plan)
		kind   StepKind
		node   string
		reason string
	}{
		"a standby goes first": {func(*Plan) {}, Start, "a", v1alpha1.ReasonRolloutStarted},
		"a node that was told and has not ended is waited for": {
			func(p *Plan) { p.Nodes[2].Revision = 1 }, Wait, "c", v1alpha1.ReasonProgressing,
		},
		"a node in a phase is waited for even without an instruction": {
			func(p *Plan) { p.Nodes[2].Phase = v1alpha1.PhaseRollingBack }, Wait, "c", v1alpha1.ReasonProgressing,
		},
		"the leader goes last": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeCommitted)
				told(&p.Nodes[2], v1alpha1.OutcomeUnchanged)
			}, Start, "b", v1alpha1.ReasonRolloutStarted,
		},
		"all told and committed is done": {
			func(p *Plan) {
				for i := range p.Nodes {
					told(&p.Nodes[i], v1alpha1.OutcomeCommitted)
				}
			}, Done, "", v1alpha1.ReasonAsDesired,
		},
		"a node whose flags were rewritten is told again": {
			func(p *Plan) {
				for i := range p.Nodes {
					told(&p.Nodes[i], v1alpha1.OutcomeCommitted)
				}
				p.Nodes[1].Running = v1alpha1.DefaultFlags()
			}, Start, "b", v1alpha1.ReasonRolloutStarted,
		},
		"what was taken from a node that was told more and did not take that is settled first": {
			takenAfterAFailure(time.Minute), Hold, "a", v1alpha1.ReasonDrifted,
		},
		"and given back when it has settled": {
			takenAfterAFailure(3 * time.Minute), Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a node that rolled back halts the rollout": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRolledBack)
				p.Nodes[0].Reason = v1alpha1.ReasonCrashLooping
			}, Halt, "a", v1alpha1.ReasonCrashLooping,
		},
		"a refusal halts at first": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRefused)
				p.Nodes[0].Reason = v1alpha1.ReasonNoSpace
			}, Halt, "a", v1alpha1.ReasonNoSpace,
		},
		"a refusal halts a step back for ten minutes": {
			refusedStepBack(9 * time.Minute), Halt, "a", v1alpha1.ReasonOutdated,
		},
		"a refusal halts a step back no longer": {
			refusedStepBack(11 * time.Minute), Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a refusal of other values halts too": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRefused)
				p.Nodes[0].Reason, p.Target.Flags.KubeAPIQPS = v1alpha1.ReasonNoSpace, 101
			}, Halt, "a", v1alpha1.ReasonNoSpace,
		},
		"a roll-back is forgiven when the spec changes": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRolledBack)
				p.Generation = 2
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a roll-back is forgiven after a day": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRolledBack)
				p.Nodes[0].Finished = start.Add(-25 * time.Hour)
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"an inconclusive roll-back blames no value": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRolledBack)
				p.Nodes[0].Reason, p.Nodes[0].Finished = v1alpha1.ReasonInconclusive, start.Add(-31*time.Minute)
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a node in flight whose agent is silent is named": {
			func(p *Plan) { p.Nodes[2].Revision, p.Nodes[2].Reported = 1, start.Add(-time.Hour) },
			Wait, "c", v1alpha1.ReasonNodeNotReporting,
		},
		"a restore goes on where nothing is healthy or leads": {
			func(p *Plan) {
				p.Target = Target{Action: v1alpha1.ActionRestore}
				for i := range p.Nodes {
					p.Nodes[i].Healthy, p.Nodes[i].Leader = false, nil
				}
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a restore that was refused is tried again after a while": {
			func(p *Plan) {
				p.Target = Target{Action: v1alpha1.ActionRestore}
				told(&p.Nodes[0], v1alpha1.OutcomeRefused)
				p.Nodes[0].Action, p.Nodes[0].Flags = v1alpha1.ActionRestore, v1alpha1.Flags{}
				p.Nodes[0].Finished = start.Add(-31 * time.Minute)
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a refusal is tried again after a while": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRefused)
				p.Nodes[0].Finished = start.Add(-31 * time.Minute)
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"an unhealthy node holds all": {
			func(p *Plan) { p.Nodes[2].Healthy = false }, Hold, "c", v1alpha1.ReasonNodeUnhealthy,
		},
		"a silent agent holds all": {
			func(p *Plan) { p.Nodes[2].Reported = start.Add(-time.Minute) }, Hold, "c", v1alpha1.ReasonNodeNotReporting,
		},
		"an agent that never reported holds all": {
			func(p *Plan) { p.Nodes[2].Reported = time.Time{} }, Hold, "c", v1alpha1.ReasonNodeNotReporting,
		},
		"a node that does not say whether it leads holds all": {
			func(p *Plan) { p.Nodes[1].Leader = nil }, Hold, "b", v1alpha1.ReasonNoLeader,
		},
		"no leader holds all": {
			func(p *Plan) { p.Nodes[1].Leader = no() }, Hold, "", v1alpha1.ReasonNoLeader,
		},
		"two leaders hold all": {
			func(p *Plan) { p.Nodes[0].Leader = yes() }, Hold, "", v1alpha1.ReasonNoLeader,
		},
		"a Lease that names another node holds all": {
			func(p *Plan) { p.LeaseHolder = "c" }, Hold, "", v1alpha1.ReasonNoLeader,
		},
		"a Lease that names a host of another name says nothing": {
			func(p *Plan) { p.LeaseHolder = "ip-10-0-0-7" }, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"nothing starts in the middle of an upgrade": {
			func(p *Plan) {
				p.Nodes[0].Version, p.Nodes[1].Version, p.Nodes[2].Version = "v1.37.2", "", "v1.38.0"
			}, Hold, "c", v1alpha1.ReasonVersionSkew,
		},
		"a restore goes on in the middle of an upgrade": {
			func(p *Plan) {
				p.Target = Target{Action: v1alpha1.ActionRestore}
				p.Nodes[0].Version, p.Nodes[2].Version = "v1.37.2", "v1.38.0"
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a node that joins in the middle is told too, and before the leader": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeCommitted)
				told(&p.Nodes[2], v1alpha1.OutcomeCommitted)
				p.Nodes = append(p.Nodes, Node{Name: "d", Running: v1alpha1.DefaultFlags(), Healthy: true, Leader: no(), Reported: start})
			}, Start, "d", v1alpha1.ReasonRolloutStarted,
		},
		"a manifest that was just rewritten is left to settle": {
			func(p *Plan) { lost(p, 1, start.Add(-time.Minute)) }, Hold, "b", v1alpha1.ReasonDrifted,
		},
		"what was taken is given back without asking budget and cooldown": {
			func(p *Plan) {
				lost(p, 1, start.Add(-3*time.Minute))
				p.MaxRestarts, p.Nodes[0].Restarts = 0, []time.Time{start}
			}, Start, "b", v1alpha1.ReasonRolloutStarted,
		},
		"a change that somebody disturbed is made again once the dust has settled": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRolledBack)
				p.Nodes[0].Reason, p.Nodes[0].Finished = v1alpha1.ReasonConflictingEdit, start.Add(-3*time.Minute)
				p.Nodes[0].Changed = start.Add(-3 * time.Minute)
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"a node that is contended halts until a person has decided": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeRefused)
				p.Nodes[0].Reason, p.Nodes[0].Finished = v1alpha1.ReasonContended, start.Add(-23*time.Hour)
			}, Halt, "a", v1alpha1.ReasonContended,
		},
		"a recent restart starts the cooldown": {
			func(p *Plan) { p.Nodes[1].Restarts = []time.Time{start.Add(-time.Minute)} }, Hold, "", v1alpha1.ReasonCooldownActive,
		},
		"the cooldown passes": {
			func(p *Plan) { p.Nodes[1].Restarts = []time.Time{start.Add(-31 * time.Minute)} }, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"the cooldown does not stop a rollout that has begun": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeCommitted)
				p.Nodes[0].Restarts = []time.Time{start}
			}, Start, "c", v1alpha1.ReasonRolloutStarted,
		},
		"the budget counts what the rollout still needs": {
			func(p *Plan) {
				p.MaxRestarts = 4
				p.Nodes[1].Restarts = []time.Time{start.Add(-2 * time.Hour), start.Add(-3 * time.Hour)}
			}, Hold, "", v1alpha1.ReasonRestartBudgetSpent,
		},
		"a step back is not held up by budget and cooldown": {
			func(p *Plan) {
				p.Target.Exempt, p.MaxRestarts = true, 0
				p.Nodes[1].Restarts = []time.Time{start.Add(-time.Minute)}
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
		"restoring is not held up by budget and cooldown": {
			func(p *Plan) {
				p.Target = Target{Action: v1alpha1.ActionRestore}
				p.MaxRestarts = 0
				p.Nodes[1].Restarts = []time.Time{start}
			}, Start, "a", v1alpha1.ReasonRolloutStarted,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := valid()
			test.change(&p)
			got := Next(p, start)
			if got.Kind != test.kind || got.Node != test.node || got.Reason != test.reason {
				t.Errorf("Next() = %+v, want kind %s, node %q, reason %s", got, test.kind, test.node, test.reason)
			}
		})
	}
}

func TestNodesOfOneRolloutShareItsRevision(t *testing.T) {
	tests := map[string]struct {
		change func(*Plan)
		want   int64
	}{
		"the first node gets the next one": {func(*Plan) {}, 1},
		"the others get the same":          {func(p *Plan) { told(&p.Nodes[0], v1alpha1.OutcomeCommitted) }, 3},
		"a node that had it gets a higher one": {
			func(p *Plan) { lost(p, 1, time.Time{}) }, 4,
		},
		"one that joins later gets that of the others": {
			func(p *Plan) {
				lost(p, 1, time.Time{})
				p.Nodes[1].Running, p.Nodes[2] = wanted, Node{
					Name: "c", Running: v1alpha1.DefaultFlags(), Healthy: true, Leader: no(), Reported: start,
				}
			}, 3,
		},
		"one that has ended that revision before its record was lost gets a higher one": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeCommitted)
				p.Nodes[2].Ended, p.Nodes[0].Leader, p.Nodes[1].Leader = 3, yes(), no()
				told(&p.Nodes[1], v1alpha1.OutcomeCommitted)
			}, 4,
		},
		"other values get a higher one": {
			func(p *Plan) {
				told(&p.Nodes[0], v1alpha1.OutcomeCommitted)
				p.Target.Flags.KubeAPIQPS, p.Target.Exempt = 50, true
			}, 4,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := valid()
			test.change(&p)
			if got := Next(p, start); got.Kind != Start || got.Revision != test.want {
				t.Errorf("Next() = %+v, want a start with revision %d", got, test.want)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	tests := map[string]struct {
		change func(*Plan)
		open   bool
	}{
		"nothing was told yet":       {func(*Plan) {}, false},
		"some nodes were never told": {func(p *Plan) { told(&p.Nodes[2], v1alpha1.OutcomeCommitted) }, true},
		"all nodes have it":          {func(p *Plan) { lost(p, 1, start); p.Nodes[1].Running = wanted }, false},
		"one has lost it":            {func(p *Plan) { lost(p, 1, start) }, true},
		"one did not take it, and others have it": {
			func(p *Plan) {
				lost(p, 1, start)
				told(&p.Nodes[1], v1alpha1.OutcomeRefused)
			}, true,
		},
		"the only node rolled it back": {
			func(p *Plan) {
				p.Nodes = p.Nodes[:1]
				told(&p.Nodes[0], v1alpha1.OutcomeRolledBack)
			}, false,
		},
		"the first of several rolled it back": {
			func(p *Plan) { told(&p.Nodes[2], v1alpha1.OutcomeRolledBack) }, false,
		},
		"the first of several refused it": {
			func(p *Plan) { told(&p.Nodes[2], v1alpha1.OutcomeRefused) }, false,
		},
		"somebody disturbed the only node's change": {
			func(p *Plan) {
				p.Nodes = p.Nodes[:1]
				told(&p.Nodes[0], v1alpha1.OutcomeRolledBack)
				p.Nodes[0].Reason = v1alpha1.ReasonConflictingEdit
			}, true,
		},
		"others have lost it, and the only one that was told more rolled that back": {
			func(p *Plan) {
				lost(p, 1, start)
				refusedMore(&p.Nodes[0], wanted)
			}, true,
		},
		"one that was told more and rolled that back has lost it": {
			func(p *Plan) {
				lost(p, 1, start)
				p.Nodes[1].Running = wanted
				refusedMore(&p.Nodes[0], v1alpha1.DefaultFlags())
			}, true,
		},
		"one that was told more and rolled that back has it": {
			func(p *Plan) {
				lost(p, 1, start)
				p.Nodes[1].Running = wanted
				refusedMore(&p.Nodes[0], wanted)
			}, false,
		},
		"one that was told more is changing": {
			func(p *Plan) {
				lost(p, 1, start)
				refusedMore(&p.Nodes[0], wanted)
				p.Nodes[0].Ended, p.Nodes[0].Phase = 3, v1alpha1.PhaseApplied
			}, false,
		},
		"it was another policy's": {
			func(p *Plan) {
				lost(p, 1, start)
				p.Nodes[2].Policy = "former"
				refusedMore(&p.Nodes[0], wanted)
				p.Nodes[1].Policy = "former"
			}, false,
		},
		"the last word was a restore": {
			func(p *Plan) {
				lost(p, 1, start)
				p.Nodes[0].Revision, p.Nodes[0].Action, p.Nodes[0].Flags = 4, v1alpha1.ActionRestore, v1alpha1.Flags{}
			}, false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := valid()
			test.change(&p)
			got, open := Open(p.Nodes, "default")
			want := p.Target
			want.Revision = 3
			if open != test.open || (open && got != want) {
				t.Errorf("Open() = %+v, %v, want %v", got, open, test.open)
			}
		})
	}
}

// TestRolloutNeverHasTwoNodesInFlight plays whole rollouts with agents that end their changes at random, well or not.
func TestRolloutNeverHasTwoNodesInFlight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := valid()
		p.Nodes = p.Nodes[:rapid.IntRange(2, 3).Draw(t, "nodes")]
		now := start
		var order []string
		for range 40 {
			now = now.Add(time.Second)
			for i := range p.Nodes {
				p.Nodes[i].Reported = now
			}
			step := Next(p, now)
			flying := 0
			for i := range p.Nodes {
				n := &p.Nodes[i]
				if step.Kind == Start && step.Node == n.Name {
					if n.Revision >= step.Revision {
						t.Fatalf("revision %d does not rise above %d", step.Revision, n.Revision)
					}
					n.Revision, n.Action, n.Flags = step.Revision, p.Target.Action, p.Target.Flags
					n.Policy, n.Generation = p.Policy, p.Generation
					order = append(order, n.Name)
				}
				if n.InFlight() {
					flying++
				}
			}
			if flying > 1 {
				t.Fatalf("%d nodes in flight: %+v", flying, p.Nodes)
			}
			endOne(t, &p, now)
			if step.Kind == Halt || step.Kind == Done {
				break
			}
		}
		if i := slices.Index(order, "b"); i >= 0 && i != len(order)-1 {
			t.Fatalf("the leader b was not last: %v", order)
		}
	})
}

func endOne(t *rapid.T, p *Plan, now time.Time) {
	for i := range p.Nodes {
		n := &p.Nodes[i]
		if n.Revision > n.Ended && rapid.Bool().Draw(t, "ends") {
			n.Ended, n.Finished, n.Running = n.Revision, now, n.Flags
			n.Restarts = append(n.Restarts, now)
			n.Outcome = rapid.SampledFrom([]v1alpha1.Outcome{
				v1alpha1.OutcomeCommitted, v1alpha1.OutcomeCommitted, v1alpha1.OutcomeUnchanged, v1alpha1.OutcomeRolledBack,
			}).Draw(t, "outcome")
		}
	}
}

// TestOneChangePerCooldown plays a node that is asked for other flags all the time: between two starts lies the
// cooldown, unless the later one is a step back, and no more starts than the budget allows lie in its period.
func TestOneChangePerCooldown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := valid()
		p.Nodes = p.Nodes[1:2]
		p.Cooldown = time.Duration(rapid.IntRange(1, 90).Draw(t, "cooldown")) * time.Minute
		p.MaxRestarts = rapid.IntRange(1, 6).Draw(t, "budget")
		now, starts := start, []time.Time(nil)
		for range 60 {
			now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "minutes")) * time.Minute)
			p.Target.Flags.KubeAPIQPS = rapid.Int32Range(20, 300).Draw(t, "qps")
			p.Target.Exempt = rapid.IntRange(0, 5).Draw(t, "back") == 0
			n := &p.Nodes[0]
			n.Reported = now
			step := Next(p, now)
			if step.Kind != Start {
				continue
			}
			recent := slices.DeleteFunc(slices.Clone(starts), func(at time.Time) bool { return now.Sub(at) >= p.Period })
			if !p.Target.Exempt && len(recent) >= p.MaxRestarts {
				t.Fatalf("restart %d within %s, want at most %d", len(recent)+1, p.Period, p.MaxRestarts)
			}
			if !p.Target.Exempt && len(starts) > 0 && now.Sub(starts[len(starts)-1]) < p.Cooldown {
				t.Fatalf("a start %s after the last one, want at least %s", now.Sub(starts[len(starts)-1]), p.Cooldown)
			}
			starts = append(starts, now)
			n.Revision, n.Action, n.Flags, n.Policy, n.Generation = step.Revision, p.Target.Action, p.Target.Flags, p.Policy, p.Generation
			n.Ended, n.Finished, n.Running, n.Outcome = n.Revision, now, n.Flags, v1alpha1.OutcomeCommitted
			n.Restarts = append(n.Restarts, now)
		}
	})
}
