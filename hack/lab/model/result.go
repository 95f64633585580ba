package model

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// Tolerances of a prediction: the largest of the share of what was observed, the floor and the observed spread counts.
const (
	toleranceShare = 0.15
	toleranceFloor = 0.1 // seconds
)

// Cell is one workload under one setting. A lag is that of the worse API; observed figures are those of the median round.
type Cell struct {
	Flags               map[string]int32 `json:"flags"`
	Workload            string           `json:"workload"`
	Rounds              int              `json:"rounds"`
	ObservedP50Seconds  float64          `json:"observedP50Seconds"`
	ObservedP99Seconds  float64          `json:"observedP99Seconds"`
	ObservedMinP99      float64          `json:"observedMinP99Seconds"`
	ObservedMaxP99      float64          `json:"observedMaxP99Seconds"`
	PredictedP50Seconds float64          `json:"predictedP50Seconds"`
	PredictedP99Seconds float64          `json:"predictedP99Seconds"`
	ToleranceP99Seconds float64          `json:"toleranceP99Seconds"`
	Within              bool             `json:"within"`
	setting             v1alpha1.Flags
}

// Result is out/model/result.json.
type Result struct {
	Cells []Cell `json:"cells"`
	// Within is how many of the Total cells are predicted within the tolerance.
	Within int `json:"within"`
	Total  int `json:"total"`
	// MedianErrorPercent is the median of |predicted - observed| / observed at p99.
	MedianErrorPercent float64 `json:"medianErrorPercent"`
	// Parameters are those of the calibration, and Basis says what they rest on.
	Parameters tuner.Parameters `json:"parameters"`
	Basis      string           `json:"basis"`
}

// score predicts each cell from the calibration and compares.
func score(seen recording) (Result, error) {
	calibration := tuner.Calibrate(seen.calibration)
	out := Result{Parameters: calibration.Parameters, Basis: calibration.Basis}
	var off []float64
	for _, rounds := range grouped(seen.rounds) {
		first := rounds[0]
		source, ok := seen.demand[first.Workload]
		if !ok {
			return out, fmt.Errorf("no calibration of workload %q was recorded", first.Workload)
		}
		p := tuner.Predict(source.Evidence.Demand, first.Flags, calibration.Parameters)
		c := compare(rounds, p)
		out.Cells = append(out.Cells, c)
		off = append(off, 100*math.Abs(c.PredictedP99Seconds-c.ObservedP99Seconds)/c.ObservedP99Seconds)
		if c.Within {
			out.Within++
		}
	}
	out.Total = len(out.Cells)
	if out.Total == 0 {
		return out, errors.New("no cell was recorded")
	}
	out.MedianErrorPercent = middle(off)
	return out, nil
}

// grouped are the rounds of each cell, in the order of cost and workload.
func grouped(rounds []trial.Round) [][]trial.Round {
	type key struct {
		flags    v1alpha1.Flags
		workload string
	}
	cells := map[key][]trial.Round{}
	for _, r := range rounds {
		k := key{r.Flags, r.Workload}
		cells[k] = append(cells[k], r)
	}
	var out [][]trial.Round
	for _, c := range cells {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b []trial.Round) int {
		return cmp.Or(cmp.Compare(tuner.Cost(a[0].Flags), tuner.Cost(b[0].Flags)), cmp.Compare(a[0].Workload, b[0].Workload))
	})
	return out
}

// compare holds a prediction against the rounds of its cell.
func compare(rounds []trial.Round, p tuner.Prediction) Cell {
	slices.SortFunc(rounds, func(a, b trial.Round) int { return cmp.Compare(a.P99(), b.P99()) })
	median := rounds[len(rounds)/2]
	c := Cell{
		setting: median.Flags, Flags: map[string]int32{}, Workload: median.Workload, Rounds: len(rounds),
		ObservedP50Seconds: median.P50(), ObservedP99Seconds: median.P99(),
		ObservedMinP99: rounds[0].P99(), ObservedMaxP99: rounds[len(rounds)-1].P99(),
		PredictedP50Seconds: max(p.EndpointSlices.P50, p.Endpoints.P50).Seconds(),
		PredictedP99Seconds: max(p.EndpointSlices.P99, p.Endpoints.P99).Seconds(),
	}
	for _, v := range median.Flags.List() {
		c.Flags[v.Name] = v.Value
	}
	c.ToleranceP99Seconds = max(toleranceShare*c.ObservedP99Seconds, toleranceFloor, c.ObservedMaxP99-c.ObservedMinP99)
	c.Within = math.Abs(c.PredictedP99Seconds-c.ObservedP99Seconds) <= c.ToleranceP99Seconds
	return c
}

// middle is the value in the middle, the lower of two.
func middle(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}

// table shows the result to a person.
func (r Result) table(w io.Writer) error {
	var rows [][]string
	for _, c := range r.Cells {
		f := c.setting
		within := "yes"
		if !c.Within {
			within = "NO"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%d/%d", f.KubeAPIQPS, f.KubeAPIBurst),
			fmt.Sprintf("%d/%d", f.ConcurrentEndpointSyncs, f.ConcurrentServiceEndpointSyncs), c.Workload,
			figure(c.ObservedP50Seconds), figure(c.PredictedP50Seconds), figure(c.ObservedP99Seconds), figure(c.PredictedP99Seconds),
			figure(c.ObservedMinP99), figure(c.ObservedMaxP99),
			strconv.FormatFloat(100*(c.PredictedP99Seconds/c.ObservedP99Seconds-1), 'f', 0, 64) + " %", within,
		})
	}
	header := []string{"QPS/BURST", "WORKERS", "WORKLOAD", "P50", "MODEL", "P99", "MODEL", "MIN P99", "MAX P99", "OFF BY", "WITHIN"}
	if err := report.Table(w, header, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d of %d cells within %.0f %%, %.0f ms or the spread; half of them within %.1f %%\ncalibration: %s\n",
		r.Within, r.Total, 100*toleranceShare, 1e3*toleranceFloor, r.MedianErrorPercent, r.Basis)
	return err
}

func figure(seconds float64) string { return strconv.FormatFloat(seconds, 'f', 2, 64) }
