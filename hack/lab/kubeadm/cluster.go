// Package kubeadm runs a real, highly available Kubernetes cluster on one Linux host, as root: kubeadm makes it on
// machines of the lab, from the pinned version's own binaries, with real kubelets, containerd, etcd members and
// kube-proxy, behind a load balancer for the API.
//
// It has no addons (no DNS), and every node is a control-plane node with kubeadm's taint. Nothing outside its directory
// changes on the host but what carries the lab's prefix, and Down removes all of it.
package kubeadm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

// Options are how a cluster is made. The zero value is a good one.
type Options struct {
	// Dir holds everything, and is removed by Down; "" is DefaultDir.
	Dir string
	// Nodes is how many control-plane nodes there are; 0 is three, 9 the most.
	Nodes int
	// ControllerManagerArgs go to controllerManager.extraArgs of kubeadm's ClusterConfiguration, in this order.
	ControllerManagerArgs []Arg
	// ControllerManagerFeatureGates become one more of them.
	ControllerManagerFeatureGates map[string]bool
	// Progress receives a line for each step; nil discards them.
	Progress io.Writer
}

// Cluster is one that runs.
type Cluster struct {
	// Admin is a configuration with all rights and no client-side rate limit; AdminKubeconfig is the path of a file with
	// the same. Both reach the API through the balancer, from the host.
	Admin           *rest.Config
	AdminKubeconfig string
	// Nodes are in the order in which they joined.
	Nodes []*Node
	// Dir is the directory that Down takes.
	Dir string
	// Binaries are what the cluster was made from. The machines have kubelet, kube-proxy, kubeadm and kubectl in their PATH.
	Binaries controlplane.NodeBinaries
}

// DefaultDir is where a cluster is made if no other place is given: in memory where there is enough of it. Three etcds that
// share one disk wait for each other's fsync, and what is measured then is the disk.
func DefaultDir() string {
	const name = "endpoint-sync-e2e"
	var memory unix.Statfs_t
	if err := unix.Statfs(sharedMemory, &memory); err == nil && memory.Type == unix.TMPFS_MAGIC && memory.Bavail*uint64(memory.Bsize) >= needed {
		return filepath.Join(sharedMemory, name)
	}
	return filepath.Join(os.TempDir(), name)
}

const (
	// sharedMemory is where Linux has a file system in memory, and needed is how much a cluster of three may take there.
	sharedMemory = "/dev/shm"
	needed       = 8 << 30

	defaultNodes = 3
	mostNodes    = 9
	// clusterFile is written when the cluster is up.
	clusterFile = "cluster.json"
	// readyTimeout bounds the wait for all nodes, after kubeadm has said that each has joined.
	readyTimeout = 2 * time.Minute
	readyPoll    = 250 * time.Millisecond
)

// maker is a cluster that is being made.
type maker struct {
	Options

	started  time.Time
	binaries controlplane.NodeBinaries
	first    string   // the program machine/init
	images   []string // tarballs
	nodes    []*Node
}

// Up makes a cluster and returns when all nodes are ready. It outlives the caller; Down ends it. What an earlier cluster
// in the same directory left is removed first, and everything is removed if it fails or the context ends.
func Up(ctx context.Context, o Options) (_ *Cluster, err error) {
	o.setDefaults()
	if o.Nodes > mostNodes {
		return nil, fmt.Errorf("%d nodes: want at most %d", o.Nodes, mostNodes)
	}
	if err = machine.Check(); err != nil {
		return nil, err
	}
	alone, err := exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer alone()
	m := &maker{Options: o, started: clock.RealClock{}.Now()}
	m.sayf("removing what an earlier run left")
	if err = machine.Clean(ctx, o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.sayf("removing what was made")
			err = errors.Join(err, machine.Clean(context.WithoutCancel(ctx), o.Dir))
		}
	}()
	if err = m.prepare(ctx); err != nil {
		return nil, err
	}
	if err = m.startMachines(ctx); err != nil {
		return nil, err
	}
	for i := range m.nodes {
		if err = m.join(ctx, i); err != nil {
			return nil, err
		}
	}
	if err = m.record(); err != nil {
		return nil, err
	}
	c, err := Attach(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	m.sayf("waiting for the nodes to be ready")
	if err = c.waitReady(ctx); err != nil {
		return nil, err
	}
	m.sayf("up")
	return c, nil
}

func (o *Options) setDefaults() {
	if o.Dir == "" {
		o.Dir = DefaultDir()
	}
	if o.Nodes == 0 {
		o.Nodes = defaultNodes
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
}

// sayf writes a line of progress with the time since the start.
func (m *maker) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(m.Progress, "%6s  %s\n", clock.RealClock{}.Since(m.started).Round(100*time.Millisecond), fmt.Sprintf(format, args...))
}

// prepare makes directories, programs and images.
func (m *maker) prepare(ctx context.Context) (err error) {
	bin, images := filepath.Join(m.Dir, "bin"), filepath.Join(m.Dir, "images")
	for _, dir := range []string{m.Dir, bin, images} {
		if err = os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if m.binaries, err = controlplane.EnsureNodeBinaries(ctx, m.Progress); err != nil {
		return err
	}
	m.sayf("making images")
	if m.first, err = Program(ctx, bin, "machine/init"); err != nil {
		return err
	}
	pause, err := Program(ctx, bin, "kubeadm/pause")
	if err != nil {
		return err
	}
	m.images, err = writeImages(ctx, images, pause, m.binaries)
	return err
}

// startMachines makes the network, the balancer and the machines, with all images in them.
func (m *maker) startMachines(ctx context.Context) error {
	m.sayf("starting %d machines", m.Nodes)
	if err := network.Make(ctx, m.Dir); err != nil {
		return err
	}
	balance := []string{m.first, "balance", netip.AddrPortFrom(network.Address, apiPort).String()}
	for i := range m.Nodes {
		balance = append(balance, netip.AddrPortFrom(address(i), apiPort).String())
	}
	err := machine.StartService(filepath.Join(m.Dir, "balancer"), m.first, boot.Unit{Name: "balancer", Command: balance})
	if err != nil {
		return err
	}
	m.nodes = make([]*Node, m.Nodes)
	group, ctx := errgroup.WithContext(ctx)
	for i := range m.nodes {
		group.Go(func() error {
			one, err := machine.Start(ctx, m.spec(i))
			if err != nil {
				return err
			}
			m.nodes[i] = &Node{Machine: one}
			for _, tarball := range m.images {
				if err = one.Import(ctx, tarball); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// join makes a node of a machine.
func (m *maker) join(ctx context.Context, i int) error {
	node := m.nodes[i]
	m.sayf("kubeadm on %s", node.Name)
	c := configuration{
		node: node.Name, cgroupRoot: node.CgroupRoot(), address: node.Address, endpoint: network.Address,
		controllerArgs: controllerManagerArgs(m.ControllerManagerArgs, m.ControllerManagerFeatureGates),
	}
	text, err := c.other()
	args := []string{"join", "--config", ConfigFile}
	if i == 0 {
		text, err = c.first()
		args = []string{"init", "--config", ConfigFile, "--upload-certs", "--skip-phases=addon"}
	}
	if err != nil {
		return err
	}
	if err = os.WriteFile(node.Path(ConfigFile), text, 0o600); err != nil {
		return fmt.Errorf("write kubeadm's configuration: %w", err)
	}
	if err = writePatches(node.Path(PatchDir)); err != nil {
		return err
	}
	log, err := os.OpenFile(node.Log("kubeadm"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := node.Command(ctx, "kubeadm", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err = cmd.Run(); err != nil {
		return fmt.Errorf("kubeadm %s on %s: %w\n%w", args[0], node.Name, errors.Join(err, context.Cause(ctx)), node.Explain("kubeadm", machine.Kubelet))
	}
	return nil
}

// writePatches writes what kubeadm changes in the manifests that it writes.
func writePatches(dir string) error {
	text, err := etcdPatch()
	if err != nil {
		return err
	}
	if err = os.MkdirAll(dir, 0o700); err == nil {
		err = os.WriteFile(filepath.Join(dir, "etcd+strategic.yaml"), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write patches for kubeadm: %w", err)
	}
	return nil
}

// record writes what Attach needs.
func (m *maker) record() error {
	config, err := clientcmd.LoadFromFile(m.nodes[0].Path("/etc/kubernetes/admin.conf"))
	if err != nil {
		return fmt.Errorf("load admin's kubeconfig: %w", err)
	}
	for _, cluster := range config.Clusters {
		cluster.Server = "https://" + netip.AddrPortFrom(network.Address, apiPort).String() // The host knows no name of it.
	}
	if err = clientcmd.WriteToFile(*config, kubeconfig(m.Dir)); err != nil {
		return fmt.Errorf("write admin's kubeconfig: %w", err)
	}
	state := state{Binaries: m.binaries}
	for _, n := range m.nodes {
		state.Nodes = append(state.Nodes, n.Name)
	}
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("record cluster: %w", err)
	}
	if err = os.WriteFile(filepath.Join(m.Dir, clusterFile), text, 0o600); err != nil {
		return fmt.Errorf("record cluster: %w", err)
	}
	return nil
}

// state is what is kept of a cluster in its directory.
type state struct {
	Nodes    []string
	Binaries controlplane.NodeBinaries
}

func kubeconfig(dir string) string { return filepath.Join(dir, "admin.conf") }

// Attach returns the cluster that runs in a directory ("" is DefaultDir).
func Attach(_ context.Context, dir string) (*Cluster, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	text, err := os.ReadFile(filepath.Join(filepath.Clean(dir), clusterFile))
	if err != nil {
		return nil, fmt.Errorf("no cluster is up in %s: %w", dir, err)
	}
	var s state
	if err = json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("attach to cluster in %s: %w", dir, err)
	}
	c := &Cluster{Dir: dir, AdminKubeconfig: kubeconfig(dir), Binaries: s.Binaries}
	for _, name := range s.Nodes {
		one, attachErr := machine.Attach(nodeDir(dir, name))
		if attachErr != nil {
			return nil, attachErr
		}
		c.Nodes = append(c.Nodes, &Node{Machine: one})
	}
	if c.Admin, err = clientcmd.BuildConfigFromFlags("", c.AdminKubeconfig); err != nil {
		return nil, fmt.Errorf("load admin's kubeconfig: %w", err)
	}
	c.Admin.QPS = -1 // No client-side limit.
	return c, nil
}

// Down ends the cluster of a directory ("" is DefaultDir) and removes it. It may be called again, also when there is none.
func Down(ctx context.Context, dir string) error {
	if dir == "" {
		dir = DefaultDir()
	}
	if err := machine.Check(); err != nil {
		return err
	}
	alone, err := exclusive(ctx)
	if err != nil {
		return err
	}
	defer alone()
	if err := machine.Clean(ctx, dir); err != nil {
		return fmt.Errorf("end cluster in %s: %w", dir, err)
	}
	return nil
}

// exclusive keeps other processes from making or ending a cluster, until it is released or the process ends.
func exclusive(ctx context.Context) (release func(), err error) {
	var config net.ListenConfig
	// A socket of the abstract name space: it is gone with whoever holds it, and nothing of it is left.
	listener, err := config.Listen(ctx, "unix", "@endpoint-sync-lab")
	if err != nil {
		return nil, fmt.Errorf("another process is making or ending a cluster: %w", err)
	}
	return func() { _ = listener.Close() }, nil
}

// waitReady returns when every node is ready.
func (c *Cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready within %s", readyTimeout))
	defer cancel()
	kube, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	var last error
	err = wait.PollUntilContextCancel(ctx, readyPoll, true, func(ctx context.Context) (bool, error) {
		last = c.ready(ctx, kube)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for nodes: %w", errors.Join(err, context.Cause(ctx), last))
	}
	return nil
}

// ready says what is missing. A balancer's backend may have gone this moment, so an error is no more than that.
func (c *Cluster) ready(ctx context.Context, kube kubernetes.Interface) error {
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, n := range nodes.Items {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready < len(c.Nodes) {
		return fmt.Errorf("%d of %d nodes are ready", ready, len(c.Nodes))
	}
	return nil
}
