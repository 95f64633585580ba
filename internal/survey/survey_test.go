package survey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
)

const testdata = "../platform/testdata"

// served answers as an API server's discovery.
type served struct {
	version   string
	openShift bool
	err       error // of both questions
}

func (s served) ServerVersionWithContext(context.Context) (*version.Info, error) {
	return &version.Info{GitVersion: s.version}, s.err
}

func (s served) ServerResourcesForGroupVersionWithContext(_ context.Context, groupVersion string) (*metav1.APIResourceList, error) {
	switch {
	case s.err != nil:
		return nil, s.err
	case !s.openShift:
		return nil, apierrors.NewNotFound(schema.GroupResource{}, groupVersion)
	}
	return &metav1.APIResourceList{GroupVersion: groupVersion, APIResources: []metav1.APIResource{{Name: "etcds"}, {Name: openShiftResource}}}, nil
}

// documents decodes a file of testdata into objects of one type, one for each YAML document.
func documents[T any](t *testing.T, name string) []T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testdata, name))
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var object T
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, object)
	}
	return out
}

// mirrored is the static Pod of a file as a node's kubelet shows it in the API (pkg/kubelet/pod/mirror_client.go and
// pkg/kubelet/config/common.go, Kubernetes v1.37.2).
func mirrored(t *testing.T, name, source, node string) *corev1.Pod {
	t.Helper()
	p := documents[corev1.Pod](t, name)[0]
	p.Name += "-" + node
	p.Spec.NodeName = node
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	for key, value := range map[string]string{"hash": "0f1e", "mirror": "0f1e", "seen": "2026-01-01T12:00:00Z", "source": source} {
		p.Annotations["kubernetes.io/config."+key] = value
	}
	return &p
}

// cluster is one as a platform makes it.
type cluster struct {
	nodes   string // file of testdata
	pod     string // file of testdata; empty: no Pod is visible
	source  string // of the Pod; empty: a file
	config  string // apiVersion in ConfigMap kubeadm-config; empty: there is none
	serving served
}

func (c cluster) objects(t *testing.T) []client.Object {
	t.Helper()
	var out []client.Object
	for _, n := range documents[corev1.Node](t, c.nodes) {
		out = append(out, &n)
		if c.pod != "" {
			source := c.source
			if source == "" {
				source = "file"
			}
			out = append(out, mirrored(t, c.pod, source, n.Name))
		}
	}
	if c.config != "" {
		out = append(out, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubeadm-config"},
			Data:       map[string]string{"ClusterConfiguration": "apiVersion: " + c.config + "\nkind: ClusterConfiguration\ndns: {}\n"},
		})
	}
	return out
}

func reader(t *testing.T, s served, funcs interceptor.Funcs, objects ...client.Object) *Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return &Reader{
		objects: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).Build(), api: s,
	}
}

// TestPlatforms surveys clusters as the projects make them; testdata/SOURCES.md says where they come from.
func TestPlatforms(t *testing.T) {
	type finding struct {
		Platform  platform.Platform
		Patchable bool
	}
	kubeadm := finding{platform.Kubeadm, true}
	tests := map[string]struct {
		cluster
		want finding
	}{
		"kubespray": {
			cluster{"kubeadm/nodes.yaml", "kubespray/pod.yaml", "", "kubeadm.k8s.io/v1beta4", served{version: "v1.37.2"}}, kubeadm,
		},
		"kOps":  {cluster{"kops/nodes.yaml", "kops/pod.yaml", "", "", served{version: "v1.36.3"}}, finding{platform.KOps, false}},
		"RKE2":  {cluster{"rke2/nodes.yaml", "rke2/pod.yaml", "", "", served{version: "v1.36.2+rke2r1"}}, finding{platform.RKE2, false}},
		"k3s":   {cluster{"k3s/nodes.yaml", "", "", "", served{version: "v1.36.2+k3s1"}}, finding{platform.K3s, false}},
		"Talos": {cluster{"talos/nodes.yaml", "talos/pod.yaml", "http", "", served{version: "v1.36.2"}}, finding{platform.Talos, false}},
		"OpenShift": {
			cluster{"openshift/nodes.yaml", "openshift/pod.yaml", "", "", served{version: "v1.33.6", openShift: true}},
			finding{platform.OpenShift, false},
		},
		"Cluster API": {
			cluster{"cluster-api/nodes.yaml", "kubeadm/pod-1.37.yaml", "", "kubeadm.k8s.io/v1beta4", served{version: "v1.37.2"}},
			finding{platform.ClusterAPI, false},
		},
	}
	pods, err := filepath.Glob(testdata + "/kubeadm/pod-*.yaml")
	if err != nil || len(pods) != 9 {
		t.Fatalf("%d manifests of kubeadm (%v), want those of 1.29 to 1.37", len(pods), err)
	}
	for _, path := range pods {
		name := filepath.Base(path)
		c := cluster{"kubeadm/nodes.yaml", "kubeadm/" + name, "", "kubeadm.k8s.io/v1beta4", served{version: "v1.37.2"}}
		tests["kubeadm "+name] = struct {
			cluster
			want finding
		}{c, kubeadm}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			facts, err := reader(t, tt.serving, interceptor.Funcs{}, tt.objects(t)...).Facts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := platform.Detect(facts)
			if (finding{got.Platform, got.Patchable}) != tt.want {
				t.Errorf("Detect = %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestFacts checks what is read, field by field.
func TestFacts(t *testing.T) {
	c := cluster{"kubeadm/nodes.yaml", "kubeadm/pod-1.37.yaml", "", "kubeadm.k8s.io/v1beta4", served{version: "v1.37.2"}}
	facts, err := reader(t, c.serving, interceptor.Funcs{}, c.objects(t)...).Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(facts.Nodes) != 1 || len(facts.Pods) != 1 {
		t.Fatalf("%d nodes and %d Pods, want one of each", len(facts.Nodes), len(facts.Pods))
	}
	node, pod := facts.Nodes[0], facts.Pods[0]
	if node.Name != "cp-1" || !node.ControlPlane || node.KubeletVersion != "v1.37.2" || node.OSImage != "Debian GNU/Linux 12 (bookworm)" ||
		node.Labels["kubernetes.io/hostname"] != "cp-1" || node.Annotations["node.alpha.kubernetes.io/ttl"] != "0" {
		t.Errorf("node = %+v", node)
	}
	if pod.Namespace != "kube-system" || pod.Name != "kube-controller-manager-cp-1" || pod.Labels["component"] != kcm ||
		pod.Annotations["kubernetes.io/config.source"] != "file" {
		t.Errorf("Pod = %+v", pod)
	}
	facts.Nodes, facts.Pods = nil, nil
	want := platform.Facts{
		ServerVersion: "v1.37.2", NodesKnown: true, PodsKnown: true,
		Kubeadm: platform.Yes, KubeadmVersion: "kubeadm.k8s.io/v1beta4", OpenShift: platform.No,
	}
	if diff := cmp.Diff(want, facts); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

// TestPodsWithoutLabels finds a static Pod that somebody wrote by the name that the kubelet gives it.
func TestPodsWithoutLabels(t *testing.T) {
	node := documents[corev1.Node](t, "kubeadm/nodes.yaml")[0]
	pod := mirrored(t, "kubeadm/pod-1.37.yaml", "file", node.Name)
	pod.Labels = nil
	facts, err := reader(t, served{version: "v1.37.2"}, interceptor.Funcs{}, &node, pod).Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := platform.Detect(facts); got.Platform != platform.StaticPod || !got.Patchable {
		t.Errorf("Detect = %+v, want a static Pod to patch", got)
	}
}

// TestPodsOfOtherClusters are in a management cluster, and say nothing of its own control plane.
func TestPodsOfOtherClusters(t *testing.T) {
	pod := mirrored(t, "kubeadm/pod-1.37.yaml", "file", "worker-1")
	pod.Namespace = "tenant-1"
	facts, err := reader(t, served{version: "v1.37.2"}, interceptor.Funcs{}, pod).Facts(t.Context())
	if err != nil || len(facts.Pods) != 0 {
		t.Errorf("Facts = %+v, %v; want no Pod", facts, err)
	}
}

// TestForbidden surveys with less and less permission: that is no error.
func TestForbidden(t *testing.T) {
	c := cluster{"kubeadm/nodes.yaml", "kubeadm/pod-1.37.yaml", "", "kubeadm.k8s.io/v1beta4", served{version: "v1.37.2"}}
	tests := map[string]struct {
		kinds     []string
		api       bool // forbidden, too
		want      platform.Platform
		patchable bool
		reason    string
	}{
		"no ConfigMap, as the controller": {[]string{"*v1.ConfigMap"}, false, platform.Kubeadm, true, "kubeadm's labels"},
		"no discovery":                    {nil, true, platform.Kubeadm, true, "kubeadm-config"},
		"no nodes":                        {[]string{"*v1.NodeList"}, false, platform.Kubeadm, false, "no *v1.NodeList for you"},
		"no Pods":                         {[]string{"*v1.PodList"}, false, platform.Unknown, false, "no *v1.PodList for you"},
		"nothing": {
			[]string{"*v1.ConfigMap", "*v1.NodeList", "*v1.PodList"}, true, platform.Unknown, false, "could not be read",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := c.serving
			if tt.api {
				s.err = refusal("discovery")
			}
			facts, err := reader(t, s, refusing(refusal, tt.kinds...), c.objects(t)...).Facts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := platform.Detect(facts)
			if got.Platform != tt.want || got.Patchable != tt.patchable || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("Detect = %+v, want %s, patchable %v, because of %q", got, tt.want, tt.patchable, tt.reason)
			}
		})
	}
}

// TestErrors may be over at the next try: what was read is not half of the truth.
func TestErrors(t *testing.T) {
	c := cluster{"kubeadm/nodes.yaml", "kubeadm/pod-1.37.yaml", "", "kubeadm.k8s.io/v1beta4", served{version: "v1.37.2"}}
	broken := func(kind string) error { return errors.New("connection refused: " + kind) }
	for _, kind := range []string{"*v1.ConfigMap", "*v1.NodeList", "*v1.PodList", ""} {
		s := c.serving
		if kind == "" {
			s.err = broken("discovery")
		}
		facts, err := reader(t, s, refusing(broken, kind), c.objects(t)...).Facts(t.Context())
		if err == nil || !strings.Contains(err.Error(), "connection refused") || cmp.Diff(platform.Facts{}, facts) != "" {
			t.Errorf("without %q: Facts = %+v, %v; want the error alone", kind, facts, err)
		}
	}
}

func refusal(kind string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New("no "+kind+" for you"))
}

// refusing fails to read objects of some types.
func refusing(fail func(kind string) error, kinds ...string) interceptor.Funcs {
	refused := func(object any) error {
		if kind := fmt.Sprintf("%T", object); slices.Contains(kinds, kind) {
			return fail(kind)
		}
		return nil
	}
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, o ...client.GetOption) error {
			if err := refused(object); err != nil {
				return err
			}
			return c.Get(ctx, key, object, o...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, o ...client.ListOption) error {
			if err := refused(list); err != nil {
				return err
			}
			return c.List(ctx, list, o...)
		},
	}
}
