package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// platformPods are the Pods of internal/platform/testdata; its SOURCES.md says where they come from.
const platformPods = "../platform/testdata/"

// TestManifestsOfPlatforms edits manifests as platforms write them, or refuses them by name.
func TestManifestsOfPlatforms(t *testing.T) {
	refused := map[string]string{ // to a part of the message
		"rke2/pod.yaml":      "RKE2 writes this manifest",
		"talos/pod.yaml":     "Talos serves this Pod",
		"openshift/pod.yaml": "a shell or another program stands in front",
	}
	paths, err := filepath.Glob(platformPods + "*/pod*.yaml")
	if err != nil || len(paths) != 9+5 {
		t.Fatalf("%d Pods (%v), want nine of kubeadm, and those of kubespray, kOps, RKE2, Talos and OpenShift", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimPrefix(filepath.ToSlash(path), platformPods)
		t.Run(name, func(t *testing.T) {
			in, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !DefinesKCM(in) {
				t.Error("DefinesKCM does not recognise it")
			}
			if part := refused[name]; part != "" {
				out, err := Edit(in, allFour)
				if out != nil || reason(err) != v1alpha1.ReasonUnsupportedManifest || !strings.Contains(err.Error(), part) {
					t.Errorf("Edit = %d bytes, %v; want %s with %q", len(out), err, v1alpha1.ReasonUnsupportedManifest, part)
				}
				return
			}
			checkInvariants(t, in, mustEdit(t, in, allFour), allFour)
		})
	}
}
