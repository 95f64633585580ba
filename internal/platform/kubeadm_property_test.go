package platform

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

// drawConfig builds a ClusterConfiguration that people might have.
func drawConfig(t *rapid.T) []byte {
	ending := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "ending")
	lines := []string{"apiVersion: kubeadm.k8s.io/v1beta4", "kind: ClusterConfiguration", "clusterName: größe"}
	args := rapid.Permutation(append(drawArgs(t), [2]string{"v", "2"}, [2]string{"controllers", "*,größe"})).Draw(t, "args")
	args = args[:rapid.IntRange(0, len(args)).Draw(t, "arguments")]
	tail := rapid.SampledFrom([][]string{{}, {"  extraVolumes: []"}}).Draw(t, "sibling")
	switch form := rapid.IntRange(0, 4).Draw(t, "form"); {
	case len(args) > 0:
		lines = append(lines, "controllerManager:", "  extraArgs:")
		lines = append(append(lines, drawItems(t, args)...), tail...)
	case form == 1:
		lines = append(lines, "controllerManager: {}")
	case form == 2:
		lines = append(lines, append([]string{"controllerManager:", "  extraArgs: [] # none"}, tail...)...)
	case form == 3:
		lines = append(lines, append([]string{"controllerManager:", "  extraArgs:"}, tail...)...)
	}
	lines = append(lines, rapid.SampledFrom([][]string{{}, {"dns: {}"}, {"# the end"}}).Draw(t, "tail")...)
	text := strings.Join(lines, ending)
	if rapid.Bool().Draw(t, "final line break") {
		text += ending
	}
	return []byte(text)
}

func drawItems(t *rapid.T, args [][2]string) []string {
	indent := strings.Repeat(" ", rapid.IntRange(2, 6).Draw(t, "indent"))
	dash := "-" + strings.Repeat(" ", rapid.IntRange(1, 3).Draw(t, "dash"))
	under := strings.Repeat(" ", len(indent+dash))
	var lines []string
	for _, arg := range args {
		quote := rapid.SampledFrom([]string{`"`, "'"}).Draw(t, "quote")
		name, value := "name: "+arg[0], "value: "+quote+arg[1]+quote
		switch rapid.IntRange(0, 3).Draw(t, "shape") {
		case 0:
			lines = append(lines, indent+dash+"{"+name+", "+value+"}")
		case 1:
			lines = append(lines, indent+dash+value, under+name)
		default:
			lines = append(lines, indent+dash+name, under+value)
		}
		lines = append(lines, rapid.SampledFrom([][]string{{}, {}, {""}, {"# - name: v"}, {under + "# über"}}).Draw(t, "between")...)
	}
	return lines
}

// drawArgs draws some of the allow-listed flags with values that may be written.
func drawArgs(t *rapid.T) [][2]string {
	var args [][2]string
	for _, s := range drawSet(t) {
		if !s.Absent {
			args = append(args, [2]string{s.Name, s.Value})
		}
	}
	return args
}

func drawSet(t *rapid.T) []manifest.Setting {
	var set []manifest.Setting
	for _, f := range (v1alpha1.Flags{}).List() {
		switch rapid.IntRange(0, 2).Draw(t, "choice") {
		case 0:
			set = append(set, setting(f.Name, ""))
		case 1:
			set = append(set, setting(f.Name, strconv.Itoa(rapid.IntRange(1, int(f.Max)).Draw(t, "value"))))
		}
	}
	return set
}

func TestEditExtraArgsProperties(t *testing.T) {
	edited, refused := 0, 0
	property := func(t *rapid.T) {
		in, set := drawConfig(t), drawSet(t)
		out, err := EditExtraArgs(in, set)
		if err != nil {
			refused++
			if !slices.ContainsFunc(set, func(s manifest.Setting) bool { return s.Absent }) {
				t.Fatalf("EditExtraArgs(%v): %v\n%s", set, err, in)
			}
			return
		}
		edited++
		if err := wrongEdit(in, out, set); err != nil {
			t.Fatalf("EditExtraArgs(%v): %v\n%s", set, err, in)
		}
		if kept := commentsOf(in); !slices.Equal(kept, commentsOf(out)) {
			t.Fatalf("EditExtraArgs(%v) lost a comment:\n%s", set, manifest.Diff("kubeadm-config", in, out))
		}
	}
	for range 3 {
		rapid.Check(t, property)
	}
	t.Logf("%d edited, %d refused", edited, refused)
}

func commentsOf(text []byte) []string {
	var all []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if _, comment, found := strings.Cut(line, "#"); found {
			all = append(all, strings.TrimSuffix(comment, "\r"))
		}
	}
	return all
}

// TestWithAndRestoredProperties rolls flags out one after another and puts back what was there.
func TestWithAndRestoredProperties(t *testing.T) {
	property := func(t *rapid.T) {
		in := KubeadmConfig{ClusterConfiguration: string(drawConfig(t))}
		at := in
		for range rapid.IntRange(1, 4).Draw(t, "rollouts") {
			var flags v1alpha1.Flags
			for _, s := range drawSet(t) {
				if number, err := strconv.ParseInt(s.Value, 10, 32); err == nil {
					flags.Set(s.Name, int32(number))
				}
			}
			next, err := at.With(flags)
			if err != nil {
				t.Fatalf("With(%s): %v\n%s", flags, err, at.ClusterConfiguration)
			}
			at = next
		}
		back, err := at.Restored()
		if err != nil {
			return // A line was written to that has a comment: nothing of it is lost.
		}
		before, err := decodedConfig([]byte(in.ClusterConfiguration))
		if err != nil {
			t.Fatal(err)
		}
		after, err := decodedConfig([]byte(back.ClusterConfiguration))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before.rest, after.rest); diff != "" || !slices.Equal(before.args, after.args) || back.Originals != "" {
			t.Fatalf("%v came back as %v, remembering %q\n%s", before.args, after.args, back.Originals, diff)
		}
	}
	rapid.Check(t, property)
}

// FuzzEditExtraArgs feeds arbitrary texts: each is refused or edited so that nothing but the settings differs.
func FuzzEditExtraArgs(f *testing.F) {
	for i, name := range slices.Sorted(maps.Keys(kubeadmConfigs)) {
		f.Add(kubeadmConfigFile(f, name+".in.yaml"), uint16(50+i), uint16(i), i%3 == 0)
	}
	f.Fuzz(func(t *testing.T, in []byte, rate, workers uint16, absent bool) {
		set := []manifest.Setting{
			{Name: v1alpha1.FlagKubeAPIQPS, Value: strconv.Itoa(int(rate))},
			{Name: v1alpha1.FlagConcurrentEndpointSyncs, Absent: absent},
		}
		if !absent {
			set[1].Value = strconv.Itoa(int(workers))
		}
		if _, err := tryEdit(in, set); err != nil {
			t.Fatal(err)
		}
	})
}

// tryEdit edits an arbitrary text, reports whether that was done rather than refused, and returns what is wrong with the
// result.
func tryEdit(in []byte, set []manifest.Setting) (done bool, wrong error) {
	out, err := EditExtraArgs(in, set)
	switch {
	case err == nil:
		return true, wrongEdit(in, out, set)
	case out != nil:
		return false, errors.New("a text besides an error")
	}
	return false, nil
}

// TestEditExtraArgsMutants damages configurations the way hands and scripts do.
func TestEditExtraArgsMutants(t *testing.T) {
	names := slices.Sorted(maps.Keys(kubeadmConfigs))
	edited, refused := 0, 0
	property := func(t *rapid.T) {
		text := string(kubeadmConfigFile(t, rapid.SampledFrom(names).Draw(t, "file")+".in.yaml"))
		for range rapid.IntRange(1, 3).Draw(t, "mutations") {
			text = mutated(t, text)
		}
		done, err := tryEdit([]byte(text), drawSet(t))
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, text)
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

// mutated makes one change of a kind that moves the meaning of YAML.
func mutated(t *rapid.T, text string) string {
	lines := strings.SplitAfter(text, "\n")
	at := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
	line := lines[at]
	column := rapid.IntRange(0, len(line)).Draw(t, "column")
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		lines[at] = ""
	case 1:
		lines[at] = line + line
	case 2:
		lines[at] = rapid.SampledFrom([]string{" ", "  ", "\t"}).Draw(t, "indent") + line
	case 3:
		lines[at] = strings.TrimPrefix(line, "  ")
	case 4:
		sign := rapid.SampledFrom([]string{
			"#", " #", ": ", "- ", "&a ", "*a", "!!str ", "|", ">", "'", "\"", "[", "]", "{", "}", ",", "%", "?", "=", "-", "_",
			"\n", "\r", "\t", "\\", "<<: ", "---\n", "\u2028", "\uFEFF", "0", "é",
		}).Draw(t, "sign")
		lines[at] = line[:column] + sign + line[column:]
	case 5:
		lines[at] = line + rapid.SampledFrom([]string{
			"  - name: kube-api-qps\n    value: \"7\"\n", "  - {name: kube-api-qps, value: 7}\n", "  - name: kube_api_qps\n    value: >-\n      7\n",
			"  extraArgs:\n", "controllerManager:\n", "  - value: '7'\n    name: \"kube-api-\\x71ps\"\n",
		}).Draw(t, "argument")
	}
	return strings.Join(lines, "")
}
