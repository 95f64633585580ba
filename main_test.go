package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestPurePackagesReachNoClient checks what lint cannot: that the packages which decide do not reach a client, the
// network or another process, not even through somebody else's package.
func TestPurePackagesReachNoClient(t *testing.T) {
	forbidden := []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "k8s.io/cli-runtime", "os/exec"}
	for _, name := range []string{"lag", "tuner", "rollout", "manifest", "yamltext", "platform", "trace"} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./internal/"+name).Output()
			if err != nil {
				t.Fatalf("go list: %v", err)
			}
			for dep := range strings.FieldsSeq(string(out)) {
				i := slices.IndexFunc(forbidden, func(f string) bool { return dep == f || strings.HasPrefix(dep, f+"/") })
				if i >= 0 {
					t.Errorf("internal/%s reaches %s: it may only compute", name, dep)
				}
			}
		})
	}
}
