package controllers

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// incident is 1,000 Services changed within five seconds and worked off at the default 20 requests/s: the queue and
// the token bucket give each change its lag (facts: 43 s for the last).
func incident() (lag.Summary, lag.Demand) {
	const n, seconds, rate, burst = 1000, 5, 20, 30
	demand := lag.Demand{Start: now.Add(-2 * time.Minute)}
	var tracked []time.Duration
	for i := range n {
		at := time.Duration(float64(i) / n * seconds * float64(time.Second))
		done := max(at, time.Duration(float64(i-burst)/rate*float64(time.Second))) + 10*time.Millisecond
		direction := lag.DirectionAddition
		if i%2 == 0 {
			direction = lag.DirectionRemoval
		}
		tracked = append(tracked, done-at)
		demand.Changes = append(demand.Changes, lag.Change{
			At: at, Service: int32(i), Direction: direction, SliceLag: done - at, EndpointsLag: done - at,
			SliceClass: lag.Closed, EndpointsClass: lag.Closed,
		})
	}
	summary := lag.Summary{From: demand.Start, To: now}
	for _, resource := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		for _, direction := range []lag.Direction{lag.DirectionAny, lag.DirectionAddition, lag.DirectionRemoval} {
			count := n / 2
			if direction == lag.DirectionAny {
				count = n
			}
			summary.Stats = append(summary.Stats, lag.Stat{
				Resource: resource, Direction: direction, Changes: count, Closed: count,
				P50: lag.Quantile{Value: tracked[n/2]}, P90: lag.Quantile{Value: tracked[n*9/10]},
				P99: lag.Quantile{Value: tracked[n*99/100]}, Max: lag.Quantile{Value: tracked[n-1]},
			})
		}
	}
	return summary, demand
}

// valid is an Enforce policy with wide bounds on one healthy node, after an incident at the default flags.
func valid() Situation {
	summary, demand := incident()
	return Situation{
		Policy: v1alpha1.EndpointSyncPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "default", Generation: 1},
			Spec: v1alpha1.EndpointSyncPolicySpec{
				Mode: v1alpha1.ModeEnforce,
				Bounds: v1alpha1.Bounds{
					KubeAPIQPS:                     v1alpha1.QPSBound{Min: 20, Max: 300},
					KubeAPIBurst:                   v1alpha1.BurstBound{Min: 30, Max: 1000},
					ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 5, Max: 50},
					ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 5, Max: 50},
				},
			}.WithDefaults(),
		},
		InCharge: "default",
		Platform: patchable,
		Synced:   true,
		Nodes:    []v1alpha1.EndpointSyncNode{healthyNode()},
		Evidence: tuner.Evidence{
			Now: now, Flags: v1alpha1.DefaultFlags(), Leader: tuner.Led, Lag: summary, Demand: demand,
		},
		Now: now,
	}
}

// patchable is a platform whose manifest is ours to patch.
var patchable = platform.Finding{Platform: platform.Kubeadm, Patchable: true, Reason: "it has kubeadm's labels"}

func healthyNode() v1alpha1.EndpointSyncNode {
	return v1alpha1.EndpointSyncNode{
		ObjectMeta: metav1.ObjectMeta{Name: "cp-1", ResourceVersion: "1"},
		Spec:       v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)},
		Status: v1alpha1.EndpointSyncNodeStatus{
			ReportTime: metav1.NewTime(now), Phase: v1alpha1.PhaseIdle, Running: v1alpha1.DefaultFlags(),
			KCMVersion: "v1.37.2", Healthy: new(true), Leader: new(true),
		},
	}
}

var someFlags = v1alpha1.Flags{KubeAPIQPS: 50, KubeAPIBurst: 500}

// standby is a healthy node that does not lead.
func standby(name string) v1alpha1.EndpointSyncNode {
	n := healthyNode()
	n.Name, n.Status.Leader = name, new(false)
	return n
}

// had is a node that was told flags and runs them.
func had(n v1alpha1.EndpointSyncNode, flags v1alpha1.Flags) v1alpha1.EndpointSyncNode {
	n.Spec.Revision, n.Spec.Action, n.Spec.Flags = new(int64(4)), v1alpha1.ActionApply, flags
	n.Spec.PolicyName, n.Spec.PolicyGeneration = "default", 1
	n.Status.ObservedRevision, n.Status.Running = 4, flags.Or(n.Status.Running)
	n.Status.Last = v1alpha1.ChangeResult{
		Revision: 4, Outcome: v1alpha1.OutcomeCommitted, Reason: v1alpha1.ReasonCommitted, Flags: flags,
		StartTime: metav1.NewTime(now.Add(-time.Minute)), FinishTime: metav1.NewTime(now.Add(-time.Second)),
	}
	n.Status.Restarts = []metav1.Time{metav1.NewTime(now.Add(-time.Minute))}
	return n
}

func TestConclude(t *testing.T) {
	tests := map[string]struct {
		change  func(*Situation)
		stalled string
		step    rollout.StepKind
		reason  string
	}{
		"a missed objective that the flags cause starts a rollout": {
			func(*Situation) {}, "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"observing decides nothing": {
			func(s *Situation) { s.Policy.Spec.Mode = v1alpha1.ModeObserve }, "", rollout.Hold, v1alpha1.ReasonObserving,
		},
		"recommending writes nothing": {
			func(s *Situation) { s.Policy.Spec.Mode = v1alpha1.ModeRecommend }, "", rollout.Hold, v1alpha1.ReasonRecommended,
		},
		"a second policy is in conflict": {
			func(s *Situation) { s.InCharge = "older" }, v1alpha1.ReasonConflict, "", "",
		},
		"a window that is closed holds a rollout": {
			func(s *Situation) { s.Policy.Spec.Rollout.MaintenanceWindows = nights("0 2 * * *") },
			"", rollout.Hold, v1alpha1.ReasonOutsideMaintenanceWindow,
		},
		"a window that is open holds nothing": {
			func(s *Situation) { s.Policy.Spec.Rollout.MaintenanceWindows = nights("0 12 * * *") },
			"", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"a window that never opens is invalid": {
			func(s *Situation) { s.Policy.Spec.Rollout.MaintenanceWindows = nights("0 2 30 2 *") }, v1alpha1.ReasonInvalidSpec, "", "",
		},
		"a duration written around the schema is invalid": {
			func(s *Situation) { s.Policy.Spec.Rollout.Cooldown = "-1s" }, v1alpha1.ReasonInvalidSpec, "", "",
		},
		"a selector that does not parse is invalid": {
			func(s *Situation) { s.Invalid = "spec.services.selector: bad" }, v1alpha1.ReasonInvalidSpec, "", "",
		},
		"no control-plane node to patch": {
			func(s *Situation) { s.Nodes = nil }, v1alpha1.ReasonNoControlPlaneNodes, "", "",
		},
		"nothing starts before the watches have synced": {
			func(s *Situation) { s.Synced = false }, "", rollout.Hold, v1alpha1.ReasonTooFewSamples,
		},
		"a pause starts nothing": {
			func(s *Situation) { s.Policy.Annotations = map[string]string{v1alpha1.PauseAnnotation: "true"} },
			"", rollout.Hold, v1alpha1.ReasonPaused,
		},
		"a node in flight is waited for even when paused": {
			func(s *Situation) {
				s.Policy.Annotations = map[string]string{v1alpha1.PauseAnnotation: "true"}
				s.Nodes[0].Spec.Revision = new(int64(1))
			}, "", rollout.Wait, v1alpha1.ReasonProgressing,
		},
		"too few changes decide nothing": {
			func(s *Situation) { s.Evidence.Lag, s.Evidence.Demand = lag.Summary{}, lag.Demand{} },
			"", rollout.Hold, v1alpha1.ReasonTooFewSamples,
		},
		"a recent restart starts the cooldown": {
			func(s *Situation) { s.Nodes[0].Status.Restarts = []metav1.Time{metav1.NewTime(now.Add(-time.Minute))} },
			"", rollout.Hold, v1alpha1.ReasonCooldownActive,
		},
		"a setting that was rolled back stalls the policy": {
			func(s *Situation) { s.Nodes[0].Status.Failed = []v1alpha1.FailedSetting{failure()} },
			v1alpha1.ReasonRolledBack, rollout.Hold, v1alpha1.ReasonRolledBack,
		},
		"of several nodes a standby is changed first": {
			func(s *Situation) { s.Nodes = append(s.Nodes, standby("cp-2")) }, "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"a rollout that has begun goes on without a new decision": {
			func(s *Situation) {
				s.Nodes = append(s.Nodes, had(standby("cp-2"), someFlags))
				s.Evidence.Demand, s.Evidence.Lag = lag.Demand{}, lag.Summary{}
			}, "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"a rollout that has begun goes on under a new spec that admits it": {
			func(s *Situation) {
				s.Nodes = append(s.Nodes, had(standby("cp-2"), someFlags))
				s.Evidence.Demand, s.Evidence.Lag, s.Policy.Generation = lag.Demand{}, lag.Summary{}, 2
			}, "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"a node that did not take what it was told stalls the policy when nothing new is decided either": {
			takenBack(time.Second), v1alpha1.ReasonInconclusive, rollout.Halt, v1alpha1.ReasonInconclusive,
		},
		"it does so for the cooldown": {
			takenBack(31 * time.Minute), "", rollout.Hold, v1alpha1.ReasonTooFewSamples,
		},
		"a rollout that has begun waits for its window": {
			outsideItsWindow(v1alpha1.PurposeRaise), "", rollout.Hold, v1alpha1.ReasonOutsideMaintenanceWindow,
		},
		"one that takes a change back waits for none": {
			outsideItsWindow(v1alpha1.PurposeUndo), "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"what somebody else takes away of one that took a change back waits for its window": {
			func(s *Situation) {
				outsideItsWindow(v1alpha1.PurposeUndo)(s)
				s.Nodes[0] = had(s.Nodes[0], someFlags)
				s.Nodes[0].Status.Running = v1alpha1.DefaultFlags()
			}, "", rollout.Hold, v1alpha1.ReasonOutsideMaintenanceWindow,
		},
		"what was there before a failure is given back once the spec has changed": {
			func(s *Situation) {
				s.Nodes[0] = had(s.Nodes[0], someFlags)
				failed := had(standby("cp-2"), v1alpha1.Flags{KubeAPIQPS: 300, KubeAPIBurst: 300})
				failed.Spec.Revision, failed.Status.ObservedRevision = new(int64(5)), 5
				failed.Status.Last.Outcome, failed.Status.Last.Reason = v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNeverStarted
				failed.Status.Running = v1alpha1.DefaultFlags() // As kubeadm leaves it.
				s.Nodes = append(s.Nodes, failed)
				s.Policy.Generation = 2
				s.Evidence.Demand, s.Evidence.Lag = lag.Demand{}, lag.Summary{}
			}, "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"a rollout that has begun is abandoned where new bounds forbid it, and nothing else was decided": {
			func(s *Situation) {
				s.Nodes = append(s.Nodes, had(standby("cp-2"), someFlags))
				s.Evidence.Demand, s.Evidence.Lag, s.Policy.Generation = lag.Demand{}, lag.Summary{}, 2
				s.Policy.Spec.Bounds.KubeAPIQPS.Max = someFlags.KubeAPIQPS - 1
			}, v1alpha1.ReasonRolloutAbandoned, rollout.Hold, v1alpha1.ReasonTooFewSamples,
		},
		"what a former policy left on some nodes is no rollout of this one": {
			func(s *Situation) {
				n := had(standby("cp-2"), someFlags)
				n.Spec.PolicyName = "former"
				s.Nodes = append(s.Nodes, n)
				s.Evidence.Demand, s.Evidence.Lag = lag.Demand{}, lag.Summary{}
			}, "", rollout.Hold, v1alpha1.ReasonTooFewSamples,
		},
		"a pause stops a rollout that has begun": {
			func(s *Situation) {
				s.Nodes = append(s.Nodes, had(standby("cp-2"), someFlags))
				s.Policy.Annotations = map[string]string{v1alpha1.PauseAnnotation: "true"}
			}, "", rollout.Hold, v1alpha1.ReasonPaused,
		},
		"a node in flight is waited for in Observe too": {
			func(s *Situation) {
				s.Policy.Spec.Mode = v1alpha1.ModeObserve
				s.Nodes[0].Status.Phase = v1alpha1.PhaseApplied
			}, "", rollout.Wait, v1alpha1.ReasonProgressing,
		},
		"a silent agent in the middle of a change stalls the policy": {
			func(s *Situation) {
				s.Nodes[0].Status.Phase = v1alpha1.PhaseApplied
				s.Nodes[0].Status.ReportTime = metav1.NewTime(now.Add(-time.Hour))
			}, v1alpha1.ReasonNodeNotReporting, rollout.Wait, v1alpha1.ReasonNodeNotReporting,
		},
		"a silent agent shows when there is nothing to decide": {
			func(s *Situation) {
				s.Evidence.Lag, s.Evidence.Demand = lag.Summary{}, lag.Demand{}
				s.Nodes[0].Status.ReportTime = metav1.NewTime(now.Add(-time.Hour))
			}, "", rollout.Hold, v1alpha1.ReasonNodeNotReporting,
		},
		"a policy that is being deleted starts nothing": {
			func(s *Situation) { s.Policy.DeletionTimestamp = new(metav1.NewTime(now)) }, "", rollout.Hold, v1alpha1.ReasonPaused,
		},
		"a failure under an older generation is forgiven": {
			func(s *Situation) {
				s.Nodes[0].Status.Failed = []v1alpha1.FailedSetting{failure()}
				s.Policy.Generation = 2
			}, "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"a failure on another version is forgiven": {
			func(s *Situation) {
				f := failure()
				s.Nodes[0] = had(s.Nodes[0], f.Flags)
				s.Nodes[0].Status.Running, s.Nodes[0].Status.Restarts = v1alpha1.DefaultFlags(), nil
				s.Nodes[0].Status.Failed = []v1alpha1.FailedSetting{f}
				s.Nodes[0].Status.Last.Outcome, s.Nodes[0].Status.Last.Reason = v1alpha1.OutcomeRolledBack, f.Reason
				s.Nodes[0].Status.Last.FinishTime = f.Time
				s.Nodes[0].Status.KCMVersion = "v1.38.0"
			}, "", rollout.Start, v1alpha1.ReasonRolloutStarted,
		},
		"an unhealthy node holds": {
			func(s *Situation) { s.Nodes[0].Status.Healthy = new(false) }, "", rollout.Hold, v1alpha1.ReasonNodeUnhealthy,
		},
		"a silent agent holds": {
			func(s *Situation) { s.Nodes[0].Status.ReportTime = metav1.NewTime(now.Add(-time.Hour)) },
			"", rollout.Hold, v1alpha1.ReasonNodeNotReporting,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := valid()
			test.change(&s)
			got := Conclude(s)
			if got.Stalled != test.stalled || got.Step.Kind != test.step || got.Step.Reason != test.reason {
				t.Errorf("Conclude() = stalled %q, step %+v; want stalled %q, step %s, reason %s; decision %+v",
					got.Stalled, got.Step, test.stalled, test.step, test.reason, got.Decision)
			}
			if test.stalled != "" && got.Message == "" {
				t.Error("a stall says nothing to a person")
			}
		})
	}
}

// takenBack is that a standby took its change back so long ago, without blame, and that nothing new is decided.
func takenBack(ago time.Duration) func(*Situation) {
	return func(s *Situation) {
		n := had(standby("cp-2"), someFlags)
		n.Status.Running = v1alpha1.DefaultFlags()
		n.Status.Last.Outcome, n.Status.Last.Reason = v1alpha1.OutcomeRolledBack, v1alpha1.ReasonInconclusive
		n.Status.Last.FinishTime = metav1.NewTime(now.Add(-ago))
		s.Nodes = append(s.Nodes, n)
		s.Evidence.Demand, s.Evidence.Lag = lag.Demand{}, lag.Summary{}
	}
}

// outsideItsWindow is a rollout that has begun, when its window is closed.
func outsideItsWindow(purpose v1alpha1.Purpose) func(*Situation) {
	return func(s *Situation) {
		s.Nodes = append(s.Nodes, had(standby("cp-2"), someFlags))
		s.Policy.Spec.Rollout.MaintenanceWindows = nights("0 2 * * *")
		s.Policy.Status.History = []v1alpha1.HistoryEntry{{Revision: 4, To: someFlags, Purpose: purpose}}
	}
}

func failure() v1alpha1.FailedSetting {
	return v1alpha1.FailedSetting{
		Flags:      v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 400},
		KCMVersion: "v1.37.2", PolicyGeneration: 1, Time: metav1.NewTime(now.Add(-time.Hour)), Reason: v1alpha1.ReasonCrashLooping,
	}
}

func nights(schedule string) []v1alpha1.MaintenanceWindow {
	return []v1alpha1.MaintenanceWindow{{Name: "nights", Schedule: schedule, Duration: "2h"}}
}

func TestInvalidWindowsAreNamed(t *testing.T) {
	s := valid()
	s.Policy.Spec.Rollout.MaintenanceWindows = append(nights("0 25 * * *"), v1alpha1.MaintenanceWindow{
		Name: "weekends", Schedule: "0 2 * * 6,0", Duration: "2h", TimeZone: "Mars/Olympus",
	})
	got := Conclude(s).Message
	for _, want := range []string{
		"spec.rollout.maintenanceWindows", `"nights"`, `"0 25 * * *"`, "five fields of cron", `"weekends"`, `"Mars/Olympus"`, "IANA",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("message %q does not name %s", got, want)
		}
	}
}

func TestAFailureSaysWhatTheNodeSaidOfItAndNothingLater(t *testing.T) {
	f := failure()
	f.Reason = v1alpha1.ReasonNeverStarted
	for name, c := range map[string]struct {
		last v1alpha1.ChangeResult
		want string
	}{
		"of this change":                  {v1alpha1.ChangeResult{Flags: f.Flags, Message: "no answer"}, "NeverStarted: no answer"},
		"of this change, with its reason": {v1alpha1.ChangeResult{Flags: f.Flags, Message: "NeverStarted: no answer"}, "NeverStarted: no answer"},
		"nothing":                         {v1alpha1.ChangeResult{Flags: f.Flags}, "NeverStarted"},
		"of a later change":               {v1alpha1.ChangeResult{Message: "the new process was proven"}, "NeverStarted"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := whyFailed(f, c.last); got != c.want {
				t.Errorf("whyFailed = %q, want %q", got, c.want)
			}
		})
	}
}
