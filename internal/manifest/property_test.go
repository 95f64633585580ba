package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
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
			set = append(set, Setting{Name: flag.Name, Value: fmt.Sprint(rapid.Int32Range(1, flag.Max).Draw(t, "value"))})
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
	for range 10 {
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
		set := []Setting{
			{Name: v1alpha1.FlagKubeAPIQPS, Value: fmt.Sprint(rate)},
			{Name: v1alpha1.FlagConcurrentEndpointSyncs, Value: fmt.Sprint(workers), Absent: absent},
		}
		DefinesKCM(in)
		out, err := Edit(in, set)
		if err != nil {
			if reason(err) == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		if !DefinesKCM(in) {
			t.Fatal("DefinesKCM does not recognise it")
		}
		if again, err := Edit(out, set); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("a second Edit: %v\n%s", err, Diff("manifest", out, again))
		}
		before, err := strippedPod(in)
		if err != nil {
			t.Fatal(err)
		}
		after, err := strippedPod(out)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("something else changed (-in +out):\n%s", diff)
		}
		original := mustRead(t, in)
		if removed(original, set) {
			return
		}
		if back, err := Edit(out, original); err != nil || !bytes.Equal(back, in) {
			t.Fatalf("and back: %v\n%s", err, Diff("manifest", in, back))
		}
	})
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
	containers, _ := field(pod, "spec", "containers").([]any)
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
