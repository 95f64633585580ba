package yamltext

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

func mustParse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return d
}

func TestParseRefuses(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"nothing":                  {" \n", "is empty"},
		"too much":                 {"a: " + strings.Repeat("b", MaxBytes), "bytes, more than"},
		"another encoding":         {"a: \xff", "is not UTF-8 text"},
		"a line break of YAML's":   {"a: \u2028b", "Unicode line break"},
		"a carriage return inside": {"a: b\rc: d\n", "carriage return"},
		"two documents":            {"a: b\n---\nc: d\n", "exactly one YAML document"},
		"an anchor":                {"a: &x b\n", "anchors or aliases in line 1"},
		"a merge key":              {"a: b\n<<: {c: d}\n", "merge keys in line 2"},
		"a key twice":              {"a: b\na: c\n", "cannot be read as YAML"},
		"no YAML":                  {"a: [\n", "cannot be read as YAML"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte(tt.text))
			if d != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse = %v, %v; want an error with %q", d, err, tt.want)
			}
		})
	}
}

func TestLocate(t *testing.T) {
	type found struct{ Before, Text, Behind string }
	tests := map[string]struct {
		text string
		want *found // of the value of a, nil: not found
	}{
		"plain":                     {"a: b # c\n", &found{"a: ", "b", " # c"}},
		"in single quotes":          {"a: 'b' \r\n", &found{"a: ", "b", " "}},
		"in double quotes":          {`{a: "b"}`, &found{"{a: ", "b", "}"}},
		"behind other than ASCII":   {`{"é": 1, a: "b"}`, &found{`{"é": 1, a: `, "b", "}"}},
		"on the line after the key": {"a:\n  b\n", &found{"  ", "b", ""}},
		"with an escape":            {`a: "\x62"`, nil},
		"with a quote in it":        {"a: 'b''c'\n", nil},
		"over two lines":            {"a: b\n  c\n", nil},
		"as a block":                {"a: |-\n  b\n", nil},
		"with a tag":                {"a: !!str b\n", nil},
		"not a scalar":              {"a: [b]\n", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := mustParse(t, tt.text)
			var got *found
			if p, ok := d.Locate(Lookup(d.Root, "a").Value); ok {
				got = &found{d.Before(p), d.Lines[p.Line].Text[p.Start:p.End], d.Behind(p)}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Locate (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLookupInWhatIsNoMapping(t *testing.T) {
	d := mustParse(t, "[a, b]\n")
	for _, node := range []*yaml.Node{nil, d.Root, d.Root.Content[0]} {
		if got := Lookup(node, "a"); got != (Entry{}) {
			t.Errorf("Lookup = %v, want nothing", got)
		}
	}
	if got := Field(d.Value, "a"); got != nil {
		t.Errorf("Field = %v, want nothing", got)
	}
}

func TestEdit(t *testing.T) {
	tests := map[string]struct {
		text   string
		change func(*Edit)
		want   string
	}{
		"nothing":                               {"a\nb", func(*Edit) {}, "a\nb"},
		"two replacements in a line":            {"abcd\n", func(e *Edit) { e.Replace(0, 0, 1, "xx"); e.Replace(0, 3, 4, "") }, "xxbc\n"},
		"insertions keep their order and break": {"a\r\nb\n", func(e *Edit) { e.InsertAfter(0, "1"); e.InsertAfter(0, "2") }, "a\r\n1\r\n2\r\nb\n"},
		"an insertion after a removed line":     {"a\nb\n", func(e *Edit) { e.Remove(0); e.InsertAfter(0, "1") }, "1\nb\n"},
		"an insertion at an open end":           {"a\r\nb", func(e *Edit) { e.InsertAfter(1, "1") }, "a\r\nb\r\n1"},
		"an insertion after one open line":      {"a", func(e *Edit) { e.InsertAfter(0, "1") }, "a\n1"},
		"a removal at an open end":              {"a\nb", func(e *Edit) { e.Remove(1) }, "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := NewEdit(SplitLines(tt.text))
			tt.change(e)
			if got := string(e.Bytes()); got != tt.want {
				t.Errorf("Bytes() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLinesHoldTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("([a-c]|\r?\n)+").Draw(t, "text")
		var joined strings.Builder
		for _, l := range SplitLines(text) {
			joined.WriteString(l.Text + l.Ending)
		}
		if edited := string(NewEdit(SplitLines(text)).Bytes()); joined.String() != text || edited != text {
			t.Fatalf("the lines of %q hold %q, and without a change give %q", text, joined.String(), edited)
		}
	})
}
