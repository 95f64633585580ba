package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// TestEveryReasonIsExplained checks that whoever is on call finds each reason that stops something in docs/operating.md.
func TestEveryReasonIsExplained(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	sources, err := filepath.Glob("api/v1alpha1/*.go")
	if err != nil {
		t.Fatal(err)
	}
	page := read("docs/operating.md")
	// What nobody has to look up: nothing is wrong, or the message is an error's.
	plain := []string{"Observing", "Recommended", "Progressing", "Error", "Ready", "Committed", "Unchanged", "Restored", "RolloutStarted", "Persisted"}
	declared := regexp.MustCompile(`(?m)^\tReason\w+ += "(\w+)"`)
	reasons := 0
	for _, path := range sources {
		for _, match := range declared.FindAllStringSubmatch(read(path), -1) {
			reasons++
			if reason := match[1]; !slices.Contains(plain, reason) && !strings.Contains(page, "`"+reason+"`") {
				t.Errorf("docs/operating.md does not explain %s, of %s", reason, path)
			}
		}
	}
	if reasons < 60 {
		t.Errorf("%d reasons found in api/v1alpha1: they are written differently now", reasons)
	}
}
