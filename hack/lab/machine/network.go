package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Prefix begins the name of every network namespace, link and control group of the lab. Nothing else is touched.
const Prefix = "esl-"

const (
	// lan is a network namespace with nothing but the bridge that connects the machines with each other and the host: the
	// host's packet filter has no say in it.
	lan    = Prefix + "lan"
	bridge = Prefix + "br"
	// hostLink is the host's own link to the bridge.
	hostLink = Prefix + "host"
)

// Network is the one that all machines are in.
type Network struct {
	// Prefix is the network's, and Address the host's in it.
	Prefix  netip.Prefix
	Address netip.Addr
}

// Make creates the network. The directory is noted on it as its owner, so that Clean of another leaves it alone.
func (n Network) Make(ctx context.Context, owner string) error {
	within := []string{"-n", lan, "link"}
	err := runAll(ctx, "ip", [][]string{
		{"netns", "add", lan},
		append(within, "add", bridge, "type", "bridge"),
		append(within, "set", bridge, "up"),
		{"link", "add", hostLink, "type", "veth", "peer", "name", "host", "netns", lan},
		append(within, "set", "host", "master", bridge, "up"),
		{"link", "set", hostLink, "alias", owner},
		{"address", "add", netip.PrefixFrom(n.Address, n.Prefix.Bits()).String(), "dev", hostLink},
		{"link", "set", hostLink, "up"},
	})
	if err != nil {
		return fmt.Errorf("make network: %w", err)
	}
	return nil
}

func namespacePath(name string) string { return filepath.Join("/run/netns", Prefix+name) }

// plug gives the machine a new network namespace, a link in it and its routes, in place of those it had.
func (m *Machine) plug(ctx context.Context) error {
	space := Prefix + m.Name
	if err := deleteNamespaces(ctx, space); err != nil {
		return err
	}
	// The old link goes with its namespace, but not at once.
	if _, err := os.Stat(filepath.Join("/sys/class/net", hostLink)); err != nil {
		return fmt.Errorf("make network: the machines' network does not exist: %w", err)
	}
	_ = run(ctx, "ip", "-n", lan, "link", "delete", m.Name) // It fails if there is none.
	within := []string{"-n", space}
	commands := [][]string{
		{"netns", "add", space},
		{"link", "add", "eth0", "netns", space, "address", m.mac(), "type", "veth", "peer", "name", m.Name, "netns", lan},
		{"-n", lan, "link", "set", m.Name, "master", bridge, "up"},
		append(within, "address", "add", netip.PrefixFrom(m.Address, m.Network.Prefix.Bits()).String(), "dev", "eth0"),
		append(within, "link", "set", "lo", "up"),
		append(within, "link", "set", "eth0", "up"),
		append(within, "route", "add", "default", "via", m.Network.Address.String()),
	}
	for _, r := range m.Routes {
		commands = append(commands, append(within, "route", "add", r.To.String(), "via", r.Via.String()))
	}
	if err := runAll(ctx, "ip", commands); err != nil {
		return fmt.Errorf("make network: %w", err)
	}
	return nil
}

// mac is the same after a reboot, so that what the neighbours remember stays true.
func (m *Machine) mac() string {
	a := m.Address.As4()
	return fmt.Sprintf("02:65:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
}

// deleteNamespaces deletes the network namespaces with a name (a pattern of path.Match), and the links in them with it.
func deleteNamespaces(ctx context.Context, name string) error {
	paths, err := filepath.Glob(filepath.Join("/run/netns", name))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err = run(ctx, "ip", "netns", "delete", filepath.Base(path)); err != nil {
			return fmt.Errorf("delete network namespace: %w", err)
		}
	}
	return nil
}

// owner is the directory that the network was made for, "" if there is none.
func owner() string { return readLine(filepath.Join("/sys/class/net", hostLink, "ifalias")) }

// deleteHostLink deletes the host's link, if the kernel has not done so with the namespace of its other end.
func deleteHostLink(ctx context.Context) error {
	link := filepath.Join("/sys/class/net", hostLink)
	if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for the link %s: %w", hostLink, err)
	}
	if err := run(ctx, "ip", "link", "delete", hostLink); err != nil {
		if _, gone := os.Stat(link); gone == nil {
			return fmt.Errorf("delete link: %w", err)
		}
	}
	return nil
}

// partition is the table of a machine's own packet filter that Partition fills.
const partition = "esl_partition"

// Partition has the machine neither hear nor reach these addresses, in place of those that it was kept from before.
func (m *Machine) Partition(ctx context.Context, from ...netip.Prefix) error {
	if len(from) == 0 {
		return errors.New("partition: no address given")
	}
	if err := m.filter(ctx, partitionRules(from)); err != nil {
		return fmt.Errorf("partition %s: %w", m.Name, err)
	}
	return nil
}

// Heal ends a partition; without one it does nothing.
func (m *Machine) Heal(ctx context.Context) error {
	if err := m.filter(ctx, noPartition); err != nil {
		return fmt.Errorf("heal %s: %w", m.Name, err)
	}
	return nil
}

// noPartition deletes the table whether it exists or not.
const noPartition = "table inet " + partition + "\ndelete table inet " + partition + "\n"

// partitionRules come before connection tracking and address translation on the way in, and after them on the way out, so
// that they concern connections that exist too, and Pods as well as processes of the host.
func partitionRules(from []netip.Prefix) string {
	var elements []string
	for _, p := range from {
		elements = append(elements, p.String())
	}
	return noPartition + fmt.Sprintf(`table inet %s {
  set peers { type ipv4_addr; flags interval; elements = { %s }; }
  chain in { type filter hook prerouting priority -300; iifname != "lo" ip saddr @peers drop; }
  chain out { type filter hook postrouting priority 300; oifname != "lo" ip daddr @peers drop; }
}
`, partition, strings.Join(elements, ", "))
}

// filter loads rules into the machine's packet filter, all or none.
func (m *Machine) filter(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+namespacePath(m.Name), "nft", "-f", "-")
	cmd.Stdin = bytes.NewBufferString(rules)
	_, err := output(cmd)
	return err
}
