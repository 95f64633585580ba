package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	sigsyaml "sigs.k8s.io/yaml"
)

// Fields of a container whose lists make up its argument vector, in that order.
const (
	fieldCommand = "command"
	fieldArgs    = "args"
)

// target is a manifest that was understood: the kube-controller-manager static Pod and where its arguments stand.
type target struct {
	lines     []line
	decoded   any // as the kubelet's parser has it, numbers as json.Number
	container int // index in spec.containers
	argv      []argument
	flags     map[string]int // allow-listed flag → index in argv
	openEnd   bool           // the last argument may take the next one as its value
}

// line is one line of text and the break that ends it: "\n", "\r\n", or nothing at the end of the text.
type line struct{ text, ending string }

// argument is one element of command or args.
type argument struct {
	text  string
	field string
	block bool // the list is written one element a line
	node  *yaml.Node
}

// place is where an argument's text stands, without its quotes, in bytes.
type place struct {
	line    int
	start   int
	prefix  int  // bytes of indentation and dash in front, quote not included
	ownLine bool // nothing else stands on the line but a comment
	comment bool // a comment stands behind it
}

// parse understands a manifest or refuses it. Two parsers read it: the kubelet's, strictly, for what it means, and one
// that knows positions; they must agree on every argument.
func parse(manifest []byte) (*target, error) {
	if err := checkText(manifest); err != nil {
		return nil, err
	}
	root, err := loadNodes(manifest)
	if err != nil {
		return nil, err
	}
	decoded, err := decodeStrictly(manifest)
	if err != nil {
		return nil, err
	}
	container, err := findContainer(decoded)
	if err != nil {
		return nil, err
	}
	t := &target{lines: splitLines(string(manifest)), decoded: decoded, container: container}
	if t.argv, err = locateArguments(root, decoded, container); err != nil {
		return nil, err
	}
	return t, t.readFlags()
}

// checkText refuses what is not plain text of a sensible size. The line breaks that only YAML knows are refused so
// that the parser's line numbers are ours.
func checkText(manifest []byte) error {
	const byteOrderMark = "\uFEFF"
	switch rest := strings.TrimPrefix(string(manifest[:min(len(manifest), MaxBytes+1)]), byteOrderMark); {
	case len(bytes.TrimSpace(manifest)) == 0:
		return unsupported("the manifest is empty")
	case len(manifest) > MaxBytes:
		return unsupported("the manifest has %d bytes, more than %d", len(manifest), MaxBytes)
	case !utf8.ValidString(rest) || strings.ContainsRune(rest, 0):
		return unsupported("the manifest is not UTF-8 text")
	case strings.ContainsAny(rest, "\u0085\u2028\u2029"+byteOrderMark):
		return unsupported("the manifest has a Unicode line break or byte order mark inside")
	case strings.Contains(strings.ReplaceAll(rest, "\r\n", "\n"), "\r"):
		return unsupported("the manifest has a carriage return that is not part of a line end")
	}
	return nil
}

// unreadable refuses with a parser's error, which may name every line of the manifest: on one line, and cut.
func unreadable(err error) error {
	return unsupported("cannot read YAML: %.200s", strings.Join(strings.Fields(err.Error()), " "))
}

// loadNodes returns the root mapping of the only document.
func loadNodes(manifest []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(manifest))
	if err != nil {
		return nil, unreadable(err)
	}
	var document, next yaml.Node
	if err = loader.Load(&document); err != nil {
		return nil, unreadable(err)
	}
	if err = loader.Load(&next); !errors.Is(err, io.EOF) {
		return nil, unsupported("the manifest must hold exactly one YAML document")
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, unsupported("the manifest must hold exactly one YAML document")
	}
	return document.Content[0], refuseSharing(&document)
}

// refuseSharing refuses anchors, aliases and merge keys: with them, one piece of text may mean several things.
func refuseSharing(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		return unsupported("line %d: YAML anchors and aliases are not supported: write the manifest out", node.Line)
	}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && child.Value == "<<" {
			return unsupported("line %d: YAML merge keys are not supported: write the manifest out", child.Line)
		}
		if err := refuseSharing(child); err != nil {
			return err
		}
	}
	return nil
}

// decodeStrictly decodes the manifest with the kubelet's parser, which here refuses duplicate keys.
func decodeStrictly(manifest []byte) (any, error) {
	text, err := sigsyaml.YAMLToJSONStrict(manifest)
	if err != nil {
		return nil, unreadable(err)
	}
	return decodeJSON(text)
}

func decodeJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var decoded any
	if err := decoder.Decode(&decoded); err != nil {
		return nil, unreadable(err)
	}
	return decoded, nil
}

// locateArguments returns the container's arguments with their nodes. Both parsers must see the same.
func locateArguments(root *yaml.Node, decoded any, container int) ([]argument, error) {
	list := lookup(lookup(root, "spec"), "containers")
	if list == nil || list.Kind != yaml.SequenceNode || container >= len(list.Content) {
		return nil, unsupported("spec.containers is not a list")
	}
	object := index(field(decoded, "spec", "containers"), container)
	var argv []argument
	for _, name := range []string{fieldCommand, fieldArgs} {
		texts, _ := stringList(field(object, name))
		node := lookup(list.Content[container], name)
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

// lookup returns the value of a key in a mapping, nil if there is none.
func lookup(mapping *yaml.Node, key string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// locate finds an argument's text. It reports false if the text is not written, quotes aside, exactly as it is meant.
func (t *target) locate(index int) (place, bool) {
	arg := t.argv[index]
	at := arg.node.Line - 1
	if at < 0 || at >= len(t.lines) {
		return place{}, false
	}
	text := t.lines[at].text
	start, ok := byteOffset(text, arg.node.Column-1)
	if !ok {
		return place{}, false
	}
	quote := ""
	switch {
	case arg.node.Style&yaml.SingleQuotedStyle != 0:
		quote = "'"
	case arg.node.Style&yaml.DoubleQuotedStyle != 0:
		quote = `"`
	}
	if !strings.HasPrefix(text[start:], quote+arg.text+quote) {
		return place{}, false
	}
	rest := text[start+len(quote+arg.text+quote):]
	behind := strings.TrimLeft(rest, " \t")
	dash, spaces := strings.CutPrefix(strings.TrimLeft(text[:start], " "), "-")
	return place{
		line:    at,
		start:   start + len(quote),
		prefix:  start,
		ownLine: arg.block && spaces && dash != "" && strings.Trim(dash, " ") == "" && (behind == "" || behind != rest && behind[0] == '#'),
		comment: behind != "",
	}, true
}

// byteOffset turns a column in runes into one in bytes.
func byteOffset(text string, column int) (int, bool) {
	for offset := range text {
		if column == 0 {
			return offset, true
		}
		column--
	}
	return len(text), column == 0
}

// splitLines cuts text after each line feed. The concatenation of all lines is the text; there is at least one.
func splitLines(text string) []line {
	var lines []line
	for part := range strings.SplitAfterSeq(text, "\n") {
		if part == "" {
			continue
		}
		body := strings.TrimSuffix(part, "\n")
		body = strings.TrimSuffix(body, "\r")
		lines = append(lines, line{text: body, ending: part[len(body):]})
	}
	return lines
}

// withLists returns the decoded manifest with the container's arguments replaced. Nothing is shared with the target's
// on the way down to them.
func (t *target) withLists(lists map[string][]any) any {
	container := clone(index(field(t.decoded, "spec", "containers"), t.container))
	for name, list := range lists {
		if old, ok := container[name].([]any); ok && len(old) > 0 {
			container[name] = list
		}
	}
	containers, _ := field(t.decoded, "spec", "containers").([]any)
	containers = append([]any{}, containers...)
	containers[t.container] = container
	spec := clone(field(t.decoded, "spec"))
	spec["containers"] = containers
	pod := clone(t.decoded)
	pod["spec"] = spec
	return pod
}

func (t *target) equals(decoded any) bool { return reflect.DeepEqual(t.decoded, decoded) }
