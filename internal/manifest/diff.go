package manifest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

// diffContext is how many unchanged lines a unified diff shows around a change: what diff -u does.
const diffContext = 3

// maxDiffCells bounds the work and memory of a diff. Beyond it, all lines between the first and the last difference
// are shown as replaced.
const maxDiffCells = 4 << 20

// diffLine is one line of a diff: ' ' kept, '-' only in the first text, '+' only in the second.
type diffLine struct {
	kind byte
	yamltext.Line
}

// Diff returns what changed between two texts as a unified diff that patch accepts, with the name in its header;
// empty if nothing changed.
func Diff(name string, before, after []byte) string {
	if string(before) == string(after) {
		return ""
	}
	script := diffLines(yamltext.SplitLines(string(before)), yamltext.SplitLines(string(after)))
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s (edited)\n", name, name)
	for start := nextChange(script, 0); start < len(script); {
		end := start + 1
		for next := nextChange(script, end); next < len(script) && next-end <= 2*diffContext; next = nextChange(script, end) {
			end = next + 1
		}
		writeHunk(&out, script, max(0, start-diffContext), min(len(script), end+diffContext))
		start = nextChange(script, end)
	}
	return out.String()
}

func nextChange(script []diffLine, from int) int {
	for from < len(script) && script[from].kind == ' ' {
		from++
	}
	return from
}

func writeHunk(out *strings.Builder, script []diffLine, from, to int) {
	at := map[byte]int{}
	for _, l := range script[:from] {
		at[l.kind]++
	}
	in := map[byte]int{}
	for _, l := range script[from:to] {
		in[l.kind]++
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", hunkRange(at[' ']+at['-'], in[' ']+in['-']), hunkRange(at[' ']+at['+'], in[' ']+in['+']))
	for _, l := range script[from:to] {
		out.WriteString(string(l.kind) + l.Text + l.Ending)
		if l.Ending == "" {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// hunkRange is a start and a length; an empty range starts at the line before it.
func hunkRange(before, length int) string {
	if length > 0 {
		before++
	}
	return fmt.Sprintf("%d,%d", before, length)
}

// diffLines keeps a longest common subsequence of the lines.
func diffLines(a, b []yamltext.Line) []diffLine {
	var script []diffLine
	add := func(kind byte, lines ...yamltext.Line) {
		for _, l := range lines {
			script = append(script, diffLine{kind, l})
		}
	}
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		add(' ', a[0])
		a, b = a[1:], b[1:]
	}
	var tail []yamltext.Line
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, a[len(a)-1])
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	if len(a)*len(b) > maxDiffCells {
		add('-', a...)
		add('+', b...)
	} else {
		common := commonLengths(a, b)
		i, j := 0, 0
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				add(' ', a[i])
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				add('-', a[i])
				i++
			default:
				add('+', b[j])
				j++
			}
		}
		add('-', a[i:]...)
		add('+', b[j:]...)
	}
	add(' ', tail...)
	return script
}

// commonLengths[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
func commonLengths(a, b []yamltext.Line) [][]int32 {
	table := make([][]int32, len(a)+1)
	for i := range table {
		table[i] = make([]int32, len(b)+1)
	}
	for i, left := range slices.Backward(a) {
		for j, right := range slices.Backward(b) {
			if left == right {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}
