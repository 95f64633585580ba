package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// columnGap separates columns.
const columnGap = "  "

// Table writes rows under a header, columns aligned: to the right where every cell is a number. Cells may be painted.
// Missing cells are empty; a nil header is left out.
func Table(w io.Writer, header []string, rows [][]string) error {
	all := rows
	if header != nil {
		all = slices.Insert(slices.Clone(rows), 0, header)
	}
	columns := 0
	for _, row := range all {
		columns = max(columns, len(row))
	}
	widths, numeric := make([]int, columns), make([]bool, columns)
	for c := range columns {
		for _, row := range all {
			widths[c] = max(widths[c], visibleWidth(cell(row, c)))
		}
		numeric[c] = isNumeric(rows, c)
	}
	var text strings.Builder
	for _, row := range all {
		cells := make([]string, columns)
		for c := range columns {
			cells[c] = align(cell(row, c), widths[c], numeric[c])
		}
		text.WriteString(strings.TrimRight(strings.Join(cells, columnGap), " ") + "\n")
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("print a table: %w", err)
	}
	return nil
}

func cell(row []string, c int) string {
	if c < len(row) {
		return row[c]
	}
	return ""
}

// isNumeric says that every cell of a column that says anything is a number, a bound of one, or a dash.
func isNumeric(rows [][]string, c int) bool {
	numbers := 0
	for _, row := range rows {
		text := painted.ReplaceAllString(cell(row, c), "")
		if text == "" || text == none {
			continue
		}
		if !strings.ContainsAny(text[:1], "0123456789+-") && !strings.HasPrefix(text, atLeast) {
			return false
		}
		numbers++
	}
	return numbers > 0
}

func align(text string, width int, right bool) string { //nolint:revive // a property of the column, not a mode
	pad := strings.Repeat(" ", max(0, width-visibleWidth(text)))
	if right {
		return pad + text
	}
	return text + pad
}
