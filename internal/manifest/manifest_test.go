package manifest

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite testdata/*.out.yaml")

func qps(value string) Setting   { return Setting{Name: v1alpha1.FlagKubeAPIQPS, Value: value} }
func burst(value string) Setting { return Setting{Name: v1alpha1.FlagKubeAPIBurst, Value: value} }
func endpointWorkers(value string) Setting {
	return Setting{Name: v1alpha1.FlagConcurrentEndpointSyncs, Value: value}
}

func sliceWorkers(value string) Setting {
	return Setting{Name: v1alpha1.FlagConcurrentServiceEndpointSyncs, Value: value}
}
func without(name string) Setting { return Setting{Name: name, Absent: true} }

var (
	allFour = []Setting{qps("300"), burst("325"), endpointWorkers("50"), sliceWorkers("50")}
	noFlags = []Setting{
		without(v1alpha1.FlagKubeAPIQPS), without(v1alpha1.FlagKubeAPIBurst),
		without(v1alpha1.FlagConcurrentEndpointSyncs), without(v1alpha1.FlagConcurrentServiceEndpointSyncs),
	}
)

// goldens are the settings made in testdata/<name>.in.yaml; the result stands in testdata/<name>.out.yaml.
var goldens = map[string][]Setting{
	"kubeadm":                               allFour,
	"kubeadm-only-qps":                      {qps("50")},
	"kubeadm-extra-args":                    allFour,
	"kubeadm-flags-in-the-middle":           allFour,
	"kubeadm-external-ca":                   allFour,
	"kubeadm-v1.24":                         {sliceWorkers("10"), qps("100")},
	"already-as-wanted":                     {burst("150"), qps("100")},
	"above-our-limits-but-untouched":        {qps("5000"), burst("200")},
	"remove-all":                            noFlags,
	"remove-one-insert-another":             {without(v1alpha1.FlagKubeAPIQPS), burst("60")},
	"restore-a-float":                       {qps("20.5")},
	"replace-a-float":                       {qps("100")},
	"underscores":                           {qps("100"), burst("150")},
	"double-quoted":                         {qps("100"), burst("150")},
	"single-quoted":                         {qps("100"), burst("150")},
	"all-quoted":                            allFour,
	"comments":                              {qps("100"), burst("150")},
	"comment-after-last-item":               {qps("100")},
	"crlf":                                  {qps("100"), burst("150")},
	"crlf-only-in-the-list":                 {qps("100"), burst("150")},
	"byte-order-mark":                       {qps("100")},
	"document-markers":                      {qps("100")},
	"directive":                             {qps("100")},
	"trailing-spaces":                       {qps("100")},
	"wide-indent":                           {qps("100"), sliceWorkers("10")},
	"path-prefixed":                         {qps("100")},
	"no-final-line-break-insert":            {qps("100"), burst("150")},
	"no-final-line-break-replace":           {qps("100")},
	"no-final-line-break-remove":            noFlags,
	"no-final-line-break-remove-and-insert": {without(v1alpha1.FlagKubeAPIQPS), burst("60")},
	"no-final-line-break-crlf":              {qps("100"), burst("150")},
	"final-comment-without-line-break":      {qps("100")},
	"blank-lines-at-the-end":                {qps("100")},
	"command-and-args":                      {qps("100")},
	"flags-in-command-and-args":             allFour,
	"empty-args":                            {qps("100")},
	"null-args":                             {qps("100")},
	"only-the-program":                      {qps("100")},
	"flow-command-replace":                  {qps("100")},
	"json-replace":                          {qps("100"), burst("150")},
	"non-ascii":                             {qps("100"), burst("150")},
	"split-form-of-another-flag":            {qps("100"), burst("150")},
	"variables-in-values":                   {qps("100")},
	"sidecars":                              {qps("100")},
	"multi-line-argument-elsewhere":         {qps("100")},
	"annotations-with-block-text":           {qps("100")},
	"kops":                                  allFour,
	"kops-scale-job":                        allFour,
}

func TestEditGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) != len(goldens) {
		t.Fatalf("%d input files for %d cases (%v)", len(files), len(goldens), err)
	}
	for name, set := range goldens {
		t.Run(name, func(t *testing.T) {
			in := readTestdata(t, name+".in.yaml")
			got := mustEdit(t, in, set)
			golden := filepath.Join("testdata", name+".out.yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(readTestdata(t, name+".out.yaml")), string(got)); diff != "" {
				t.Errorf("Edit(%s, %v) (-want +got):\n%s", name, set, diff)
			}
			checkInvariants(t, in, got, set)
		})
	}
}

// checkInvariants holds for every successful Edit.
func checkInvariants(t *testing.T, in, out []byte, set []Setting) {
	t.Helper()
	if again := mustEdit(t, out, set); !bytes.Equal(again, out) {
		t.Errorf("a second Edit changed something:\n%s", Diff("manifest", out, again))
	}
	before := mustRead(t, in)
	if back := mustEdit(t, out, before); !bytes.Equal(back, in) && !removed(before, set) {
		t.Errorf("setting the original values does not give the original bytes:\n%s", Diff("manifest", in, back))
	}
	want := map[string]Setting{}
	for _, s := range append(before, set...) {
		want[s.Name] = s
	}
	for _, s := range mustRead(t, out) {
		if s != want[s.Name] {
			t.Errorf("Read(Edit()) = %v, want %v", s, want[s.Name])
		}
	}
	if same := bytes.Equal(in, out); SamePod(in, out) != same {
		t.Errorf("SamePod = %v for a manifest that is byte-identical: %v", !same, same)
	}
	if !DefinesKCM(in) || !DefinesKCM(out) {
		t.Error("DefinesKCM does not recognise a manifest that Edit accepts")
	}
	checkOtherLines(t, in, out)
}

// removed says whether the settings take out a flag that was given: its place is then lost.
func removed(before, set []Setting) bool {
	given := map[string]bool{}
	for _, s := range before {
		given[s.Name] = !s.Absent
	}
	for _, s := range set {
		if s.Absent && given[s.Name] {
			return true
		}
	}
	return false
}

// checkOtherLines compares all text without a flag of ours in it, by an implementation that knows nothing of YAML.
func checkOtherLines(t *testing.T, in, out []byte) {
	t.Helper()
	if strings.Count(string(in), "\n") < 2 {
		return // all on one line: the decoded comparison has to do
	}
	if diff := cmp.Diff(foreignLines(in), foreignLines(out)); diff != "" {
		t.Errorf("lines outside the edited flags changed (-in +out):\n%s", diff)
	}
}

func foreignLines(text []byte) []string {
	var kept []string
	for line := range strings.SplitSeq(string(text), "\n") {
		ours := false
		for _, name := range names() {
			ours = ours || strings.Contains(strings.ReplaceAll(line, "_", "-"), "--"+name+"=")
		}
		if !ours {
			kept = append(kept, strings.TrimSuffix(line, "\r"))
		}
	}
	return kept
}

func readTestdata(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustEdit(t *testing.T, manifest []byte, set []Setting) []byte {
	t.Helper()
	out, err := Edit(manifest, set)
	if err != nil {
		t.Fatalf("Edit(%v): %v", set, err)
	}
	return out
}

func mustRead(t *testing.T, manifest []byte) []Setting {
	t.Helper()
	flags, err := Read(manifest)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return flags
}

func TestEditDoesNotShareMemory(t *testing.T) {
	in := readTestdata(t, "kubeadm.in.yaml")
	kept := bytes.Clone(in)
	out := mustEdit(t, in, nil)
	clear(out)
	if !bytes.Equal(in, kept) {
		t.Error("writing to the result changed the input")
	}
}

func TestReadReturnsWhatIsWritten(t *testing.T) {
	got := mustRead(t, readTestdata(t, "above-our-limits-but-untouched.in.yaml"))
	want := append([]Setting{qps("5000")}, noFlags[1:]...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}

func TestSettingsLeaveAbsentFlagsOut(t *testing.T) {
	got := Settings(v1alpha1.Flags{KubeAPIQPS: 300, ConcurrentServiceEndpointSyncs: 50})
	if diff := cmp.Diff([]Setting{qps("300"), sliceWorkers("50")}, got); diff != "" {
		t.Errorf("Settings (-want +got):\n%s", diff)
	}
	full := Settings(v1alpha1.Flags{KubeAPIQPS: 300, KubeAPIBurst: 325, ConcurrentEndpointSyncs: 50, ConcurrentServiceEndpointSyncs: 50})
	if diff := cmp.Diff(allFour, full); diff != "" {
		t.Errorf("Settings (-want +got):\n%s", diff)
	}
}

// reason returns why an error refuses, "" if it does not.
func reason(err error) string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	return ""
}
