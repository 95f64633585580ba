package tuner

import (
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// relaxShare is the most that a lower setting may have of the running one's QPS and burst, and so of its cost: less
	// of a saving is not worth a hand-over.
	relaxShare = 0.7

	// lookBack is how far back episodes count: a week, because people work by it.
	lookBack = 7 * 24 * time.Hour

	// quietFor is how long nothing may have been raised or undone before flags are lowered, and each of its days must have
	// shown an episode: a setting is only lowered on memory of two turns of a daily pattern.
	quietFor = 2 * day

	// relaxEvery is how long flags stay after they were lowered.
	relaxEvery = day

	day = 24 * time.Hour
)

// relaxSteps are the shares of the running QPS and burst that a lower setting may have, the largest first.
func relaxSteps() []float64 { return []float64{relaxShare, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08} }

// relax lowers QPS and burst, if the policy allows it, nothing is late now, and every episode of the look-back would
// still have met the objective, with margin, at no more than relaxShare of them: those that made us raise included.
// Worker counts stay: they cost next to nothing. It never goes below what kube-controller-manager has by default, nor
// below what had to be raised again within the look-back.
func relax(in Inputs) (Decision, bool) {
	e := in.Evidence
	if !in.Relax || e.Leader != Led || !complete(e.Flags) || open(e.Lag) > 0 ||
		Verdict(e.Lag, in.Objective).Outcome == Missed || !restedSince(in.Past, e.Now) {
		return Decision{}, false
	}
	remembered, enough := memory(in.Episodes, e.Now)
	if !enough {
		return Decision{}, false
	}
	lower, found := e.Flags, false
	for _, share := range relaxSteps() {
		next := lowered(e.Flags, share, in.Bounds)
		if !cheaper(next, e.Flags) {
			continue // A bound or a default kept most of it up.
		}
		if Cost(next) < floorOf(in.Past, e.Now) || !meetsEpisodes(remembered, next, in.Objective) {
			break
		}
		lower, found = next, true
	}
	if !found {
		return Decision{}, false
	}
	return Decision{
		Act: true, Purpose: PurposeRelax, Flags: bounded(lower, in.Bounds), Uncapped: lower,
		CurrentLag: worstLag(remembered), PredictedLag: predictedFor(remembered, lower, in.Objective),
		Cost: Cost(lower), CurrentCost: Cost(e.Flags), Reason: v1alpha1.ReasonRelaxed,
		Message: fmt.Sprintf("the %s of the last %d days would have met the objective of %v with margin at cost %d instead of %d",
			counted(len(remembered), "worst episode"), int(lookBack/day), in.Objective.MaxLag, Cost(lower), Cost(e.Flags)),
	}, true
}

// restedSince reports whether the past leaves room for lowering flags now.
func restedSince(past []Revision, now time.Time) bool {
	for _, r := range past {
		age, need := now.Sub(r.Decided), quietFor
		if r.Purpose == PurposeRelax {
			need = relaxEvery
		}
		if age < need {
			return false
		}
	}
	return true
}

// memory returns the episodes of the look-back, and whether they are enough to lower flags on: each of the last days
// must have shown one, so that a time in which nobody looked is not taken for a quiet one.
func memory(book []Episode, now time.Time) (remembered []Episode, enough bool) {
	var seen [quietFor / day]bool
	for _, episode := range book {
		age := now.Sub(episode.Start)
		if age < 0 || age >= lookBack {
			continue
		}
		remembered = append(remembered, episode)
		if age < quietFor {
			seen[age/day] = true
		}
	}
	for _, s := range seen {
		if !s {
			return nil, false
		}
	}
	return remembered, true
}

// lowered is the running flags with a share of their QPS and burst, as far as the bounds and kube-controller-manager's
// defaults allow; a flag without a bound, or that runs below those, stays.
func lowered(running v1alpha1.Flags, share float64, b v1alpha1.Bounds) v1alpha1.Flags {
	scaled := func(v, low, high, usual int32) int32 {
		if high == 0 {
			return v
		}
		return min(v, max(int32(share*float64(v)), low, usual))
	}
	f, usual := running, v1alpha1.DefaultFlags()
	f.KubeAPIQPS = scaled(f.KubeAPIQPS, b.KubeAPIQPS.Min, b.KubeAPIQPS.Max, usual.KubeAPIQPS)
	f.KubeAPIBurst = scaled(f.KubeAPIBurst, b.KubeAPIBurst.Min, b.KubeAPIBurst.Max, usual.KubeAPIBurst)
	return bounded(f, b).Or(running)
}

// cheaper reports whether a setting's rate costs enough less to be worth a hand-over.
func cheaper(lower, running v1alpha1.Flags) bool {
	rate := func(f v1alpha1.Flags) float64 {
		return float64(Cost(v1alpha1.Flags{KubeAPIQPS: f.KubeAPIQPS, KubeAPIBurst: f.KubeAPIBurst}))
	}
	return rate(lower) <= relaxShare*rate(running)
}

// floorOf is the least cost that a lower setting may have: that of the raise that followed the last time flags were
// lowered within the look-back, if one did.
func floorOf(past []Revision, now time.Time) int64 {
	var floor int64
	for i := 1; i < len(past); i++ {
		raised, before := past[i-1], past[i]
		if before.Purpose == PurposeRelax && raised.raises() && now.Sub(raised.Decided) < lookBack {
			floor = max(floor, Cost(raised.To.Or(raised.From)))
		}
	}
	return floor
}

// worstLag is the longest lag that was measured in any of the episodes.
func worstLag(episodes []Episode) time.Duration {
	var worst time.Duration
	for _, e := range episodes {
		worst = max(worst, e.Lag)
	}
	return worst
}

// meetsEpisodes reports whether each of the episodes would have met the objective, with margin, under the flags.
func meetsEpisodes(episodes []Episode, f v1alpha1.Flags, o Objective) bool {
	a := aim{
		percentile: o.Percentile,
		lag:        o.MaxLag.Seconds() * (1 - margin),
		tokens:     o.MaxLag.Seconds() * (1 - tokensMargin),
	}
	for _, e := range episodes {
		if !newReplay(e.Demand, e.Model, e.Start).reaches(f, a) {
			return false
		}
	}
	return true
}

// predictedFor is the longest lag that the model gives for any of the episodes under the flags.
func predictedFor(episodes []Episode, f v1alpha1.Flags, o Objective) time.Duration {
	worst := 0.0
	for _, e := range episodes {
		r := newReplay(e.Demand, e.Model, e.Start)
		r.run(f)
		worst = max(worst, r.worst(o.Percentile))
	}
	return seconds(worst)
}
