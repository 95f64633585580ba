package model

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The plot's size in pixels, and the lags that its axes reach over, in seconds.
const (
	plotSize, plotEdge = 560, 60
	plotFrom, plotTo   = 0.05, 100
)

// position is where a lag lies along an axis, from 0 to 1: both axes are logarithmic.
func position(seconds float64) float64 {
	return math.Log(min(max(seconds, plotFrom), plotTo)/plotFrom) / math.Log(plotTo/plotFrom)
}

func across(seconds float64) float64 { return plotEdge + position(seconds)*(plotSize-2*plotEdge) }
func up(seconds float64) float64     { return plotSize - across(seconds) }

// plot is the p99 of every cell, predicted over observed, as SVG: a bar spans the rounds, and the band is the tolerance.
func (r Result) plot() []byte {
	var b bytes.Buffer
	draw := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	draw(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, plotSize, plotSize)
	draw(`<rect width="%d" height="%d" fill="#ffffff"/>`, plotSize, plotSize)
	r.axes(draw)
	colours := map[string]string{}
	palette := []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}
	for _, c := range r.Cells {
		colour, known := colours[c.Workload]
		if !known {
			colour = palette[len(colours)%len(palette)]
			draw(`<circle cx="%d" cy="%d" r="4" fill="%s"/><text x="%d" y="%d">%s</text>`,
				plotEdge+16, plotEdge+16+18*len(colours), colour, plotEdge+26, plotEdge+20+18*len(colours), c.Workload)
			colours[c.Workload] = colour
		}
		y := up(c.PredictedP99Seconds)
		draw(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s"/>`, across(c.ObservedMinP99), across(c.ObservedMaxP99), y, y, colour)
		fill := colour
		if !c.Within {
			fill = "#ffffff"
		}
		f := c.setting
		draw(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s" stroke="%s"><title>%d/%d, workers %d/%d, %s: observed %.2f s, predicted %.2f s</title></circle>`,
			across(c.ObservedP99Seconds), y, fill, colour, f.KubeAPIQPS, f.KubeAPIBurst,
			f.ConcurrentEndpointSyncs, f.ConcurrentServiceEndpointSyncs, c.Workload, c.ObservedP99Seconds, c.PredictedP99Seconds)
	}
	draw(`</svg>`)
	return b.Bytes()
}

// axes draws the grid, the band of the tolerance and the labels.
func (r Result) axes(draw func(format string, args ...any)) {
	var upper, lower []string
	for _, v := range ladder() {
		tolerance := max(toleranceShare*v, toleranceFloor)
		upper = append(upper, fmt.Sprintf("%.1f,%.1f", across(v), up(v+tolerance)))
		lower = append(lower, fmt.Sprintf("%.1f,%.1f", across(v), up(v-tolerance)))
	}
	slices.Reverse(lower)
	draw(`<polygon points="%s" fill="#e8e8e8"/>`, strings.Join(slices.Concat(upper, lower), " "))
	low, high := across(plotFrom), across(plotTo)
	for _, v := range []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50} {
		label := strconv.FormatFloat(v, 'g', -1, 64)
		draw(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#dddddd"/>`, across(v), across(v), plotSize-low, plotSize-high)
		draw(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#dddddd"/>`, low, high, up(v), up(v))
		draw(`<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, across(v), plotSize-low+16, label)
		draw(`<text x="%.1f" y="%.1f" text-anchor="end">%s</text>`, low-6, up(v)+4, label)
	}
	draw(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#888888"/>`, low, high, up(plotFrom), up(plotTo))
	draw(`<text x="%d" y="%d" text-anchor="middle">observed p99, seconds</text>`, plotSize/2, plotSize-plotEdge/4)
	draw(`<text transform="translate(%d %d) rotate(-90)" text-anchor="middle">predicted p99, seconds</text>`, plotEdge/4, plotSize/2)
	draw(`<text x="%d" y="%d" text-anchor="middle" font-size="14">%d of %d cells within 15 %%, 100 ms or the spread of the rounds</text>`,
		plotSize/2, plotEdge/2, r.Within, r.Total)
}

// ladder are lags close enough together to draw a curve through.
func ladder() []float64 {
	const steps = 60
	var out []float64
	for i := range steps + 1 {
		out = append(out, plotFrom*math.Pow(plotTo/plotFrom, float64(i)/steps))
	}
	return out
}
