package kubeadm

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine"
)

// ConfigFile is where, on a node, kubeadm's configuration lies that the node was made with.
const ConfigFile = "/etc/kubernetes/kubeadm.yaml"

// PatchDir is where, on a node, lie the patches that kubeadm was told to apply to the static Pods that it writes. An
// upgrade has to be told, too.
const PatchDir = "/etc/kubernetes/patches"

// Node is a control-plane node, and the machine it runs on. Its name is both the Node's and the host name.
type Node struct {
	*machine.Machine
}

// network is where the machines and the balancer are.
var network = machine.Network{Prefix: netip.MustParsePrefix("10.88.0.0/24"), Address: netip.MustParseAddr("10.88.0.1")}

// name, address and pods are those of the i-th node, from 0: cp1 has 10.88.0.11 and the Pods 10.244.1.0/24.
func name(i int) string { return fmt.Sprintf("cp%d", i+1) }

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 88, 0, byte(11 + i)}) }

func pods(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(1 + i), 0}), 24)
}

func nodeDir(dir, name string) string { return filepath.Join(dir, "nodes", name) }

// spec is the machine that the i-th node runs on.
func (m *maker) spec(i int) machine.Spec {
	s := machine.Spec{
		Name: name(i), Dir: nodeDir(m.Dir, name(i)), Init: m.first,
		Address: address(i), Network: network, PodSubnet: pods(i),
		Hosts:        map[string]netip.Addr{endpointName: network.Address},
		SandboxImage: sandboxImage,
		Programs:     []string{m.binaries.Kubelet, m.binaries.Proxy, m.binaries.Kubeadm, m.binaries.Kubectl},
	}
	for other := range m.Nodes {
		s.Hosts[name(other)] = address(other)
		if other != i {
			s.Routes = append(s.Routes, machine.Route{To: pods(other), Via: address(other)})
		}
	}
	return s
}

// PartitionFrom cuts the node off from others and their Pods, both ways, in place of any partition before. The balancer,
// through which a node reaches the API servers of others, is none of them: Isolate cuts that off too.
func (n *Node) PartitionFrom(ctx context.Context, others ...*Node) error {
	var from []netip.Prefix
	for _, o := range others {
		from = append(from, netip.PrefixFrom(o.Address, o.Address.BitLen()), o.PodSubnet)
	}
	return n.Partition(ctx, from...)
}

// Isolate cuts the node off from everything but itself and its own Pods, until Heal.
func (n *Node) Isolate(ctx context.Context) error {
	return n.Partition(ctx, network.Prefix)
}
