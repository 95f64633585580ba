package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Measurement is what the measure command found.
type Measurement struct {
	Assessment
}

// Text writes the measurement for a person.
func (m *Measurement) Text(w io.Writer, s Style) error {
	p := printer{w: w, style: s}
	p.window(&m.Assessment)
	p.lag(m.Lag)
	p.plot(&m.Assessment)
	p.conclusions(&m.Assessment)
	p.recommendation(&m.Assessment)
	p.notSeen(m.NotSeen)
	return p.err
}

// Met says whether the objective is not missed: an inconclusive measurement blames nobody.
func (m *Measurement) Met() bool { return m.Verdict.Outcome != OutcomeMissed }

// printer writes the parts that documents share. The first error stops it.
type printer struct {
	w     io.Writer
	style Style
	err   error
}

func (p *printer) linef(format string, args ...any) {
	if p.err != nil {
		return
	}
	if _, err := fmt.Fprintf(p.w, format+"\n", args...); err != nil {
		p.err = fmt.Errorf("print the result: %w", err)
	}
}

func (p *printer) heading(text string) { p.linef("\n%s", p.style.Bold(text)) }

func (p *printer) table(header []string, rows [][]string) {
	if p.err == nil {
		p.err = Table(p.w, header, rows)
	}
}

// wrapped writes text in lines of the terminal's width, every line indented, those of a list item under its text.
func (p *printer) wrapped(indent, text string) {
	hanging := indent
	if strings.HasPrefix(text, bullet) {
		hanging += strings.Repeat(" ", len(bullet))
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && visibleWidth(indent+line+" "+word) > p.style.width() {
			p.linef("%s%s", indent, line)
			line, indent = "", hanging
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	if line != "" {
		p.linef("%s%s", indent, line)
	}
}

// bullet begins a list item.
const bullet = "- "

func (p *printer) window(a *Assessment) {
	if a.Window == nil {
		p.linef("Nothing was measured: %s.", a.Scope)
		return
	}
	p.linef("Measured %s for %s (%s to %s).", a.Scope, Seconds(a.Window.DurationSeconds),
		a.Window.StartTime.Format("15:04:05"), a.Window.EndTime.Format("15:04:05 MST"))
}

// LagTable is the lag rows for a person, open changes marked. CHANGES are those that the percentiles run over.
func LagTable(rows []Lag, s Style) (header []string, cells [][]string) {
	header = []string{"RESOURCE", "DIRECTION", "CHANGES", "OPEN", "P50", "P90", "P99", "MAX", "OLDEST OPEN"}
	for _, r := range rows {
		oldest := none
		if r.OldestOpenSeconds > 0 {
			oldest = Seconds(r.OldestOpenSeconds)
		}
		open := Count(int64(r.Open))
		if r.Open > 0 {
			open = s.Warn(open)
		}
		cells = append(cells, []string{
			r.Resource, r.Direction, Count(int64(r.Closed + r.Open)), open,
			lagText(r.P50Seconds, r.P50LowerBound), lagText(r.P90Seconds, r.P90LowerBound), r.P99(),
			lagText(r.MaxSeconds, r.MaxLowerBound), oldest,
		})
	}
	return header, cells
}

func (p *printer) lag(rows []Lag) {
	p.linef("")
	p.table(LagTable(rows, p.style))
	for _, r := range rows {
		if apart := r.apart(); apart != "" && r.Direction == string(v1alpha1.DirectionAny) {
			p.wrapped("", r.Resource+", counted apart: "+apart+".")
		}
	}
	if slices.ContainsFunc(rows, func(r Lag) bool { return r.P50LowerBound || r.P90LowerBound || r.P99LowerBound || r.MaxLowerBound }) {
		p.linef("%s: at least; it rests on changes that are still open.", atLeast)
	}
}

// P99 is the 99th percentile for a person.
func (r Lag) P99() string { return lagText(r.P99Seconds, r.P99LowerBound) }

// apart lists the changes that the percentiles leave out.
func (r Lag) apart() string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{
		{r.Superseded, "overtaken by the next change"},
		{r.NotNeeded, "published already"},
		{r.Startup, "wrong already at the start"},
		{r.HandOver, "without a leader"},
		{r.OverCapacity, "over Endpoints' capacity"},
		{r.Drift, "published states that went wrong without a change"},
	} {
		if c.n > 0 {
			parts = append(parts, Count(int64(c.n))+" "+c.what)
		}
	}
	return strings.Join(parts, ", ")
}

func (p *printer) plot(a *Assessment) {
	points := 0
	for _, s := range a.series {
		points += len(s.Points)
	}
	if points < 2 || p.err != nil {
		return
	}
	p.linef("")
	p.err = LagPlot(p.w, a.series, PlotOptions{
		Style: p.style, Caption: "Lag by the time of the change (largest in each column)", LimitAt: a.Objective.MaxLagSeconds,
	})
}

func (p *printer) conclusions(a *Assessment) {
	p.heading("Objective: " + strconv.FormatFloat(a.Objective.Percentile, 'g', 4, 64) + " % of the changes visible within " +
		exact(a.Objective.MaxLagSeconds) + ": " + p.outcome(a.Verdict.Outcome))
	p.wrapped("  ", a.Verdict.Message)
	p.heading("Bottleneck: " + a.Bottleneck.Type)
	p.wrapped("  ", a.Bottleneck.Message)
}

func (p *printer) outcome(o string) string {
	switch o {
	case OutcomeMet:
		return p.style.Good(o)
	case OutcomeMissed:
		return p.style.Bad(o)
	}
	return p.style.Warn(o)
}

func (p *printer) recommendation(a *Assessment) {
	r := a.Recommendation
	title := "Recommendation: change nothing"
	switch {
	case r.Change:
		title = "Recommendation: change the flags of kube-controller-manager"
	case len(r.Flags) > 0:
		title = "Recommendation: change nothing now; this is the setting in view"
	}
	p.heading(title + " (" + r.Reason + ")")
	p.wrapped("  ", r.Message)
	p.linef("  Flags now: %s.", a.Running.Source)
	p.linef("")
	p.table(flagTable(a.Running, r))
	if len(r.Flags) == 0 {
		return
	}
	if r.PredictedLagSeconds > 0 {
		p.wrapped("", fmt.Sprintf("Predicted lag at the objective's percentile, on the changes that were recorded: %s (the model gives %s for the flags now).",
			Seconds(r.PredictedLagSeconds), Seconds(r.ModelledLagSeconds)))
	}
	p.wrapped("", "Cost is the most requests that all clients of kube-controller-manager together could send in ten seconds, "+
		"plus a little for each worker: a mass deletion can spend it.")
	if r.Snippet != "" {
		p.heading("For kubeadm (ConfigMap kube-system/kubeadm-config, and the same flags in each static Pod manifest):")
		p.linef("%s", strings.TrimRight(r.Snippet, "\n"))
	}
}

// flagTable compares flags, and their cost, as they are with what is recommended.
func flagTable(now Running, r Recommendation) (header []string, rows [][]string) {
	header = []string{"", "NOW"}
	capped := false
	if len(r.Flags) > 0 {
		header = append(header, "RECOMMENDED")
		if capped = !sameFlags(r.Flags, r.Uncapped) && len(r.Uncapped) > 0; capped {
			header = append(header, "WITHOUT BOUNDS")
		}
	}
	for _, f := range (v1alpha1.Flags{}).List() {
		row := []string{"--" + f.Name, flagText(now.Flags, f.Name)}
		if len(r.Flags) > 0 {
			row = append(row, flagText(r.Flags, f.Name))
		}
		if capped {
			row = append(row, flagText(r.Uncapped, f.Name))
		}
		rows = append(rows, row)
	}
	cost := []string{"cost", Count(now.Cost)}
	if len(r.Flags) > 0 {
		cost = append(cost, Count(r.Cost))
	}
	return header, append(rows, cost)
}

func flagText(f Flags, name string) string {
	if f[name] == 0 {
		return none
	}
	return strconv.Itoa(int(f[name]))
}

// sameFlags says whether two settings agree on the flags of the first.
func sameFlags(a, b Flags) bool {
	for name, value := range a {
		if b[name] != value {
			return false
		}
	}
	return true
}

func (p *printer) notSeen(texts []string) {
	if len(texts) == 0 {
		return
	}
	p.heading("Not seen")
	for _, text := range texts {
		p.wrapped("  ", bullet+text)
	}
}
