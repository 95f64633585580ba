package report

import (
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

//go:embed plan.html.tmpl
var planPage string

// page is what the template of a plan shows: texts that are ready to be read, and charts.
type page struct {
	*Plan
	Title, From, Measured, Verdict string
	Flags                          [][]string // header first
	LagHeader                      []string
	LagRows                        [][]string
	Percentile                     string
	ByQPS, ByCost                  *Chart
	Rate, Measurement              *Chart
	CurveRows                      []curveRow
	DemandRows                     []demandRow
}

// curveRow is one point of the curve in words.
type curveRow struct {
	Mark  string
	Cells []string
}

// demandRow is one stretch of the recording in words.
type demandRow struct{ From, Changes, Rate, Slices, Endpoints string }

// HTML writes the plan as one page that needs nothing else: no network, no script, no font. It is well-formed XML.
func (d *Plan) HTML(w io.Writer) error {
	t, err := template.New("plan").Funcs(template.FuncMap{"seconds": Seconds, "count": Count, "lower": strings.ToLower}).Parse(planPage)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	if err := t.Execute(w, d.page()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

func (d *Plan) page() page {
	p := page{
		Plan: d, Title: "Plan for kube-controller-manager: objective " + strings.ToLower(d.Verdict.Outcome),
		Percentile: percentileName(d.Objective.Percentile),
		ByQPS:      d.chartByQPS(), ByCost: d.chartByCost(), Rate: d.chartRate(), Measurement: d.chartLag(),
		CurveRows: d.curveTable(), DemandRows: d.demandTable(),
	}
	p.From, p.Measured = d.origin(), d.measured()
	p.Verdict = fmt.Sprintf("%g %% of the changes visible within %s", d.Objective.Percentile, exact(d.Objective.MaxLagSeconds))
	p.LagHeader, p.LagRows = LagTable(d.Lag, Style{})
	header, rows := flagTable(d.Running, d.Recommendation)
	p.Flags = append([][]string{header}, rows...)
	return p
}

// origin says whose plan it is and where it comes from.
func (d *Plan) origin() string {
	text := "No policy given: " + d.stead()
	if d.Policy.Name != "" {
		text = "Policy " + d.Policy.Name + ", mode " + d.Policy.Mode + "."
	}
	if d.Trace != nil {
		text += " " + d.Trace.String()
	}
	return text
}

func (d *Plan) measured() string {
	if d.Window == nil {
		return "Nothing was measured."
	}
	scope := d.Scope
	scope.Cluster = "" // The page is for others, too.
	return fmt.Sprintf("Measured %s for %s, from %s to %s.", scope, Seconds(d.Window.DurationSeconds),
		d.Window.StartTime.Format("2006-01-02 15:04:05"), d.Window.EndTime.Format("15:04:05 MST"))
}

func (d *Plan) curveTable() []curveRow {
	rows := make([]curveRow, 0, len(d.Curve))
	for _, c := range d.Curve {
		rows = append(rows, curveRow{c.names(), []string{
			flagText(c.Flags, v1alpha1.FlagKubeAPIQPS), flagText(c.Flags, v1alpha1.FlagKubeAPIBurst),
			flagText(c.Flags, v1alpha1.FlagConcurrentEndpointSyncs), flagText(c.Flags, v1alpha1.FlagConcurrentServiceEndpointSyncs),
			Seconds(c.p50()), Seconds(c.WorstSeconds), Count(c.Cost), added(c.AddedCost),
		}})
	}
	return rows
}

// demandRows is how many stretches the table of the demand has at most.
const demandRows = 20

func (d *Plan) demandTable() []demandRow {
	bins := d.bins(demandRows)
	rows := make([]demandRow, 0, len(bins))
	for _, b := range bins {
		if b.changes == 0 {
			continue
		}
		row := demandRow{From: Seconds(b.from), Changes: Count(int64(b.changes)), Rate: short1(b.rate()), Slices: none, Endpoints: none}
		if b.measured[0] {
			row.Slices = Seconds(b.lag[0])
		}
		if b.measured[1] {
			row.Endpoints = Seconds(b.lag[1])
		}
		rows = append(rows, row)
	}
	return rows
}
