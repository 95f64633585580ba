package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/play"
)

// names are the rivals of a family, in their order.
func names(f FamilyResult) []string {
	var out []string
	for _, name := range play.RivalNames() {
		if _, ok := f.Baselines[name]; ok {
			out = append(out, name)
		}
	}
	return out
}

// Sizes of the plot, in pixels.
const (
	labelWidth, panelWidth, gutter = 150, 360, 40
	rowHeight, headHeight          = 24, 70
)

// panel is one column of the plot: a figure on a logarithmic scale.
type panel struct {
	title     string
	low, high float64
	target    float64
	figure    func(Summary) (float64, [2]float64)
}

// plot is the result as an SVG: for each family the operator with its interval, and its rivals.
func plot(r Result) string {
	panels := []panel{
		{"violations over (oracle + unavoidable)", 0.1, 1000, tolerated, func(s Summary) (float64, [2]float64) {
			return s.ViolationsOverOracle, s.ViolationsOverOracleInterval
		}},
		{"cost over time over the oracle's", 0.2, 50, mostOverProvision, func(s Summary) (float64, [2]float64) {
			return s.OverProvisionOverOracle, s.OverProvisionOverOracleInterval
		}},
	}
	width := labelWidth + len(panels)*(panelWidth+gutter)
	height := headHeight + len(r.Families)*rowHeight + 40
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+
		"\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", width, height)
	_, _ = fmt.Fprintf(&b, `<text x="8" y="18" font-size="13">The operator (dot, with 95 %% interval) and its rivals (ticks), by family</text>`+"\n")
	for i, p := range panels {
		p.draw(&b, labelWidth+i*(panelWidth+gutter), r)
	}
	for row, f := range r.Families {
		_, _ = fmt.Fprintf(&b, `<text x="8" y="%d">%s</text>`+"\n", headHeight+row*rowHeight+16, f.Name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) x(left int, value float64) float64 {
	value = min(max(value, p.low), p.high)
	return float64(left) + panelWidth*math.Log(value/p.low)/math.Log(p.high/p.low)
}

func (p panel) draw(b *strings.Builder, left int, r Result) {
	bottom := headHeight + len(r.Families)*rowHeight
	_, _ = fmt.Fprintf(b, `<text x="%d" y="38">%s</text>`+"\n", left, p.title)
	for v := 0.1; v <= p.high; v *= 10 {
		if v < p.low {
			continue
		}
		_, _ = fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" fill="#777">%g</text>`+"\n",
			p.x(left, v), p.x(left, v), headHeight-12, bottom, p.x(left, v), headHeight-16, rounded(v))
	}
	_, _ = fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#c33" stroke-dasharray="4 3"><title>target %g</title></line>`+"\n",
		p.x(left, p.target), p.x(left, p.target), headHeight-12, bottom, p.target)
	for row, f := range r.Families {
		y := headHeight + row*rowHeight + 12
		for _, name := range names(f) {
			v, _ := p.figure(f.Baselines[name])
			_, _ = fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#79a"><title>%s: %g</title></line>`+"\n",
				p.x(left, v), p.x(left, v), y-5, y+5, name, v)
		}
		v, interval := p.figure(f.Summary)
		_, _ = fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#114" stroke-width="2"/>`+
			`<circle cx="%.1f" cy="%d" r="4" fill="#114"><title>operator: %g</title></circle>`+"\n",
			p.x(left, interval[0]), p.x(left, interval[1]), y, y, p.x(left, v), y, v)
	}
}
