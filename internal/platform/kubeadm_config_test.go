package platform

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

func TestOriginalsComeBack(t *testing.T) {
	in := KubeadmConfig{ClusterConfiguration: string(kubeadmConfigFile(t, "kubeadm-extra-args.in.yaml"))} // has kube-api-qps 50
	steps := []struct {
		flags     v1alpha1.Flags
		originals string
	}{
		{v1alpha1.Flags{KubeAPIQPS: 50}, ""}, // is so already
		{v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 150}, `{"kube-api-burst":null,"kube-api-qps":"50"}`},
		{v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 150}, `{"kube-api-burst":null,"kube-api-qps":"50"}`},
		{v1alpha1.Flags{KubeAPIQPS: 200}, `{"kube-api-burst":null,"kube-api-qps":"50"}`},
		{v1alpha1.Flags{ConcurrentEndpointSyncs: 9}, `{"concurrent-endpoint-syncs":null,"kube-api-burst":null,"kube-api-qps":"50"}`},
	}
	at := in
	for i, step := range steps {
		next, err := at.With(step.flags)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if next.Originals != step.originals {
			t.Errorf("step %d remembers %s, want %s", i, next.Originals, step.originals)
		}
		if again, err := next.With(step.flags); err != nil || again != next {
			t.Errorf("step %d made again: %v\n%s", i, err, cmp.Diff(next, again))
		}
		at = next
	}
	given, err := ReadExtraArgs([]byte(at.ClusterConfiguration))
	want := []manifest.Setting{
		setting(v1alpha1.FlagKubeAPIQPS, "200"), setting(v1alpha1.FlagKubeAPIBurst, "150"),
		setting(v1alpha1.FlagConcurrentEndpointSyncs, "9"), setting(v1alpha1.FlagConcurrentServiceEndpointSyncs, ""),
	}
	if diff := cmp.Diff(want, given); diff != "" || err != nil {
		t.Errorf("given in the end: %v (-want +got):\n%s", err, diff)
	}
	back, err := at.Restored()
	if err != nil || back != in {
		t.Errorf("Restored: %v (-want +got):\n%s", err, cmp.Diff(in, back))
	}
	if same, err := in.Restored(); err != nil || same != in {
		t.Errorf("Restored of what was never written to: %v\n%s", err, cmp.Diff(in, same))
	}
}

func TestOriginalsThatNobodyWrote(t *testing.T) {
	config := string(kubeadmConfigFile(t, "kubeadm-init.in.yaml"))
	for name, originals := range map[string]string{
		"no JSON": "{", "a list": "[]", "a number as a value": `{"kube-api-qps":20}`, "two values": "{} {}",
		"a foreign flag": `{"kubeconfig":"/x"}`, "a value above the limits": `{"kube-api-qps":"5000"}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := KubeadmConfig{ClusterConfiguration: config, Originals: originals}
			for _, edit := range []func() (KubeadmConfig, error){
				func() (KubeadmConfig, error) { return c.With(v1alpha1.Flags{KubeAPIQPS: 50}) }, c.Restored,
			} {
				if got, err := edit(); err == nil || got != (KubeadmConfig{}) || !strings.Contains(err.Error(), OriginalsAnnotation) {
					t.Errorf("edited to %+v, %v; want an error that names the annotation", got, err)
				}
			}
		})
	}
}
