package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A chart's measures, in user units of its SVG.
const (
	chartWidth, chartHeight         = 720, 300
	chartLeft, chartRight           = 64, 16
	chartTop, chartBottom           = 16, 44
	chartBins                       = 180 // columns over time
	ratePlotHeight                  = 180
	labelGap                        = 8
	labelAbove, labelBelow          = -6, 16
	enoughTicks             float64 = 3 // decades of a logarithmic scale from which on only powers of ten are marked
)

// Chart is a drawing for the template: everything is placed.
type Chart struct {
	ID            string // unique in the page
	Title         string
	Description   string
	Width, Height int
	// Left, Right, Top and Bottom are the edges of the plotted area.
	Left, Right, Top, Bottom float64
	XTicks, YTicks           []Tick
	XName, YName             string
	XNameAt                  float64
	Lines                    []Line
	Marks                    []Mark
}

// Tick is a labelled place on an axis.
type Tick struct {
	At    float64
	Label string
}

// Line is a path of a class that the page's style knows.
type Line struct{ Class, Name, Path string }

// Mark is a point that stands out.
type Mark struct {
	Class, Name, Anchor  string
	X, Y, LabelX, LabelY float64
}

// scale maps values to places, logarithmically or not.
type scale struct {
	low, high, from, to float64
	log                 bool
}

func (s scale) at(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log(max(v, s.low)), math.Log(low), math.Log(high)
	}
	share := min(max((v-low)/(high-low), 0), 1)
	return tenths(s.from + (s.to-s.from)*share)
}

// tenths rounds a place: more digits are not seen.
func tenths(v float64) float64 { return math.Round(v*10) / 10 }

// ticks are round values on the scale.
func (s scale) ticks(label func(float64) string) []Tick {
	var out []Tick
	for _, v := range s.values() {
		out = append(out, Tick{s.at(v), label(v)})
	}
	return out
}

func (s scale) values() []float64 {
	var out []float64
	if !s.log {
		step := roundStep((s.high - s.low) / 5)
		for v := math.Ceil(s.low/step) * step; v <= s.high*(1+1e-9); v += step {
			out = append(out, v)
		}
		return out
	}
	factors := []float64{1, 2, 5}
	if math.Log10(s.high/s.low) > enoughTicks {
		factors = factors[:1]
	}
	for decade := math.Floor(math.Log10(s.low)); decade <= math.Log10(s.high); decade++ {
		for _, f := range factors {
			if v := f * math.Pow(10, decade); v >= s.low*(1-1e-9) && v <= s.high*(1+1e-9) {
				out = append(out, v)
			}
		}
	}
	return out
}

// roundStep is the next of 1, 2 and 5 times a power of ten.
func roundStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(v, 1e-6))))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= v {
			return f * power
		}
	}
	return 10 * power
}

// logScale spans values, with some room, from one place to another.
func logScale(values []float64, from, to float64) scale {
	low, high := max(slices.Min(values), leastLag), max(slices.Max(values), leastLag)
	return scale{low: low / 1.1, high: high * 1.1, from: from, to: to, log: true}
}

// plain is a round length of time: 2s where Seconds has 2.00s.
func plain(v float64) string { return exact(math.Round(v*1e6) / 1e6) }

func newChart(id, title, description string, height int) *Chart {
	return &Chart{
		ID: id, Title: title, Description: description, Width: chartWidth, Height: height,
		Left: chartLeft, Right: chartWidth - chartRight, Top: chartTop, Bottom: float64(height - chartBottom),
		XNameAt: (chartLeft + chartWidth - chartRight) / 2,
	}
}

// path writes points as an SVG path; stepped ones go across before they go up or down. NaN breaks it.
type path struct {
	text    strings.Builder
	drawing bool
}

func (p *path) to(x, y float64) {
	if math.IsNaN(y) {
		p.drawing = false
		return
	}
	command := "L"
	if !p.drawing {
		command = "M"
	}
	p.drawing = true
	fmt.Fprintf(&p.text, "%s%s %s", command, place(x), place(y))
}

func place(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func (d *Plan) chartByQPS() *Chart {
	c := newChart("by-qps", "Predicted lag against kube-api-qps",
		"For each QPS the cheapest burst and workers: the lag that the recorded changes would have met. Both scales are logarithmic.", chartHeight)
	c.XName = "kube-api-qps"
	return d.curveChart(c, offered(d.Curve), CurvePoint.qps, func(v float64) string { return Count(int64(math.Round(v))) }, straight)
}

func (d *Plan) chartByCost() *Chart {
	c := newChart("by-cost", "Predicted lag against cost",
		"The lowest lag that a cost buys: the settings that no cheaper one is as good as. Both scales are logarithmic.", chartHeight)
	c.XName = "cost: the most requests of all clients of kube-controller-manager in ten seconds"
	return d.curveChart(c, frontier(d.Curve), CurvePoint.cost, short, stepwise)
}

// curveChart places the curve. It is nil when there is none.
func (d *Plan) curveChart(c *Chart, points []CurvePoint, value func(CurvePoint) float64, label func(float64) string,
	between func(from, to, share float64) float64,
) *Chart {
	if len(d.Curve) < 2 || len(points) == 0 {
		return nil
	}
	var xs []float64
	ys := []float64{d.Objective.MaxLagSeconds}
	for _, p := range d.Curve {
		xs = append(xs, value(p))
		ys = append(ys, p.WorstSeconds, p.p50())
	}
	x, y := logScale(xs, c.Left, c.Right), logScale(ys, c.Bottom, c.Top)
	c.XTicks, c.YTicks, c.YName = x.ticks(label), y.ticks(plain), "lag"
	var worst, median path
	for i, p := range points {
		at := x.at(value(p))
		if i > 0 && between(0, 1, 0.5) == 0 {
			worst.to(at, y.at(points[i-1].WorstSeconds))
			median.to(at, y.at(points[i-1].p50()))
		}
		worst.to(at, y.at(p.WorstSeconds))
		median.to(at, y.at(p.p50()))
	}
	limit := y.at(d.Objective.MaxLagSeconds)
	var objective path
	objective.to(c.Left, limit)
	objective.to(c.Right, limit)
	c.Lines = []Line{
		{"median", "p50", median.text.String()},
		{"worst", percentileName(d.Objective.Percentile), worst.text.String()},
		{"objective", "objective " + exact(d.Objective.MaxLagSeconds), objective.text.String()},
	}
	for _, p := range d.marks() {
		c.Marks = append(c.Marks, c.mark(p, x.at(value(p)), y.at(p.WorstSeconds)))
	}
	return c
}

// mark labels a point on the side on which there is room; what no bounds would allow below it, for it may lie close to
// what they do allow.
func (c *Chart) mark(p CurvePoint, x, y float64) Mark {
	m := Mark{Class: p.signs()[0].class, Name: p.names() + ": " + Seconds(p.WorstSeconds), Anchor: "start", X: x, Y: y, LabelX: x + labelGap, LabelY: tenths(y + labelAbove)}
	if p.Uncapped && !p.decided() && !p.Current {
		m.LabelY = tenths(y + labelBelow)
	}
	if x > (c.Left+c.Right)/2 {
		m.Anchor, m.LabelX = "end", x-labelGap
	}
	return m
}

// bin is a stretch of the recording.
type bin struct {
	from, to float64 // seconds
	changes  int
	lag      [2]float64 // the longest of EndpointSlice and Endpoints
	measured [2]bool
}

func (b bin) rate() float64 { return float64(b.changes) / (b.to - b.from) }

// shortestBin is the shortest stretch that says anything of a rate, in seconds.
const shortestBin = 0.25

// bins divides the recording into n stretches at most, each of shortestBin at least.
func (a *Assessment) bins(n int) []bin {
	if len(a.arrivals) == 0 {
		return nil
	}
	from, to := math.Floor(slices.Min(a.arrivals)), math.Ceil(slices.Max(a.arrivals))+1
	if a.Window != nil {
		to = max(to, min(a.Window.DurationSeconds, to*2)) // Silence at the end tells something, too.
	}
	width := max(shortestBin, (to-from)/float64(n))
	out := make([]bin, int(math.Ceil((to-from)/width)))
	for i := range out {
		out[i].from, out[i].to = from+float64(i)*width, from+float64(i+1)*width
	}
	at := func(v float64) *bin { return &out[min(max(int((v-from)/width), 0), len(out)-1)] }
	for _, v := range a.arrivals {
		at(v).changes++
	}
	for i, s := range a.series[:min(2, len(a.series))] {
		for _, p := range s.Points {
			b := at(p.Seconds)
			b.lag[i], b.measured[i] = max(b.lag[i], p.LagSeconds), true
		}
	}
	return out
}

// short1 is a rate in few characters.
func short1(v float64) string {
	if v > 0 && v < 10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return Count(int64(math.Round(v)))
}

func (d *Plan) chartRate() *Chart {
	bins := d.bins(chartBins)
	if len(bins) == 0 {
		return nil
	}
	c := newChart("demand", "Changes per second", "How many endpoints of Services changed in each second, over the time of the recording.", ratePlotHeight)
	most := 1.0
	for _, b := range bins {
		most = max(most, b.rate())
	}
	x := scale{low: bins[0].from, high: bins[len(bins)-1].to, from: c.Left, to: c.Right}
	y := scale{low: 0, high: most * 1.05, from: c.Bottom, to: c.Top}
	c.XTicks, c.YTicks, c.XName, c.YName = x.ticks(plain), y.ticks(short1), "time since the start", "changes/s"
	var area path
	area.to(c.Left, c.Bottom)
	for _, b := range bins {
		area.to(x.at(b.from), y.at(b.rate()))
		area.to(x.at(b.to), y.at(b.rate()))
	}
	area.to(c.Right, c.Bottom)
	c.Lines = []Line{{"rate", "changes per second", area.text.String() + "Z"}}
	return c
}

func (d *Plan) chartLag() *Chart {
	bins := d.bins(chartBins)
	if len(bins) == 0 || len(d.series) < 2 {
		return nil
	}
	c := newChart("measured", "Measured lag", "The longest lag of the changes that were made in each stretch, by the time of the change. "+
		"Changes that are still open count with their age.", ratePlotHeight+40)
	most := d.Objective.MaxLagSeconds
	for _, b := range bins {
		most = max(most, b.lag[0], b.lag[1])
	}
	x := scale{low: bins[0].from, high: bins[len(bins)-1].to, from: c.Left, to: c.Right}
	y := scale{low: 0, high: most * 1.05, from: c.Bottom, to: c.Top}
	c.XTicks, c.YTicks, c.XName, c.YName = x.ticks(plain), y.ticks(plain), "time since the start", "lag"
	for i, class := range []string{"worst", "median"} {
		var line path
		for _, b := range bins {
			if !b.measured[i] {
				line.drawing = false
				continue
			}
			line.to(x.at(b.from), y.at(b.lag[i]))
			line.to(x.at(b.to), y.at(b.lag[i]))
		}
		c.Lines = append(c.Lines, Line{class, d.series[i].Name, line.text.String()})
	}
	var objective path
	objective.to(c.Left, y.at(d.Objective.MaxLagSeconds))
	objective.to(c.Right, y.at(d.Objective.MaxLagSeconds))
	c.Lines = append(c.Lines, Line{"objective", "objective " + exact(d.Objective.MaxLagSeconds), objective.text.String()})
	return c
}
