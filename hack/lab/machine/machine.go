package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/logend"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

// Spec is what makes one machine different from another.
type Spec struct {
	// Name is the host name. Network namespace and control groups are called Prefix and this.
	Name string
	// Dir holds everything that the machine keeps. It is made, and belongs to the machine. It may not be in a directory
	// whose changes the machine keeps for itself: /etc, /usr, /var/lib, /var/log, nor in /run.
	Dir string
	// Init is the path of the program machine/init, static.
	Init string
	// Address is the machine's own, and Network.Address its gateway.
	Address netip.Addr
	Network Network
	// PodSubnet is where its Pods get their addresses from.
	PodSubnet netip.Prefix
	// Routes lead to the other machines' Pods.
	Routes []Route
	// Hosts are names that it knows, besides the host's.
	Hosts map[string]netip.Addr
	// SandboxImage is the image that containerd gives each Pod its namespaces with.
	SandboxImage string
	// Programs are paths of binaries that the machine has in its PATH: kubelet and kube-proxy, which it runs, and others.
	Programs []string
}

// Route leads to a subnet.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Machine is one that was started. Its methods may be called from several goroutines, but Reboot and Stop by one alone.
type Machine struct {
	Spec
}

const (
	// ContainerRuntime is the name of the unit that runs containers.
	ContainerRuntime = "containerd"
	// Kubelet is the name of the kubelet's unit.
	Kubelet = "kubelet"
	// Proxy is the name of kube-proxy's unit.
	Proxy = "kube-proxy"

	specFile = "machine.json"
	pidFile  = "pid"
	// startTimeout bounds a start: containerd is ready within two seconds on an idle machine.
	startTimeout = time.Minute
	// stopTimeout is longer than the two graces that machine/init gives.
	stopTimeout = time.Minute
	poll        = 50 * time.Millisecond
)

// Start makes a machine and returns when its containerd answers. It outlives the caller; Stop ends it.
func Start(ctx context.Context, s Spec) (*Machine, error) {
	m := &Machine{s}
	if err := checkDir(s.Dir); err != nil {
		return nil, err
	}
	if err := m.make(); err != nil {
		return nil, fmt.Errorf("make machine %s: %w", s.Name, err)
	}
	if err := m.start(ctx); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", s.Name, err)
	}
	return m, nil
}

// Attach returns the machine that was started with this directory.
func Attach(dir string) (*Machine, error) {
	text, err := os.ReadFile(filepath.Join(filepath.Clean(dir), specFile))
	if err != nil {
		return nil, fmt.Errorf("attach to machine: %w", err)
	}
	m := &Machine{}
	if err = json.Unmarshal(text, &m.Spec); err != nil {
		return nil, fmt.Errorf("attach to machine %s: %w", dir, err)
	}
	if _, err = m.pid(); err != nil {
		return nil, fmt.Errorf("attach to machine: %w", err)
	}
	return m, nil
}

// checkDir refuses a directory that a machine would not see.
func checkDir(dir string) error {
	for _, hidden := range append([]string{"/run", "/proc"}, overlaid...) {
		if strings.HasPrefix(filepath.Clean(dir)+"/", hidden+"/") {
			return fmt.Errorf("make machine in %s: choose a directory outside %s", dir, hidden)
		}
	}
	return nil
}

// make writes what the machine finds when it starts for the first time.
func (m *Machine) make() error {
	for _, dir := range append(m.directories(), m.logs()) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for path, content := range m.configuration() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	text, err := json.Marshal(m.Spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.Dir, specFile), text, 0o600)
}

// start makes network and control groups anew and runs the first process in them.
func (m *Machine) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %s", startTimeout))
	defer cancel()
	if err := m.plug(ctx); err != nil {
		return err
	}
	// The kubelet takes long to find out that the containers of leftover groups are gone.
	if err := removeCgroups(ctx, Prefix+m.Name); err != nil {
		return err
	}
	groups, err := makeCgroups(Prefix + m.Name)
	if err != nil {
		return err
	}
	file := filepath.Join(m.Dir, "boot.json")
	if err = m.bootSpec(groups).Write(file); err != nil {
		return err
	}
	first := process{
		dir: m.Dir, log: m.Log("init"), namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		// Not "ip netns exec": it would hide /sys/fs/cgroup.
		command: []string{"nsenter", "--net=" + namespacePath(m.Name), m.Init, file},
	}
	if err = first.start(); err != nil {
		return err
	}
	var last error
	err = wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		if _, last = m.pid(); last != nil {
			return false, last
		}
		_, last = m.Output(ctx, "ctr", "version")
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for containerd: %w", errors.Join(err, context.Cause(ctx), last, m.Explain("init", ContainerRuntime)))
	}
	return nil
}

// Reboot shuts the machine down in order, as systemctl reboot does, and starts it again. Everything in memory is gone
// and the network is new; returns when containerd answers, before the kubelet has started Pods.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.Stop(ctx); err != nil {
		return err
	}
	if err := m.start(ctx); err != nil {
		return fmt.Errorf("reboot machine %s: %w", m.Name, err)
	}
	return nil
}

// Stop shuts the machine down in order. Its directory stays.
func (m *Machine) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stopTimeout, fmt.Errorf("not down within %s", stopTimeout))
	defer cancel()
	if err := endProcess(ctx, m.Dir, unix.SIGTERM); err != nil {
		return fmt.Errorf("stop machine %s: %w", m.Name, err)
	}
	return nil
}

// pid returns the host's number of the machine's first process.
func (m *Machine) pid() (int, error) {
	pid, err := readPID(m.Dir)
	if err != nil {
		return 0, fmt.Errorf("machine %s does not run: %w", m.Name, err)
	}
	return pid, nil
}

// Command runs a program inside the machine: in its namespaces and with its files. Its environment is the caller's, but
// kubectl and kubeadm find the node's own administrator there. When the context ends, so does the program. If the machine
// is down, running the command says so.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	pid, err := m.pid()
	enter := []string{"--target", strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	if err != nil {
		cmd.Err = err
	}
	// HOME keeps what programs leave at home off the host.
	cmd.Env = append(os.Environ(), "HOME=/run", "KUBECONFIG=/etc/kubernetes/admin.conf")
	// nsenter forks; the group is what has to go.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// EnterCommand is what a person types to get a shell inside the machine.
func (m *Machine) EnterCommand() string {
	return strings.Join(m.Command(context.Background(), "bash").Args, " ")
}

// Output runs a program inside the machine and returns its standard output. Its error has what it wrote elsewhere.
func (m *Machine) Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := output(m.Command(ctx, name, args...))
	if err != nil {
		return nil, fmt.Errorf("on %s: %w", m.Name, err)
	}
	return out, nil
}

// Import puts an image, a tarball of this host, into the machine's containerd.
func (m *Machine) Import(ctx context.Context, tarball string) error {
	file, err := os.Open(filepath.Clean(tarball))
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	defer func() { _ = file.Close() }()
	cmd := m.Command(ctx, "ctr", "--namespace", "k8s.io", "images", "import", "-")
	cmd.Stdin = file
	if _, err = output(cmd); err != nil {
		return fmt.Errorf("import image on %s: %w", m.Name, err)
	}
	return nil
}

// StopUnit ends one of the machine's units and keeps it from being started again. It returns when it is gone.
func (m *Machine) StopUnit(ctx context.Context, unit string) error {
	return boot.Ask(ctx, m.socket(), boot.StopUnit, unit)
}

// StartUnit has one of the machine's units kept running again. It returns when its process was started.
func (m *Machine) StartUnit(ctx context.Context, unit string) error {
	return boot.Ask(ctx, m.socket(), boot.StartUnit, unit)
}

// Log is the path of a unit's log, all of it since the machine was made; "init" names the first process.
func (m *Machine) Log(unit string) string { return filepath.Join(m.logs(), unit+".log") }

// CgroupRoot is the kubelet's --cgroup-root.
func (m *Machine) CgroupRoot() string { return "/" + Prefix + m.Name }

// Explain returns the ends of logs as an error.
func (m *Machine) Explain(units ...string) error {
	var text []string
	for _, unit := range units {
		text = append(text, fmt.Sprintf("end of %s:\n%s", m.Log(unit), logend.Of(m.Log(unit))))
	}
	return errors.New(strings.Join(text, "\n"))
}
