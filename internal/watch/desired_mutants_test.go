package watch

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// historiesPerMutant is far more than it takes: each of them shows within the first hundred.
const historiesPerMutant = 2000

// mutant is a mistake in our rules: a piece of text of one package, and what stands there instead.
type mutant struct{ dir, old, fresh string }

const lagDir = "../lag"

var mutants = map[string]mutant{
	"terminating Pods count as ready": {
		lagDir, "if !s.PublishNotReady && (!p.Ready || p.Terminating) {", "if !s.PublishNotReady && !p.Ready {",
	},
	"publishNotReadyAddresses is ignored": {
		lagDir, "if !s.PublishNotReady && (!p.Ready || p.Terminating) {", "if !p.Ready || p.Terminating {",
	},
	"every node exists": {
		lagDir, "if !s.PublishNotReady && !t.exists(p.Node) {", "if t == nil {",
	},
	"publishNotReadyAddresses needs the node": {
		lagDir, "if !s.PublishNotReady && !t.exists(p.Node) {", "if !t.exists(p.Node) {",
	},
	"only the first family of a Service counts": {
		lagDir, "return p.addressesIn(s.Families)\n", "return p.addressesIn(s.Families[:min(1, len(s.Families))])\n",
	},
	"every family of a Pod counts": {
		lagDir, "(len(families) == 0 || slices.Contains(families, ip.Family()))", "(len(families) >= 0 || slices.Contains(families, ip.Family()))",
	},
	"named ports decide about slices": {
		lagDir, "if !s.PublishNotReady && !t.exists(p.Node) {",
		"if !s.NeedsPort.IsEmpty() && !s.NeedsPort.meets(p.Ports) || !s.PublishNotReady && !t.exists(p.Node) {",
	},
	"one pair of the selector is enough": {
		lagDir, "if got, exists := l.Lookup(k); !exists || got != v {\n\t\t\treturn false\n\t\t}\n\t}\n\treturn true",
		"if got, exists := l.Lookup(k); exists && got == v {\n\t\t\treturn true\n\t\t}\n\t}\n\treturn o.IsEmpty()",
	},
	"a changed selector is not matched again": {
		lagDir, "\tif rematch {\n\t\tns.rematch(known)", "\tif rematch && known == nil {\n\t\tns.rematch(known)",
	},
	"a Pod made anew is taken for the one before": {
		lagDir, "if known != nil && known.UID != p.UID {", "if known != nil && ns == nil {",
	},
	"kube-controller-manager acts on a phase": {
		lagDir, "return p.Ready != o.Ready || ", "return p.Included != o.Included || p.Ready != o.Ready || ",
	},
	"kube-controller-manager does not act on labels": {
		lagDir, " || p.Labels != o.Labels\n}", "\n}",
	},
	"an address that a Pod lost may stay": {
		lagDir, "\tif !m.wanted(c.want, c.shown) {\n\t\treturn false\n\t}\n", "",
	},
	"ExternalName is managed": {
		".", "if !external && m.err == nil {", "if (!external || s != nil) && m.err == nil {",
	},
	"finished Pods are included": {
		".", "p.Included = addressed && !over", "p.Included = addressed && (!over || p != nil)",
	},
	"a missing Ready condition means ready": {
		".", "\tvar addressed, judged, over bool\n", "\tvar addressed, judged, over bool\n\tp.Ready = true\n",
	},
	"a Ready condition Unknown means ready": {
		".", "string(status) == string(corev1.ConditionTrue)", "string(status) != string(corev1.ConditionFalse)",
	},
	"only a Pod's first address counts": {
		".", "if m.into(err); addresses < len(p.IPs) {", "if m.into(err); addresses < 1 {",
	},
	"a slice's missing ready condition means not ready": {
		".", "before, hidden := len(d.ready), false", "before, hidden := len(d.ready), true",
	},
	"addresses of other things than Pods count": {
		".", `!bytes.Equal(kind, []byte("Pod"))`, `!bytes.Equal(kind, []byte("Pod")) && len(kind) == 0`,
	},
	"slices of other controllers count": {
		".", "len(service) > 0 && string(manager) == sliceController", "len(service) > 0 && manager != nil",
	},
}

var findings = regexp.MustCompile(`history (\d+): (` + unexplained + `.*)`)

// TestEveryMutantIsFound makes one mistake at a time in our rules and requires that the comparison with the real
// reconciler finds it.
func TestEveryMutantIsFound(t *testing.T) {
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test := exec.CommandContext(t.Context(), "go", "test", "-overlay", m.overlay(t), "-vet=off", "-count=1",
				"-run", "^TestDesired", ".")
			test.Env = append(os.Environ(), fmt.Sprint(historiesVariable, "=", historiesPerMutant))
			out, err := test.CombinedOutput()
			found := findings.FindAllSubmatch(out, -1)
			if err == nil || len(found) == 0 {
				t.Fatalf("go test = %v, want an %s; its output:\n%s", err, unexplained, out)
			}
			t.Logf("found by history %s: %s", found[0][1], found[0][2])
		})
	}
}

// overlay writes the mistake into a copy of the one file that has the text, and returns the path of what tells the
// compiler of it.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	replaced := map[string]string{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		switch strings.Count(string(text), m.old) {
		case 0:
			continue
		case 1:
		default:
			t.Fatalf("%s has %q more than once: name a longer piece of text", path, m.old)
		}
		if path, err = filepath.Abs(path); err != nil {
			t.Fatal(err)
		}
		replaced[path] = filepath.Join(t.TempDir(), filepath.Base(path))
		if err = os.WriteFile(replaced[path], []byte(strings.Replace(string(text), m.old, m.fresh, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(replaced) != 1 {
		t.Fatalf("%q is in %d files of %s, want 1: let the mutant follow the code", m.old, len(replaced), m.dir)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "overlay.json")
	if err = os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
