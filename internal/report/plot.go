package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/guptarohit/asciigraph"
)

// Point is one change: when it was made, and how late it was seen.
type Point struct {
	Seconds    float64 `json:"seconds"`    // since the start of the plot
	LagSeconds float64 `json:"lagSeconds"` // until it was published, or until now
}

// Series is the points of one line of a plot, in any order.
type Series struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// PlotOptions are how a plot looks. Zero fields have defaults.
type PlotOptions struct {
	Style   Style
	Caption string
	Height  int     // rows; 0 means 10
	LimitAt float64 // seconds of lag at which to draw the objective; 0 draws none
}

const (
	plotHeight = 10
	// axisColumns is what asciigraph puts to the left of the plot: label, tick and offset.
	axisColumns = 12
	minColumns  = 20
	maxColumns  = 100
	// legendIndent puts the legend under the plot.
	legendIndent = 7
	limitChar    = "-"
)

// seriesColors tell lines apart. The objective is red.
var seriesColors = []asciigraph.AnsiColor{asciigraph.Blue, asciigraph.Green, asciigraph.Yellow, asciigraph.Magenta, asciigraph.Cyan}

// seriesChars tell lines apart where there is no colour.
var seriesChars = []string{"*", "o", "+", "x", "#"}

// LagPlot draws lag over the time at which changes were made. Each column shows the largest lag of the changes in it,
// and nothing where there were none. Without points it writes nothing.
func LagPlot(w io.Writer, series []Series, o PlotOptions) error {
	series = slices.DeleteFunc(slices.Clone(series), func(s Series) bool { return len(s.Points) == 0 })
	if len(series) == 0 {
		return nil
	}
	columns := min(max(o.Style.width()-axisColumns, minColumns), maxColumns)
	from, to := span(series)
	lines := make([][]float64, 0, len(series)+1)
	for _, s := range series {
		lines = append(lines, columnMaxima(s.Points, from, to, columns))
	}
	if o.LimitAt > 0 {
		lines = append(lines, slices.Repeat([]float64{o.LimitAt}, columns))
	}
	text := tidy(asciigraph.PlotMany(lines, o.options(len(series), from, to)...)) + o.legend(series) + "\n"
	if o.Caption != "" {
		text = o.Style.Bold(o.Caption) + "\n" + text
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("print a plot: %w", err)
	}
	return nil
}

func (o PlotOptions) options(lines int, from, to float64) []asciigraph.Option {
	var chars []asciigraph.CharSet
	var colors []asciigraph.AnsiColor
	for i := range lines {
		chars = append(chars, asciigraph.CreateCharSet(seriesChars[i%len(seriesChars)]))
		colors = append(colors, seriesColors[i%len(seriesColors)])
	}
	if o.LimitAt > 0 {
		chars, colors = append(chars, asciigraph.CreateCharSet(limitChar)), append(colors, asciigraph.Red)
	}
	options := []asciigraph.Option{
		asciigraph.Height(cmp.Or(o.Height, plotHeight)), asciigraph.LowerBound(0),
		asciigraph.YAxisValueFormatter(func(v float64) string { return Seconds(max(v, 0)) }), asciigraph.SeriesChars(chars...),
		asciigraph.XAxisRange(from, to), asciigraph.XAxisTickCount(5), asciigraph.XAxisValueFormatter(Seconds),
	}
	if o.Style.Color {
		options = append(options, asciigraph.SeriesColors(colors...))
	}
	return options
}

// legend names the lines. asciigraph's own is painted whatever is asked for.
func (o PlotOptions) legend(series []Series) string {
	var names []string
	for i, s := range series {
		name := seriesChars[i%len(seriesChars)] + " " + s.Name
		if o.Style.Color {
			name = seriesColors[i%len(seriesColors)].String() + name + asciigraph.Default.String()
		}
		names = append(names, name)
	}
	if o.LimitAt > 0 {
		names = append(names, o.Style.Bad(limitChar+" objective "+exact(o.LimitAt)))
	}
	return strings.Repeat(" ", legendIndent) + strings.Join(names, "   ")
}

// span is the time that the points cover, a second at least.
func span(series []Series) (from, to float64) {
	from, to = math.Inf(1), math.Inf(-1)
	for _, s := range series {
		for _, p := range s.Points {
			from, to = min(from, p.Seconds), max(to, p.Seconds)
		}
	}
	return math.Floor(from), max(math.Ceil(to), math.Floor(from)+1)
}

func columnMaxima(points []Point, from, to float64, columns int) []float64 {
	out := slices.Repeat([]float64{math.NaN()}, columns)
	for _, p := range points {
		c := min(int((p.Seconds-from)/(to-from)*float64(columns)), columns-1)
		if math.IsNaN(out[c]) || p.LagSeconds > out[c] {
			out[c] = p.LagSeconds
		}
	}
	return out
}

// tidy drops spaces at line ends and ends the last line.
func tidy(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}
