package play

import (
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// operator is the product's own deciding code.
type operator struct {
	policy v1alpha1.EndpointSyncPolicy
	// episodes are the worst that it remembers; they survive a restart, as a ConfigMap does.
	episodes []tuner.Episode
	// same is how often in a row it concluded the same, and what that was.
	same   int
	before standing
}

// beforeChange is how long before a change of flags the operator compares with, as its reconciler has it.
const beforeChange = 10 * time.Minute

// standing is what a pass concluded, as far as a difference matters.
type standing struct {
	step   rollout.StepKind
	reason string
	cause  v1alpha1.BottleneckType
}

func newOperator(s *Scene) *operator { return &operator{policy: s.policy()} }

func (o *operator) look(s *stage) float64 {
	situation := o.situation(s)
	o.episodes = tuner.Remember(o.episodes, situation.Evidence, s.scene.objective())
	situation.Episodes = o.episodes
	out := controllers.Step(situation)
	o.policy.Status = out.Status
	if out.Told.Revision != nil {
		s.act(out.Told, Action{Since: situation.Evidence.Demand.Start.Sub(start).Seconds(), Cause: out.Bottleneck.Type})
	}
	if out.Stalled == v1alpha1.ReasonInvalidSpec {
		s.broken = append(s.broken, "the scene's policy cannot be used: "+out.Message)
	}
	return o.again(s, out)
}

// situation is what the operator's own reconciler would have gathered.
func (o *operator) situation(s *stage) controllers.Situation {
	now := at(s.cluster.Now())
	node := *s.fleet.node.DeepCopy()
	node.Status.ReportTime = stamp(s.cluster.Now())
	out := controllers.Situation{
		Policy: o.policy, InCharge: policyName, Nodes: []v1alpha1.EndpointSyncNode{node}, Synced: true, Now: now,
		Guardrails: controllers.GuardrailsOf(v1alpha1.Guardrails{}), Platform: platform.Finding{Platform: platform.Kubeadm, Patchable: true},
	}
	begin := controllers.Since(s.eyes.tracker, out)
	out.Evidence = tuner.Evidence{
		Now: now, Lag: s.eyes.tracker.Summary(lag.Query{Now: now, Since: begin}), Demand: s.eyes.tracker.Demand(begin, now),
		Leader: tuner.Leaderless,
	}
	if !*node.Status.Leader {
		return out
	}
	out.Evidence.Leader, out.Evidence.Flags, out.Evidence.Version = tuner.Led, node.Status.Running, kcmVersion
	out.Evidence.Signals = since(s.samples.kcm, begin, func(v tuner.Sample) time.Time { return v.Time })
	read := func(v tuner.ServerSample) time.Time { return v.Time }
	out.Evidence.Server = since(s.samples.server, begin, read)
	if changed := node.Status.Last.FinishTime.Time; !changed.IsZero() {
		before := since(s.samples.server, changed.Add(-beforeChange), read)
		out.Evidence.ServerBefore = before[:len(before)-len(since(before, changed, read))]
	}
	out.Evidence.Settings = tuner.Settings{
		SliceBatch: duration(s.scene.SliceBatch), EndpointsBatch: duration(s.scene.EndpointsBatch),
	}
	return out
}

// Passes that conclude the same again and again come at longer intervals than the operator's own, so that a simulation
// of hours ends in seconds: up to attentive while something is under way and up to idle otherwise. A burst of changes and
// news from a node are looked at as soon as ever. Seconds.
const attentive, idle, rolling = 30, 120, 20

// steady is how many passes must conclude the same before the interval grows.
const steady = 3

func (o *operator) again(s *stage, out controllers.Outcome) float64 {
	is := standing{out.Step.Kind, out.Step.Reason, out.Bottleneck.Type}
	if is == o.before {
		o.same++
	} else {
		o.same, o.before = 0, is
	}
	again, longest := out.Again.Seconds(), float64(idle)
	if s.cluster.Busy() {
		longest = attentive
	}
	switch {
	case out.Step.Kind == rollout.Wait: // A node's news are looked at as they come.
		return rolling
	case o.same < steady:
		return again
	}
	return min(again*float64(o.same-steady+2), longest)
}

// check notes which of its promises an action breaks.
func (s *stage) check(a Action) {
	within := func(name string, value, low, high int32) {
		if value < low || value > high {
			s.broken = append(s.broken, fmt.Sprintf("at %.0f s: %s %d is out of bounds %d..%d", a.At, name, value, low, high))
		}
	}
	within(v1alpha1.FlagKubeAPIQPS, a.To.KubeAPIQPS, minQPS, maxQPS)
	within(v1alpha1.FlagKubeAPIBurst, a.To.KubeAPIBurst, minBurst, maxBurst)
	within(v1alpha1.FlagConcurrentEndpointSyncs, a.To.ConcurrentEndpointSyncs, minWorkers, maxWorkers)
	within(v1alpha1.FlagConcurrentServiceEndpointSyncs, a.To.ConcurrentServiceEndpointSyncs, minWorkers, maxWorkers)
	if n := len(s.actions); n > 0 && a.At-s.actions[n-1].At < cooldown && !undoes(a, s.actions[n-1]) {
		s.broken = append(s.broken, fmt.Sprintf("at %.0f s: a change %.0f s after another", a.At, a.At-s.actions[n-1].At))
	}
}

// undoes says whether an action takes back another.
func undoes(a, before Action) bool { return a.To == before.From }

// cooldown is the policy's, in seconds.
const cooldown = 1800
