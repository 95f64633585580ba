package tuner

import (
	"fmt"
	"math"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Outcome is what can be said about an objective.
type Outcome int

// The outcomes.
const (
	Inconclusive Outcome = iota
	Met
	Missed
)

// Judgement is a verdict with the row of the summary that decided it.
type Judgement struct {
	Outcome Outcome
	// Row is the one with the largest lag at the objective's percentile among those of that outcome; the zero Stat if
	// nothing changed.
	Row lag.Stat
	// Message is the verdict for a person.
	Message string
}

// doubt is the chance of a wrong word that is accepted where there are few changes.
const doubt = 0.05

// conclusive is how many changes without a violation show at 95 % confidence that the percentile holds: ln 0.05 / ln p,
// 299 for 99 %. From as many on, what the window shows is taken at its word.
func conclusive(percentile float64) int {
	return int(math.Ceil(math.Log(doubt)/math.Log(percentile) - 1e-9))
}

// Verdict holds each row of the summary that has a direction against the objective; the worst decides. Met needs a row
// that is conclusive and none that is missed, or has too few changes to tell and one of them late or open. Missed may be said of few
// changes, when so many late ones would be seen by chance in less than 5 % of the windows that meet the objective.
// A percentile other than 50, 90 and 99 is judged by its neighbours, and is inconclusive between them.
func Verdict(s lag.Summary, o Objective) Judgement {
	var j Judgement
	clean := true
	for _, row := range s.Stats {
		if row.Direction == lag.DirectionAny || row.Samples() == 0 {
			continue
		}
		outcome := judge(row, o)
		clean = clean && (outcome != Inconclusive || (row.Max.Value <= o.MaxLag && settled(row, o)))
		worse := atLeast(row, o.Percentile).Value > atLeast(j.Row, o.Percentile).Value
		if outcome > j.Outcome || (outcome == j.Outcome && (worse || j.Row.Changes == 0)) {
			j.Outcome, j.Row = outcome, row
		}
	}
	if j.Outcome == Met && !clean {
		j.Outcome = Inconclusive
	}
	j.Message = describe(j, o)
	return j
}

func judge(row lag.Stat, o Objective) Outcome {
	n := row.Samples()
	late := n - rank(lateFrom(row, o.MaxLag), n) + 1 // at least so many changes are late
	enough := n >= conclusive(o.Percentile)
	switch {
	case late > 0 && atMost(row, o.Percentile).Value > o.MaxLag && (enough || chance(late, n, 1-o.Percentile) <= doubt):
		return Missed
	case enough && settled(row, o) && atLeast(row, o.Percentile).Value <= o.MaxLag:
		return Met
	}
	return Inconclusive
}

// settled reports whether the changes that are still open could not turn the percentile any more.
func settled(row lag.Stat, o Objective) bool {
	return row.Open <= row.Samples()-rank(o.Percentile, row.Samples())
}

// lateFrom is the lowest percentile known to be later than limit; more than 1 if none is.
func lateFrom(row lag.Stat, limit time.Duration) float64 {
	switch {
	case row.P50.Value > limit:
		return 0.50
	case row.P90.Value > limit:
		return 0.90
	case row.P99.Value > limit:
		return 0.99
	case row.Max.Value > limit:
		return 1
	}
	return 2
}

// atMost is the highest known percentile that is not above p.
func atMost(row lag.Stat, p float64) lag.Quantile {
	switch {
	case p >= 1:
		return row.Max
	case p >= 0.99:
		return row.P99
	case p >= 0.90:
		return row.P90
	case p >= 0.50:
		return row.P50
	}
	return lag.Quantile{}
}

// atLeast is the lowest known percentile that is not below p.
func atLeast(row lag.Stat, p float64) lag.Quantile {
	switch {
	case p <= 0.50:
		return row.P50
	case p <= 0.90:
		return row.P90
	case p <= 0.99:
		return row.P99
	}
	return row.Max
}

// chance is the probability of at least k late changes among n if each is late with probability q: the upper tail of
// the binomial distribution.
func chance(k, n int, q float64) float64 {
	below := 0.0
	for i := range k {
		below += math.Exp(logChoose(n, i) + float64(i)*math.Log(q) + float64(n-i)*math.Log1p(-q))
	}
	return max(0, 1-below)
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

func describe(j Judgement, o Objective) string {
	if j.Row.Changes == 0 {
		return "no change was recorded"
	}
	q := atLeast(j.Row, o.Percentile)
	bound := ""
	if q.LowerBound {
		bound = ">= "
	}
	what := fmt.Sprintf("%s %s: p%g of %d changes is %s%v, objective %v", j.Row.Resource, j.Row.Direction,
		o.Percentile*100, j.Row.Samples(), bound, rounded(q.Value), o.MaxLag)
	if j.Outcome == Inconclusive {
		return fmt.Sprintf("%s; too few changes to tell (%d are conclusive)", what, conclusive(o.Percentile))
	}
	return what
}

// rounded is a duration as people read it: three digits are enough.
func rounded(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
