package tests

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// confinement is the admission policy that confines agents to their own nodes, and its binding.
	confinement = "endpoint-sync-agent-own-node-only"
	// quickLimit bounds a change where the process is replaced at once.
	quickLimit = time.Minute
)

// isolated is a node whose agent is asked for one change after another.
type isolated struct {
	*rig.Rig
	agent                *operator.Process
	revision, generation int64
}

// ask asks for flags that no revision before had.
func (i *isolated) ask(t *testing.T) {
	t.Helper()
	i.revision++
	qps := int32(100 + i.revision)
	i.Instruct(t, instruction(i.revision, i.generation, v1alpha1.Flags{KubeAPIQPS: qps, KubeAPIBurst: 2 * qps}))
}

// requireCommitted waits until what was asked for is done.
func (i *isolated) requireCommitted(t *testing.T) {
	t.Helper()
	if s := i.AwaitEnd(t, i.revision, quickLimit); s.Last.Outcome != v1alpha1.OutcomeCommitted {
		t.Errorf("revision %d ended %s: %s: %s, want it committed", i.revision, s.Last.Outcome, s.Last.Reason, s.Last.Message)
	}
}

// requireHeld checks that an agent that just started does not begin what it is asked for, and says why. Two reports in
// a row say so: in the time between them it would have begun.
func (i *isolated) requireHeld(t *testing.T, before identity, because string) {
	t.Helper()
	var first metav1.Time
	i.AwaitStatus(t, quickLimit, "two reports that name "+because, func(s v1alpha1.EndpointSyncNodeStatus) bool {
		ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
		says := ready != nil && ready.Status == metav1.ConditionFalse && ready.Reason == v1alpha1.ReasonNotIsolated &&
			strings.Contains(ready.Message, because)
		if says && first.IsZero() {
			first = s.ReportTime
		}
		return says && s.ReportTime.After(first.Time) && s.ObservedRevision == i.revision-1
	})
	if after := stat(t, i.Manifest); after != before {
		t.Errorf("manifest %+v, want it untouched: %+v", after, before)
	}
}

// start starts the agent, in place of one that runs: so it tests its isolation now and not only in ten minutes.
func (i *isolated) start(t *testing.T) {
	t.Helper()
	if i.agent != nil {
		i.agent.Kill()
	}
	i.agent = i.StartAgent(t, "--down-timeout="+downTimeout.String())
}

// TestIsolation takes away what confines the agents on a real API server, and puts it back.
func TestIsolation(t *testing.T) {
	t.Parallel()
	c := environment.Own(t)
	bindings := c.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	binding, err := bindings.Get(t.Context(), confinement, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := &isolated{Rig: rig.New(t, environment, c, rig.Options{
		Node: "isolated", RestartDelay: func() time.Duration { return 300 * time.Millisecond },
		KCMArgs: []string{"--leader-elect-retry-period=200ms"},
	})}
	node.generation = c.ApplyPolicy(t, policyName, enforce())
	node.ask(t)
	node.start(t)
	node.requireCommitted(t)

	if err = bindings.Delete(t.Context(), confinement, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	rig.Await(t, quickLimit, func() string { return "the binding to be gone" }, func(ctx context.Context) bool { return !c.Confined(ctx) })
	before := stat(t, node.Manifest)
	node.ask(t)
	node.start(t)
	node.requireHeld(t, before, "would let it write")
	if err = bind(t.Context(), c, binding); err != nil {
		t.Fatal(err)
	}
	node.requireCommitted(t)

	nodes := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("endpointsyncnodes"))
	if err = nodes.Delete(t.Context(), v1alpha1.IsolationProbe, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	before = stat(t, node.Manifest)
	node.ask(t)
	node.start(t)
	node.requireHeld(t, before, "the controller makes it")
	node.StartController(t)
	node.requireCommitted(t)
	for range 2 { // and whenever it is deleted, it is made again
		rig.Await(t, quickLimit, func() string { return "the isolation probe" }, func(ctx context.Context) bool {
			_, getErr := nodes.Get(ctx, v1alpha1.IsolationProbe, metav1.GetOptions{})
			return getErr == nil
		})
		if err = nodes.Delete(t.Context(), v1alpha1.IsolationProbe, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
}

// bind puts a deleted binding back.
func bind(ctx context.Context, c *rig.Cluster, was *admissionregistrationv1.ValidatingAdmissionPolicyBinding) error {
	again := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: was.Name, Labels: was.Labels}, Spec: was.Spec,
	}
	if _, err := c.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(ctx, again, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("put the binding back: %w", err)
	}
	return nil
}
