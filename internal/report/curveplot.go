package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/guptarohit/asciigraph"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// leastLag is what a lag of nothing is drawn at, in seconds: a logarithmic scale has no zero.
const leastLag = 0.001

// p50 is the median lag in the worse of the two APIs.
func (c CurvePoint) p50() float64 { return max(c.EndpointSliceP50Seconds, c.EndpointsP50Seconds) }

func (c CurvePoint) qps() float64 { return float64(c.Flags[v1alpha1.FlagKubeAPIQPS]) }

func (c CurvePoint) cost() float64 { return float64(c.Cost) }

// offered are the points that a search would choose from: not the running flags, nor what is out of bounds, unless those
// are the choice.
func offered(curve []CurvePoint) []CurvePoint {
	return slices.DeleteFunc(slices.Clone(curve), func(c CurvePoint) bool { return (c.Current || c.Uncapped) && !c.decided() })
}

// decided says whether the decision is about this setting, to change to it or not to.
func (c CurvePoint) decided() bool { return c.Chosen || c.InView }

func (c CurvePoint) marked() bool { return c.decided() || c.Current || c.Uncapped }

// marks are the points that stand out, in the order in which they are drawn: what matters most lies on top.
func (d *Plan) marks() []CurvePoint {
	out := slices.DeleteFunc(slices.Clone(d.Curve), func(c CurvePoint) bool { return !c.marked() })
	rank := func(c CurvePoint) int {
		switch {
		case c.decided():
			return 2
		case c.Current:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b CurvePoint) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// sign is how a mark looks: in a plot of characters, in colour, in the page's style, and by name.
type sign struct {
	char  string
	color asciigraph.AnsiColor
	class string
	name  string
}

// classDecided is the style of the setting that the decision is about.
const classDecided = "chosen"

// signs are those of the marks that a point has, the one that is drawn first.
func (c CurvePoint) signs() []sign {
	var out []sign
	for _, s := range []struct {
		has  bool
		sign sign
	}{
		{c.Chosen, sign{"C", asciigraph.Magenta, classDecided, "chosen"}},
		{c.InView, sign{"V", asciigraph.Magenta, classDecided, "in view"}},
		{c.Current, sign{"N", asciigraph.Yellow, "now", "now"}},
		{c.Uncapped, sign{"U", asciigraph.Default, "uncapped", "no bounds"}},
	} {
		if s.has {
			out = append(out, s.sign)
		}
	}
	return out
}

// names are those of the marks that a point has.
func (c CurvePoint) names() string {
	return strings.Join(each(c.signs(), func(s sign) string { return s.name }), ", ")
}

// added is a difference of costs, with its sign.
func added(cost int64) string {
	if cost > 0 {
		return "+" + Count(cost)
	}
	return Count(cost)
}

// frontier are the points that no cheaper one is as good as, by cost.
func frontier(curve []CurvePoint) []CurvePoint {
	points := offered(curve)
	slices.SortStableFunc(points, func(a, b CurvePoint) int {
		return cmp.Or(cmp.Compare(a.Cost, b.Cost), cmp.Compare(a.WorstSeconds, b.WorstSeconds))
	})
	best := math.Inf(1)
	return slices.DeleteFunc(points, func(c CurvePoint) bool {
		if c.WorstSeconds >= best && !c.decided() {
			return true
		}
		best = min(best, c.WorstSeconds)
		return false
	})
}

// percentileName is p99 for 99.
func percentileName(percentile float64) string {
	return "p" + strconv.FormatFloat(percentile, 'g', 4, 64)
}

// curvePlot draws the predicted lag of points, which are in order of at, both on logarithmic scales.
type curvePlot struct {
	caption string
	points  []CurvePoint
	marked  []CurvePoint
	at      func(CurvePoint) float64
	axis    func(float64) string
	// between says how the lag goes on from one point to the next: along a line, or not before the next.
	between func(from, to, share float64) float64
}

func straight(from, to, share float64) float64 { return from + (to-from)*share }

func stepwise(from, to, share float64) float64 {
	if share >= 1 {
		return to
	}
	return from
}

func (p *printer) curvePlots(d *Plan) {
	points := offered(d.Curve)
	if len(points) < 2 {
		return
	}
	marked := d.marks()
	whole := func(v float64) string { return Count(int64(math.Round(v))) }
	for _, c := range []curvePlot{
		{"Predicted lag over QPS (both scales logarithmic)", points, marked, CurvePoint.qps, whole, straight},
		{"The lowest predicted lag that a cost buys (both scales logarithmic)", frontier(d.Curve), marked, CurvePoint.cost, short, stepwise},
	} {
		if p.err == nil {
			p.err = c.draw(p.w, p.style, d.Objective)
		}
	}
}

// short is a number in few characters: 105k.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'f', 1, 64) + "M"
	case v >= 1e3:
		return strconv.FormatFloat(v/1e3, 'f', 0, 64) + "k"
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func (c curvePlot) draw(w io.Writer, s Style, o Objective) error {
	columns := min(max(s.width()-axisColumns, minColumns), maxColumns)
	from, to := c.reach()
	if to <= from {
		return nil
	}
	column := func(p CurvePoint) int {
		return int(math.Round((math.Log(c.at(p)) - from) / (to - from) * float64(columns-1)))
	}
	worst := c.line(columns, column, func(p CurvePoint) float64 { return p.WorstSeconds })
	median := c.line(columns, column, CurvePoint.p50)
	lines := [][]float64{median, worst, slices.Repeat([]float64{math.Log10(o.MaxLagSeconds)}, columns)}
	chars := []string{"o", "*", limitChar}
	colors := []asciigraph.AnsiColor{asciigraph.Green, asciigraph.Blue, asciigraph.Red}
	legend := []string{"* " + percentileName(o.Percentile), "o p50", limitChar + " objective " + exact(o.MaxLagSeconds)}
	for _, p := range c.marked {
		mark := p.signs()[0]
		line := slices.Repeat([]float64{math.NaN()}, columns)
		line[min(max(column(p), 0), columns-1)] = logLag(p.WorstSeconds)
		lines, chars, colors = append(lines, line), append(chars, mark.char), append(colors, mark.color)
		legend = append(legend, mark.char+" "+p.names())
	}
	options := []asciigraph.Option{
		asciigraph.Height(plotHeight), asciigraph.SeriesChars(each(chars, asciigraph.CreateCharSet)...),
		asciigraph.YAxisValueFormatter(func(v float64) string { return Seconds(math.Pow(10, v)) }),
		asciigraph.XAxisRange(from, to), asciigraph.XAxisTickCount(5),
		asciigraph.XAxisValueFormatter(func(v float64) string { return c.axis(math.Exp(v)) }),
	}
	if s.Color {
		options = append(options, asciigraph.SeriesColors(colors...))
	}
	text := "\n" + s.Bold(c.caption) + "\n" + tidy(asciigraph.PlotMany(lines, options...)) +
		strings.Repeat(" ", legendIndent) + strings.Join(legend, "   ") + "\n"
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("print a plot: %w", err)
	}
	return nil
}

func each[A, B any](list []A, f func(A) B) []B {
	out := make([]B, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

// reach is where the scale begins and ends, as logarithms.
func (c curvePlot) reach() (from, to float64) {
	from, to = math.Inf(1), math.Inf(-1)
	for _, p := range slices.Concat(c.points, c.marked) {
		v := math.Log(max(c.at(p), 1))
		from, to = min(from, v), max(to, v)
	}
	return from, to
}

// line is the logarithm of a lag in each column, as far as the points reach.
func (c curvePlot) line(columns int, column func(CurvePoint) int, lag func(CurvePoint) float64) []float64 {
	out := slices.Repeat([]float64{math.NaN()}, columns)
	for i, p := range c.points {
		at := column(p)
		out[at] = logLag(lag(p))
		if i == 0 {
			continue
		}
		before := column(c.points[i-1])
		for n := before + 1; n < at; n++ {
			out[n] = c.between(logLag(lag(c.points[i-1])), logLag(lag(p)), float64(n-before)/float64(at-before))
		}
	}
	if i := len(c.points) - 1; i >= 0 && column(c.points[i]) < columns-1 && c.between(0, 1, 0.5) == 0 {
		for n := column(c.points[i]) + 1; n < columns; n++ { // More cost buys no more.
			out[n] = logLag(lag(c.points[i]))
		}
	}
	return out
}

func logLag(v float64) float64 { return math.Log10(max(v, leastLag)) }
