package qualify

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/proxy"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	policyName = "default"
	// settleLimit bounds how long everything may take to be well again between two runs: a node whose agent was out of
	// touch reports after 30 s at the latest (its longest back-off), and a kubelet's crash back-off has had time to grow.
	settleLimit = 3 * time.Minute
	// readyLimit bounds the start of a controller.
	readyLimit = time.Minute
	// freshReport is how old a report may be for a node to count as settled: agents report every 10 s.
	freshReport = 15 * time.Second
)

// pace is how fast what surrounds the operator is.
type pace struct {
	name     string
	kcmArgs  []string
	agent    []string
	restarts func() time.Duration // nil: as the kubelet
	backOff  time.Duration        // 0: as the kubelet
}

// quickly is for runs that are about the order of things: a process comes back at once, its Lease runs out soon, and
// agents look at a busy process every two seconds.
func quickly() pace {
	return pace{
		name: "quick",
		kcmArgs: []string{
			"--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=500ms",
			"--standin-queue-depth=1",
		},
		agent:    []string{"--down-timeout=5s"}, // The stand-in comes within half a second.
		restarts: func() time.Duration { return 300 * time.Millisecond },
		backOff:  200 * time.Millisecond,
	}
}

// asKubelet is for runs that are about time: a kubelet's delays, and kube-controller-manager's own Lease.
func asKubelet() pace { return pace{name: "kubelet", kcmArgs: []string{"--standin-queue-depth=1"}} }

// fleet is a control plane with three nodes and their agents. The controllers are what a run asks for.
type fleet struct {
	pace    pace
	cluster *rig.Cluster
	nodes   []*node // by name
	audit   *audit
	life    rig.T // ends with the fleet

	controllers []*operator.Process
	control     control
	gate        *proxy.Gate // of the last controller that goes through it
	link        *proxy.Link

	contents map[string]string // hash of each node's manifest, as the last rollout left it
	attempts int               // rollouts so far
	stops    int               // of them that ended in a stop
}

// node is one control-plane node.
type node struct {
	*rig.Rig

	agent                  *operator.Process
	agentArgs              []string
	agentLink, processLink *proxy.Link // to the API server
}

// control is which controllers run.
type control int

const (
	nobody  control = iota
	alone           // one controller
	gated           // one, behind the gate
	linked          // one, behind the link
	both            // two that both believe they lead, the second behind the gate
	elected         // two that elect a leader, the first, which leads at the beginning, behind the gate
)

// newFleet starts a fleet. It goes with the scope.
func newFleet(t rig.T, e *rig.Environment, p pace) *fleet {
	t.Helper()
	c := e.Own(t)
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	f := &fleet{pace: p, cluster: c, life: t, contents: map[string]string{}}
	f.link = f.newLink(t)
	var err error
	if f.gate, err = proxy.NewGate(t.Context(), c.ControlPlane); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closed := f.gate.Close(); closed != nil {
			t.Error(closed)
		}
	})
	for _, name := range []string{"node-a", "node-b", "node-c"} {
		n := f.newNode(t, e, name)
		f.nodes = append(f.nodes, n)
		f.contents[name] = rig.Hash(n.Original)
	}
	f.audit = startAudit(t, c)
	f.run(t, alone)
	f.awaitObjects(t)
	for _, n := range f.nodes {
		f.startAgent(t, n)
	}
	return f
}

func (f *fleet) newLink(t rig.T) *proxy.Link {
	t.Helper()
	l, err := proxy.NewLink(t.Context(), strings.TrimPrefix(f.cluster.Admin.Host, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closed := l.Close(); closed != nil {
			t.Error(closed)
		}
	})
	return l
}

func (f *fleet) newNode(t rig.T, e *rig.Environment, name string) *node {
	t.Helper()
	n := &node{agentLink: f.newLink(t), processLink: f.newLink(t)}
	// Each node's own copy: they differ in the port.
	kubeconfig := f.through(t, f.cluster.KCMKubeconfig, n.processLink.Address)
	n.Rig = rig.New(t, e, f.cluster, rig.Options{
		Node: name, RestartDelay: f.pace.restarts, BackOffBase: f.pace.backOff, KCMKubeconfig: kubeconfig,
		KCMArgs: append([]string{"--standin-lease=elect", "--standin-host=" + name}, f.pace.kcmArgs...),
	})
	n.agentArgs = append([]string{"--kubeconfig=" + f.through(t, n.Kubeconfig(t, operator.Agent), n.agentLink.Address)}, f.pace.agent...)
	return n
}

func (f *fleet) through(t rig.T, kubeconfig, address string) string {
	t.Helper()
	path, err := proxy.Kubeconfig(kubeconfig, address)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// awaitObjects returns when the controller has made an object for each node, and the one that no agent may write.
func (f *fleet) awaitObjects(t rig.T) {
	t.Helper()
	objects := f.cluster.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("endpointsyncnodes"))
	rig.Await(t, readyLimit, func() string { return "the controller to make the nodes' objects" }, func(ctx context.Context) bool {
		list, err := objects.List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == len(f.nodes)+1
	})
}

// lasting is a T that fails as a run does and ends as the fleet does.
type lasting struct {
	rig.T
	life rig.T
}

// Context ends with the fleet.
func (l lasting) Context() context.Context { return l.life.Context() }

// Cleanup has something done when the fleet ends.
func (l lasting) Cleanup(end func()) { l.life.Cleanup(end) }

func (f *fleet) startAgent(t rig.T, n *node) {
	t.Helper()
	n.agent = n.StartAgent(lasting{t, f.life}, n.agentArgs...)
}

// run has just these controllers run. Those that do already go on.
func (f *fleet) run(t rig.T, c control) {
	t.Helper()
	if f.control == c && !slices.ContainsFunc(f.controllers, ended) {
		return
	}
	for _, p := range f.controllers {
		p.Kill()
	}
	f.controllers, f.control = nil, c
	f.gate.Use(proxy.Hooks{})
	switch c {
	case nobody:
	case alone, gated, linked:
		f.controllers = []*operator.Process{f.startReady(t, 0)}
	case both:
		f.controllers = []*operator.Process{f.startReady(t, 0), f.startReady(t, 1)}
	case elected:
		f.freeElection(t)
		f.controllers = []*operator.Process{f.startReady(t, 0)}
		rig.Await(t, readyLimit, func() string { return "the first controller to lead" }, func(ctx context.Context) bool {
			return f.electedNow(ctx) != ""
		})
		f.controllers = append(f.controllers, f.startReady(t, 1))
	}
}

func ended(p *operator.Process) bool {
	select {
	case <-p.Ended():
		return true
	default:
		return false
	}
}

// startController starts the i-th controller of those that are to run.
func (f *fleet) startController(t rig.T, i int, extra ...string) *operator.Process {
	t.Helper()
	n := f.nodes[i]
	kubeconfig := n.Kubeconfig(t, operator.Controller)
	switch gate := f.control == gated || (f.control == both && i == 1) || (f.control == elected && i == 0); {
	case gate:
		kubeconfig = f.through(t, kubeconfig, f.gate.Address)
	case f.control == linked:
		kubeconfig = f.through(t, kubeconfig, f.link.Address)
	}
	if f.control == elected {
		extra = append(extra, "--leader-elect")
	}
	return n.StartController(lasting{t, f.life}, append([]string{"--kubeconfig=" + kubeconfig}, extra...)...)
}

// startReady starts a controller and returns when it has seen everything.
func (f *fleet) startReady(t rig.T, i int) *operator.Process {
	t.Helper()
	addresses, err := controlplane.FreeAddresses(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := f.startController(t, i, "--health-probe-bind-address="+addresses[0])
	rig.Await(t, readyLimit, func() string { return fmt.Sprintf("controller %d to be ready", i+1) }, func(ctx context.Context) bool {
		return operator.Ready(ctx, addresses[0]) == nil
	})
	return p
}

// restart starts the i-th controller again, which has ended.
func (f *fleet) restart(t rig.T, i int) {
	t.Helper()
	f.controllers[i] = f.startController(t, i)
}

// settle returns when nothing is under way, every agent reports, and all agree on who leads; the order in which a rollout
// changes the nodes is then known: standbys by name, the leader last.
func (f *fleet) settle(t rig.T) []*node {
	t.Helper()
	why := ""
	rig.Await(t, settleLimit, func() string { return "everything to be well: " + why }, func(context.Context) bool {
		why = f.unsettled()
		return why == ""
	})
	leader := f.audit.leader()
	order := slices.Clone(f.nodes)
	rank := func(n *node) int {
		if n.Node == leader {
			return 1
		}
		return 0
	}
	slices.SortFunc(order, func(a, b *node) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Node, b.Node)) })
	return order
}

// unsettled says what is still under way, or nothing.
func (f *fleet) unsettled() string {
	objects, _, _ := f.audit.now()
	leader := f.audit.leader()
	for _, n := range f.nodes {
		o, known := objects[n.Node]
		switch s := o.Status; {
		case !known:
			return n.Node + " has no object"
		case inFlight(o):
			return fmt.Sprintf("%s is at revision %d, phase %s", n.Node, revisionOf(o), s.Phase)
		case time.Since(s.ReportTime.Time) > freshReport:
			return n.Node + " has not reported"
		case s.Healthy == nil || !*s.Healthy:
			return n.Node + " is not healthy"
		case s.Leader == nil || *s.Leader != (n.Node == leader):
			return fmt.Sprintf("%s does not agree that %s leads", n.Node, leader)
		}
	}
	return ""
}

// nextRevision is the number of the next rollout.
func (f *fleet) nextRevision() int64 {
	objects, _, _ := f.audit.now()
	var newest int64
	for _, n := range objects {
		newest = max(newest, revisionOf(n), n.Status.ObservedRevision)
	}
	return newest + 1
}

// logs are the files in which the fleet's processes say what they did.
func (f *fleet) logs() []string {
	var all []string
	for _, n := range f.nodes {
		found, err := filepath.Glob(filepath.Join(n.LogDir, "*.log"))
		if err == nil {
			all = append(all, found...)
		}
	}
	return all
}

// election is the controllers' own Lease.
const election = "endpoint-sync-controller"

// freeElection has the next controller lead at once.
func (f *fleet) freeElection(t rig.T) {
	t.Helper()
	err := f.cluster.Client.CoordinationV1().Leases(operator.Namespace).Delete(t.Context(), election, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatalf("free the controllers' Lease: %v", err)
	}
}

// electedNow is who leads the controllers; empty: nobody.
func (f *fleet) electedNow(ctx context.Context) string {
	lease, err := f.cluster.Client.CoordinationV1().Leases(operator.Namespace).Get(ctx, election, metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}
