package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// CNIPlugins is where Debian has the programs that attach Pods to a network.
const CNIPlugins = "/usr/lib/cni"

// needs are the programs that a machine runs and the Debian packages that have them.
var needs = []struct{ program, pkg string }{
	{"containerd", "containerd"},
	{"ctr", "containerd"},
	{"runc", "runc"},
	{CNIPlugins + "/bridge", "containernetworking-plugins"},
	{"iptables", "iptables"},
	{"nft", "nftables"},
	{"conntrack", "conntrack"},
	{"ethtool", "ethtool"},
	{"ip", "iproute2"},
	{"nsenter", "util-linux"},
}

// missingPackages returns the Debian packages that this host lacks.
func missingPackages() []string {
	var missing []string
	for _, n := range needs {
		if _, err := exec.LookPath(n.program); err != nil && !slices.Contains(missing, n.pkg) {
			missing = append(missing, n.pkg)
		}
	}
	return missing
}

// Check says what this host lacks to run machines.
func Check() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("machines need Linux; this is %s", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("machines need root, for namespaces, mounts and control groups: run it as root")
	}
	if missing := missingPackages(); len(missing) > 0 {
		return fmt.Errorf("machines need Debian packages that are not installed: apt-get install %s", strings.Join(missing, " "))
	}
	// Without it, a Pod does not reach a Service whose Pod is on the same bridge.
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		return errors.New("machines need the kernel module br_netfilter: modprobe br_netfilter")
	}
	return nil
}

// InstallPackages installs the Debian packages that this host lacks, and says so first. On a system without apt-get it
// only names them.
func InstallPackages(ctx context.Context, progress io.Writer) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this system has no apt-get: install what these Debian packages have: %s", strings.Join(missing, ", "))
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("as root: apt-get install %s", strings.Join(missing, " "))
	}
	_, _ = fmt.Fprintf(progress, "installing Debian packages: %s\n", strings.Join(missing, " "))
	for _, args := range [][]string{{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = progress, progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
		}
	}
	if missing = missingPackages(); len(missing) > 0 {
		return fmt.Errorf("still missing after their installation: %s", strings.Join(missing, ", "))
	}
	return nil
}
