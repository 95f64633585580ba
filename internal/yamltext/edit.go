package yamltext

import (
	"slices"
	"strings"
)

// Edit collects changes to a text, line by line. It proves nothing: parse what it gives.
type Edit struct {
	lines    []Line
	splices  map[int][]splice
	removed  map[int]bool
	inserted map[int][]string
}

// splice puts a text in the place of the bytes from start to end of a line.
type splice struct {
	start, end int
	text       string
}

// NewEdit returns an edit without changes.
func NewEdit(lines []Line) *Edit {
	return &Edit{lines: lines, splices: map[int][]splice{}, removed: map[int]bool{}, inserted: map[int][]string{}}
}

// Replace puts a text in the place of the bytes from start to end of a line. Two replacements may not overlap.
func (e *Edit) Replace(line, start, end int, text string) {
	e.splices[line] = append(e.splices[line], splice{start, end, text})
}

// Remove takes a line out. What is inserted after it stays.
func (e *Edit) Remove(line int) { e.removed[line] = true }

// InsertAfter puts a line, with the same line break, after another and after what was inserted there before.
func (e *Edit) InsertAfter(line int, text string) { e.inserted[line] = append(e.inserted[line], text) }

// Bytes returns the text with all changes made, in a slice of its own. A last line without a break stays without one.
func (e *Edit) Bytes() []byte {
	lines := slices.Clone(e.lines)
	final := &lines[len(lines)-1]
	open := final.Ending == ""
	if open {
		final.Ending = breakOf(e.lines)
	}
	var out strings.Builder
	ending := ""
	for i, l := range lines {
		if !e.removed[i] {
			out.WriteString(spliced(l.Text, e.splices[i]) + l.Ending)
			ending = l.Ending
		}
		for _, text := range e.inserted[i] {
			out.WriteString(text + l.Ending)
			ending = l.Ending
		}
	}
	text := out.String()
	if open {
		text = strings.TrimSuffix(text, ending)
	}
	return []byte(text)
}

// breakOf returns the line break of a text whose last line has none.
func breakOf(lines []Line) string {
	if len(lines) < 2 {
		return "\n"
	}
	return lines[len(lines)-2].Ending
}

// spliced makes the replacements from right to left: those that are left keep their place.
func spliced(text string, splices []splice) string {
	for _, s := range slices.SortedFunc(slices.Values(splices), func(a, b splice) int { return b.start - a.start }) {
		text = text[:s.start] + s.text + text[s.end:]
	}
	return text
}
