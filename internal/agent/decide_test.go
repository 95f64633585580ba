package agent

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func TestDecide(t *testing.T) {
	now := moment{BootID: "b", Boot: 10 * time.Hour, Wall: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	failed := v1alpha1.FailedSetting{
		Flags: asked, KCMVersion: "v1.37.2", PolicyGeneration: 1, Time: metav1.NewTime(now.Wall.Add(-time.Hour)), Reason: v1alpha1.ReasonCrashLooping,
	}
	restore := func(s *situation) {
		s.Instruction.Action, s.Instruction.DeletionPolicy, s.Instruction.Flags = v1alpha1.ActionRestore, v1alpha1.DeletionRestore, v1alpha1.Flags{}
	}
	tests := map[string]struct {
		change func(*situation)
		want   decisionKind
		reason string
	}{
		"a sound instruction is carried out":      {func(*situation) {}, decideStart, ""},
		"no action asks for nothing":              {func(s *situation) { s.Instruction.Action = "" }, decideNothing, ""},
		"no revision asks for nothing":            {func(s *situation) { s.Instruction.Revision = nil }, decideNothing, ""},
		"a revision that has ended is over":       {func(s *situation) { s.Journal.ObservedRevision = 7 }, decideNothing, ""},
		"a revision older than that is over":      {func(s *situation) { s.Journal.ObservedRevision = 8 }, decideNothing, ""},
		"an unknown action is refused":            {func(s *situation) { s.Instruction.Action = "Explode" }, decideRefuse, v1alpha1.ReasonRefused},
		"no flags at all are refused":             {func(s *situation) { s.Instruction.Flags = v1alpha1.Flags{} }, decideRefuse, v1alpha1.ReasonOutOfBounds},
		"a value above what is compiled in":       {func(s *situation) { s.Instruction.Flags.ConcurrentEndpointSyncs = 51 }, decideRefuse, v1alpha1.ReasonOutOfBounds},
		"a negative value":                        {func(s *situation) { s.Instruction.Flags.KubeAPIQPS = -1 }, decideRefuse, v1alpha1.ReasonOutOfBounds},
		"a value above the policy's bound":        {func(s *situation) { s.Instruction.Flags.KubeAPIQPS = 301 }, decideRefuse, v1alpha1.ReasonOutOfBounds},
		"a value below the policy's bound":        {func(s *situation) { s.Instruction.Flags.KubeAPIQPS = 19 }, decideRefuse, v1alpha1.ReasonOutOfBounds},
		"a flag without a bound is never touched": {func(s *situation) { s.Policy.Policy.Spec.Bounds.ConcurrentEndpointSyncs = v1alpha1.WorkersBound{} }, decideRefuse, v1alpha1.ReasonOutOfBounds},
		"a flag that is not asked for needs none": {func(s *situation) {
			s.Policy.Policy.Spec.Bounds.ConcurrentEndpointSyncs = v1alpha1.WorkersBound{}
			s.Instruction.Flags.ConcurrentEndpointSyncs = 0
		}, decideStart, ""},
		"Observe writes nothing":                   {func(s *situation) { s.Policy.Policy.Spec.Mode = v1alpha1.ModeObserve }, decideHold, v1alpha1.ReasonObserving},
		"no mode is Observe":                       {func(s *situation) { s.Policy.Policy.Spec.Mode = "" }, decideHold, v1alpha1.ReasonObserving},
		"an unknown mode writes nothing":           {func(s *situation) { s.Policy.Policy.Spec.Mode = "Yolo" }, decideHold, v1alpha1.ReasonObserving},
		"a paused policy starts nothing":           {func(s *situation) { s.Policy.Policy.Annotations = map[string]string{v1alpha1.PauseAnnotation: "true"} }, decideHold, v1alpha1.ReasonPaused},
		"the PAUSE file starts nothing":            {func(s *situation) { s.Paused = true }, decideHold, v1alpha1.ReasonPaused},
		"the PAUSE file stops a restore too":       {func(s *situation) { restore(s); s.Policy = policyView{}; s.Paused = true }, decideHold, v1alpha1.ReasonPaused},
		"an unreachable API server starts nothing": {func(s *situation) { s.Policy = policyView{Unreachable: errors.New("refused")} }, decideHold, v1alpha1.ReasonInconclusive},
		"without a policy nothing is applied":      {func(s *situation) { s.Policy = policyView{} }, decideRefuse, v1alpha1.ReasonRefused},
		"without a policy a restore is done":       {func(s *situation) { restore(s); s.Policy = policyView{} }, decideStart, ""},
		"a restore that Retain forbids": {func(s *situation) {
			restore(s)
			s.Instruction.DeletionPolicy = v1alpha1.DeletionRetain
			s.Policy = policyView{}
		}, decideRefuse, v1alpha1.ReasonRefused},
		"an agent that is not known to be confined": {func(s *situation) { s.Isolation = isolation{doubt: "allowed"} }, decideHold, v1alpha1.ReasonNotIsolated},
		"a restore by an agent that is not confined": {func(s *situation) {
			restore(s)
			s.Policy, s.Isolation = policyView{}, isolation{doubt: "allowed"}
		}, decideHold, v1alpha1.ReasonNotIsolated},
		"an agent that is not confined, and a pause": {func(s *situation) { s.Isolation, s.Paused = isolation{}, true }, decideHold, v1alpha1.ReasonNotIsolated},
		"an agent that is not confined has nothing to hold where nothing is enforced": {func(s *situation) {
			s.Isolation, s.Policy.Policy.Spec.Mode = isolation{}, v1alpha1.ModeObserve
		}, decideHold, v1alpha1.ReasonObserving},
		"a process that is not healthy":            {func(s *situation) { s.Process.Healthy = false }, decideHold, v1alpha1.ReasonNodeUnhealthy},
		"a process whose metrics are unreadable":   {func(s *situation) { s.Process.Known = false }, decideHold, v1alpha1.ReasonNoSignals},
		"a restore does not wait for health":       {func(s *situation) { restore(s); s.Policy = policyView{}; s.Process = running{} }, decideStart, ""},
		"a setting that failed":                    {func(s *situation) { s.Journal.Failed = []v1alpha1.FailedSetting{failed} }, decideRefuse, v1alpha1.ReasonSettingFailedBefore},
		"a setting that failed on another version": {func(s *situation) { s.Journal.Failed = []v1alpha1.FailedSetting{failed}; s.Process.Version = "v1.38.0" }, decideStart, ""},
		"a setting that failed a day ago": {func(s *situation) {
			s.Journal.Failed = []v1alpha1.FailedSetting{failed}
			s.Now.Wall = now.Wall.Add(23*time.Hour + time.Minute)
		}, decideStart, ""},
		"a setting that failed under another spec": {func(s *situation) {
			s.Journal.Failed = []v1alpha1.FailedSetting{failed}
			s.Instruction.PolicyGeneration, s.Policy.Policy.Generation = 2, 2
		}, decideStart, ""},
		"an instruction of an older spec": {func(s *situation) { s.Policy.Policy.Generation = 2 }, decideRefuse, v1alpha1.ReasonOutdated},
		"an instruction that has been held for too long": {func(s *situation) {
			s.Paused, s.Held = true, maxHold+time.Second
		}, decideRefuse, v1alpha1.ReasonOutdated},
		"a restore although the policy is there again": {func(s *situation) {
			s.Instruction.Action, s.Instruction.DeletionPolicy = v1alpha1.ActionRestore, v1alpha1.DeletionRestore
		}, decideRefuse, v1alpha1.ReasonOutdated},
		"a restore after the state directory was lost": {func(s *situation) {
			s.Instruction.Action, s.Instruction.DeletionPolicy = v1alpha1.ActionRestore, v1alpha1.DeletionRestore
			s.Policy.Policy, s.Journal.Lost = nil, true
		}, decideRefuse, v1alpha1.ReasonJournalUnreadable},
		"another setting than the one that failed": {func(s *situation) {
			s.Journal.Failed = []v1alpha1.FailedSetting{failed}
			s.Instruction.Flags.KubeAPIQPS++
		}, decideStart, ""},
		"a change soon after the last":        {func(s *situation) { s.Journal.LastChange = moment{BootID: "b", Boot: now.Boot - 9*time.Minute} }, decideHold, v1alpha1.ReasonRateLimited},
		"a change long enough after the last": {func(s *situation) { s.Journal.LastChange = moment{BootID: "b", Boot: now.Boot - 10*time.Minute} }, decideStart, ""},
		"a change soon after a reboot": {func(s *situation) {
			s.Journal.LastChange = moment{BootID: "a", Boot: time.Minute}
			s.Now.Boot = 5 * time.Minute
		}, decideHold, v1alpha1.ReasonRateLimited},
		"a wall clock set ten years ahead": {func(s *situation) {
			s.Journal.LastChange = moment{BootID: "b", Boot: now.Boot - time.Minute}
			s.Now.Wall = now.Wall.AddDate(10, 0, 0)
		}, decideHold, v1alpha1.ReasonRateLimited},
		"putting back what was committed, or displaced by somebody": {func(s *situation) {
			s.Journal.LastChange = s.Now
			s.Journal.Contest = contest{Flags: asked, Stood: true}
		}, decideStart, ""},
		"trying again what was rolled back": {func(s *situation) {
			s.Journal.LastChange = s.Now
			s.Journal.Contest = contest{Flags: asked}
		}, decideHold, v1alpha1.ReasonRateLimited},
		"taking the last change back": {func(s *situation) {
			tookPlace(s, written{Name: v1alpha1.FlagKubeAPIQPS, Value: "25"})
			s.Instruction.Flags.KubeAPIQPS = 25
		}, decideStart, ""},
		"taking the last change back, of a flag that had no value": {func(s *situation) {
			tookPlace(s, written{Name: v1alpha1.FlagKubeAPIQPS, Absent: true})
			s.Instruction.Flags.KubeAPIQPS = v1alpha1.DefaultFlags().KubeAPIQPS
		}, decideStart, ""},
		"something near what the last change has replaced": {func(s *situation) {
			tookPlace(s, written{Name: v1alpha1.FlagKubeAPIQPS, Value: "25"})
			s.Instruction.Flags.KubeAPIQPS = 26
		}, decideHold, v1alpha1.ReasonRateLimited},
		"what a change has replaced that is not the last": {func(s *situation) {
			tookPlace(s, written{Name: v1alpha1.FlagKubeAPIQPS, Value: "25"})
			s.Instruction.Flags.KubeAPIQPS = 25
			s.Journal.Last.Revision++
		}, decideHold, v1alpha1.ReasonRateLimited},
		"others that are well and at rest": {func(s *situation) { s.Others.Nodes = []v1alpha1.EndpointSyncNode{anotherNode()} }, decideStart, ""},
		"another that was told something": {func(s *situation) {
			n := anotherNode()
			n.Spec.Revision = new(int64(6))
			s.Others.Nodes = []v1alpha1.EndpointSyncNode{n, anotherNode()}
		}, decideHold, v1alpha1.ReasonProgressing},
		"another in the middle of a change": {func(s *situation) {
			n := anotherNode()
			n.Status.Phase = v1alpha1.PhaseRollingBack
			s.Others.Nodes = []v1alpha1.EndpointSyncNode{n}
		}, decideHold, v1alpha1.ReasonProgressing},
		"another that is not healthy": {func(s *situation) {
			n := anotherNode()
			n.Status.Healthy = new(false)
			s.Others.Nodes = []v1alpha1.EndpointSyncNode{anotherNode(), n}
		}, decideHold, v1alpha1.ReasonNodeUnhealthy},
		"another whose agent is silent": {func(s *situation) {
			s.Others = othersView{Nodes: []v1alpha1.EndpointSyncNode{anotherNode()}, Silent: []string{"cp-2"}}
		}, decideHold, v1alpha1.ReasonNodeNotReporting},
		"another of which nothing is known": {func(s *situation) {
			s.Others.Nodes = []v1alpha1.EndpointSyncNode{{Spec: v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)}}}
		}, decideHold, v1alpha1.ReasonNodeUnhealthy},
		"others that cannot be read": {func(s *situation) { s.Others.Unreachable = errors.New("refused") }, decideHold, v1alpha1.ReasonInconclusive},
		"a restore beside one that is not healthy": {func(s *situation) {
			restore(s)
			s.Policy = policyView{}
			n := anotherNode()
			n.Status.Healthy = new(false)
			s.Others.Nodes = []v1alpha1.EndpointSyncNode{n}
		}, decideStart, ""},
		"a restore beside one whose agent is silent": {func(s *situation) {
			restore(s)
			s.Policy = policyView{}
			s.Others = othersView{Nodes: []v1alpha1.EndpointSyncNode{anotherNode()}, Silent: []string{"cp-2"}}
		}, decideStart, ""},
		"a restore beside one in the middle of a change": {func(s *situation) {
			restore(s)
			s.Policy = policyView{}
			n := anotherNode()
			n.Status.Phase = v1alpha1.PhaseApplied
			s.Others.Nodes = []v1alpha1.EndpointSyncNode{n}
		}, decideHold, v1alpha1.ReasonProgressing},
		"a restore soon after the last change": {func(s *situation) { restore(s); s.Policy = policyView{}; s.Journal.LastChange = s.Now }, decideStart, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := situation{
				Instruction: apply(7), Policy: policyView{Policy: enforcing()}, Now: now, MinInterval: 10 * time.Minute,
				Isolation: isolation{shown: now}, Process: running{Up: true, Healthy: true, Known: true, Version: "v1.37.2"},
			}
			tt.change(&s)
			if got := decide(s); got.Kind != tt.want || got.Reason != tt.reason {
				t.Errorf("decide() = %+v, want kind %d, reason %q", got, tt.want, tt.reason)
			}
		})
	}
}

// anotherNode is a node that is well and has ended what it was told.
func anotherNode() v1alpha1.EndpointSyncNode {
	n := v1alpha1.EndpointSyncNode{Spec: v1alpha1.EndpointSyncNodeSpec{Revision: new(int64(5))}}
	n.Name = "cp-2"
	n.Status.ObservedRevision, n.Status.Phase, n.Status.Healthy = 5, v1alpha1.PhaseIdle, new(true)
	return n
}

// tookPlace makes the instruction's flags those of a change that was committed just now and replaced a flag.
func tookPlace(s *situation, replaced written) {
	j := &s.Journal
	j.Phase, j.LastChange = phaseCommitted, s.Now
	j.Change = change{Revision: 6, Action: v1alpha1.ActionApply, Flags: s.Instruction.Flags, Replaced: []written{replaced}}
	j.Last = v1alpha1.ChangeResult{Revision: 6, Outcome: v1alpha1.OutcomeCommitted, Flags: s.Instruction.Flags}
}
