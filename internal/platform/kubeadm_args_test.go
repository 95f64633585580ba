package platform

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
// Those named kubeadm-…, and folded-and-block-values, are what `kubeadm init` v1.37.2 uploads
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

func kubeadmConfigFile(t rapid.TB, name string) []byte {
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
