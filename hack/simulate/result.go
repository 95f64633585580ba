package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/play"
)

// Result is what result.json holds.
type Result struct {
	Families []FamilyResult `json:"families"`
}

// JSON returns the text of result.json.
func (r Result) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}

// FamilyResult is how the operator did in a family, over all seeds.
type FamilyResult struct {
	Name  string `json:"name"`
	Seeds int    `json:"seeds"`
	Summary

	// WrongCauseActions are raises that by the truth would not have taken a fifth off the lag that they rest on.
	WrongCauseActions int `json:"wrongCauseActions"`
	// Actions are all changes of flags.
	Actions int `json:"actions"`
	// BrokenPromises are actions out of bounds, or sooner after another than the cooldown allows.
	BrokenPromises []string `json:"brokenPromises,omitempty"`
	// ChangesPerSeed, OracleViolationsPerSeed and UnavoidablePerSeed are what ViolationsPerSeed is to be held against.
	ChangesPerSeed          float64 `json:"changesPerSeed"`
	OracleViolationsPerSeed float64 `json:"oracleViolationsPerSeed"`
	UnavoidablePerSeed      float64 `json:"unavoidablePerSeed"`
	// ExcessPerSeed is what of ViolationsPerSeed is beyond 1.1 times the oracle's and the unavoidable.
	ExcessPerSeed float64 `json:"excessViolationsPerSeed"`
	// WorseThanBestStatic are the seeds with more violations than the best of the static settings and what is unavoidable.
	WorseThanBestStatic int `json:"worseThanBestStatic"`
	// Baselines are the others, by name.
	Baselines map[string]Summary `json:"baselines"`
}

// Summary is how somebody did. Each interval covers the value with 95 % confidence, by resampling the seeds.
type Summary struct {
	MedianRestarts float64 `json:"medianRestarts"`
	MaxRestarts    int     `json:"maxRestarts"`
	// ViolationsPerSeed is how many changes were later than the objective in either API.
	ViolationsPerSeed         float64    `json:"violationsPerSeed"`
	ViolationsPerSeedInterval [2]float64 `json:"violationsPerSeedInterval"`
	// ViolationsOverOracle is the violations of all seeds over those of the oracle and the unavoidable together.
	ViolationsOverOracle         float64    `json:"violationsOverOracle"`
	ViolationsOverOracleInterval [2]float64 `json:"violationsOverOracleInterval"`
	// OverProvisionOverOracle is the mean over the seeds of the cost over time, as a multiple of the oracle's, and
	// LastCostOverOracle the same of the last setting.
	OverProvisionOverOracle         float64    `json:"overProvisionOverOracle"`
	OverProvisionOverOracleInterval [2]float64 `json:"overProvisionOverOracleInterval"`
	LastCostOverOracle              float64    `json:"lastCostOverOracle"`
}

func summarize(f play.Family, rounds []play.Round) FamilyResult {
	out := FamilyResult{
		Name: f.Name, Seeds: len(rounds), Baselines: map[string]Summary{},
		Summary: summaryOf(rounds, func(r play.Round) play.Score { return r.Operator }),
	}
	for i, name := range play.RivalNames() {
		out.Baselines[name] = summaryOf(rounds, func(r play.Round) play.Score { return r.Rivals[i] })
	}
	for _, r := range rounds {
		out.WrongCauseActions += r.Wrong
		out.Actions += len(r.Actions)
		out.BrokenPromises = append(out.BrokenPromises, r.Broken...)
		out.ChangesPerSeed += float64(r.Changes)
		out.OracleViolationsPerSeed += float64(r.Oracle.Violations)
		out.UnavoidablePerSeed += float64(r.Unavoidable)
		out.ExcessPerSeed += max(0, float64(r.Operator.Violations)-tolerated*float64(r.Oracle.Violations)-float64(r.Unavoidable))
		best := slices.MinFunc(r.Rivals[:len(play.Statics())], func(a, b play.Score) int { return a.Violations - b.Violations })
		if r.Operator.Violations > best.Violations+r.Unavoidable {
			out.WorseThanBestStatic++
		}
	}
	for _, sum := range []*float64{
		&out.ChangesPerSeed, &out.OracleViolationsPerSeed, &out.UnavoidablePerSeed, &out.ExcessPerSeed,
	} {
		*sum = rounded(*sum / float64(len(rounds)))
	}
	return out
}

// tolerated is how many times the oracle's violations are as good as the oracle's.
const tolerated = 1.1

func summaryOf(rounds []play.Round, of func(play.Round) play.Score) Summary {
	var s Summary
	var restarts []int
	for _, r := range rounds {
		restarts = append(restarts, of(r).Restarts)
	}
	slices.Sort(restarts)
	n := len(restarts)
	s.MaxRestarts, s.MedianRestarts = restarts[n-1], float64(restarts[(n-1)/2]+restarts[n/2])/2
	s.ViolationsPerSeed, s.ViolationsPerSeedInterval = estimate(rounds, func(some []play.Round) float64 {
		return mean(some, func(r play.Round) float64 { return float64(of(r).Violations) })
	})
	s.ViolationsOverOracle, s.ViolationsOverOracleInterval = estimate(rounds, func(some []play.Round) float64 {
		return over(mean(some, func(r play.Round) float64 { return float64(of(r).Violations) }),
			mean(some, func(r play.Round) float64 { return float64(r.Oracle.Violations + r.Unavoidable) }), float64(len(some)))
	})
	s.OverProvisionOverOracle, s.OverProvisionOverOracleInterval = estimate(rounds, func(some []play.Round) float64 {
		return mean(some, func(r play.Round) float64 { return of(r).MeanCost / r.Oracle.MeanCost })
	})
	s.LastCostOverOracle = rounded(mean(rounds, func(r play.Round) float64 { return of(r).LastCost / r.Oracle.LastCost }))
	return s
}

// over is a ratio of two means of n values; none over none is 1, and less than one in all counts as one.
func over(a, b, n float64) float64 {
	if a == 0 && b == 0 {
		return 1
	}
	return a / max(b, 1/n)
}

func mean(rounds []play.Round, of func(play.Round) float64) float64 {
	sum := 0.0
	for _, r := range rounds {
		sum += of(r)
	}
	return sum / float64(len(rounds))
}

// resamples is how often the seeds are drawn again for an interval.
const resamples = 1000

// estimate returns a figure with its 95 % interval, by the percentile bootstrap over seeds (Efron 1979).
func estimate(rounds []play.Round, of func([]play.Round) float64) (value float64, interval [2]float64) {
	random := rand.New(rand.NewPCG(1, 1))
	drawn, values := make([]play.Round, len(rounds)), make([]float64, 0, resamples)
	for range resamples {
		for i := range drawn {
			drawn[i] = rounds[random.IntN(len(rounds))]
		}
		values = append(values, of(drawn))
	}
	slices.Sort(values)
	low, high := int(0.025*resamples), int(0.975*resamples)
	return rounded(of(rounds)), [2]float64{rounded(values[low]), rounded(values[high])}
}

// rounded is to four digits after the point: more would be noise.
func rounded(v float64) float64 { return math.Round(v*1e4) / 1e4 }
