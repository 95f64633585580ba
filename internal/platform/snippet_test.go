package platform

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

var updateSnippets = flag.Bool("update-snippets", false, "rewrite testdata/snippets")

var allFlags = v1alpha1.Flags{KubeAPIQPS: 71, KubeAPIBurst: 382, ConcurrentEndpointSyncs: 19, ConcurrentServiceEndpointSyncs: 46}

// findings have a snippet each, of allFlags, in testdata/snippets/<name>.yaml.
func findings() map[string]Finding {
	talos := func(image string) Finding {
		return Detect(seen(func(f *Facts) { f.Nodes = []Node{controlPlane(func(n *Node) { n.OSImage = image })} }))
	}
	owned := func(kind string) Finding {
		return Detect(seen(func(f *Facts) { f.Nodes = []Node{controlPlane(machine(kind))} }))
	}
	return map[string]Finding{
		"kubeadm": Detect(seen()),
		"kubeadm-v1": Detect(seen(func(f *Facts) {
			f.Kubeadm, f.KubeadmVersion = Yes, "kubeadm.k8s.io/v1"
		})),
		"kubeadm-v1beta3":     Detect(seen(func(f *Facts) { f.Kubeadm, f.KubeadmVersion = Yes, "kubeadm.k8s.io/v1beta3" })),
		"kubeadm-old":         Detect(seen(func(f *Facts) { f.ServerVersion = "v1.30.14" })),
		"kubeadm-not-looked":  {},
		"static-pod":          Detect(seen(func(f *Facts) { f.Kubeadm = No })),
		"kops":                {Platform: KOps},
		"rke2":                {Platform: RKE2},
		"k3s":                 {Platform: K3s},
		"talos":               talos("Talos (v1.13.2)"),
		"talos-1.14":          talos("Talos (v1.14.0)"),
		"openshift":           {Platform: OpenShift},
		"cluster-api":         owned("KubeadmControlPlane"),
		"cluster-api-unnamed": owned("K{}: \"\n"),
		"cluster-api-rke2":    owned("RKE2ControlPlane"),
		"gardener":            {Platform: Gardener},
		"eks":                 {Platform: EKS},
		"gke":                 {Platform: GKE},
		"aks":                 {Platform: AKS},
		"tke":                 {Platform: TKE},
		"cce":                 {Platform: CCE},
		"managed":             {Platform: Managed},
		"unknown":             {Platform: Unknown},
	}
}

func TestSnippetGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/snippets/*.yaml")
	if err != nil || len(files) != len(findings()) && !*updateSnippets {
		t.Fatalf("%d files for %d findings (%v)", len(files), len(findings()), err)
	}
	for name, f := range findings() {
		t.Run(name, func(t *testing.T) {
			golden := filepath.Join("testdata", "snippets", name+".yaml")
			got := f.Snippet(allFlags)
			if *updateSnippets {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("Snippet (-want +got):\n%s", diff)
			}
			if f.Title() == "" {
				t.Error("no title")
			}
		})
	}
}

// TestSnippetsAreYAML parses every platform's snippet of every set of flags as strictly as can be.
func TestSnippetsAreYAML(t *testing.T) {
	for name, f := range findings() {
		t.Run(name, func(t *testing.T) {
			for set := range 1 << 4 {
				var flags v1alpha1.Flags
				for i, v := range allFlags.List() {
					if set&(1<<i) != 0 {
						flags.Set(v.Name, v.Value)
					}
				}
				checkSnippet(t, f.Snippet(flags), flags)
			}
		})
	}
}

func checkSnippet(t *testing.T, text string, flags v1alpha1.Flags) {
	t.Helper()
	if flags == (v1alpha1.Flags{}) {
		if text != "" {
			t.Errorf("no flag gives %q, want nothing", text)
		}
		return
	}
	if _, err := yaml.YAMLToJSONStrict([]byte(text)); err != nil {
		t.Errorf("not YAML: %v\n%s", err, text)
	}
	if len(text) > 2048 || !strings.HasSuffix(text, "\n") {
		t.Errorf("%d bytes, want at most what the status holds, and a final line break:\n%s", len(text), text)
	}
	for _, v := range allFlags.List() {
		given := (&v1alpha1.Flags{}).Set(v.Name, 0) && strings.Contains(flags.String(), "--"+v.Name+"=")
		if has := strings.Contains(text, strconv.Itoa(int(v.Value))); has != given {
			t.Errorf("value %d of --%s: in the snippet %v, want %v:\n%s", v.Value, v.Name, has, given, text)
		}
	}
}

func TestTheLongestSnippetFitsTheStatus(t *testing.T) {
	long := strings.Repeat("x", 253)
	for _, kind := range []string{"", "K" + long[1:]} {
		f := Detect(seen(func(f *Facts) {
			f.Nodes = []Node{controlPlane(machine(kind))}
			f.Nodes[0].Annotations[annotationOwnerName] = long
		}))
		if text := f.Snippet(allFlags); len(text) > 2048 || !strings.Contains(text, long) {
			t.Errorf("%d bytes:\n%s", len(text), text)
		}
	}
}
