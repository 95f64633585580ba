package tests

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// healthTimeout is the shortest that a policy may ask for.
	healthTimeout = 45 * time.Second
	// verdictLimit and recoveryLimit are what the operator promises: a verdict on a process that exits within 45 s of the
	// swap, and the old manifest's process healthy within 45 s of any verdict.
	verdictLimit  = 45 * time.Second
	recoveryLimit = 45 * time.Second
	// lookLimit is how late a verdict at healthTimeout may be seen on a busy machine.
	lookLimit = 10 * time.Second
	// startSlack is how much later than the agent's clock starts the swap may be seen: the agent counts from before it
	// writes the files, and the watcher reads every 10 ms.
	startSlack = 200 * time.Millisecond

	policyName = "default"
)

// enforce is a policy that lets an agent write any of the four flags.
func enforce() v1alpha1.EndpointSyncPolicySpec {
	return v1alpha1.EndpointSyncPolicySpec{
		Mode: v1alpha1.ModeEnforce,
		Bounds: v1alpha1.Bounds{
			KubeAPIQPS:                     v1alpha1.QPSBound{Min: 20, Max: 1000},
			KubeAPIBurst:                   v1alpha1.BurstBound{Min: 30, Max: 2000},
			ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 1, Max: 50},
			ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 1, Max: 50},
		},
	}
}

// instruction asks for flags at once, and for the shortest proof.
func instruction(revision, generation int64, flags v1alpha1.Flags) v1alpha1.EndpointSyncNodeSpec {
	return v1alpha1.EndpointSyncNodeSpec{
		Revision: &revision, Action: v1alpha1.ActionApply, Flags: flags,
		PolicyName: policyName, PolicyGeneration: generation, DeletionPolicy: v1alpha1.DeletionRetain,
		HealthTimeout: v1alpha1.Duration(healthTimeout.String()), MinReady: "1s",
	}
}

// failure is one way in which a new kube-controller-manager does not do.
type failure struct {
	behaviour string
	// reasons are the verdicts that are right, with the API server up and with it stopped.
	reasons, reasonsAlone []string
	// blamedAlone says whether the values are blamed although the API server is stopped.
	blamedAlone bool
	// early says that the verdict need not wait for healthTimeout.
	early bool
}

func failures() []failure {
	exits := []string{v1alpha1.ReasonNeverStarted, v1alpha1.ReasonCrashLooping}
	inconclusive := []string{v1alpha1.ReasonInconclusive}
	return []failure{
		{behaviour: "exit", reasons: exits, reasonsAlone: exits, blamedAlone: true, early: true},
		{behaviour: "unhealthy", reasons: []string{v1alpha1.ReasonNeverHealthy}, reasonsAlone: inconclusive},
		{behaviour: "ignore-flags", reasons: []string{v1alpha1.ReasonWrongFlags}, reasonsAlone: inconclusive},
	}
}

// rollout is one node on which a change fails.
type rollout struct {
	*rig.Rig
	failure
	watch      *rig.Watcher
	flags      v1alpha1.Flags
	generation int64
	recovered  chan time.Time // gets when the old manifest's process was healthy again
}

// startRollouts makes a node for each failure, on which a kubelet's delays hold, and asks its agent for flags that will
// not do. Each has a control plane of its own, because an agent starts nothing while another node is being changed.
func startRollouts(t *testing.T) []*rollout {
	t.Helper()
	flags := v1alpha1.Flags{KubeAPIQPS: 50, KubeAPIBurst: 100, ConcurrentEndpointSyncs: 10, ConcurrentServiceEndpointSyncs: 10}
	var all []*rollout
	for _, f := range failures() {
		c := environment.Own(t)
		r := &rollout{
			Rig:     rig.New(t, environment, c, rig.Options{Node: "rollback-" + f.behaviour}),
			failure: f, flags: flags, generation: c.ApplyPolicy(t, policyName, enforce()), recovered: make(chan time.Time, 1),
		}
		r.Misbehave(t, f.behaviour)
		r.watch = rig.Watch(t, r.ManifestDir)
		all = append(all, r)
	}
	for _, r := range all {
		r.Instruct(t, instruction(1, r.generation, flags))
		r.StartAgent(t)
		go r.followRecovery(t.Context())
	}
	return all
}

// followRecovery looks for a healthy process of the old manifest, once that is back.
func (r *rollout) followRecovery(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		args, running := r.KCMArgs()
		if len(r.watch.Sightings()) >= 3 && running && !tuned(args) && r.Healthy(ctx) {
			r.recovered <- time.Now()
			return
		}
		<-tick.C
	}
}

// tuned reports whether a command has a flag that the operator writes.
func tuned(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--kube-api-qps") })
}

// awaitSwap returns when the new manifest is in place.
func (r *rollout) awaitSwap(t *testing.T) {
	t.Helper()
	rig.Await(t, time.Minute, func() string { return "the swap on " + r.Node }, func(context.Context) bool {
		return len(r.watch.Sightings()) >= 2
	})
}

// check follows the roll-back without the API server's help.
func (r *rollout) check(t *testing.T) {
	t.Helper()
	rig.Await(t, healthTimeout+2*lookLimit, func() string { return "the old manifest on " + r.Node }, func(context.Context) bool {
		return len(r.watch.Sightings()) >= 3
	})
	seen := r.watch.Sightings()
	verdict := seen[2].At.Sub(seen[1].At)
	switch {
	case r.early && verdict > verdictLimit:
		t.Errorf("%s: verdict %s after the swap, want at most %s", r.Node, verdict, verdictLimit)
	case !r.early && (verdict < healthTimeout-startSlack || verdict > healthTimeout+lookLimit):
		t.Errorf("%s: verdict %s after the swap, want it at healthTimeout %s", r.Node, verdict, healthTimeout)
	}
	if got := r.Read(t); !bytes.Equal(got, r.Original) {
		t.Errorf("%s: the manifest is not the original one:\n%s", r.Node, got)
	}
	limit := time.Until(seen[2].At.Add(recoveryLimit + lookLimit))
	rig.Await(t, max(limit, time.Second), func() string { return "a healthy process of the old manifest on " + r.Node },
		func(context.Context) bool { return len(r.recovered) > 0 })
	recovery := (<-r.recovered).Sub(seen[2].At)
	t.Logf("%s: verdict %s after the swap, healthy again %s after the verdict",
		r.Node, verdict.Round(10*time.Millisecond), recovery.Round(10*time.Millisecond))
	if recovery > recoveryLimit {
		t.Errorf("%s: healthy again only %s after the verdict, want at most %s", r.Node, recovery, recoveryLimit)
	}
	r.watch.Verify(t, rig.Hash(r.Original), seen[1].Hash)
}

// checkStatus holds what the agent says against what happened.
func (r *rollout) checkStatus(t *testing.T, reasons []string, blamed bool) {
	t.Helper()
	s := r.AwaitEnd(t, 1, 3*time.Minute)
	if s.Last.Outcome != v1alpha1.OutcomeRolledBack || !slices.Contains(reasons, s.Last.Reason) || s.Last.Flags != r.flags {
		t.Errorf("%s: last = %+v, want RolledBack of %s with a reason of %v", r.Node, s.Last, r.flags, reasons)
	}
	var failed []string
	for _, f := range s.Failed {
		failed = append(failed, fmt.Sprintf("%s on %s (%s)", f.Flags, f.KCMVersion, f.Reason))
	}
	if got := len(s.Failed) == 1 && s.Failed[0].Flags == r.flags; got != blamed || len(s.Failed) > 1 {
		t.Errorf("%s: failed settings = %v, want blamed %v", r.Node, failed, blamed)
	}
	if s.ManifestHash != "" && s.ManifestHash != rig.Hash(r.Original) {
		t.Errorf("%s: manifestHash = %s, want the original's", r.Node, s.ManifestHash)
	}
}

// checkNotAgain asks for the same values once more.
func (r *rollout) checkNotAgain(t *testing.T) {
	t.Helper()
	before, processes := len(r.watch.Sightings()), len(r.Pods.Processes())
	r.Instruct(t, instruction(2, r.generation, r.flags))
	s := r.AwaitEnd(t, 2, time.Minute)
	if s.Last.Outcome != v1alpha1.OutcomeRefused || s.Last.Reason != v1alpha1.ReasonSettingFailedBefore {
		t.Errorf("%s: the same values again: %+v, want Refused, SettingFailedBefore", r.Node, s.Last)
	}
	if after := r.watch.Sightings(); len(after) != before || len(r.Pods.Processes()) != processes {
		t.Errorf("%s: the same values were written again: %v", r.Node, after)
	}
}

// checkPolicy runs the controller on what a roll-back left: the policy says what happened, and the node is not told the
// same values again.
func checkPolicy(t *testing.T, r *rollout) {
	t.Helper()
	told := lastTold(t, r)
	r.StartController(t)
	// Every change of the annotation is a pass of its own, which the condition shows.
	for range 2 {
		awaitPolicy(t, r.Cluster, "what was rolled back where, and why", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
			return is(p, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRolledBack) && r.explainedBy(p)
		})
		r.Cluster.Annotate(t, policyName, v1alpha1.PauseAnnotation, "true")
		awaitPolicy(t, r.Cluster, "the pause", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
			return is(p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonPaused)
		})
		r.Cluster.Annotate(t, policyName, v1alpha1.PauseAnnotation, "false")
	}
	awaitPolicy(t, r.Cluster, "the roll-back again", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return is(p, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRolledBack)
	})
	if got := lastTold(t, r); got != told {
		t.Errorf("%s was told revision %d after its roll-back, want %d still", r.Node, got, told)
	}
}

// explainedBy reports whether a policy's status names the node, the flags and the reason of the roll-back.
func (r *rollout) explainedBy(p v1alpha1.EndpointSyncPolicyStatus) bool {
	says := func(text string) bool {
		return strings.Contains(meta.FindStatusCondition(p.Conditions, v1alpha1.ConditionStalled).Message, text)
	}
	return says(r.Node) && says(r.flags.String()) && slices.ContainsFunc(r.reasons, says)
}

// lastTold is the newest revision that the node was told.
func lastTold(t *testing.T, r *rollout) int64 {
	t.Helper()
	node, err := r.Object(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return *node.Spec.Revision
}

// TestRollback follows the same failures twice at a time, once on control planes that lose their API server when the new
// manifest is in place.
func TestRollback(t *testing.T) {
	t.Parallel()
	followed, alone := startRollouts(t), startRollouts(t)
	for _, r := range alone {
		r.awaitSwap(t)
		if err := r.Cluster.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range followed {
		t.Run(r.behaviour+" with the API server up", func(t *testing.T) { r.check(t) })
	}
	for _, r := range alone {
		t.Run(r.behaviour+" with the API server stopped", func(t *testing.T) { r.check(t) })
		if err := r.Cluster.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range followed {
		t.Run(r.behaviour+" is reported, and not tried again", func(t *testing.T) {
			r.checkStatus(t, r.reasons, true)
			r.checkNotAgain(t)
		})
	}
	t.Run("the policy says what happened", func(t *testing.T) { checkPolicy(t, followed[0]) })
	for _, r := range alone {
		t.Run(r.behaviour+" is reported when the API server is back", func(t *testing.T) {
			r.checkStatus(t, r.reasonsAlone, r.blamedAlone)
		})
	}
}
