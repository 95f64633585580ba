package report

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Version is the version of the documents in this package. It changes when a field changes its meaning.
const Version = 1

// Flags are kube-controller-manager flags by their own names, without dashes. Absent flags are left out.
type Flags map[string]int32

// FlagsOf returns the flags that are set.
func FlagsOf(f v1alpha1.Flags) Flags {
	out := Flags{}
	for _, v := range f.List() {
		if v.Value != 0 {
			out[v.Name] = v.Value
		}
	}
	return out
}

// Assessment is what was measured and what it means; Measurement and Plan both begin with it.
type Assessment struct {
	// Version of the document, see the constant Version.
	Version int `json:"version"`
	// Window that was measured. Omitted when nothing was.
	Window *Window `json:"window,omitempty"`
	// Scope is which Services were measured.
	Scope Scope `json:"scope"`
	// Objective that the lag is held against.
	Objective Objective `json:"objective"`
	// Lag per resource and direction.
	Lag []Lag `json:"lag"`
	// HandOver are the same rows over the changes that met a time without a leader; they are in no percentile of Lag.
	// Rows without a change are left out.
	HandOver []Lag `json:"handOver,omitempty"`
	// AfterRestart are the same rows over the changes that began within a minute after a leader appeared; they are in the
	// percentiles of Lag, too. Rows without a change are left out.
	AfterRestart []Lag `json:"afterRestart,omitempty"`
	// Confidence in the lag. Omitted when nothing was measured.
	Confidence *Confidence `json:"confidence,omitempty"`
	// ErrorBoundSeconds is by how much any lag may be wrong. Omitted when it is not known, or when there is none.
	ErrorBoundSeconds *float64 `json:"errorBoundSeconds,omitempty"`
	// Worst are the Services whose endpoints were wrong for longest, the worst first.
	Worst []ServiceLag `json:"worst,omitempty"`
	// Blind are the times in which a watch did not tell what happened.
	Blind []Blindness `json:"blind,omitempty"`
	// PreStop is for how long Pods should go on serving. Omitted when no removal was seen.
	PreStop *PreStop `json:"preStop,omitempty"`
	// Verdict on the objective.
	Verdict Verdict `json:"verdict"`
	// Bottleneck that limits the endpoint controllers.
	Bottleneck Bottleneck `json:"bottleneck"`
	// Running is what kube-controller-manager runs with.
	Running Running `json:"running"`
	// Platform is who renders its command line. Omitted when nobody looked: in a replay of a recording, for example.
	Platform *Platform `json:"platform,omitempty"`
	// Recommendation is what to run it with.
	Recommendation Recommendation `json:"recommendation"`
	// NotSeen is what the result does not rest on and a reader might think it does.
	NotSeen []string `json:"notSeen"`

	// series is the lag of each change, for the plot.
	series []Series
	// arrivals are when the recorded changes were made, in seconds since the first that could be.
	arrivals []float64
}

// Window is the time that was measured.
type Window struct {
	StartTime       time.Time `json:"startTime"`
	EndTime         time.Time `json:"endTime"`
	DurationSeconds float64   `json:"durationSeconds"`
}

// Scope is which Services were measured; empty fields mean all.
type Scope struct {
	// Cluster is the address of the API server.
	Cluster string `json:"cluster,omitempty"`
	// Namespace of the Services.
	Namespace string `json:"namespace,omitempty"`
	// Service is the name of the only Service.
	Service string `json:"service,omitempty"`
	// Selected says that a policy's selectors choose the Services.
	Selected bool `json:"selected,omitempty"`
}

// Objective is what the lag is held against: Percentile percent of the changes within MaxLagSeconds.
type Objective struct {
	Percentile    float64 `json:"percentile"`
	MaxLagSeconds float64 `json:"maxLagSeconds"`
	MinSamples    int     `json:"minSamples"`
}

// Lag is how late changes became visible in one resource and direction. Percentiles run over the changes that ended and
// those still open, and are omitted without any; LowerBound says that one rests on an open change: "at least".
type Lag struct {
	Resource  string `json:"resource"`
	Direction string `json:"direction"` // Any, Addition or Removal; Any informs and does not decide
	// Changes in all: the sum of the nine classes that follow.
	Changes      int `json:"changes"`
	Closed       int `json:"closed"`       // published
	Open         int `json:"open"`         // not published yet
	Superseded   int `json:"superseded"`   // overtaken by the next change before they were published
	NotNeeded    int `json:"notNeeded"`    // published already when they were wanted
	Startup      int `json:"startup"`      // wrong already when the measurement began
	Gap          int `json:"gap"`          // noticed while the watch that tells of them was broken
	HandOver     int `json:"handOver"`     // met a time without a leader
	OverCapacity int `json:"overCapacity"` // beyond the 1,000 addresses that Endpoints can hold
	Unacted      int `json:"unacted"`      // nothing that kube-controller-manager acts on by itself
	// Drift counts published states that went wrong without a change.
	Drift                int      `json:"drift"`
	P50Seconds           *float64 `json:"p50Seconds,omitempty"`
	P50LowerBound        bool     `json:"p50LowerBound,omitempty"`
	P90Seconds           *float64 `json:"p90Seconds,omitempty"`
	P90LowerBound        bool     `json:"p90LowerBound,omitempty"`
	P99Seconds           *float64 `json:"p99Seconds,omitempty"`
	P99LowerBound        bool     `json:"p99LowerBound,omitempty"`
	P999Seconds          *float64 `json:"p999Seconds,omitempty"`
	P999LowerBound       bool     `json:"p999LowerBound,omitempty"`
	MaxSeconds           *float64 `json:"maxSeconds,omitempty"`
	MaxLowerBound        bool     `json:"maxLowerBound,omitempty"`
	OldestOpenSeconds    float64  `json:"oldestOpenSeconds"`
	WrongEndpointSeconds float64  `json:"wrongEndpointSeconds"` // ready but missing, or gone but present
	// Marked is how many of Closed and Open ended while the watch of what is published was broken: their lag may be too
	// long by that.
	Marked int `json:"marked"`
	// AfterRestart is how many of Closed and Open began within a minute after a leader appeared.
	AfterRestart int `json:"afterRestart"`
	// Episodes is how many bursts Closed and Open came in, half a minute or more apart.
	Episodes int `json:"episodes"`
	// StartupOpen is how many of Startup still stand, and OldestStartupSeconds for how long one did, or does, at least.
	StartupOpen          int     `json:"startupOpen"`
	OldestStartupSeconds float64 `json:"oldestStartupSeconds"`
}

// Confidence is how far the lag may be taken for that of the next incident.
type Confidence struct {
	// Level is Low, Medium or High.
	Level string `json:"level"`
	// Changes and Episodes that it rests on: those of the row that decided.
	Changes  int    `json:"changes"`
	Episodes int    `json:"episodes"`
	Message  string `json:"message"`
}

// ServiceLag is what became of one Service's changes, both APIs together.
type ServiceLag struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Changes that count, and those of them that are not published yet.
	Changes int `json:"changes"`
	Open    int `json:"open"`
	// MaxSeconds is the longest lag; with MaxLowerBound it is still growing.
	MaxSeconds           float64 `json:"maxSeconds"`
	MaxLowerBound        bool    `json:"maxLowerBound,omitempty"`
	WrongEndpointSeconds float64 `json:"wrongEndpointSeconds"`
}

// Blindness is a time in which the watch of a kind did not tell what happened.
type Blindness struct {
	// Kind that was watched: pods, services, endpointslices, endpoints, nodes or namespaces.
	Kind      string    `json:"kind"`
	StartTime time.Time `json:"startTime"`
	// EndTime is omitted if the watch was still broken at the end.
	EndTime *time.Time `json:"endTime,omitempty"`
}

// Verdict says whether the objective is met.
type Verdict struct {
	// Outcome is Met, Missed or Inconclusive.
	Outcome string `json:"outcome"`
	// Resource and Direction of the row that decided.
	Resource  string `json:"resource,omitempty"`
	Direction string `json:"direction,omitempty"`
	Message   string `json:"message,omitempty"`
}

// The outcomes of a verdict.
const (
	OutcomeMet          = "Met"
	OutcomeMissed       = "Missed"
	OutcomeInconclusive = "Inconclusive"
)

// Bottleneck is what limits the endpoint controllers, with the evidence.
type Bottleneck struct {
	Type    string `json:"type"`
	Message string `json:"message,omitempty"`
	// Advice is what a person can do about it and what that would bring. Omitted where the recommended flags are the cure.
	Advice string `json:"advice,omitempty"`
	// Evidence speaks for and against each cause that was weighed, the one that was named first.
	Evidence []CauseEvidence `json:"evidence,omitempty"`
}

// CauseEvidence is what speaks for and against one cause.
type CauseEvidence struct {
	Cause   string   `json:"cause"`
	For     []string `json:"for,omitempty"`
	Against []string `json:"against,omitempty"`
}

// Running is what kube-controller-manager runs with.
type Running struct {
	Flags Flags `json:"flags"`
	// Source says where the flags come from.
	Source string `json:"source"`
	// Assumed says that at least one of them was not read but taken for granted.
	Assumed bool `json:"assumed"`
	// Cost of the flags; see Recommendation.
	Cost int64 `json:"cost"`
}

// Recommendation is the cheapest setting that would have met the objective on the changes that were recorded.
type Recommendation struct {
	// Change says that the running flags should be changed to Flags.
	Change bool `json:"change"`
	// Reason and Message say why, or why not.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
	// Flags inside the bounds. Empty when no setting was computed.
	Flags Flags `json:"flags,omitempty"`
	// Uncapped is what it would be without the bounds, and UncappedCost what that costs. Empty when no setting was computed.
	Uncapped     Flags `json:"uncapped,omitempty"`
	UncappedCost int64 `json:"uncappedCost,omitempty"`
	// PredictedLagSeconds and ModelledLagSeconds are the model's lag at the objective's percentile on the recorded
	// changes: under Flags, and under the running flags.
	PredictedLagSeconds float64 `json:"predictedLagSeconds,omitempty"`
	ModelledLagSeconds  float64 `json:"modelledLagSeconds,omitempty"`
	// Cost is the most requests that all clients of kube-controller-manager together could send in ten seconds under
	// Flags, plus a small term for each worker.
	Cost int64 `json:"cost,omitempty"`
	// AddedCost is Cost less that of the running flags: the added worst-case load. Omitted without Flags.
	AddedCost int64 `json:"addedCost,omitempty"`
	// Snippet is Flags as the platform takes them, with how to apply it; kubeadm's ClusterConfiguration where no platform
	// is known.
	Snippet string `json:"snippet,omitempty"`
	// SnippetTitle says whose Snippet it is, to be read above it.
	SnippetTitle string `json:"-"`
}

// Platform is who renders kube-controller-manager's command line.
type Platform struct {
	// Name is one of the constants of type platform.Platform.
	Name string `json:"name"`
	// Patchable says that the operator may edit the manifest there.
	Patchable bool `json:"patchable"`
	// Reason is the evidence.
	Reason string `json:"reason,omitempty"`
}

// Basis is what an assessment is made from.
type Basis struct {
	Scope      Scope
	Objective  tuner.Objective
	Evidence   tuner.Evidence
	Verdict    tuner.Judgement
	Bottleneck tuner.Bottleneck
	Decision   tuner.Decision
	Source     string // of Evidence.Flags
	Assumed    bool   // that at least one of Evidence.Flags was not read
	NotSeen    []string
	Platform   platform.Finding // zero: nobody looked
}

// Assess puts a measurement and its conclusions into the form in which they are printed.
func Assess(b Basis) Assessment {
	a := Assessment{
		Version: Version, Scope: b.Scope,
		Objective: Objective{
			Percentile:    b.Objective.Percentile * 100,
			MaxLagSeconds: b.Objective.MaxLag.Seconds(),
			MinSamples:    b.Objective.MinSamples,
		},
		Lag:          LagRows(b.Evidence.Lag.Stats),
		HandOver:     withSamples(b.Evidence.Lag.HandOver),
		AfterRestart: withSamples(b.Evidence.Lag.AfterRestart),
		Worst:        Services(b.Evidence.Lag.Worst),
		Blind:        blindness(b.Evidence.Lag.Blind),
		PreStop:      preStop(b.Evidence.Lag),
		Verdict:      verdict(b.Verdict),
		Bottleneck:   bottleneck(b.Bottleneck),
		Running: Running{
			Flags: FlagsOf(b.Evidence.Flags), Source: Clean(b.Source), Assumed: b.Assumed, Cost: tuner.Cost(b.Evidence.Flags),
		},
		Platform:       platformOf(b.Platform),
		Recommendation: recommendation(b.Decision, b.Platform),
		NotSeen:        make([]string, 0, len(b.NotSeen)),
	}
	a.arrivals = arrivals(b.Evidence.Demand)
	if b.Scope.all() { // the recorded changes are of all Services
		a.series = DemandSeries(b.Evidence.Demand)
	}
	if from, to := b.Evidence.Lag.From, b.Evidence.Lag.To; !from.IsZero() && to.After(from) {
		a.Window = &Window{StartTime: from.UTC(), EndTime: to.UTC(), DurationSeconds: seconds(to.Sub(from))}
		a.Confidence = confidence(b)
	}
	if b.Evidence.Lag.BoundKnown && a.samples() > 0 {
		a.ErrorBoundSeconds = new(math.Ceil(b.Evidence.Lag.ErrorBound.Seconds()*1e4) / 1e4)
	}
	for _, text := range b.NotSeen {
		a.NotSeen = append(a.NotSeen, Clean(text))
	}
	return a
}

// samples is how many changes the percentiles run over, in all rows.
func (a *Assessment) samples() int {
	n := 0
	for _, r := range a.Lag {
		n += r.Closed + r.Open
	}
	return n
}

// LagRows returns the rows of a summary in the form in which they are printed.
func LagRows(stats []lag.Stat) []Lag {
	rows := make([]Lag, 0, len(stats))
	for i := range stats {
		rows = append(rows, lagRow(&stats[i]))
	}
	return rows
}

// withSamples returns the rows that have any.
func withSamples(stats []lag.Stat) []Lag {
	return slices.DeleteFunc(LagRows(stats), func(r Lag) bool { return r.Closed+r.Open == 0 })
}

// Services returns what became of Services in the form in which it is printed.
func Services(worst []lag.ServiceStat) []ServiceLag {
	out := make([]ServiceLag, 0, len(worst))
	for _, w := range worst {
		out = append(out, ServiceLag{
			Namespace: Clean(w.Namespace), Name: Clean(w.Name), Changes: w.Changes, Open: w.Open,
			MaxSeconds: seconds(w.Max.Value), MaxLowerBound: w.Max.LowerBound, WrongEndpointSeconds: w.WrongEndpointSeconds,
		})
	}
	return out
}

func blindness(all []lag.Blindness) []Blindness {
	out := make([]Blindness, 0, len(all))
	for _, b := range all {
		one := Blindness{Kind: b.Kind.String(), StartTime: b.From.UTC()}
		if !b.To.IsZero() {
			one.EndTime = new(b.To.UTC())
		}
		out = append(out, one)
	}
	return out
}

func confidence(b Basis) *Confidence {
	c := tuner.ConfidenceIn(tuner.Deciding(b.Verdict, b.Evidence.Lag), b.Objective)
	return &Confidence{Level: string(c.Level), Changes: c.Changes, Episodes: c.Episodes, Message: c.Message}
}

func lagRow(s *lag.Stat) Lag {
	row := Lag{
		Resource: string(s.Resource), Direction: string(s.Direction),
		Changes: s.Changes, Closed: s.Closed, Open: s.Open, Superseded: s.Superseded, NotNeeded: s.NotNeeded,
		Startup: s.Startup, Gap: s.Gap, HandOver: s.HandOver, OverCapacity: s.OverCapacity, Unacted: s.Unacted, Drift: s.Drift,
		OldestOpenSeconds:    seconds(s.OldestOpen),
		WrongEndpointSeconds: s.WrongEndpointSeconds,
		Marked:               s.Marked, AfterRestart: s.AfterRestart, Episodes: s.Episodes,
		StartupOpen: s.StartupOpen, OldestStartupSeconds: seconds(s.OldestStartup),
	}
	if s.Samples() == 0 {
		return row
	}
	row.P50Seconds, row.P50LowerBound = quantile(s.P50)
	row.P90Seconds, row.P90LowerBound = quantile(s.P90)
	row.P99Seconds, row.P99LowerBound = quantile(s.P99)
	row.P999Seconds, row.P999LowerBound = quantile(s.P999)
	row.MaxSeconds, row.MaxLowerBound = quantile(s.Max)
	return row
}

func quantile(q lag.Quantile) (*float64, bool) { return new(seconds(q.Value)), q.LowerBound }

func verdict(j tuner.Judgement) Verdict {
	v := Verdict{
		Outcome: OutcomeInconclusive, Message: Clean(j.Message),
		Resource: string(j.Row.Resource), Direction: string(j.Row.Direction),
	}
	switch j.Outcome {
	case tuner.Met:
		v.Outcome = OutcomeMet
	case tuner.Missed:
		v.Outcome = OutcomeMissed
	case tuner.Inconclusive:
	}
	return v
}

func bottleneck(b tuner.Bottleneck) Bottleneck {
	out := Bottleneck{Type: orUnknown(b.Type), Message: Clean(b.Message), Advice: Clean(b.Advice)}
	for _, f := range b.Findings {
		out.Evidence = append(out.Evidence, CauseEvidence{Cause: string(f.Cause), For: cleaned(f.For), Against: cleaned(f.Against)})
	}
	return out
}

func cleaned(texts []string) []string {
	out := make([]string, 0, len(texts))
	for _, text := range texts {
		out = append(out, Clean(text))
	}
	return out
}

func orUnknown(t v1alpha1.BottleneckType) string {
	if t == "" {
		return string(v1alpha1.BottleneckUnknown)
	}
	return string(t)
}

// String returns the platform for a person, as a sentence without a full stop.
func (p *Platform) String() string {
	text := "Platform: " + p.Name
	if !p.Patchable {
		text += ", whose manifest the operator does not edit"
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

func platformOf(f platform.Finding) *Platform {
	if f.Platform == "" {
		return nil
	}
	return &Platform{Name: string(f.Platform), Patchable: f.Patchable, Reason: Clean(f.Reason)}
}

func recommendation(d tuner.Decision, f platform.Finding) Recommendation {
	r := Recommendation{
		Change: d.Act, Reason: d.Reason, Message: Clean(d.Message),
		PredictedLagSeconds: seconds(d.PredictedLag), ModelledLagSeconds: seconds(d.CurrentLag), Cost: d.Cost,
	}
	if d.Flags != (v1alpha1.Flags{}) {
		r.Flags, r.Snippet, r.AddedCost = FlagsOf(d.Flags), f.Snippet(d.Flags), d.Cost-d.CurrentCost
		r.SnippetTitle = "For " + f.Title()
	}
	if d.Uncapped != (v1alpha1.Flags{}) {
		r.Uncapped, r.UncappedCost = FlagsOf(d.Uncapped), tuner.Cost(d.Uncapped)
	}
	return r
}

// BoundsNote says what the bounds took away, where the flags do not show it; empty if they do, or if no setting was
// computed.
func (r Recommendation) BoundsNote() string {
	switch {
	case len(r.Uncapped) == 0:
		return ""
	case len(r.Flags) == 0:
		return "No flag has a bound, so that none may be written: without bounds it would be the setting above."
	case sameFlags(r.Flags, r.Uncapped):
		return "Without the bounds it would be the same."
	}
	return ""
}

// DemandSeries is the lag of each recorded change by the time at which it was made, one series for each resource.
// Changes that were open when the measurement began, met a hand-over, or were overtaken are left out.
func DemandSeries(d lag.Demand) []Series {
	endpointSlices, endpoints := Series{Name: "EndpointSlice"}, Series{Name: "Endpoints"}
	for _, c := range d.Changes {
		if c.SliceClass == lag.Closed || c.SliceClass == lag.Open {
			endpointSlices.Points = append(endpointSlices.Points, Point{seconds(c.At), seconds(c.SliceLag)})
		}
		if c.EndpointsClass == lag.Closed || c.EndpointsClass == lag.Open {
			endpoints.Points = append(endpoints.Points, Point{seconds(c.At), seconds(c.EndpointsLag)})
		}
	}
	return []Series{endpointSlices, endpoints}
}

// arrivals is when each recorded change was made; those that stood when the measurement began are left out.
func arrivals(d lag.Demand) []float64 {
	var out []float64
	for _, c := range d.Changes {
		if !c.Startup {
			out = append(out, seconds(c.At))
		}
	}
	return out
}

// all says that no Service is left out.
func (s Scope) all() bool { return s.Namespace == "" && s.Service == "" && !s.Selected }

// String returns the scope for a person.
func (s Scope) String() string {
	var text strings.Builder
	switch {
	case s.Service != "" && s.Namespace != "":
		text.WriteString("Service " + s.Namespace + "/" + s.Service)
	case s.Service != "":
		text.WriteString("Services named " + s.Service)
	case s.Namespace != "":
		text.WriteString("the Services of namespace " + s.Namespace)
	case s.Selected:
		text.WriteString("the Services that the policy selects")
	default:
		text.WriteString("all Services")
	}
	if s.Cluster != "" {
		text.WriteString(" of " + s.Cluster)
	}
	return Clean(text.String())
}
