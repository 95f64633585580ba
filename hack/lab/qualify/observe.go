package qualify

import (
	"context"
	"slices"
	"syscall"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	// observeCut is how long each party is cut off while the policy only observes: longer than agents and controller wait
	// for one answer.
	observeCut = 10 * time.Second
	// incidentServices make a change each that nobody publishes: an incident that does not end.
	incidentServices = 40
	// reportLimit bounds how long the policy may take to show it.
	reportLimit = 2 * time.Minute
)

// observeOnly goes through every fault while the policy observes, an incident goes on and a node was told to change, and
// returns what was written in any manifests directory. Nothing may be.
func (f *fleet) observeOnly(t rig.T) Observation {
	t.Helper()
	f.run(t, linked)
	f.settle(t)
	var writes []func() []string
	for _, n := range f.nodes {
		writes = append(writes, rig.Writes(t, n.ManifestDir))
	}
	spec := enforce()
	spec.Mode = v1alpha1.ModeObserve
	spec.Objective = v1alpha1.Objective{Percentile: 99, MaxLag: "1s", Window: "10m", MinSamples: 10}
	generation := f.cluster.ApplyPolicy(t, policyName, spec)
	f.incident(t)
	f.awaitMissed(t)
	told := f.nodes[0]
	told.Instruct(t, v1alpha1.EndpointSyncNodeSpec{
		Revision: new(f.nextRevision()), Action: v1alpha1.ActionApply, Flags: v1alpha1.Flags{KubeAPIQPS: 50, KubeAPIBurst: 100},
		PolicyName: policyName, PolicyGeneration: generation, DeletionPolicy: v1alpha1.DeletionRetain,
	})
	var o Observation
	for _, fault := range f.whileObserving() {
		o.Faults = append(o.Faults, fault.name)
		t.Logf("%s", fault.name)
		fault.happen(t)
	}
	rig.Await(t, settleLimit, func() string { return "every agent to report again" }, func(context.Context) bool { return f.allReport() })
	for i, n := range f.nodes {
		for _, name := range writes[i]() {
			o.Writes = append(o.Writes, n.Node+": "+name)
		}
		if w := rig.Hash(n.Read(t)); w != f.contents[n.Node] {
			t.Errorf("the manifest of %s has changed", n.Node)
		}
	}
	for _, w := range o.Writes {
		t.Errorf("written while the policy observes: %s", w)
	}
	return o
}

// mishap is one fault while the policy observes. It is over when happen returns.
type mishap struct {
	name   string
	happen func(t rig.T)
}

func (f *fleet) whileObserving() []mishap {
	all := []mishap{
		{"controller killed", func(t rig.T) {
			f.controllers[0].Kill()
			f.controllers[0] = f.startReady(t, 0)
		}},
		{"controller cut off", func(rig.T) { f.link.Cut(); time.Sleep(observeCut); f.link.Heal() }},
		{"two controllers", func(t rig.T) { f.run(t, both) }},
		{"one of two controllers stopped for a while", func(t rig.T) {
			stop(f.controllers[0])
			time.Sleep(observeCut)
			if err := f.controllers[0].Signal(syscall.SIGCONT); err != nil {
				t.Errorf("controller 1 died by itself: %v", err)
			}
		}},
		{"API server stopped", func(t rig.T) {
			if err := f.cluster.StopAPIServer(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(observeCut)
			if err := f.cluster.StartAPIServer(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, n := range f.nodes {
		all = append(all,
			mishap{"agent of " + n.Node + " killed", func(t rig.T) { n.agent.Kill(); f.startAgent(t, n) }},
			mishap{"agent of " + n.Node + " cut off", func(rig.T) { n.agentLink.Cut(); time.Sleep(observeCut); n.agentLink.Heal() }},
			mishap{"kube-controller-manager of " + n.Node + " cut off", func(rig.T) {
				n.processLink.Cut()
				time.Sleep(observeCut)
				n.processLink.Heal()
			}},
			mishap{"kube-controller-manager of " + n.Node + " killed", func(t rig.T) {
				processes := n.Pods.Processes()
				if err := syscall.Kill(processes[len(processes)-1].PID, syscall.SIGKILL); err != nil {
					t.Errorf("kill kube-controller-manager of %s: %v", n.Node, err)
				}
				n.AwaitHealthy(t, settleLimit)
			}},
		)
	}
	return all
}

// incident has Pods change that nobody publishes.
func (f *fleet) incident(t rig.T) {
	t.Helper()
	o := workload.Options{Services: incidentServices}
	for _, n := range f.nodes {
		o.Nodes = append(o.Nodes, n.Node)
	}
	w, err := workload.New(f.cluster.Admin, o)
	if err != nil {
		t.Fatal(err)
	}
	if err = w.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err = w.Flip(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// awaitMissed returns when the policy has noticed the incident.
func (f *fleet) awaitMissed(t rig.T) {
	t.Helper()
	rig.Await(t, reportLimit, func() string { return "the policy to notice the incident" }, func(context.Context) bool {
		_, policy, _ := f.audit.now()
		return policy != nil && meta.IsStatusConditionFalse(policy.Status.Conditions, v1alpha1.ConditionObjectiveMet)
	})
}

func (f *fleet) allReport() bool {
	objects, _, _ := f.audit.now()
	return !slices.ContainsFunc(f.nodes, func(n *node) bool {
		return time.Since(objects[n.Node].Status.ReportTime.Time) > freshReport
	})
}
