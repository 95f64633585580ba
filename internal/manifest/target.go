package manifest

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

// Fields of a container whose lists make up its argument vector, in that order.
const (
	fieldCommand = "command"
	fieldArgs    = "args"
)

// target is a manifest that was understood: the kube-controller-manager static Pod and where its arguments stand.
type target struct {
	*yamltext.Document
	container int // index in spec.containers
	argv      []argument
	flags     map[string]int // allow-listed flag → index in argv
	openEnd   bool           // the last argument may take the next one as its value
}

// argument is one element of command or args.
type argument struct {
	text  string
	field string
	block bool // the list is written one element a line
	node  *yaml.Node
}

// place is where an argument's text stands.
type place struct {
	yamltext.Place
	ownLine bool // nothing else stands on the line but a comment
	comment bool // a comment stands behind it
}

// parse understands a manifest or refuses it. Two parsers read it: the kubelet's, strictly, for what it means, and one
// that knows positions; they must agree on every argument.
func parse(manifest []byte) (*target, error) {
	document, err := yamltext.Parse(manifest)
	if err != nil {
		return nil, unsupported("the manifest %v", err)
	}
	container, err := findContainer(document.Value)
	if err != nil {
		return nil, err
	}
	t := &target{Document: document, container: container}
	if t.argv, err = locateArguments(document, container); err != nil {
		return nil, err
	}
	return t, t.readFlags()
}

// locateArguments returns the container's arguments with their nodes. Both parsers must see the same.
func locateArguments(document *yamltext.Document, container int) ([]argument, error) {
	list := yamltext.Lookup(yamltext.Lookup(document.Root, "spec").Value, "containers").Value
	if list == nil || list.Kind != yaml.SequenceNode || container >= len(list.Content) {
		return nil, unsupported("spec.containers is not a list")
	}
	object := index(yamltext.Field(document.Value, "spec", "containers"), container)
	var argv []argument
	for _, name := range []string{fieldCommand, fieldArgs} {
		texts, _ := stringList(yamltext.Field(object, name))
		node := yamltext.Lookup(list.Content[container], name).Value
		if len(texts) == 0 {
			continue
		}
		if node == nil || node.Kind != yaml.SequenceNode || len(node.Content) != len(texts) {
			return nil, unsupported("the container's %s is not a plain list", name)
		}
		for i, item := range node.Content {
			if item.Kind != yaml.ScalarNode || item.Value != texts[i] {
				return nil, unsupported("line %d: %q is ambiguous: quote it", item.Line, texts[i])
			}
			argv = append(argv, argument{text: texts[i], field: name, block: node.Style&yaml.FlowStyle == 0, node: item})
		}
	}
	return argv, nil
}

// locate finds an argument's text. It reports false if the text is not written, quotes aside, exactly as it is meant.
func (t *target) locate(index int) (place, bool) {
	arg := t.argv[index]
	at, ok := t.Locate(arg.node)
	if !ok {
		return place{}, false
	}
	rest := t.Behind(at)
	behind := strings.TrimLeft(rest, " \t")
	dash, spaces := strings.CutPrefix(strings.TrimLeft(t.Before(at), " "), "-")
	return place{
		Place:   at,
		ownLine: arg.block && spaces && dash != "" && strings.Trim(dash, " ") == "" && (behind == "" || behind != rest && behind[0] == '#'),
		comment: behind != "",
	}, true
}

// withLists returns the decoded manifest with the container's arguments replaced. Nothing is shared with the target's
// on the way down to them.
func (t *target) withLists(lists map[string][]any) any {
	container := clone(index(yamltext.Field(t.Value, "spec", "containers"), t.container))
	for name, list := range lists {
		if old, ok := container[name].([]any); ok && len(old) > 0 {
			container[name] = list
		}
	}
	containers, _ := yamltext.Field(t.Value, "spec", "containers").([]any)
	containers = append([]any{}, containers...)
	containers[t.container] = container
	spec := clone(yamltext.Field(t.Value, "spec"))
	spec["containers"] = containers
	pod := clone(t.Value)
	pod["spec"] = spec
	return pod
}

func (t *target) equals(value any) bool { return reflect.DeepEqual(t.Value, value) }
