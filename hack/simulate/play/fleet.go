package play

import (
	"math/rand/v2"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
)

// kcmVersion is what the nodes say they run.
const kcmVersion = "v1.37.2"

// fleet is the control plane: one node with its agent, which does what it is told in the time that it was measured to
// take on kubeadm nodes.
type fleet struct {
	cluster  *cluster.Cluster
	random   *rand.Rand
	node     v1alpha1.EndpointSyncNode
	flags    v1alpha1.Flags // of the manifest
	events   []fleetEvent
	restarts int
	led      bool
	// spent is the integral of the cost over time, and last when it was last added to.
	spent, last float64
	cost        func(v1alpha1.Flags) int64
}

type fleetEvent struct {
	at   float64
	then func(at float64)
}

// Times of a swap, in seconds: until the manifest is swapped, until the new process runs, until it leads, and how long
// it has to be healthy.
const (
	swapAfter               = 0.5
	upAtLeast, upAtMost     = 10.5, 15
	leadAtLeast, leadAtMost = 29, 32
	crashLeadAtLeast        = 15
	crashLeadAtMost         = 18
	proven                  = 30
)

func newFleet(c *cluster.Cluster, seed uint64, flags v1alpha1.Flags) *fleet {
	f := &fleet{cluster: c, random: rand.New(rand.NewPCG(seed, 3)), flags: flags, led: true}
	f.node.Name = "control-plane-1"
	f.node.Spec.Revision = new(int64(0))
	f.node.Status = v1alpha1.EndpointSyncNodeStatus{
		Phase: v1alpha1.PhaseIdle, Running: flags, KCMVersion: kcmVersion, Healthy: new(true), Leader: new(true),
	}
	return f
}

// next is when something happens on the node by itself, false if nothing will.
func (f *fleet) next() (float64, bool) {
	if len(f.events) == 0 {
		return 0, false
	}
	return f.events[0].at, true
}

func (f *fleet) plan(at float64, then func(at float64)) {
	f.events = append(f.events, fleetEvent{at, then})
	slices.SortStableFunc(f.events, func(a, b fleetEvent) int {
		if a.at < b.at {
			return -1
		} else if a.at > b.at {
			return 1
		}
		return 0
	})
}

// happen lets what is due happen.
func (f *fleet) happen(now float64) {
	for len(f.events) > 0 && f.events[0].at <= now {
		e := f.events[0]
		f.events = f.events[1:]
		e.then(now)
	}
}

func (f *fleet) between(low, high float64) float64 { return low + (high-low)*f.random.Float64() }

// tell hands the node an instruction.
func (f *fleet) tell(spec v1alpha1.EndpointSyncNodeSpec, now float64) {
	f.node.Spec = spec
	f.plan(now+swapAfter, f.swap)
}

func (f *fleet) swap(now float64) {
	s := &f.node.Status
	want := f.node.Spec.Flags.Or(f.flags)
	if want == f.flags {
		f.end(v1alpha1.OutcomeUnchanged, v1alpha1.ReasonUnchanged, now, now)
		return
	}
	f.account(now)
	f.flags = want
	f.restarts++
	s.Restarts = slices.Insert(s.Restarts, 0, stamp(now))
	s.Restarts = s.Restarts[:min(len(s.Restarts), 32)]
	s.Phase, s.Healthy, s.Leader, s.Running = v1alpha1.PhaseApplied, new(false), new(false), v1alpha1.Flags{}
	f.stop()
	up := now + f.between(upAtLeast, upAtMost)
	f.plan(up, func(float64) { s.Healthy, s.Running = new(true), want })
	f.plan(now+f.between(leadAtLeast, leadAtMost), f.lead)
	f.plan(up+proven, func(then float64) { f.end(v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted, now, then) })
}

// end ends a change that began at start.
func (f *fleet) end(o v1alpha1.Outcome, reason string, began, now float64) {
	s := &f.node.Status
	s.Phase, s.ObservedRevision = v1alpha1.PhaseIdle, *f.node.Spec.Revision
	s.Last = v1alpha1.ChangeResult{
		Revision: *f.node.Spec.Revision, Outcome: o, Reason: reason, Message: reason, Flags: f.node.Spec.Flags,
		StartTime: stamp(began), FinishTime: stamp(now),
	}
}

// crash is the end of the leader's process for reasons of its own.
func (f *fleet) crash(now float64) {
	if !f.led || f.node.Status.Phase != v1alpha1.PhaseIdle {
		return
	}
	f.node.Status.Healthy, f.node.Status.Leader = new(false), new(false)
	f.stop()
	f.plan(now+2, func(float64) { f.node.Status.Healthy = new(true) })
	f.plan(now+f.between(crashLeadAtLeast, crashLeadAtMost), f.lead)
}

func (f *fleet) stop() {
	if f.led {
		f.cluster.Stop()
	}
	f.led = false
}

func (f *fleet) lead(float64) {
	if f.led {
		return
	}
	f.led = true
	f.cluster.Lead(f.flags)
	f.node.Status.Leader = new(true)
}

// account adds up what the flags cost so far.
func (f *fleet) account(now float64) {
	if f.cost != nil {
		f.spent += float64(f.cost(f.flags)) * (now - f.last)
	}
	f.last = now
}

func stamp(seconds float64) metav1.Time { return metav1.NewTime(at(seconds).Truncate(time.Second)) }
