package tests

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	// etcdPause of every etcdPeriod is how long etcd stands still.
	etcdPause  = 200 * time.Millisecond
	etcdPeriod = time.Second
	// guardWindows are the two windows of half a minute in which a slow API server must stop a raise.
	guardWindows = time.Minute
)

// TestASlowAPIServerStopsARaise makes the same incident twice, in the same cluster: with an etcd that stands still for
// 200 ms in every second, in which nothing is written for two windows, and without, in which flags are raised.
func TestASlowAPIServerStopsARaise(t *testing.T) {
	node, load, controller := startGuarded(t)
	before, writes := stat(t, node.Manifest), rig.Writes(t, node.ManifestDir)

	resume := pauseEtcd(t, node.Cluster)
	requireNoRaise(t, node, load)
	resume()
	if after := stat(t, node.Manifest); after != before {
		t.Errorf("manifest %+v while etcd stood still at times, want %+v", after, before)
	}
	for _, w := range writes() {
		t.Errorf("%s written in the manifests directory while etcd stood still at times", w)
	}

	// What a controller saw of the API server holds for ten minutes. A new one has seen nothing of it.
	if err := load.WaitConverged(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := controller.Stop(); err != nil {
		t.Fatal(err)
	}
	node.StartController(t)
	awaitPolicy(t, node.Cluster, "a look with new eyes", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return is(p, v1alpha1.ConditionObjectiveMet, metav1.ConditionUnknown, v1alpha1.ReasonTooFewSamples)
	})
	flip(t, load)
	awaitPolicyWithin(t, node.Cluster, rolloutLimit, "a raise that is committed", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return len(p.History) == 1 && p.History[0].Outcome == v1alpha1.OutcomeCommitted && raised(p.History[0].To)
	})
	requireOnlyInsertedFlags(t, node.Original, node.Read(t))
}

// raised says whether flags let more through than the defaults: at a higher rate, or in a longer burst, whichever is
// cheaper on this machine.
func raised(f v1alpha1.Flags) bool {
	d := v1alpha1.DefaultFlags()
	return f.KubeAPIQPS > d.KubeAPIQPS || f.KubeAPIBurst > d.KubeAPIBurst
}

// startGuarded returns a node under a policy that may raise, what runs on it, and the controller.
func startGuarded(t *testing.T) (*rig.Rig, *workload.Workload, *operator.Process) {
	t.Helper()
	cluster := environment.Own(t)
	node := rig.New(t, environment, cluster, rig.Options{RealKCM: true})
	load := newLoad(t, cluster.Admin, "guardrails", modeServices)
	controller := node.StartController(t)
	node.StartAgent(t)
	node.AwaitStatus(t, reportLimit, "the agent's report", func(s v1alpha1.EndpointSyncNodeStatus) bool {
		return s.Leader != nil && *s.Leader && s.Running == v1alpha1.DefaultFlags()
	})
	cluster.ApplyPolicy(t, policyName, modePolicy(v1alpha1.ModeEnforce))
	awaitPolicy(t, cluster, "a first look", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return is(p, v1alpha1.ConditionObjectiveMet, metav1.ConditionUnknown, "")
	})
	return node, load, controller
}

func flip(t *testing.T, load *workload.Workload) {
	t.Helper()
	if _, err := load.Flip(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// requireNoRaise makes an incident and follows the policy until two windows have passed since. The objective must be
// seen missed, and the API server's health must be why nothing is done: because of a guardrail, or as the very cause.
func requireNoRaise(t *testing.T, node *rig.Rig, load *workload.Workload) {
	t.Helper()
	flip(t, load)
	over, cancel := context.WithTimeout(t.Context(), guardWindows)
	defer cancel()
	held := ""
	awaitPolicyWithin(t, node.Cluster, guardWindows+reportLimit, "two windows of a missed objective and a slow API server",
		func(p v1alpha1.EndpointSyncPolicyStatus) bool {
			if len(p.History) > 0 || p.DesiredRevision > 0 {
				t.Fatalf("a change was begun while etcd stood still for %v in every %v: %+v", etcdPause, etcdPeriod, p.History)
			}
			if reason := heldByServer(p); reason != "" && held != reason {
				held = reason
				t.Logf("held: %s", reason)
			}
			return over.Err() != nil && held != "" && heldByServer(p) != "" &&
				is(p, v1alpha1.ConditionObjectiveMet, metav1.ConditionFalse, v1alpha1.ReasonObjectiveMissed)
		})
}

// heldByServer is why nothing is raised where that is the API server's health, and empty where it is not.
func heldByServer(p v1alpha1.EndpointSyncPolicyStatus) string {
	switch r := p.Recommended; {
	case r.Reason == v1alpha1.ReasonGuardrailBreached && strings.Contains(r.Message, "etcd"),
		r.Reason == v1alpha1.ReasonNotTheFlags && p.Bottleneck.Type == v1alpha1.BottleneckAPIServer:
		return r.Reason + ": " + r.Message
	}
	return ""
}

// pauseEtcd stops etcd for a part of every period until the test ends or resume is called, which returns when etcd runs.
func pauseEtcd(t *testing.T, c *rig.Cluster) (resume func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	began, pauses := time.Now(), 0
	go func() {
		defer close(ended)
		period := time.NewTicker(etcdPeriod)
		defer period.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-period.C:
			}
			if err := pauseOnce(c); err != nil {
				t.Error(err)
				return
			}
			pauses++
		}
	}()
	resume = func() {
		cancel()
		<-ended
		t.Logf("etcd stood still %d times for %v within %v", pauses, etcdPause, time.Since(began).Round(time.Second))
	}
	t.Cleanup(resume)
	return resume
}

// pauseOnce lets etcd stand still once, for etcdPause.
func pauseOnce(c *rig.Cluster) error {
	if err := c.PauseEtcd(); err != nil {
		return err
	}
	<-time.After(etcdPause)
	return c.ResumeEtcd()
}
