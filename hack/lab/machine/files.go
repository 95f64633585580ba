package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

// ManifestDir is where the machine's kubelet looks for static Pods.
const ManifestDir = "/etc/kubernetes/manifests"

// kept are the machine's own directories, which outlive a reboot. They are on a plain file system, not on an overlay, so
// that what is tested on them holds elsewhere.
var kept = []string{
	"/etc/cni/net.d",
	"/etc/kubernetes",
	"/var/lib/containerd",
	"/var/lib/endpoint-sync-agent",
	"/var/lib/etcd",
	"/var/lib/kubelet",
	"/var/log/containers",
	"/var/log/pods",
}

// overlaid are the host's directories that programs on the machine write into somewhere.
var overlaid = []string{"/etc", "/usr", "/var/lib", "/var/log"}

// bin is where a machine finds the programs that it was given.
const bin = "/usr/local/bin"

// masked are sysctls of the whole kernel with the values that the kubelet wants: it finds them, and the host keeps its own.
var masked = map[string]string{
	"kernel/keys/root_maxbytes": "25000000",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
}

// Path is where a file of the machine is found from the host. What the machine keeps (/etc/kubernetes, /var/lib/kubelet
// and the like) is found also while it is down.
func (m *Machine) Path(inside string) string {
	inside = filepath.Clean(inside)
	for _, dir := range kept {
		if inside == dir || strings.HasPrefix(inside, dir+"/") {
			return m.disk(inside)
		}
	}
	pid, _ := m.pid() // Zero is no process: nothing will be found while the machine is down.
	return filepath.Join("/proc", strconv.Itoa(pid), "root", inside)
}

// Manifests is Path(ManifestDir).
func (m *Machine) Manifests() string { return m.Path(ManifestDir) }

func (m *Machine) disk(inside string) string { return filepath.Join(m.Dir, "disk", inside) }
func (m *Machine) logs() string              { return filepath.Join(m.Dir, "logs") }
func (m *Machine) socket() string            { return filepath.Join(m.Dir, "socket") }

func (m *Machine) overlay(target string) boot.Overlay {
	name := strings.ReplaceAll(strings.Trim(target, "/"), "/", "-")
	return boot.Overlay{
		Target: target, Upper: filepath.Join(m.Dir, "overlay", name, "upper"), Work: filepath.Join(m.Dir, "overlay", name, "work"),
	}
}

func (m *Machine) mask(name string) string { return filepath.Join(m.Dir, "sysctl", name) }

// directories are all that must exist before the machine starts.
func (m *Machine) directories() []string {
	var all []string
	for _, dir := range kept {
		all = append(all, m.disk(dir))
	}
	for _, target := range overlaid {
		o := m.overlay(target)
		all = append(all, o.Upper, o.Work)
	}
	return all
}

// configuration are files by their path on the host.
func (m *Machine) configuration() map[string]string {
	files := map[string]string{
		m.disk("/etc/cni/net.d/10-lab.conflist"):       fmt.Sprintf(bridgeCNI, m.PodSubnet),
		filepath.Join(m.Dir, ContainerRuntime+".toml"): fmt.Sprintf(containerdConfig, m.SandboxImage),
	}
	for name, value := range masked {
		files[m.mask(name)] = value + "\n"
	}
	return files
}

// bridgeCNI attaches Pods to a bridge; Pods elsewhere are reached by routes.
const bridgeCNI = `{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "%s"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
]}
`

// containerdConfig is for a containerd that shares its kernel: it loads no profile into it, and may not be able to lower
// the score of what runs.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// kubeletCommand is what kubeadm's kubelet.service runs. The shell goes on as the kubelet.
const kubeletCommand = `. /var/lib/kubelet/kubeadm-flags.env; exec "$0" ` +
	`--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf ` +
	`--config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS`

// environment spares what a host with many machines has least of: a Go process with one thread that runs does not wake a
// second for each hand-over between goroutines.
var environment = []string{"GOMAXPROCS=1"}

// units are in the order in which they start; they end in the opposite one.
func (m *Machine) units() []boot.Unit {
	return []boot.Unit{
		{Name: ContainerRuntime, Command: []string{"/usr/bin/containerd", "--config", filepath.Join(m.Dir, ContainerRuntime+".toml")}},
		{
			Name: Kubelet, Command: []string{"/bin/sh", "-c", kubeletCommand, filepath.Join(bin, Kubelet)},
			Needs: [][]string{
				{"/var/lib/kubelet/config.yaml"},
				{"/var/lib/kubelet/kubeadm-flags.env"},
				{"/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/kubelet.conf"},
			},
		},
		{
			// kubeadm would give it a service account; that is an addon, and what it does is the same.
			Name: Proxy, Command: []string{
				filepath.Join(bin, Proxy), "--kubeconfig=/etc/kubernetes/admin.conf", "--proxy-mode=nftables", "--hostname-override=" + m.Name,
				"--conntrack-max-per-core=0", "--metrics-bind-address=127.0.0.1:10249", "--healthz-bind-address=127.0.0.1:10256",
			},
			Needs: [][]string{{"/etc/kubernetes/admin.conf"}},
		},
	}
}

func (m *Machine) bootSpec(cgroups []string) boot.Spec {
	id := sha256.Sum256([]byte(m.Name))
	s := boot.Spec{
		Hostname: m.Name,
		Cgroups:  cgroups,
		Files: map[string]string{
			"/etc/hostname":    m.Name + "\n",
			"/etc/hosts":       m.hostsFile(),
			"/etc/machine-id":  hex.EncodeToString(id[:16]) + "\n",
			"/etc/resolv.conf": "# The lab has no DNS.\n",
		},
		Links:   map[string]string{},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"},
		Socket:  m.socket(),
		Units:   m.units(),
	}
	for _, dir := range overlaid {
		s.Overlays = append(s.Overlays, m.overlay(dir))
	}
	for _, dir := range kept {
		s.Binds = append(s.Binds, boot.Bind{Source: m.disk(dir), Target: dir})
	}
	for name := range masked {
		s.Masks = append(s.Masks, boot.Bind{Source: m.mask(name), Target: filepath.Join("/proc/sys", name)})
	}
	for _, path := range m.Programs {
		s.Links[filepath.Join(bin, filepath.Base(path))] = path
	}
	for i := range s.Units {
		s.Units[i].Log, s.Units[i].Env = m.Log(s.Units[i].Name), environment
	}
	return s
}

func (m *Machine) hostsFile() string {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, name := range slices.Sorted(maps.Keys(m.Hosts)) {
		fmt.Fprintf(&text, "%s %s\n", m.Hosts[name], name)
	}
	return text.String()
}
