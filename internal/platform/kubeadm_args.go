package platform

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

// Where a ClusterConfiguration has the arguments of kube-controller-manager.
const (
	componentKey = "controllerManager"
	argsKey      = "extraArgs"
)

// kubeadmVersion is the one version of kubeadm's API whose ClusterConfiguration is understood: what kubeadm 1.31 and later
// store, and the first whose extraArgs are a list, in an order that kubeadm keeps.
const kubeadmVersion = "kubeadm.k8s.io/v1beta4"

// extraArgs is a ClusterConfiguration that was understood.
type extraArgs struct {
	*yamltext.Document
	component yamltext.Entry // controllerManager, empty if it is not there
	list      yamltext.Entry // its extraArgs, empty if they are not there
	args      []extraArg
	flags     map[string]int // allow-listed flag → index in args
}

// extraArg is one element of extraArgs.
type extraArg struct {
	name, value string
	item        *yaml.Node
}

// ReadExtraArgs returns the four allow-listed flags as a ClusterConfiguration gives them to kube-controller-manager, in
// canonical order, Absent where it does not.
func ReadExtraArgs(clusterConfiguration []byte) ([]manifest.Setting, error) {
	x, err := parseExtraArgs(clusterConfiguration)
	if err != nil {
		return nil, err
	}
	var all []manifest.Setting
	for _, f := range (v1alpha1.Flags{}).List() {
		all = append(all, x.setting(f.Name))
	}
	return all, nil
}

// parseExtraArgs understands a ClusterConfiguration or refuses it. Two parsers read it, and must agree.
func parseExtraArgs(text []byte) (*extraArgs, error) {
	document, err := yamltext.Parse(text)
	if err != nil {
		return nil, refuse("%v", err)
	}
	version, kind := yamltext.Field(document.Value, "apiVersion"), yamltext.Field(document.Value, "kind")
	switch {
	case kind != "ClusterConfiguration":
		return nil, refuse("is of kind %.40v", kind)
	case version != kubeadmVersion:
		return nil, refuse("is of version %.40v, and only %s is understood: kubeadm 1.31 and later store that with `kubeadm upgrade apply`",
			version, kubeadmVersion)
	}
	x := &extraArgs{Document: document, component: yamltext.Lookup(document.Root, componentKey), flags: map[string]int{}}
	x.list = yamltext.Lookup(x.component.Value, argsKey)
	return x, x.readArgs()
}

// readArgs takes the elements one by one.
func (x *extraArgs) readArgs() error {
	component := yamltext.Field(x.Value, componentKey)
	if _, isMapping := component.(map[string]any); !isMapping && component != nil {
		return refuse("has a %s that is no mapping", componentKey)
	}
	decoded := yamltext.Field(component, argsKey)
	list, isList := decoded.([]any)
	if !isList && decoded != nil {
		return refuse("has %s.%s that are no list of names and values", componentKey, argsKey)
	}
	if len(list) == 0 {
		return nil
	}
	node := x.list.Value
	if node == nil || node.Kind != yaml.SequenceNode || len(node.Content) != len(list) {
		return refuse("has %s.%s that are no plain list", componentKey, argsKey)
	}
	for i, item := range node.Content {
		name, named := yamltext.Field(list[i], "name").(string)
		value, valued := yamltext.Field(list[i], "value").(string)
		switch {
		case !named || !valued || len(item.Content) != 4:
			return refuse("has an argument in line %d that is not a name and a value, both text: quote a number", item.Line)
		case !says(item, "name", name) || !says(item, "value", value):
			return refuse("has an ambiguous argument in line %d: quote it", item.Line)
		}
		x.args = append(x.args, extraArg{name, value, item})
		if err := x.readFlag(i); err != nil {
			return err
		}
	}
	return nil
}

// says whether the parser that knows positions sees the same text under a key.
func says(item *yaml.Node, key, text string) bool {
	node := yamltext.Lookup(item, key).Value
	return node != nil && node.Kind == yaml.ScalarNode && node.Value == text
}

// readFlag notes an allow-listed flag, as kube-controller-manager would read it ("_" as "-").
func (x *extraArgs) readFlag(i int) error {
	arg := x.args[i]
	flag := strings.ReplaceAll(arg.name, "_", "-")
	bare, _, _ := strings.Cut(strings.Trim(flag, "- "), "=")
	_, twice := x.flags[flag]
	switch ours := allowed(bare); {
	case !ours:
	case flag != bare:
		return refuse("has %q in line %d as the name of an argument: write %s and its value apart", arg.name, arg.item.Line, bare)
	case twice:
		return refuse("has %s twice, again in line %d: remove one", bare, arg.item.Line)
	default:
		x.flags[flag] = i
	}
	return nil
}

func allowed(flag string) bool { return (&v1alpha1.Flags{}).Set(flag, 0) }

func (x *extraArgs) setting(name string) manifest.Setting {
	i, given := x.flags[name]
	if !given {
		return manifest.Setting{Name: name, Absent: true}
	}
	return manifest.Setting{Name: name, Value: x.args[i].value}
}

// otherwise returns everything but the arguments. What is empty counts as not there, as it does to kubeadm.
func (x *extraArgs) otherwise() map[string]any {
	rest := map[string]any{}
	root, _ := x.Value.(map[string]any)
	for key, value := range root {
		rest[key] = value
	}
	component := map[string]any{}
	fields, _ := root[componentKey].(map[string]any)
	for key, value := range fields {
		if key != argsKey {
			component[key] = value
		}
	}
	delete(rest, componentKey)
	if len(component) > 0 {
		rest[componentKey] = component
	}
	return rest
}

// pairs returns names and values.
func (x *extraArgs) pairs() [][2]string {
	var all [][2]string
	for _, arg := range x.args {
		all = append(all, [2]string{arg.name, arg.value})
	}
	return all
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("the ClusterConfiguration "+format, args...)
}
