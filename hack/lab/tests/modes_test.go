package tests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// modeServices make an incident of about 13 s at the default flags: enough changes to decide on, soon over.
	modeServices = 300
	// reportLimit bounds how long a status may take to show what has happened.
	reportLimit = 90 * time.Second
	// rolloutLimit bounds a rollout with a kubelet's delays and the rest of a Lease.
	rolloutLimit = 4 * time.Minute
)

// modePolicy can be reached in Enforce, and put back.
func modePolicy(mode v1alpha1.Mode) v1alpha1.EndpointSyncPolicySpec {
	spec := enforce()
	spec.Mode = mode
	spec.Objective = v1alpha1.Objective{Percentile: 99, MaxLag: "3s", Window: "30m", MinSamples: 250}
	spec.Bounds.KubeAPIQPS.Max, spec.Bounds.KubeAPIBurst.Max = 300, 1000
	spec.Rollout = v1alpha1.Rollout{MinReady: "2s"}
	spec.DeletionPolicy = v1alpha1.DeletionRestore
	return spec
}

// TestModes follows one policy on the real kube-controller-manager from Observe over Recommend and Enforce to its
// deletion: nothing is opened for writing before Enforce, one restart then, and the original bytes in the end.
func TestModes(t *testing.T) {
	cluster := environment.Own(t)
	node := rig.New(t, environment, cluster, rig.Options{RealKCM: true})
	load := newLoad(t, cluster.Admin, "modes", modeServices)
	before, writes := stat(t, node.Manifest), rig.Writes(t, node.ManifestDir)
	node.StartController(t)
	node.StartAgent(t)
	node.AwaitStatus(t, reportLimit, "the agent's report", func(s v1alpha1.EndpointSyncNodeStatus) bool {
		return s.Leader != nil && *s.Leader && s.Running == v1alpha1.DefaultFlags()
	})

	cluster.ApplyPolicy(t, policyName, modePolicy(v1alpha1.ModeObserve))
	awaitPolicy(t, cluster, "observing", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return is(p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonObserving)
	})
	if _, err := load.Flip(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolicy(t, cluster, "the objective to be missed, with its cause", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return is(p, v1alpha1.ConditionObjectiveMet, metav1.ConditionFalse, v1alpha1.ReasonObjectiveMissed) &&
			p.Bottleneck.Type == v1alpha1.BottleneckClientRateLimit
	})
	if err := load.WaitConverged(t.Context()); err != nil {
		t.Fatal(err)
	}
	cluster.ApplyPolicy(t, policyName, modePolicy(v1alpha1.ModeRecommend))
	awaitPolicy(t, cluster, "a recommendation", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return p.Recommended.Flags.KubeAPIQPS > 0 && p.Recommended.Snippet != "" &&
			is(p, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonRecommended)
	})
	if after := stat(t, node.Manifest); after != before {
		t.Errorf("manifest %+v after Observe and Recommend, want %+v", after, before)
	}
	for _, w := range writes() {
		t.Errorf("%s in the manifests directory under Observe and Recommend", w)
	}

	cluster.ApplyPolicy(t, policyName, modePolicy(v1alpha1.ModeEnforce))
	awaitPolicyWithin(t, cluster, rolloutLimit, "a committed rollout", func(p v1alpha1.EndpointSyncPolicyStatus) bool {
		return len(p.History) == 1 && p.History[0].Outcome == v1alpha1.OutcomeCommitted &&
			is(p, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
	})
	if n := len(node.Pods.Processes()); n != 2 {
		t.Errorf("%d processes of kube-controller-manager, want 2: one restart", n)
	}
	requireOnlyInsertedFlags(t, node.Original, node.Read(t))

	cluster.DeletePolicy(t, policyName)
	node.AwaitEnd(t, 2, rolloutLimit)
	if got := node.Read(t); !bytes.Equal(got, node.Original) {
		t.Errorf("manifest after the policy's deletion is not the original:\n%s", got)
	}
	node.AwaitHealthy(t, reportLimit)
}

// requireOnlyInsertedFlags checks that the new manifest is the old one with whole lines of our flags added in one place.
func requireOnlyInsertedFlags(t *testing.T, old, edited []byte) {
	t.Helper()
	var kept [][]byte
	inserted := 0
	for _, line := range bytes.SplitAfter(edited, []byte("\n")) {
		ours := false
		for _, f := range v1alpha1.DefaultFlags().List() {
			ours = ours || bytes.HasPrefix(bytes.TrimSpace(line), []byte("- --"+f.Name+"="))
		}
		if ours {
			inserted++
			continue
		}
		kept = append(kept, line)
	}
	if inserted != 4 || !bytes.Equal(bytes.Join(kept, nil), old) {
		t.Errorf("%d flags inserted, want 4 and every other byte as it was:\n%s", inserted, edited)
	}
}

// identity is what must not change of a file that is left alone.
type identity struct {
	inode    uint64
	modified int64
	content  string
}

func stat(t *testing.T, path string) identity {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return identity{s.Ino, s.Mtim.Nano(), rig.Hash(content)}
}

func is(p v1alpha1.EndpointSyncPolicyStatus, condition string, status metav1.ConditionStatus, reason string) bool {
	c := meta.FindStatusCondition(p.Conditions, condition)
	return c != nil && c.Status == status && (reason == "" || c.Reason == reason)
}

func awaitPolicy(t *testing.T, c *rig.Cluster, what string, ok func(v1alpha1.EndpointSyncPolicyStatus) bool) {
	t.Helper()
	awaitPolicyWithin(t, c, reportLimit, what, ok)
}

func awaitPolicyWithin(t *testing.T, c *rig.Cluster, within time.Duration, what string, ok func(v1alpha1.EndpointSyncPolicyStatus) bool) {
	t.Helper()
	var last v1alpha1.EndpointSyncPolicy
	rig.Await(t, within, func() string { return what + "; the last status was " + describe(last) }, func(ctx context.Context) bool {
		object, err := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("endpointsyncpolicies")).
			Get(ctx, policyName, metav1.GetOptions{})
		if err != nil {
			return false
		}
		last = v1alpha1.EndpointSyncPolicy{}
		if err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &last); err != nil {
			return false
		}
		return last.Status.ObservedGeneration == last.Generation && ok(last.Status)
	})
}

func describe(p v1alpha1.EndpointSyncPolicy) string {
	lines := []string{string(p.Status.Bottleneck.Type)}
	for _, c := range p.Status.Conditions {
		lines = append(lines, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	for _, l := range p.Status.Lag {
		lines = append(lines, fmt.Sprintf("%s %s p99 %s", l.Resource, l.Direction, l.P99))
	}
	return strings.Join(lines, "\n")
}
