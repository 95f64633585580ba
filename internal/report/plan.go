package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Plan is what a policy would do now, and why.
type Plan struct {
	// Policy that the plan is for.
	Policy PolicyRef `json:"policy"`
	// Trace is the recording that was replayed; omitted when a cluster was measured.
	Trace *Recording `json:"trace,omitempty"`
	Assessment
	// Conditions that the policy's status would carry, or carries when FromStatus is set.
	Conditions []Condition `json:"conditions"`
	// Nodes are the control-plane nodes as their agents report them.
	Nodes []Node `json:"nodes"`
	// Step is the rollout's next step.
	Step Step `json:"step"`
	// Curve trades QPS against lag: for each QPS the cheapest setting. Empty when the demand does not allow one.
	Curve []CurvePoint `json:"curve"`
	// FromStatus says that nothing was measured: lag, bottleneck and recommendation are those of the policy's status.
	FromStatus bool `json:"fromStatus"`
}

// Recording is a trace that measure --record wrote.
type Recording struct {
	File     string    `json:"file"`
	Recorded time.Time `json:"recorded"`
	// Tool is the version of this program that recorded it.
	Tool string `json:"tool,omitempty"`
	// Version of kube-controller-manager that was recorded, if it was known.
	Version string `json:"version,omitempty"`
	// NoObjective says that none was recorded.
	NoObjective bool `json:"noObjective,omitempty"`
}

// PolicyRef names a policy. A recording may be replayed without one: then Name is empty.
type PolicyRef struct {
	Name string `json:"name"`
	// Mode that the policy acts in: Observe, Recommend or Enforce.
	Mode string `json:"mode"`
	// File that the policy was read from; omitted when it is the cluster's.
	File string `json:"file,omitempty"`
	// Paused says that the pause annotation is set.
	Paused bool `json:"paused"`
	// InCharge is the policy that acts: the oldest.
	InCharge string `json:"inCharge,omitempty"`
}

// String tells of the recording in a sentence.
func (r *Recording) String() string {
	text := "Replayed from " + Clean(r.File) + ", recorded " + r.Recorded.UTC().Format("2006-01-02 15:04:05 MST")
	if r.Version != "" {
		text += " of kube-controller-manager " + r.Version
	}
	if r.Tool != "" {
		text += " by endpoint-sync-operator " + r.Tool
	}
	return text + "."
}

// stead says what is planned for where no policy was given.
func (d *Plan) stead() string {
	text := "planned as for one in mode " + d.Policy.Mode + " with generous bounds, for "
	switch {
	case d.Trace == nil:
		return text + "the objective below (--file gives another)."
	case d.Trace.NoObjective:
		return text + "the default objective, because none was recorded (--file gives another)."
	}
	return text + "the objective of the recording (--file gives another)."
}

// Condition is one condition of the policy's status.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// Conditions returns conditions in the form in which they are printed.
func Conditions(conditions []metav1.Condition) []Condition {
	out := make([]Condition, 0, len(conditions))
	for _, c := range conditions {
		out = append(out, Condition{Type: c.Type, Status: string(c.Status), Reason: c.Reason, Message: Clean(c.Message)})
	}
	return out
}

// StatusVerdict is the verdict that a policy's ObjectiveMet condition stands for.
func StatusVerdict(met metav1.Condition) Verdict {
	v := Verdict{Outcome: OutcomeInconclusive, Message: Clean(met.Message)}
	switch met.Status {
	case metav1.ConditionTrue:
		v.Outcome = OutcomeMet
	case metav1.ConditionFalse:
		v.Outcome = OutcomeMissed
	case metav1.ConditionUnknown:
	}
	return v
}

// StatusLag is the lag that a policy's status shows: no more than the changes counted, the open ones, p50 and p99.
func StatusLag(rows []v1alpha1.Lag) []Lag {
	out := make([]Lag, 0, len(rows))
	for _, r := range rows {
		row := Lag{Resource: string(r.Resource), Direction: string(r.Direction)}
		if r.Changes != nil && r.Open != nil {
			row.Changes, row.Open = int(*r.Changes), int(*r.Open)
			row.Closed = row.Changes - row.Open
		}
		row.P50Seconds, row.P50LowerBound = statusLag(r.P50)
		row.P99Seconds, row.P99LowerBound = statusLag(r.P99)
		out = append(out, row)
	}
	return out
}

func statusLag(text string) (*float64, bool) {
	text, lowerBound := strings.CutPrefix(text, ">=")
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return nil, false
	}
	return new(seconds(d)), lowerBound
}

// Node is one control-plane node as its agent reports it.
type Node struct {
	Name    string `json:"name"`
	Phase   string `json:"phase,omitempty"`
	Healthy *bool  `json:"healthy,omitempty"` // omitted: not known
	Leader  *bool  `json:"leader,omitempty"`  // omitted: not known
	Running Flags  `json:"running"`
	Message string `json:"message,omitempty"` // the agent's last word
}

// Nodes returns what agents report in the form in which it is printed.
func Nodes(nodes []v1alpha1.EndpointSyncNode) []Node {
	out := make([]Node, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, Node{
			Name: n.Name, Phase: string(n.Status.Phase), Healthy: n.Status.Healthy, Leader: n.Status.Leader,
			Running: FlagsOf(n.Status.Running), Message: Clean(n.Status.Last.Message),
		})
	}
	return out
}

// Step is the rollout's next step.
type Step struct {
	// Kind is Wait, Start, Hold, Halt or Done.
	Kind string `json:"kind"`
	// Node that is changed, or waited for.
	Node string `json:"node,omitempty"`
	// Revision that the node would be given.
	Revision int64  `json:"revision,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	// Flags that the rollout is for.
	Flags Flags `json:"flags,omitempty"`
	// Restarts of kube-controller-manager that the whole rollout takes from here, one node at a time.
	Restarts int `json:"restarts"`
	// HandOver is what it costs: how long no kube-controller-manager acts, for a person.
	HandOver string `json:"handOver,omitempty"`
}

// CurvePoint is the cheapest setting at one QPS and what it would have brought.
type CurvePoint struct {
	Flags                   Flags   `json:"flags"`
	EndpointSliceP50Seconds float64 `json:"endpointSliceP50Seconds"`
	EndpointSliceP99Seconds float64 `json:"endpointSliceP99Seconds"`
	EndpointsP50Seconds     float64 `json:"endpointsP50Seconds"`
	EndpointsP99Seconds     float64 `json:"endpointsP99Seconds"`
	// WorstSeconds is the lag at the objective's percentile in the worst row.
	WorstSeconds float64 `json:"worstSeconds"`
	// Cost of Flags, as that of Recommendation, and how much of it the running flags do not have: the added worst-case load.
	Cost      int64 `json:"cost"`
	AddedCost int64 `json:"addedCost"`
	// Chosen marks the setting to change to. None is where nothing is to be changed.
	Chosen bool `json:"chosen"`
	// InView marks the setting that would have been chosen, had nothing spoken against a change now.
	InView bool `json:"inView"`
	// Current marks the running flags.
	Current bool `json:"current"`
	// Uncapped marks what would be chosen without the bounds, where that is another setting.
	Uncapped bool `json:"uncapped"`
}

// Curve returns the tuner's curve in the form in which it is printed.
func Curve(points []tuner.Point) []CurvePoint {
	out := make([]CurvePoint, 0, len(points))
	for _, p := range points {
		out = append(out, CurvePoint{
			Flags:                   FlagsOf(p.Flags),
			EndpointSliceP50Seconds: seconds(p.Prediction.EndpointSlices.P50),
			EndpointSliceP99Seconds: seconds(p.Prediction.EndpointSlices.P99),
			EndpointsP50Seconds:     seconds(p.Prediction.Endpoints.P50),
			EndpointsP99Seconds:     seconds(p.Prediction.Endpoints.P99),
			WorstSeconds:            seconds(p.Worst),
			Cost:                    p.Cost, AddedCost: p.Added,
			Chosen: p.Chosen, InView: p.InView, Current: p.Current, Uncapped: p.Uncapped,
		})
	}
	return out
}

// Text writes the plan for a person.
func (d *Plan) Text(w io.Writer, s Style) error {
	p := printer{w: w, style: s}
	p.policy(d)
	if d.FromStatus {
		p.linef("Nothing was measured: what follows is the policy's status.")
	} else {
		p.window(&d.Assessment)
	}
	if len(d.Lag) > 0 {
		p.lag(d.Lag)
		p.trust(&d.Assessment)
	}
	p.conclusions(&d.Assessment)
	p.recommendation(&d.Assessment)
	p.curve(d)
	p.rollout(d)
	p.conditions(d.Conditions)
	p.notSeen(d.NotSeen)
	return p.err
}

func (p *printer) policy(d *Plan) {
	if d.Trace != nil {
		p.wrapped("", d.Trace.String())
	}
	if d.Policy.Name == "" {
		p.wrapped("", p.style.Bold("No policy given")+": "+d.stead())
		return
	}
	from := "the cluster"
	if d.Policy.File != "" {
		from = d.Policy.File
	}
	paused := ""
	if d.Policy.Paused {
		paused = ", " + p.style.Warn("paused")
	}
	p.linef("%s, mode %s%s, from %s.", p.style.Bold("Policy "+d.Policy.Name), d.Policy.Mode, paused, Clean(from))
}

func (p *printer) curve(d *Plan) {
	if len(d.Curve) == 0 {
		return
	}
	p.heading("What each QPS would have brought, with the cheapest burst and workers (predicted)")
	if d.Held() != "" {
		p.wrapped("", d.Held())
	}
	percentile := percentileName(d.Objective.Percentile)
	header := []string{"", "QPS", "BURST", "WORKERS", "P50", strings.ToUpper(percentile), "COST", "ADDED", "LAG"}
	worst := 0.0
	for _, c := range d.Curve {
		worst = max(worst, c.WorstSeconds)
	}
	var rows [][]string
	for _, c := range thinned(d.Curve) {
		rows = append(rows, []string{
			c.names(), flagText(c.Flags, v1alpha1.FlagKubeAPIQPS), flagText(c.Flags, v1alpha1.FlagKubeAPIBurst), c.workers(),
			Seconds(c.p50()), Seconds(c.WorstSeconds), Count(c.Cost), added(c.AddedCost),
			p.bar(c.WorstSeconds, worst, d.Objective.MaxLagSeconds),
		})
	}
	p.table(header, rows)
	p.wrapped("", fmt.Sprintf("Workers: of Endpoints/EndpointSlices. p50 is that of the worse API, %s that of the worst row. "+
		"Added is the cost less that of the flags now.", percentile))
	p.curvePlots(d)
}

// workers are both counts: concurrent-endpoint-syncs/concurrent-service-endpoint-syncs.
func (c CurvePoint) workers() string {
	return flagText(c.Flags, v1alpha1.FlagConcurrentEndpointSyncs) + "/" + flagText(c.Flags, v1alpha1.FlagConcurrentServiceEndpointSyncs)
}

// Held says why no point of the curve is chosen; empty if one is.
func (d *Plan) Held() string {
	switch {
	case d.Recommendation.Change:
		return ""
	case slices.ContainsFunc(d.Curve, func(c CurvePoint) bool { return c.InView }):
		return "None is chosen (" + d.Recommendation.Reason + "); the setting in view is marked."
	}
	return "None is chosen (" + d.Recommendation.Reason + ")."
}

// curveRows is how many points of a curve are shown besides those that are marked: about one for each half octave.
const curveRows = 10

// thinned leaves points whose QPS lie about evenly on a logarithmic scale, the first and the last among them, and those
// that are marked.
func thinned(curve []CurvePoint) []CurvePoint {
	qps := func(c CurvePoint) float64 { return float64(c.Flags[v1alpha1.FlagKubeAPIQPS]) }
	step := math.Pow(qps(curve[len(curve)-1])/max(qps(curve[0]), 1), 1.0/curveRows)
	next := 0.0
	var out []CurvePoint
	for i, c := range curve {
		due := qps(c) >= next
		if due && !c.marked() {
			next = qps(c) * step
		}
		if due || c.marked() || i == len(curve)-1 {
			out = append(out, c)
		}
	}
	return out
}

// barColumns is the length of the longest bar of the curve.
const barColumns = 24

// bar draws one lag of the curve: green within the objective, red above it.
func (p *printer) bar(lag, worst, limit float64) string {
	if worst <= 0 {
		return ""
	}
	text := strings.Repeat("#", max(1, int(math.Round(lag/worst*barColumns))))
	if lag <= limit {
		return p.style.Good(text)
	}
	return p.style.Bad(text)
}

func (p *printer) rollout(d *Plan) {
	if len(d.Nodes) > 0 {
		p.heading("Control-plane nodes")
		p.table(nodeTable(d.Nodes))
	}
	if d.Step.Kind == "" {
		return
	}
	title := "Next step: " + d.Step.Kind
	if d.Step.Node != "" {
		title += " on node " + d.Step.Node
	}
	if d.Step.Reason != "" {
		title += " (" + d.Step.Reason + ")"
	}
	p.heading(title)
	p.wrapped("  ", d.Step.Message)
	if d.Step.Restarts > 0 {
		p.wrapped("  ", fmt.Sprintf("%d restart(s) of kube-controller-manager in all, one node at a time, the leader last: %s.",
			d.Step.Restarts, d.Step.HandOver))
	}
}

func nodeTable(nodes []Node) (header []string, rows [][]string) {
	header = []string{"NODE", "PHASE", "LEADER", "HEALTHY", "QPS", "BURST", "ENDPOINTS WORKERS", "SLICE WORKERS"}
	for _, n := range nodes {
		phase := n.Phase
		if phase == "" {
			phase = none
		}
		rows = append(rows, []string{
			Clean(n.Name), phase, known(n.Leader), known(n.Healthy),
			flagText(n.Running, v1alpha1.FlagKubeAPIQPS), flagText(n.Running, v1alpha1.FlagKubeAPIBurst),
			flagText(n.Running, v1alpha1.FlagConcurrentEndpointSyncs), flagText(n.Running, v1alpha1.FlagConcurrentServiceEndpointSyncs),
		})
	}
	return header, rows
}

func known(v *bool) string {
	if v == nil {
		return none
	}
	return strconv.FormatBool(*v)
}

func (p *printer) conditions(conditions []Condition) {
	if len(conditions) == 0 {
		return
	}
	p.heading("Conditions")
	rows := make([][]string, 0, len(conditions))
	for _, c := range conditions {
		rows = append(rows, []string{c.Type, c.Status, c.Reason})
	}
	p.table([]string{"TYPE", "STATUS", "REASON"}, rows)
	for _, c := range conditions {
		if c.Message != "" {
			p.wrapped("  ", c.Type+": "+c.Message)
		}
	}
}
