package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

// drawManifest builds a manifest that people might have: any mix of styles that Edit is to handle.
func drawManifest(t *rapid.T) []byte {
	ending := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "ending")
	indent := strings.Repeat(" ", rapid.IntRange(4, 8).Draw(t, "indent"))
	dash := "-" + strings.Repeat(" ", rapid.IntRange(1, 3).Draw(t, "dash"))
	lines := []string{
		"apiVersion: v1", "kind: Pod", "metadata: {name: kube-controller-manager}",
		"spec:", "  containers:", "  - name: kcm", "    command:",
	}
	arguments := rapid.Permutation(append(drawFlags(t), "--leader-elect=true", "--v=2", "--controllers=*,größe")).Draw(t, "arguments")
	split := rapid.IntRange(1, 2*len(arguments)).Draw(t, "split") // where args begins, beyond the end: nowhere
	for i, arg := range append([]string{"/usr/bin/kube-controller-manager"}, arguments...) {
		if i == split {
			lines = append(lines, "    args:")
		}
		quote := rapid.SampledFrom([]string{"", "", `"`, "'"}).Draw(t, "quote")
		behind := rapid.SampledFrom([]string{"", "", " ", "\t", " # größe", "  # --kube-api-qps"}).Draw(t, "behind")
		lines = append(lines, indent+dash+quote+arg+quote+behind)
		lines = append(lines, rapid.SampledFrom([][]string{{}, {}, {}, {""}, {"# - --v=3"}, {"          # über"}}).Draw(t, "between")...)
	}
	lines = append(lines, rapid.SampledFrom([][]string{{}, {"    image: kcm"}, {"  hostNetwork: true", "status: {}"}, {"..."}}).Draw(t, "tail")...)
	text := strings.Join(lines, ending)
	if rapid.Bool().Draw(t, "final line break") {
		text += ending
	}
	return []byte(rapid.SampledFrom([]string{"", "", "---" + ending, "\uFEFF"}).Draw(t, "head") + text)
}

// drawFlags draws some of the allow-listed flags with values that may be written.
func drawFlags(t *rapid.T) []string {
	var given []string
	for _, s := range drawSettings(t) {
		if !s.Absent {
			given = append(given, "--"+s.Name+"="+s.Value)
		}
	}
	return given
}

func drawSettings(t *rapid.T) []Setting {
	var set []Setting
	for _, flag := range (v1alpha1.Flags{}).List() {
		switch rapid.IntRange(0, 2).Draw(t, "choice") {
		case 0:
			set = append(set, without(flag.Name))
		case 1:
			set = append(set, Setting{Name: flag.Name, Value: strconv.Itoa(rapid.IntRange(1, int(flag.Max)).Draw(t, "value"))})
		}
	}
	return set
}

func TestEditProperties(t *testing.T) {
	edited, refused := 0, 0
	property := func(t *rapid.T) {
		in, set := drawManifest(t), drawSettings(t)
		original, err := Read(in)
		if err != nil {
			t.Fatalf("Read: %v\n%s", err, in)
		}
		out, err := Edit(in, set)
		if err != nil {
			refused++
			if reason(err) != v1alpha1.ReasonUnsupportedManifest || !removed(original, set) {
				t.Fatalf("Edit(%v): %v\n%s", set, err, in)
			}
			return
		}
		edited++
		again, err := Edit(out, set)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("a second Edit(%v): %v\n%s", set, err, Diff("manifest", out, again))
		}
		if diff := cmp.Diff(foreignLines(in), foreignLines(out)); diff != "" && bytes.Contains(in, []byte("\n")) {
			t.Fatalf("Edit(%v) changed other lines:\n%s", set, diff)
		}
		if removed(original, set) {
			return
		}
		back, err := Edit(out, original)
		if err != nil || !bytes.Equal(back, in) {
			t.Fatalf("Edit(%v) and back: %v\n%s", set, err, Diff("manifest", in, back))
		}
	}
	for range 3 {
		rapid.Check(t, property)
	}
	t.Logf("%d edited, %d refused", edited, refused)
}

// FuzzEdit feeds arbitrary documents: each is refused or edited so that, for the kubelet's parser, nothing but
// allow-listed flags of one container differs, and so that the edit can be undone.
func FuzzEdit(f *testing.F) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint16(50+i), uint16(i), i%3 == 0)
	}
	f.Fuzz(func(t *testing.T, in []byte, rate, workers uint16, absent bool) {
		_, err := tryEdit(in, []Setting{
			{Name: v1alpha1.FlagKubeAPIQPS, Value: strconv.Itoa(int(rate))},
			{Name: v1alpha1.FlagConcurrentEndpointSyncs, Value: strconv.Itoa(int(workers)), Absent: absent},
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestEditMutants damages manifests the way hands and scripts do, and holds each mutant to the rules of FuzzEdit.
func TestEditMutants(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	edited, refused := 0, 0
	property := func(t *rapid.T) {
		text, err := os.ReadFile(rapid.SampledFrom(files).Draw(t, "file"))
		if err != nil {
			t.Fatal(err)
		}
		mutant := string(text)
		for range rapid.IntRange(1, 3).Draw(t, "mutations") {
			mutant = mutate(t, mutant)
		}
		done, err := tryEdit([]byte(mutant), drawSettings(t))
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, mutant)
		}
		if done {
			edited++
		} else {
			refused++
		}
	}
	for range 3 {
		rapid.Check(t, property)
	}
	t.Logf("%d edited, %d refused", edited, refused)
}

// mutate makes one change of a kind that moves the meaning of YAML, near the arguments more often than elsewhere.
func mutate(t *rapid.T, text string) string {
	lines := strings.SplitAfter(text, "\n")
	at := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
	if rapid.Bool().Draw(t, "near the command") {
		at = min(rapid.IntRange(5, 40).Draw(t, "near"), len(lines)-1)
	}
	line := lines[at]
	column := rapid.IntRange(0, len(line)).Draw(t, "column")
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0: // a line is lost
		lines[at] = ""
	case 1: // a line comes twice
		lines[at] = line + line
	case 2: // two lines change places
		other := rapid.IntRange(0, len(lines)-1).Draw(t, "other")
		lines[at], lines[other] = lines[other], line
	case 3: // the indentation changes
		lines[at] = rapid.SampledFrom([]string{" ", "  ", "\t"}).Draw(t, "indent") + line
	case 4:
		lines[at] = strings.TrimPrefix(line, "  ")
	case 5: // a character that YAML or the flag parser gives a meaning
		sign := rapid.SampledFrom([]string{
			"#", " #", ": ", "- ", "&a ", "*a", "!!str ", "|", ">", "'", "\"", "[", "]", "{", "}", ",", "%", "?", "=", "-", "--", "_",
			"\n", "\r", "\t", "\\", "$(A)", "<<: ", "---\n", "\u2028", "\u0085", "\uFEFF", "0", "é",
		}).Draw(t, "sign")
		lines[at] = line[:column] + sign + line[column:]
	case 6: // the end is lost
		lines = append(lines[:at:at], line[:column])
	case 7: // a flag of ours in one form or another
		lines[at] = line + "    - " + rapid.SampledFrom([]string{
			"--kube-api-qps=7", "--kube_api_qps=7", "\"--kube-api-qps\"", "'--kube-api-qps=7'", "\"--kube-api-\\x71ps=7\"", "--kube-api-qps 7",
			"|\n      --kube-api-qps=7", "--kube-api-qps=\n      7", "[--kube-api-qps=7]", "!!str --kube-api-qps=7", "--v", "--",
		}).Draw(t, "flag") + "\n"
	}
	return strings.Join(lines, "")
}

// tryEdit edits an arbitrary document, reports whether that was done rather than refused, and returns what is wrong
// with the result.
func tryEdit(in []byte, set []Setting) (done bool, wrong error) {
	recognised := DefinesKCM(in)
	out, err := Edit(in, set)
	if err != nil {
		if reason(err) == "" {
			return false, fmt.Errorf("an error without a reason: %w", err)
		}
		return false, nil
	}
	if !recognised {
		return true, errors.New("DefinesKCM does not recognise what Edit accepts")
	}
	again, err := Edit(out, set)
	if err != nil || !bytes.Equal(again, out) {
		return true, fmt.Errorf("a second Edit: %w\n%s", err, Diff("manifest", out, again))
	}
	before, err := strippedPod(in)
	if err != nil {
		return true, err
	}
	after, err := strippedPod(out)
	if err != nil {
		return true, err
	}
	if diff := cmp.Diff(before, after); diff != "" {
		return true, fmt.Errorf("something else changed (-in +out):\n%s", diff)
	}
	original, err := Read(in)
	if err != nil || removed(original, set) {
		return true, err
	}
	back, err := Edit(out, original)
	if err != nil || !bytes.Equal(back, in) {
		return true, fmt.Errorf("and back: %w\n%s", err, Diff("manifest", in, back))
	}
	return true, nil
}

// strippedPod decodes a manifest as the kubelet would and takes the allow-listed flags out of every command and args.
func strippedPod(manifest []byte) (any, error) {
	text, err := sigsyaml.YAMLToJSON(manifest)
	if err != nil {
		return nil, err
	}
	var pod any
	if err = json.Unmarshal(text, &pod); err != nil {
		return nil, err
	}
	containers, _ := yamltext.Field(pod, "spec", "containers").([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		for _, name := range []string{fieldCommand, fieldArgs} {
			list, isList := container[name].([]any)
			if !isList {
				continue
			}
			kept := []any{}
			for _, arg := range list {
				if text, _ := arg.(string); len(foreignLines([]byte(text))) > 0 {
					kept = append(kept, arg)
				}
			}
			container[name] = kept
		}
	}
	return pod, nil
}
