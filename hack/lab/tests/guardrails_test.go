package tests

import (
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// etcdPause of every etcdPeriod is how long etcd stands still.
	etcdPause  = 200 * time.Millisecond
	etcdPeriod = time.Second
	// guardWindows are the two windows in which a slow API server must have stopped a raise, or undone it.
	guardWindows = time.Minute
)

// TestASlowAPIServerStopsARaise makes the same incident twice: with an etcd that stands still for 200 ms in every second,
// in which no flag is raised, or the raise is undone, and without, in which it is raised.
func TestASlowAPIServerStopsARaise(t *testing.T) {
	t.Run("etcd stands still at times", func(t *testing.T) {
		node := startIncident(t, true)
		var slow bool
		began := time.Now()
		var raised, undone bool
		awaitPolicyWithin(t, node.Cluster, reportLimit+guardWindows, "two windows of a slow API server", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
			raised = raised || len(p.History) > 0
			undone = len(p.History) > 1 && p.History[0].To == v1alpha1.DefaultFlags()
			slow = slow || p.Recommended.Reason == v1alpha1.ReasonGuardrailBreached || p.Recommended.Reason == v1alpha1.ReasonNotTheFlags
			return time.Since(began) >= guardWindows && slow && is(p, v1alpha1.ConditionObjectiveMet, metav1.ConditionFalse, "")
		})
		if raised && !undone {
			t.Errorf("a flag was raised and not undone while etcd stood still for %v in every %v", etcdPause, etcdPeriod)
		}
		awaitPolicy(t, node.Cluster, "the reason", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
			t.Logf("held with %s: %s", p.Recommended.Reason, p.Recommended.Message)
			return true
		})
	})
	t.Run("etcd runs", func(t *testing.T) {
		node := startIncident(t, false)
		awaitPolicyWithin(t, node.Cluster, rolloutLimit, "a committed raise", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
			return len(p.History) == 1 && p.History[0].Outcome == v1alpha1.OutcomeCommitted &&
				p.History[0].To.KubeAPIQPS > v1alpha1.DefaultFlags().KubeAPIQPS
		})
	})
}

// startIncident returns a node under a policy that may raise, in the middle of an incident.
func startIncident(t *testing.T, slow bool) *rig.Rig { //nolint:revive // The two are what is compared.
	t.Helper()
	cluster := environment.Own(t)
	node := rig.New(t, environment, cluster, rig.Options{RealKCM: true})
	load := newLoad(t, cluster.Admin, "guardrails", modeServices)
	node.StartController(t)
	node.StartAgent(t)
	node.AwaitStatus(t, reportLimit, "the agent's report", func(s v1alpha1.EndpointSyncNodeStatus) bool {
		return s.Leader != nil && *s.Leader && s.Running == v1alpha1.DefaultFlags()
	})
	if slow {
		pauseEtcd(t, cluster)
	}
	cluster.ApplyPolicy(t, policyName, modePolicy(v1alpha1.ModeEnforce))
	awaitPolicy(t, cluster, "a first look", func(v1alpha1.EndpointSyncPolicyStatus) bool { return true })
	if _, err := load.Flip(t.Context()); err != nil {
		t.Fatal(err)
	}
	return node
}

// pauseEtcd stops etcd for a part of every period until the test ends.
func pauseEtcd(t *testing.T, c *rig.Cluster) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		period := time.NewTicker(etcdPeriod)
		defer period.Stop()
		for {
			select {
			case <-done:
				return
			case <-period.C:
			}
			if err := c.PauseEtcd(); err != nil {
				t.Error(err)
				return
			}
			<-time.After(etcdPause)
			if err := c.ResumeEtcd(); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		<-ended
	})
}
