package platform

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

var updateKubeadmConfig = flag.Bool("update-kubeadm-config", false, "rewrite testdata/kubeadm-config/*.out.yaml")

func setting(name, value string) manifest.Setting {
	return manifest.Setting{Name: name, Value: value, Absent: value == ""}
}

var (
	tuned = []manifest.Setting{
		setting(v1alpha1.FlagKubeAPIQPS, "300"), setting(v1alpha1.FlagKubeAPIBurst, "325"),
		setting(v1alpha1.FlagConcurrentEndpointSyncs, "50"), setting(v1alpha1.FlagConcurrentServiceEndpointSyncs, "50"),
	}
	untuned = []manifest.Setting{
		setting(v1alpha1.FlagKubeAPIQPS, ""), setting(v1alpha1.FlagKubeAPIBurst, ""),
		setting(v1alpha1.FlagConcurrentEndpointSyncs, ""), setting(v1alpha1.FlagConcurrentServiceEndpointSyncs, ""),
	}
	rates = []manifest.Setting{setting(v1alpha1.FlagKubeAPIQPS, "100"), setting(v1alpha1.FlagKubeAPIBurst, "150")}
)

// kubeadmConfigs are the settings made in testdata/kubeadm-config/<name>.in.yaml; the result stands in <name>.out.yaml.
// Those named kubeadm-…, remove… without a comment, and folded-and-block-values are what `kubeadm init` v1.37.2 uploads
// (app/phases/uploadconfig: MarshalKubeadmConfigObject of the defaulted configuration).
var kubeadmConfigs = map[string][]manifest.Setting{
	"kubeadm-init":              tuned,
	"kubeadm-extra-args":        tuned,
	"kubeadm-extra-volumes":     tuned,
	"folded-and-block-values":   tuned,
	"no-controller-manager":     rates,
	"null-controller-manager":   rates,
	"empty-list":                rates,
	"null-list":                 rates,
	"crlf":                      tuned,
	"no-final-line-break":       rates,
	"comments":                  tuned,
	"underscores-and-flow":      tuned,
	"json":                      rates,
	"only-ours":                 tuned,
	"already-as-wanted":         rates,
	"remove":                    untuned,
	"remove-all":                untuned,
	"remove-all-but-a-comment":  untuned,
	"remove-one-insert-another": {setting(v1alpha1.FlagKubeAPIQPS, ""), setting(v1alpha1.FlagKubeAPIBurst, "150")},
}

func TestEditExtraArgsGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/kubeadm-config/*.in.yaml")
	if err != nil || len(files) != len(kubeadmConfigs) {
		t.Fatalf("%d input files for %d cases (%v)", len(files), len(kubeadmConfigs), err)
	}
	for name, set := range kubeadmConfigs {
		t.Run(name, func(t *testing.T) {
			in := kubeadmConfigFile(t, name+".in.yaml")
			got, err := EditExtraArgs(in, set)
			if err != nil {
				t.Fatal(err)
			}
			if *updateKubeadmConfig {
				golden := filepath.Join("testdata/kubeadm-config", name+".out.yaml")
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(kubeadmConfigFile(t, name+".out.yaml")), string(got)); diff != "" {
				t.Errorf("EditExtraArgs(%s, %v) (-want +got):\n%s", name, set, diff)
			}
			if err := wrongEdit(in, got, set); err != nil {
				t.Error(err)
			}
		})
	}
}

func kubeadmConfigFile(t interface {
	Helper()
	Fatal(...any)
}, name string,
) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/kubeadm-config", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// wrongEdit holds a successful edit to what EditExtraArgs promises, by a parser and a comparison of their own.
func wrongEdit(in, out []byte, set []manifest.Setting) error {
	again, err := EditExtraArgs(out, set)
	if err != nil || !bytes.Equal(again, out) {
		return fmt.Errorf("a second edit: %w\n%s", err, manifest.Diff("kubeadm-config", out, again))
	}
	before, err := decodedConfig(in)
	if err != nil {
		return err
	}
	after, err := decodedConfig(out)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(before.rest, after.rest); diff != "" {
		return fmt.Errorf("something else changed (-in +out):\n%s", diff)
	}
	if diff := cmp.Diff(afterKubeadm(before.args, set), after.args); diff != "" {
		return fmt.Errorf("the arguments are not as they were set (-want +got):\n%s", diff)
	}
	return nil
}

// config is a ClusterConfiguration as an ordinary decoder sees it.
type config struct {
	args [][2]string
	rest map[string]any
}

func decodedConfig(text []byte) (config, error) {
	var c config
	if err := sigsyaml.Unmarshal(text, &c.rest); err != nil {
		return c, err
	}
	component, _ := c.rest["controllerManager"].(map[string]any)
	list, _ := component["extraArgs"].([]any)
	for _, element := range list {
		arg, _ := element.(map[string]any)
		name, named := arg["name"].(string)
		value, valued := arg["value"].(string)
		if !named || !valued {
			return c, fmt.Errorf("argument %v is not a name and a value", element)
		}
		c.args = append(c.args, [2]string{name, value})
	}
	delete(component, "extraArgs")
	if len(component) == 0 {
		delete(c.rest, "controllerManager")
	}
	return c, nil
}

// afterKubeadm is the command line's end that the settings are to lead to.
func afterKubeadm(args [][2]string, set []manifest.Setting) [][2]string {
	wanted := map[string]manifest.Setting{}
	for _, s := range set {
		wanted[s.Name] = s
	}
	var out [][2]string
	for _, arg := range args {
		s, ours := wanted[strings.ReplaceAll(arg[0], "_", "-")]
		delete(wanted, s.Name)
		if ours && s.Absent {
			continue
		}
		if ours {
			arg[1] = s.Value
		}
		out = append(out, arg)
	}
	for _, f := range (v1alpha1.Flags{}).List() {
		if s, missing := wanted[f.Name]; missing && !s.Absent {
			out = append(out, [2]string{s.Name, s.Value})
		}
	}
	return out
}

// TestInsertedArgumentsLeaveNoTrace puts the originals back into what kubeadm wrote.
func TestInsertedArgumentsLeaveNoTrace(t *testing.T) {
	for _, name := range []string{
		"kubeadm-init", "kubeadm-extra-args", "kubeadm-extra-volumes", "folded-and-block-values", "crlf", "no-final-line-break",
	} {
		t.Run(name, func(t *testing.T) {
			in := kubeadmConfigFile(t, name+".in.yaml")
			original, err := ReadExtraArgs(in)
			if err != nil {
				t.Fatal(err)
			}
			back, err := EditExtraArgs(kubeadmConfigFile(t, name+".out.yaml"), original)
			if err != nil || !bytes.Equal(back, in) {
				t.Errorf("EditExtraArgs = %v\n%s", err, manifest.Diff(name, in, back))
			}
		})
	}
}

func TestRefusedClusterConfigurations(t *testing.T) {
	const head = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n"
	args := func(text string) string { return head + "controllerManager:\n  extraArgs:\n" + text }
	tests := map[string]struct{ text, want string }{
		"empty":                     {"", "is empty"},
		"two documents":             {head + "---\n" + head, "exactly one YAML document"},
		"an anchor":                 {args("  - &a {name: v, value: '2'}\n"), "anchors"},
		"a merge key":               {head + "dns: {<<: {a: b}}\n", "merge keys"},
		"a key twice":               {head + "controllerManager: {}\ncontrollerManager: {}\n", "YAML"},
		"another kind":              {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n", "InitConfiguration"},
		"a list":                    {"- a\n", "kind"},
		"the map of v1beta3":        {"apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\ncontrollerManager:\n  extraArgs: {v: '2'}\n", "kubeadm upgrade apply"},
		"the experimental v1":       {"apiVersion: kubeadm.k8s.io/v1\nkind: ClusterConfiguration\n", "only kubeadm.k8s.io/v1beta4"},
		"a map in v1beta4":          {args("    v: '2'\n"), "no list of names and values"},
		"a text for the arguments":  {head + "controllerManager:\n  extraArgs: '--v=2'\n", "no list of names and values"},
		"a text for the component":  {head + "controllerManager: x\n", "no mapping"},
		"a number as a value":       {args("  - {name: kube-api-qps, value: 20}\n"), "quote a number"},
		"a yes as a value":          {args("  - {name: profiling, value: yes}\n"), "quote a number"},
		"no value":                  {args("  - name: v\n"), "not a name and a value"},
		"another field":             {args("  - {name: v, value: '2', mergeMethod: append}\n"), "not a name and a value"},
		"an argument that is text":  {args("  - --v=2\n"), "not a name and a value"},
		"a flag twice":              {args("  - {name: kube-api-qps, value: '20'}\n  - {name: kube-api-qps, value: '30'}\n"), "twice"},
		"a flag twice, underscored": {args("  - {name: kube-api-qps, value: '20'}\n  - {name: kube_api_qps, value: '30'}\n"), "twice"},
		"a flag with its dashes":    {args("  - {name: --kube-api-qps, value: '20'}\n"), "apart"},
		"a flag with its value":     {args("  - {name: kube-api-qps=20, value: ''}\n"), "apart"},
		"a flow list":               {head + "controllerManager:\n  extraArgs: [{name: v, value: '2'}]\n", "no place in line 4"},
		"a flow component":          {head + "controllerManager: {extraVolumes: []}\n", "no place in line 3"},
		"a flow document":           {"{apiVersion: kubeadm.k8s.io/v1beta4, kind: ClusterConfiguration}\n", "no place in line 1"},
		"an empty list within JSON": {`{"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "controllerManager": {}}`, "no place in line 1"},
		"an empty list that spreads": {
			head + "controllerManager:\n  extraArgs: [\n  ]\n", "no place in line 4",
		},
		"a JSON document in lines": {
			"{\"apiVersion\": \"kubeadm.k8s.io/v1beta4\", \"kind\": \"ClusterConfiguration\",\n\"controllerManager\": {}\n}", "line for each name and value",
		},
		"a dash on a line of its own": {args("  -\n    name: v\n    value: '2'\n"), "no place in line 6"},
		"a block text of blank lines": {args("  - name: v\n    value: |+\n      2\n\n"), "cannot be edited with proof"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := EditExtraArgs([]byte(tt.text), rates)
			if got != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("EditExtraArgs = %q, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

// TestRefusedChangesOfArguments are configurations that can be read, and settings that cannot be made in them with proof.
func TestRefusedChangesOfArguments(t *testing.T) {
	config := func(text string) []byte {
		return []byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrollerManager:\n  extraArgs:\n" + text)
	}
	const qps = v1alpha1.FlagKubeAPIQPS
	tests := map[string]struct {
		text []byte
		set  manifest.Setting
		want string
	}{
		"replace a value above the limits": {config("  - {name: kube-api-qps, value: '5000'}\n"), setting(qps, "50"), "could not put back"},
		"remove what is no number":         {config("  - {name: kube-api-qps, value: many}\n"), setting(qps, ""), "could not put back"},
		"replace an escaped value":         {config("  - {name: kube-api-qps, value: \"\\x320\"}\n"), setting(qps, "50"), "in quotes"},
		"replace a block value":            {config("  - name: kube-api-qps\n    value: |-\n      20\n"), setting(qps, "50"), "in quotes"},
		"replace a tagged value":           {config("  - {name: kube-api-qps, value: !!str 20}\n"), setting(qps, "50"), "in quotes"},
		"remove with a comment":            {config("  - name: kube-api-qps # ours\n    value: '20'\n"), setting(qps, ""), "more in line 5"},
		"remove from a flow list":          {config("    [{name: v, value: '2'}, {name: kube-api-qps, value: '20'}]\n"), setting(qps, ""), "more in line 5"},
		"remove what a dash is left of":    {config("  -\n    name: kube-api-qps\n    value: '20'\n  - {name: v, value: '2'}\n"), setting(qps, ""), "line for each name and value"},
		"a value above the limits":         {config("    []\n"), setting(qps, "1001"), "from 1 to 1000"},
		"an unknown flag":                  {config("    []\n"), setting("v", "9"), `"v"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadExtraArgs(tt.text); err != nil {
				t.Fatal(err)
			}
			if got, err := EditExtraArgs(tt.text, []manifest.Setting{tt.set}); got != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("EditExtraArgs(%v) = %q, %v; want an error with %q", tt.set, got, err, tt.want)
			}
			if got, err := EditExtraArgs(tt.text, nil); err != nil || !bytes.Equal(got, tt.text) {
				t.Errorf("no setting changed it: %v", err)
			}
		})
	}
}

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
		if err := tryEdit(in, set); err != nil {
			t.Fatal(err)
		}
	})
}

func tryEdit(in []byte, set []manifest.Setting) error {
	out, err := EditExtraArgs(in, set)
	if err != nil {
		if out != nil {
			return errors.New("a text besides an error")
		}
		return nil
	}
	return wrongEdit(in, out, set)
}

// TestEditExtraArgsMutants damages configurations the way hands and scripts do.
func TestEditExtraArgsMutants(t *testing.T) {
	names := slices.Sorted(maps.Keys(kubeadmConfigs))
	property := func(t *rapid.T) {
		text := string(kubeadmConfigFile(t, rapid.SampledFrom(names).Draw(t, "file")+".in.yaml"))
		for range rapid.IntRange(1, 3).Draw(t, "mutations") {
			text = mutated(t, text)
		}
		if err := tryEdit([]byte(text), drawSet(t)); err != nil {
			t.Fatalf("%v\nin\n%s", err, text)
		}
	}
	for range 3 {
		rapid.Check(t, property)
	}
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
