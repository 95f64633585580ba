package sweep

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// Objective is what came of one size of incident and one objective.
type Objective struct {
	Services      int     `json:"services"`
	MaxLagSeconds float64 `json:"maxLagSeconds"`
	// By is "operator" where the installed operator decided and rolled out, and "decide" where its deciding code was
	// called and the lab set the flags.
	By string `json:"by"`
	// Chosen ran at the end, Restarts is how many restarts it took to get there, and AchievedP99Seconds is the median of
	// the rounds under it.
	Chosen              map[string]int32 `json:"chosen"`
	ChosenCost          int64            `json:"chosenCost"`
	Restarts            int              `json:"restarts"`
	PredictedP99Seconds float64          `json:"predictedP99Seconds"`
	AchievedP99Seconds  float64          `json:"achievedP99Seconds"`
	Met                 bool             `json:"met"`
	// Reachable says that some setting that was measured meets the objective; Bounds is "tight" where the operator was
	// given bounds that leave it out of reach, which is asked once.
	Reachable bool   `json:"reachable"`
	Bounds    string `json:"bounds,omitempty"`
	// Reason and Message are what the last decision said.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Cheapest is the first setting of the grid, by cost, that met the objective; absent if none did that costs up to
	// twice what the chosen one does. CostRatio is ChosenCost over CheapestCost.
	Cheapest           map[string]int32 `json:"cheapest,omitempty"`
	CheapestCost       int64            `json:"cheapestCost,omitempty"`
	CheapestP99Seconds float64          `json:"cheapestP99Seconds,omitempty"`
	CostRatio          float64          `json:"costRatio,omitempty"`
	// Measured is how many settings of the grid were held against the objective, and Pruned how many were not, because
	// they have too few tokens for it whatever else.
	Measured int `json:"measured"`
	Pruned   int `json:"pruned"`

	maxLag time.Duration
}

// Point is a setting that was measured.
type Point struct {
	Services   int              `json:"services"`
	Flags      map[string]int32 `json:"flags"`
	Cost       int64            `json:"cost"`
	P99Seconds []float64        `json:"p99Seconds"`
}

// Result is out/sweep/result.json.
type Result struct {
	Objectives []Objective `json:"objectives"`
	// MedianRestarts and MaxRestarts are over all objectives, and MaxCostRatio over those that a setting of the grid met.
	MedianRestarts int     `json:"medianRestarts"`
	MaxRestarts    int     `json:"maxRestarts"`
	MaxCostRatio   float64 `json:"maxCostRatio"`
	Grid           []Point `json:"grid"`
}

func objectiveOf(w trial.Workload, maxLag time.Duration, c choice, m measured) Objective {
	achieved := m.median()
	return Objective{
		Services: w.Services, MaxLagSeconds: maxLag.Seconds(), By: "decide", maxLag: maxLag,
		Chosen: flagMap(c.flags), ChosenCost: tuner.Cost(c.flags), Restarts: c.restarts,
		PredictedP99Seconds: c.predicted, AchievedP99Seconds: achieved, Met: achieved <= maxLag.Seconds(),
		Reason: c.reason, Message: c.message,
	}
}

func (o *Objective) found(f v1alpha1.Flags, m measured) {
	o.Cheapest, o.CheapestCost, o.CheapestP99Seconds = flagMap(f), tuner.Cost(f), m.median()
	o.CostRatio = float64(o.ChosenCost) / float64(o.CheapestCost)
}

// withCheapestOf takes the cheapest setting over from the same size and objective.
func (o Objective) withCheapestOf(others []Objective) Objective {
	for _, other := range others {
		if other.Services == o.Services && other.maxLag == o.maxLag && other.CheapestCost > 0 {
			o.Cheapest, o.CheapestCost, o.CheapestP99Seconds = other.Cheapest, other.CheapestCost, other.CheapestP99Seconds
			o.CostRatio = float64(o.ChosenCost) / float64(o.CheapestCost)
		}
	}
	return o
}

// points are the settings that were measured, cheapest first.
func (r *run) points(services int) []Point {
	var out []Point
	for f, m := range r.known {
		out = append(out, Point{Services: services, Flags: flagMap(f), Cost: tuner.Cost(f), P99Seconds: m.seconds()})
	}
	slices.SortFunc(out, func(a, b Point) int { return int(a.Cost - b.Cost) })
	return out
}

func (r *Result) conclude() {
	var restarts []int
	r.MaxRestarts, r.MaxCostRatio = 0, 0
	for _, o := range r.Objectives {
		restarts = append(restarts, o.Restarts)
		r.MaxRestarts, r.MaxCostRatio = max(r.MaxRestarts, o.Restarts), max(r.MaxCostRatio, o.CostRatio)
	}
	slices.Sort(restarts)
	if len(restarts) > 0 {
		r.MedianRestarts = restarts[len(restarts)/2]
	}
}

func flagMap(f v1alpha1.Flags) map[string]int32 {
	out := map[string]int32{}
	for _, v := range f.List() {
		out[v.Name] = v.Value
	}
	return out
}

// table shows the result to a person.
func (r Result) table(w io.Writer) error {
	var rows [][]string
	for _, o := range r.Objectives {
		ratio := "-"
		if o.CostRatio > 0 {
			ratio = figure(o.CostRatio)
		}
		rows = append(rows, []string{
			strconv.Itoa(o.Services), figure(o.MaxLagSeconds), o.By, setting(o.Chosen), figure(o.PredictedP99Seconds),
			figure(o.AchievedP99Seconds), strconv.Itoa(o.Restarts), setting(o.Cheapest), figure(o.CheapestP99Seconds), ratio,
		})
	}
	header := []string{"SERVICES", "MAX LAG", "BY", "CHOSEN", "MODEL", "P99", "RESTARTS", "CHEAPEST OF THE GRID", "P99", "COST RATIO"}
	if err := report.Table(w, header, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "restarts: median %d, at most %d; the choice costs up to %.2f times the cheapest\n",
		r.MedianRestarts, r.MaxRestarts, r.MaxCostRatio)
	return err
}

func setting(flags map[string]int32) string {
	if flags == nil {
		return "none"
	}
	return fmt.Sprintf("%d/%d %d/%d", flags[v1alpha1.FlagKubeAPIQPS], flags[v1alpha1.FlagKubeAPIBurst],
		flags[v1alpha1.FlagConcurrentEndpointSyncs], flags[v1alpha1.FlagConcurrentServiceEndpointSyncs])
}

func figure(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
