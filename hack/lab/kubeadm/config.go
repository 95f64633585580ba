package kubeadm

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
)

const (
	// repository is where kubeadm thinks that images come from. They are on each node already.
	repository = "lab.local"
	// sandboxImage has no version that anything would compare. That of etcd is compared by an upgrade, which then leaves
	// etcd alone.
	sandboxImage = repository + "/pause:lab"
	etcdTag      = controlplane.EtcdVersion + "-0"

	// endpointName is the API's name in the machines' own hosts files.
	endpointName = "lab-api"
	apiPort      = 6443

	podSubnet     = "10.244.0.0/16"
	serviceSubnet = "10.96.0.0/16"

	// Secrets of a cluster that nobody outside this host can reach, and that lives for an hour.
	token          = "abcdef.0123456789abcdef"
	certificateKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// Arg is a flag of a component, without its dashes.
type Arg struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// object is a part of a configuration file.
type object = map[string]any

// configuration is what kubeadm reads to make a node.
type configuration struct {
	node, cgroupRoot string
	address          netip.Addr
	endpoint         netip.Addr // where the balancer listens
	controllerArgs   []Arg
}

// controllerManagerArgs are kube-controller-manager's extra arguments, feature gates after the others.
func controllerManagerArgs(args []Arg, gates map[string]bool) []Arg {
	args = slices.Clone(args)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(gates)) {
		list = append(list, name+"="+strconv.FormatBool(gates[name]))
	}
	if len(list) > 0 {
		args = append(args, Arg{"feature-gates", strings.Join(list, ",")})
	}
	return args
}

// etcdPatch gives etcd, on which everything waits, its share of a processor that is busy: kubeadm requests a tenth of one
// for it, since it expects a machine of its own below each control plane.
func etcdPatch() ([]byte, error) {
	return documents(object{"spec": object{"containers": []object{{
		"name": "etcd", "resources": object{"requests": object{"cpu": "900m"}},
	}}}})
}

// first is the file for "kubeadm init".
func (c configuration) first() ([]byte, error) {
	return documents(c.cluster(), kubelet(), object{
		"apiVersion":       "kubeadm.k8s.io/v1beta4",
		"kind":             "InitConfiguration",
		"localAPIEndpoint": c.localEndpoint(),
		"bootstrapTokens": []object{{
			"token": token, "ttl": "24h0m0s", "usages": []string{"signing", "authentication"},
			"groups": []string{"system:bootstrappers:kubeadm:default-node-token"},
		}},
		"certificateKey":   certificateKey,
		"nodeRegistration": c.registration(),
		"patches":          object{"directory": PatchDir},
	})
}

// other is the file for "kubeadm join".
func (c configuration) other() ([]byte, error) {
	return documents(object{
		"apiVersion":   "kubeadm.k8s.io/v1beta4",
		"kind":         "JoinConfiguration",
		"controlPlane": object{"localAPIEndpoint": c.localEndpoint(), "certificateKey": certificateKey},
		"discovery": object{"bootstrapToken": object{
			"token": token, "apiServerEndpoint": endpoint(), "unsafeSkipCAVerification": true,
		}},
		"nodeRegistration": c.registration(),
		"patches":          object{"directory": PatchDir},
	})
}

func (c configuration) cluster() object {
	controllerManager := object{"extraEnvs": environment}
	if len(c.controllerArgs) > 0 {
		controllerManager["extraArgs"] = c.controllerArgs
	}
	return object{
		"apiVersion":           "kubeadm.k8s.io/v1beta4",
		"kind":                 "ClusterConfiguration",
		"kubernetesVersion":    controlplane.KubernetesVersion,
		"imageRepository":      repository,
		"controlPlaneEndpoint": endpoint(),
		"networking":           object{"podSubnet": podSubnet, "serviceSubnet": serviceSubnet},
		"etcd":                 object{"local": object{"imageTag": etcdTag, "extraEnvs": environment}},
		"apiServer":            object{"certSANs": []string{c.endpoint.String()}, "extraEnvs": environment},
		"controllerManager":    controllerManager,
		"scheduler":            object{"extraEnvs": environment},
	}
}

// environment spares processor time, of which a host with three control planes has least: garbage collectors run a quarter
// as often, for memory, and no process keeps a second thread awake that could take over its work.
var environment = []Arg{{"GOGC", "400"}, {"GOMAXPROCS", "1"}}

// kubelet is for a node that shares a host's kernel, memory and disk.
func kubelet() object {
	return object{
		"apiVersion":                  "kubelet.config.k8s.io/v1beta1",
		"kind":                        "KubeletConfiguration",
		"cgroupDriver":                "cgroupfs",
		"enforceNodeAllocatable":      []string{},
		"evictionHard":                object{"memory.available": "50Mi"},
		"failCgroupV1":                false,
		"failSwapOn":                  false,
		"imageGCHighThresholdPercent": 100, // Nothing could be pulled again.
	}
}

func (c configuration) localEndpoint() object {
	return object{"advertiseAddress": c.address.String(), "bindPort": apiPort}
}

func (c configuration) registration() object {
	return object{
		"name":            c.node,
		"criSocket":       "unix:///run/containerd/containerd.sock",
		"imagePullPolicy": "Never",
		// The checks are about a host with an init system that belongs to the node alone.
		"ignorePreflightErrors": []string{"all"},
		"kubeletExtraArgs":      []Arg{{"cgroup-root", c.cgroupRoot}, {"node-ip", c.address.String()}},
	}
}

func endpoint() string { return fmt.Sprintf("%s:%d", endpointName, apiPort) }

func documents(objects ...object) ([]byte, error) {
	var all [][]byte
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("write kubeadm's configuration: %w", err)
		}
		all = append(all, text)
	}
	return bytes.Join(all, []byte("---\n")), nil
}
