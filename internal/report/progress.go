package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Progress is how far a measurement is, and what it shows so far.
type Progress struct {
	Scope Scope
	// Elapsed is how long it has measured, and Total how long it will; 0 is until it is interrupted.
	Elapsed, Total time.Duration
	// Lag until now.
	Lag lag.Summary
	// Cause is what limits the endpoint controllers by what was seen so far; the zero value is not known yet.
	Cause tuner.Bottleneck
}

// Text writes the progress for a person who watches: some twenty lines.
func (d *Progress) Text(w io.Writer, s Style) error {
	p := printer{w: w, style: s}
	p.linef("Measuring %s: %s.", d.Scope, d.time())
	p.linef("")
	p.table(LagTable(LagRows(d.Lag.Stats), s))
	if d.Cause.Type != "" {
		p.linef("")
		p.wrapped("", s.Bold("Cause so far: "+string(d.Cause.Type))+" ("+Clean(d.Cause.Message)+")")
	}
	p.worst(Services(d.Lag.Worst))
	return p.err
}

// Line is the progress for a log: one line without a break.
func (d *Progress) Line() string {
	parts := []string{d.time()}
	for _, in := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		parts = append(parts, d.resource(in))
	}
	if d.Cause.Type != "" {
		parts = append(parts, "cause so far "+string(d.Cause.Type))
	}
	return "Measuring: " + strings.Join(parts, "; ")
}

// time says how long it has measured and will.
func (d *Progress) time() string {
	elapsed := d.Elapsed.Round(time.Second)
	if d.Total == 0 {
		return fmt.Sprintf("%s so far, Ctrl-C ends it with a result", elapsed)
	}
	return fmt.Sprintf("%s of %s, %s left", elapsed, d.Total, max(0, d.Total-elapsed).Round(time.Second))
}

// resource says what was seen in one API: percentiles of each direction.
func (d *Progress) resource(in lag.Resource) string {
	all := d.Lag.Stat(in, lag.DirectionAny)
	parts := []string{fmt.Sprintf("%s: %s changes", in, Count(int64(all.Samples()))), Count(int64(all.Open)) + " open"}
	if all.OldestOpen > 0 {
		parts[1] += " (oldest " + Seconds(seconds(all.OldestOpen)) + ")"
	}
	for _, direction := range []struct {
		of   lag.Direction
		name string
	}{{lag.DirectionAddition, "additions"}, {lag.DirectionRemoval, "removals"}} {
		stat := d.Lag.Stat(in, direction.of)
		if stat.Samples() == 0 {
			continue
		}
		row := lagRow(&stat)
		parts = append(parts, fmt.Sprintf("%s p50 %s p90 %s p99 %s", direction.name,
			lagText(row.P50Seconds, row.P50LowerBound), lagText(row.P90Seconds, row.P90LowerBound), row.P99()))
	}
	return strings.Join(parts, ", ")
}
