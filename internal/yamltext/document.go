// Package yamltext reads one YAML document both for what it means and for where it stands, so that a few values can be
// changed in its text and every other byte kept. It knows no schema, does no I/O, and refuses what may mean two things.
package yamltext

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	sigsyaml "sigs.k8s.io/yaml"
)

// MaxBytes is the size of the largest text that is read. What kubeadm writes has about 4 KiB.
const MaxBytes = 256 << 10

// Document is the only document of a text.
type Document struct {
	Lines []Line     // whose concatenation is the text
	Root  *yaml.Node // where everything stands; without anchors, aliases and merge keys
	Value any        // the same as Kubernetes' strict parser has it, numbers as json.Number
}

// Line is one line of a text and the break that ends it: "\n", "\r\n", or nothing at the end of the text.
type Line struct{ Text, Ending string }

// Place is where the text of a scalar stands without its quotes, in bytes of one line.
type Place struct {
	Line       int // from 0
	Start, End int
	quote      int // bytes of the quote on either side
}

// Parse reads a text, or returns an error that goes on from the text's name: "has a carriage return …".
func Parse(text []byte) (*Document, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	root, err := loadNodes(text)
	if err != nil {
		return nil, err
	}
	decoded, err := sigsyaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, unreadable(err)
	}
	value, err := DecodeJSON(decoded)
	if err != nil {
		return nil, err
	}
	return &Document{Lines: SplitLines(string(text)), Root: root, Value: value}, nil
}

// checkText refuses what is not plain text of a sensible size. The line breaks that only YAML knows are refused so
// that the parser's line numbers are ours.
func checkText(text []byte) error {
	const byteOrderMark = "\uFEFF"
	switch rest := strings.TrimPrefix(string(text[:min(len(text), MaxBytes+1)]), byteOrderMark); {
	case len(bytes.TrimSpace(text)) == 0:
		return errors.New("is empty")
	case len(text) > MaxBytes:
		return fmt.Errorf("has %d bytes, more than %d", len(text), MaxBytes)
	case !utf8.ValidString(rest) || strings.ContainsRune(rest, 0):
		return errors.New("is not UTF-8 text")
	case strings.ContainsAny(rest, "\u0085\u2028\u2029"+byteOrderMark):
		return errors.New("has a Unicode line break or byte order mark inside")
	case strings.Contains(strings.ReplaceAll(rest, "\r\n", "\n"), "\r"):
		return errors.New("has a carriage return that is not part of a line end")
	}
	return nil
}

// unreadable passes on a parser's error, which may name every line of the text: on one line, and cut.
func unreadable(err error) error {
	return fmt.Errorf("cannot be read as YAML: %.200s", strings.Join(strings.Fields(err.Error()), " "))
}

// loadNodes returns the root of the only document.
func loadNodes(text []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, unreadable(err)
	}
	var document, next yaml.Node
	if err = loader.Load(&document); err != nil {
		return nil, unreadable(err)
	}
	if err = loader.Load(&next); !errors.Is(err, io.EOF) {
		return nil, errors.New("must hold exactly one YAML document")
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, errors.New("must hold exactly one YAML document")
	}
	return document.Content[0], refuseSharing(&document)
}

// refuseSharing refuses anchors, aliases and merge keys: with them, one piece of text may mean several things.
func refuseSharing(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		return fmt.Errorf("has YAML anchors or aliases in line %d, which are not supported: write it out", node.Line)
	}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && child.Value == "<<" {
			return fmt.Errorf("has YAML merge keys in line %d, which are not supported: write it out", child.Line)
		}
		if err := refuseSharing(child); err != nil {
			return err
		}
	}
	return nil
}

// DecodeJSON decodes one JSON value, numbers as json.Number.
func DecodeJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var decoded any
	if err := decoder.Decode(&decoded); err != nil {
		return nil, unreadable(err)
	}
	return decoded, nil
}

// Field follows keys down nested objects; nil if one is missing.
func Field(value any, keys ...string) any {
	for _, key := range keys {
		m, _ := value.(map[string]any)
		value = m[key]
	}
	return value
}

// Entry is one key of a mapping with its value.
type Entry struct{ Key, Value *yaml.Node }

// Entries returns the entries of a mapping as they stand, none if the node is no mapping.
func Entries(mapping *yaml.Node) []Entry {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	var all []Entry
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		all = append(all, Entry{mapping.Content[i], mapping.Content[i+1]})
	}
	return all
}

// Lookup returns the entry of a key in a mapping, an empty one if there is none.
func Lookup(mapping *yaml.Node, key string) Entry {
	for _, e := range Entries(mapping) {
		if e.Key.Value == key {
			return e
		}
	}
	return Entry{}
}

// Locate finds a scalar's text. It reports false for what is no scalar, and if the text does not stand on one line, quotes
// aside, exactly as it is meant.
func (d *Document) Locate(scalar *yaml.Node) (Place, bool) {
	if scalar == nil || scalar.Kind != yaml.ScalarNode || scalar.Line < 1 || scalar.Line > len(d.Lines) {
		return Place{}, false
	}
	at := scalar.Line - 1
	text := d.Lines[at].Text
	start, ok := byteOffset(text, scalar.Column-1)
	if !ok {
		return Place{}, false
	}
	quote := ""
	switch {
	case scalar.Style&yaml.SingleQuotedStyle != 0:
		quote = "'"
	case scalar.Style&yaml.DoubleQuotedStyle != 0:
		quote = `"`
	}
	if !strings.HasPrefix(text[start:], quote+scalar.Value+quote) {
		return Place{}, false
	}
	start += len(quote)
	return Place{Line: at, Start: start, End: start + len(scalar.Value), quote: len(quote)}, true
}

// Before returns what stands on the line in front of a scalar and its quote.
func (d *Document) Before(p Place) string { return d.Lines[p.Line].Text[:p.Start-p.quote] }

// Behind returns what stands on the line behind a scalar and its quote.
func (d *Document) Behind(p Place) string { return d.Lines[p.Line].Text[p.End+p.quote:] }

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

// SplitLines cuts text after each line feed. The concatenation of all lines is the text.
func SplitLines(text string) []Line {
	var lines []Line
	for part := range strings.SplitAfterSeq(text, "\n") {
		if part == "" {
			continue
		}
		body := strings.TrimSuffix(part, "\n")
		body = strings.TrimSuffix(body, "\r")
		lines = append(lines, Line{Text: body, Ending: part[len(body):]})
	}
	return lines
}
