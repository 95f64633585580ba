package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

func TestDiff(t *testing.T) {
	lines := "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n"
	tests := map[string]struct{ before, after, want string }{
		"nothing changed":  {lines, lines, ""},
		"from nothing":     {"", "1\n", "@@ -0,0 +1,1 @@\n+1\n"},
		"one line":         {lines, strings.Replace(lines, "5\n", "five\n", 1), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"},
		"an insertion":     {"1\n2\n", "1\nx\n2\n", "@@ -1,2 +1,3 @@\n 1\n+x\n 2\n"},
		"no final newline": {"1", "1\nx", "@@ -1,1 +1,2 @@\n-1\n\\ No newline at end of file\n+1\n+x\n\\ No newline at end of file\n"},
		"near changes share a hunk": {
			lines, strings.NewReplacer("\n5\n", "\n", "\n12\n", "\n").Replace(lines),
			"@@ -2,14 +2,12 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n 9\n 10\n 11\n-12\n 13\n 14\n 15\n",
		},
		"far changes do not": {
			lines, strings.NewReplacer("\n5\n", "\n", "\n13\n", "\n").Replace(lines),
			"@@ -2,7 +2,6 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n@@ -10,7 +9,6 @@\n 10\n 11\n 12\n-13\n 14\n 15\n 16\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := tt.want
			if want != "" {
				want = "--- f\n+++ f (edited)\n" + want
			}
			if diff := cmp.Diff(want, Diff("f", []byte(tt.before), []byte(tt.after))); diff != "" {
				t.Errorf("Diff (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiffLinesHoldBothTexts(t *testing.T) {
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a\n", "b\n", "c\r\n"})).Draw(t, "lines"), "")
	})
	rapid.Check(t, func(t *rapid.T) {
		before, after := text.Draw(t, "before"), text.Draw(t, "after")
		var left, right strings.Builder
		for _, l := range diffLines(yamltext.SplitLines(before), yamltext.SplitLines(after)) {
			if l.kind != '+' {
				left.WriteString(l.Text + l.Ending)
			}
			if l.kind != '-' {
				right.WriteString(l.Text + l.Ending)
			}
		}
		if left.String() != before || right.String() != after {
			t.Fatalf("diffLines(%q, %q) holds %q and %q", before, after, &left, &right)
		}
	})
}
