package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
)

// Prefix begins the name of every network namespace, link and control group of the lab. Nothing else is touched.
const Prefix = "esl-"

// bridge connects the machines with each other and with the host.
const bridge = Prefix + "br"

// Network is the one that all machines are in.
type Network struct {
	// Prefix is the network's, and Address the host's in it.
	Prefix  netip.Prefix
	Address netip.Addr
}

// Make creates the bridge. The directory is noted on it as its owner, so that Clean of another leaves it alone.
func (n Network) Make(ctx context.Context, owner string) error {
	for _, args := range [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"link", "set", bridge, "alias", owner},
		{"address", "add", netip.PrefixFrom(n.Address, n.Prefix.Bits()).String(), "dev", bridge},
		{"link", "set", bridge, "up"},
	} {
		if err := run(ctx, "ip", args...); err != nil {
			return fmt.Errorf("make bridge: %w", err)
		}
	}
	return nil
}

func namespacePath(name string) string { return filepath.Join("/run/netns", Prefix+name) }

// plug gives the machine a new network namespace, a link in it and its routes, in place of those it had.
func (m *Machine) plug(ctx context.Context) error {
	if err := unplug(ctx, Prefix+m.Name); err != nil {
		return err
	}
	outside, mac := Prefix+m.Name, m.mac()
	within := []string{"-n", Prefix + m.Name}
	commands := [][]string{
		{"netns", "add", Prefix + m.Name},
		{"link", "add", outside, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", Prefix + m.Name},
		{"link", "set", outside, "master", bridge, "up"},
		append(within, "address", "add", netip.PrefixFrom(m.Address, m.Network.Prefix.Bits()).String(), "dev", "eth0"),
		append(within, "link", "set", "lo", "up"),
		append(within, "link", "set", "eth0", "up"),
		append(within, "route", "add", "default", "via", m.Network.Address.String()),
	}
	for _, r := range m.Routes {
		commands = append(commands, append(within, "route", "add", r.To.String(), "via", r.Via.String()))
	}
	for _, args := range commands {
		if err := run(ctx, "ip", args...); err != nil {
			return fmt.Errorf("make network: %w", err)
		}
	}
	return nil
}

// mac is the same after a reboot, so that what the neighbours remember stays true.
func (m *Machine) mac() string {
	a := m.Address.As4()
	return fmt.Sprintf("02:65:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
}

// unplug removes a network namespace and its link, which share a name, if they exist.
func unplug(ctx context.Context, name string) error {
	spaces, err := namespaces(ctx)
	if err != nil {
		return err
	}
	if _, ok := spaces[name]; ok {
		if err = run(ctx, "ip", "netns", "delete", name); err != nil {
			return err
		}
	}
	links, err := links(ctx)
	if err != nil {
		return err
	}
	if _, ok := links[name]; !ok {
		return nil
	}
	// The kernel may be removing it this moment, together with its other end.
	if err = run(ctx, "ip", "link", "delete", name); err != nil && !strings.Contains(err.Error(), "Cannot find device") {
		return err
	}
	return nil
}

// namespaces returns the names of the lab's network namespaces.
func namespaces(ctx context.Context) (map[string]struct{}, error) {
	out, err := output(exec.CommandContext(ctx, "ip", "netns", "list"))
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	found := map[string]struct{}{}
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, Prefix) {
			found[name] = struct{}{}
		}
	}
	return found, nil
}

// links returns the names of the lab's links and the aliases they have.
func links(ctx context.Context) (map[string]string, error) {
	names, err := filepath.Glob("/sys/class/net/" + Prefix + "*")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, path := range names {
		found[filepath.Base(path)] = readLine(filepath.Join(path, "ifalias"))
	}
	return found, ctx.Err()
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
