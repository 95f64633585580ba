package kubeadm

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine"
)

func aConfiguration() configuration {
	return configuration{
		node: "cp2", cgroupRoot: "/esl-cp2", address: netip.MustParseAddr("10.88.0.12"), endpoint: netip.MustParseAddr("10.88.0.1"),
		controllerArgs: controllerManagerArgs([]Arg{{"kube-api-qps", "20"}, {"v", "3"}}, map[string]bool{"B": false, "A": true}),
	}
}

func TestConfigurationsAreWhatKubeadmReads(t *testing.T) {
	c := aConfiguration()
	for name, write := range map[string]func() ([]byte, error){"init.yaml": c.first, "join.yaml": c.other} {
		t.Run(name, func(t *testing.T) {
			got, err := write()
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtraArgumentsKeepTheirOrderAndGatesComeLast(t *testing.T) {
	tests := map[string]struct {
		args  []Arg
		gates map[string]bool
		want  []Arg
	}{
		"nothing":       {nil, nil, nil},
		"arguments":     {[]Arg{{"z", "1"}, {"a", "2"}}, nil, []Arg{{"z", "1"}, {"a", "2"}}},
		"gates":         {nil, map[string]bool{"B": false, "A": true}, []Arg{{"feature-gates", "A=true,B=false"}}},
		"both of them":  {[]Arg{{"z", "1"}}, map[string]bool{"A": true}, []Arg{{"z", "1"}, {"feature-gates", "A=true"}}},
		"no gate given": {[]Arg{{"z", "1"}}, map[string]bool{}, []Arg{{"z", "1"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, controllerManagerArgs(test.args, test.gates)); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryNodeReachesThePodsOfAllOthers(t *testing.T) {
	m := &maker{Options: Options{Dir: "/lab", Nodes: 3}, binaries: controlplane.NodeBinaries{Kubelet: "/bin/kubelet"}}
	s := m.spec(1)
	want := []machine.Route{
		{To: netip.MustParsePrefix("10.244.1.0/24"), Via: netip.MustParseAddr("10.88.0.11")},
		{To: netip.MustParsePrefix("10.244.3.0/24"), Via: netip.MustParseAddr("10.88.0.13")},
	}
	if diff := cmp.Diff(want, s.Routes, cmp.Comparer(func(a, b machine.Route) bool { return a == b })); diff != "" {
		t.Errorf("routes of %s differ (-want +got):\n%s", s.Name, diff)
	}
	if s.Name != "cp2" || s.Address.String() != "10.88.0.12" || s.PodSubnet.String() != "10.244.2.0/24" {
		t.Errorf("the second node is %s at %s with Pods %s", s.Name, s.Address, s.PodSubnet)
	}
	for name, want := range map[string]string{"lab-api": "10.88.0.1", "cp1": "10.88.0.11", "cp2": "10.88.0.12", "cp3": "10.88.0.13"} {
		if got := s.Hosts[name].String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestAClusterThatIsNotUpIsNotAttachedTo(t *testing.T) {
	if c, err := Attach(t.Context(), t.TempDir()); err == nil {
		t.Errorf("Attach = %v, want an error", c)
	}
}
