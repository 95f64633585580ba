package machine

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

func aMachine(dir string) *Machine {
	return &Machine{Spec{
		Name: "cp1", Dir: dir, Address: netip.MustParseAddr("10.88.0.11"),
		Network:   Network{Prefix: netip.MustParsePrefix("10.88.0.0/24"), Address: netip.MustParseAddr("10.88.0.1")},
		PodSubnet: netip.MustParsePrefix("10.244.1.0/24"),
		Hosts:     map[string]netip.Addr{"cp2": netip.MustParseAddr("10.88.0.12"), "api": netip.MustParseAddr("10.88.0.1")},
		Programs:  []string{"/cache/kubelet"}, SandboxImage: "lab.local/pause:lab",
	}}
}

func TestAMountIsReadFromMountinfo(t *testing.T) {
	tests := map[string]struct{ line, point, kind string }{
		"a hierarchy of version 1":  {"33 29 0:27 / /sys/fs/cgroup/pids rw,relatime shared:10 - cgroup lab rw,pids", "/sys/fs/cgroup/pids", "cgroup"},
		"version 2":                 {"29 22 0:25 / /sys/fs/cgroup rw - cgroup2 lab rw", "/sys/fs/cgroup", "cgroup2"},
		"a mount that shares":       {"1 2 3:4 / /a rw shared:1 master:2 - ext4 /dev/x rw", "/a", "ext4"},
		"a line of something else":  {"nonsense", "", ""},
		"an empty line":             {"", "", ""},
		"a separator and no fields": {"1 2 - ext4 x", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if point, kind := parseMount(test.line); point != test.point || kind != test.kind {
				t.Errorf("parseMount = %q, %q, want %q, %q", point, kind, test.point, test.kind)
			}
		})
	}
}

func TestControllersAreWhereVersion1IsIfBothAreMounted(t *testing.T) {
	tests := map[string]struct {
		found hierarchies
		want  []string
	}{
		"version 1":    {hierarchies{first: []string{"/c/cpu", "/c/pids"}}, []string{"/c/cpu", "/c/pids"}},
		"version 2":    {hierarchies{second: []string{"/c", "/elsewhere/c"}}, []string{"/c"}},
		"both of them": {hierarchies{first: []string{"/c/cpu"}, second: []string{"/c/unified"}}, []string{"/c/cpu"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := test.found.withControllers()
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("withControllers: %v; differs (-want +got):\n%s", err, diff)
			}
		})
	}
	if got, err := (hierarchies{}).withControllers(); err == nil {
		t.Errorf("withControllers without any = %v, want an error", got)
	}
}

func TestAMachineSeesItsOwnFilesAndTheHostFindsThem(t *testing.T) {
	m := aMachine("/lab/cp1")
	tests := map[string]struct{ inside, want string }{
		"its manifests":             {"/etc/kubernetes/manifests", "/lab/cp1/disk/etc/kubernetes/manifests"},
		"a directory that it keeps": {"/var/lib/kubelet", "/lab/cp1/disk/var/lib/kubelet"},
		"a path that climbs":        {"/etc/kubernetes/../kubernetes/a", "/lab/cp1/disk/etc/kubernetes/a"},
		"a name that begins alike":  {"/etc/kubernetes2", "/proc/0/root/etc/kubernetes2"},
		"a file that it shares":     {"/usr/bin/env", "/proc/0/root/usr/bin/env"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := m.Path(test.inside); got != test.want {
				t.Errorf("Path(%s) = %s, want %s", test.inside, got, test.want)
			}
		})
	}
}

func TestWhatAMachineIsToldHoldsTogether(t *testing.T) {
	m := aMachine(t.TempDir())
	if err := m.make(); err != nil {
		t.Fatalf("make: %v", err)
	}
	s := m.bootSpec([]string{"/sys/fs/cgroup/esl-cp1/system"})
	for _, o := range s.Overlays {
		for _, dir := range []string{o.Upper, o.Work} {
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				t.Errorf("overlay on %s: %s is no directory", o.Target, dir)
			}
		}
	}
	for _, b := range append(s.Binds, s.Masks...) {
		if _, err := os.Stat(b.Source); err != nil {
			t.Errorf("mount on %s: %v", b.Target, err)
		}
	}
	for _, b := range s.Binds {
		if !within(b.Target, s.Overlays) {
			t.Errorf("the mount point %s would be made on the host", b.Target)
		}
	}
	for path := range s.Files {
		if !within(path, s.Overlays) {
			t.Errorf("the file %s would be made on the host", path)
		}
	}
	if got, want := s.Links["/usr/local/bin/kubelet"], "/cache/kubelet"; got != want {
		t.Errorf("the kubelet is %q, want %q", got, want)
	}
	want := "127.0.0.1 localhost\n::1 localhost\n10.88.0.1 api\n10.88.0.12 cp2\n"
	if got := s.Files["/etc/hosts"]; got != want {
		t.Errorf("hosts = %q, want %q", got, want)
	}
}

func within(path string, overlays []boot.Overlay) bool {
	for _, o := range overlays {
		if strings.HasPrefix(path, o.Target+"/") {
			return true
		}
	}
	return false
}

func TestADirectoryThatAMachineWouldNotSeeIsRefused(t *testing.T) {
	for dir, fine := range map[string]bool{
		"/tmp/lab": true, "/var/tmp/lab": true, "/runs": true,
		"/run/lab": false, "/var/lib/lab": false, "/usr/local/lab": false, "/etc": false,
	} {
		if err := checkDir(dir); (err == nil) != fine {
			t.Errorf("checkDir(%s) = %v, want fine: %t", dir, err, fine)
		}
	}
}

func TestAPartitionReplacesTheOneBeforeAndSparesTheMachineItself(t *testing.T) {
	got := partitionRules([]netip.Prefix{netip.MustParsePrefix("10.88.0.12/32"), netip.MustParsePrefix("10.244.2.0/24")})
	want := `table inet esl_partition
delete table inet esl_partition
table inet esl_partition {
  set peers { type ipv4_addr; flags interval; elements = { 10.88.0.12/32, 10.244.2.0/24 }; }
  chain in { type filter hook prerouting priority -300; iifname != "lo" ip saddr @peers drop; }
  chain out { type filter hook postrouting priority 300; oifname != "lo" ip daddr @peers drop; }
}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules differ (-want +got):\n%s", diff)
	}
}

func TestAMachineKeepsItsLinkAddress(t *testing.T) {
	if got, want := aMachine("/x").mac(), "02:65:0a:58:00:0b"; got != want {
		t.Errorf("mac = %s, want %s", got, want)
	}
}

func TestAProcessIsFoundByNumberAndStartTimeTogether(t *testing.T) {
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	})
	pid := sleeper.Process.Pid
	started, err := startTime(filepath.Join("/proc", strconv.Itoa(pid)))
	if err != nil {
		t.Fatalf("startTime: %v", err)
	}
	tests := map[string]struct {
		content string
		want    int
	}{
		"the process":                    {fmt.Sprintf("%d %s\n", pid, started), pid},
		"its number, used again":         {fmt.Sprintf("%d %s0\n", pid, started), 0},
		"a process that does not exist":  {"4194305 1\n", 0},
		"a file that is not of the lab":  {"hello\n", 0},
		"a file with an impossible pair": {"one two\n", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, pidFile), []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readPID(dir)
			if got != test.want || (err == nil) != (test.want != 0) {
				t.Errorf("readPID = %d, %v, want %d", got, err, test.want)
			}
		})
	}
}

func TestMissingPackagesAreNamedOnce(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	got := strings.Join(missingPackages(), " ")
	for _, want := range []string{"containerd", "runc", "nftables", "iproute2"} {
		if strings.Count(" "+got+" ", " "+want+" ") != 1 {
			t.Errorf("missing packages are %q, want %s in it once", got, want)
		}
	}
}

func TestMountsInADirectoryAreOnlyThose(t *testing.T) {
	got, err := mountsBelow("/proc")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 || got[0] != "/proc" {
		t.Errorf("mountsBelow(/proc) = %v, want /proc first", got)
	}
	if got, err = mountsBelow("/pro"); err != nil || len(got) > 0 {
		t.Errorf("mountsBelow(/pro) = %v, %v, want none", got, err)
	}
}
