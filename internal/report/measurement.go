package report

import (
	"fmt"
	"io"
	"math"
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
	p.trust(&m.Assessment)
	p.strata(&m.Assessment)
	p.worst(m.Worst)
	p.plot(&m.Assessment)
	p.conclusions(&m.Assessment)
	p.recommendation(&m.Assessment)
	p.preStop(m.PreStop)
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

// LagTable is the lag rows for a person, open changes marked. CHANGES are those that the percentiles run over, and OPEN
// FOR is the age of the oldest open one.
func LagTable(rows []Lag, s Style) (header []string, cells [][]string) {
	header = []string{"RESOURCE", "DIRECTION", "CHANGES", "OPEN", "P50", "P90", "P99", "MAX", "OPEN FOR"}
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
		if r.Direction != string(v1alpha1.DirectionAny) {
			continue
		}
		if apart := r.apart(); apart != "" {
			p.wrapped("", r.Resource+", counted apart: "+apart+".")
		}
		if r.Startup > 0 {
			p.wrapped("", r.Resource+": "+r.startup()+".")
		}
		if r.Marked > 0 {
			p.wrapped("", fmt.Sprintf("%s: %s of these lags end in a gap of the watch and may be too long by it.",
				r.Resource, Count(int64(r.Marked))))
		}
	}
	if slices.ContainsFunc(rows, func(r Lag) bool { return r.P50LowerBound || r.P90LowerBound || r.P99LowerBound || r.MaxLowerBound }) {
		p.linef("%s: at least; it rests on changes that are still open.", atLeast)
	}
}

// trust says how far the lag can be relied on: as a sample of what happens, and as a measurement.
func (p *printer) trust(a *Assessment) {
	if a.Confidence == nil || a.samples() == 0 {
		return
	}
	p.wrapped("", "Confidence: "+a.Confidence.Level+", "+a.Confidence.Message+".")
	if a.ErrorBoundSeconds == nil {
		p.wrapped("", "How far a lag may be wrong is unknown: the watches did not tell for all of the time how late they were.")
		return
	}
	p.wrapped("", "Each lag is right to within "+Seconds(math.Ceil(*a.ErrorBoundSeconds*1e3)/1e3)+".")
}

// strata shows the changes that kube-controller-manager was not in its usual state for.
func (p *printer) strata(a *Assessment) {
	for _, s := range []struct {
		rows  []Lag
		title string
	}{
		{a.HandOver, "Changes that met a time without a leader (not in the table above)"},
		{a.AfterRestart, "Changes within a minute after a leader appeared (in the table above, too)"},
	} {
		if len(s.rows) > 0 {
			p.heading(s.title)
			p.table(LagTable(s.rows, p.style))
		}
	}
}

func (p *printer) worst(services []ServiceLag) {
	if len(services) == 0 {
		return
	}
	p.heading("Services whose endpoints were wrong for longest")
	p.table(ServiceTable(services))
}

// ServiceTable is Services for a person. WRONG FOR adds up for how long each endpoint was wrong, in both APIs.
func ServiceTable(services []ServiceLag) (header []string, rows [][]string) {
	header = []string{"NAMESPACE", "SERVICE", "CHANGES", "OPEN", "LONGEST", "WRONG FOR"}
	for _, s := range services {
		longest := none
		if s.Changes > 0 {
			longest = lagText(&s.MaxSeconds, s.MaxLowerBound)
		}
		rows = append(rows, []string{
			s.Namespace, s.Name, Count(int64(s.Changes)), Count(int64(s.Open)), longest, Seconds(s.WrongEndpointSeconds),
		})
	}
	return header, rows
}

func (p *printer) preStop(s *PreStop) {
	if s == nil {
		return
	}
	bound := ""
	if s.RemovalLowerBound {
		bound = atLeast
	}
	p.heading(fmt.Sprintf("preStop sleep for the Pods behind these Services, with the lag as it is: %s%d s", bound, s.SleepSeconds))
	p.wrapped("  ", strings.ToUpper(s.Message[:1])+s.Message[1:])
	p.linef("%s", strings.TrimRight(s.Snippet, "\n"))
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
		{r.Gap, "noticed while the watch that tells of them was broken"},
		{r.HandOver, "without a leader"},
		{r.OverCapacity, "over Endpoints' capacity"},
		{r.Unacted, "of a kind that kube-controller-manager does not act on"},
		{r.Drift, "published states that went wrong without a change"},
	} {
		if c.n > 0 {
			parts = append(parts, Count(int64(c.n))+" "+c.what)
		}
	}
	return strings.Join(parts, ", ")
}

// startup tells of what was wrong when the measurement began.
func (r Lag) startup() string {
	text, longest := Count(int64(r.Startup))+" were wrong already when the measurement began; ", Seconds(r.OldestStartupSeconds)
	if r.Startup == 1 {
		text = "1 was wrong already when the measurement began; "
	}
	if r.StartupOpen > 0 {
		return text + fmt.Sprintf("%s still are, for at least %s", Count(int64(r.StartupOpen)), longest)
	}
	return text + "none is any more, which took at least " + longest
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
	for _, e := range a.Bottleneck.Evidence[min(1, len(a.Bottleneck.Evidence)):] {
		if len(e.Against) > 0 {
			p.wrapped("  ", "Not "+e.Cause+": "+strings.Join(e.Against, "; "))
		}
	}
	if a.Bottleneck.Advice != "" {
		p.wrapped("  ", "What a person can do: "+a.Bottleneck.Advice)
	}
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
	if a.Platform != nil {
		p.wrapped("  ", a.Platform.String()+".")
	}
	p.linef("")
	p.table(flagTable(a.Running, r))
	p.wrapped("", r.BoundsNote())
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
		p.heading(r.SnippetTitle + ":")
		p.linef("%s", strings.TrimRight(r.Snippet, "\n"))
	}
}

// flagColumn is one setting of a table that compares some.
type flagColumn struct {
	name  string
	flags Flags
	cost  int64
}

// flagTable compares flags, and their cost, as they are with what is recommended, within the bounds and without.
func flagTable(now Running, r Recommendation) (header []string, rows [][]string) {
	columns := []flagColumn{{"NOW", now.Flags, now.Cost}}
	if len(r.Flags) > 0 {
		columns = append(columns, flagColumn{"RECOMMENDED", r.Flags, r.Cost})
	}
	if len(r.Uncapped) > 0 && (len(r.Flags) == 0 || !sameFlags(r.Flags, r.Uncapped)) {
		columns = append(columns, flagColumn{"WITHOUT BOUNDS", r.Uncapped, r.UncappedCost})
	}
	header = []string{""}
	for _, f := range (v1alpha1.Flags{}).List() {
		rows = append(rows, []string{"--" + f.Name})
	}
	cost, more := []string{"cost"}, []string{"added to now"}
	for i, c := range columns {
		header = append(header, c.name)
		for n, f := range (v1alpha1.Flags{}).List() {
			rows[n] = append(rows[n], flagText(c.flags, f.Name))
		}
		cost = append(cost, Count(c.cost))
		if i == 0 {
			more = append(more, none)
			continue
		}
		more = append(more, added(c.cost-now.Cost))
	}
	if rows = append(rows, cost); len(columns) > 1 {
		rows = append(rows, more)
	}
	return header, rows
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
