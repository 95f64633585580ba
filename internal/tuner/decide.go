package tuner

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Inputs are what Decide rests on.
type Inputs struct {
	Objective  Objective
	Bounds     v1alpha1.Bounds
	Evidence   Evidence
	Bottleneck Bottleneck
	// Failed are settings that a node rolled back on this version; they are not chosen again.
	Failed []v1alpha1.Flags
	// Past are the revisions so far, newest first.
	Past []Revision
	// Guardrails are the limits on the API server's health.
	Guardrails Guardrails
	// Relax says that flags may be lowered after a quiet time.
	Relax bool
	// Episodes are the worst of the look-back, which a lower setting must cope with.
	Episodes []Episode
}

// Decision is what to do about the flags, and why.
type Decision struct {
	// Act says that Flags should be rolled out. Otherwise Reason says why to hold.
	Act bool
	// Purpose of the flags, where there are any.
	Purpose Purpose
	// Flags to write: every flag with a bound, inside its bound and the compiled-in limits; flags without a bound are
	// absent. Zero if no setting was computed; set on some holds too, as a recommendation.
	Flags v1alpha1.Flags
	// Uncapped is what would be chosen without the policy's bounds: all four flags, within the compiled-in limits.
	Uncapped v1alpha1.Flags
	// CurrentLag and PredictedLag are the model's lag at the objective's percentile, worst row, on the recorded demand:
	// under the running flags and under Flags.
	CurrentLag, PredictedLag time.Duration
	// Cost of Flags, and of the running flags; see Cost.
	Cost, CurrentCost int64
	// Reason is one of v1alpha1's.
	Reason string
	// Message is the reason for a person, with figures.
	Message string
}

const (
	// residualShare and residualFloor are how far the model may be off the lag that was measured and still be trusted;
	// the larger of the two counts.
	residualShare = 0.25
	residualFloor = 0.25 // seconds

	// longestHandOver is how long a restart of the leader leaves the cluster without one, at worst (measured: 31 to 33 s on
	// one node).
	longestHandOver = 31 * time.Second

	// settling is how long no Pod may have changed for an episode to count as over, and patience how long an episode may
	// last before it is decided on all the same: a setting sized for half of an episode would need a second restart.
	settling = 5 * time.Second
	patience = time.Minute
)

// Decide says which flags to run with, or why to hold. It acts only when the objective is missed, for a cause that flags
// cure, when the model reproduces what was measured, and when the new setting is a real gain. All flags are sized
// together, for the cheapest setting that meets the objective with margin on the recorded demand.
func Decide(in Inputs) Decision {
	e := in.Evidence
	d := Decision{CurrentCost: Cost(e.Flags)}
	if back, due := undo(in); due {
		return back
	}
	if lower, due := relax(in); due {
		return lower
	}
	verdict := Verdict(e.Lag, in.Objective)
	switch { // What is missing comes before what could be concluded without it.
	case in.Bottleneck.Type == v1alpha1.BottleneckNoLeader:
		return d.hold(v1alpha1.ReasonNotTheFlags, in.Bottleneck.Message)
	case changes(e.Lag) < in.Objective.MinSamples:
		return d.hold(v1alpha1.ReasonTooFewSamples, fmt.Sprintf("%d changes seen, %d needed",
			changes(e.Lag), in.Objective.MinSamples))
	case verdict.Outcome == Met:
		return d.hold(v1alpha1.ReasonObjectiveMet, verdict.Message)
	case verdict.Outcome == Inconclusive:
		return d.hold(v1alpha1.ReasonTooFewSamples, verdict.Message)
	case e.Leader != Led:
		return d.hold(v1alpha1.ReasonNoSignals, "it is not known whether a kube-controller-manager leads")
	case !complete(e.Flags):
		return d.hold(v1alpha1.ReasonNoSignals, "the flags of the running leader are not known")
	case in.Bottleneck.Type != v1alpha1.BottleneckClientRateLimit && in.Bottleneck.Type != v1alpha1.BottleneckWorkers:
		return d.hold(v1alpha1.ReasonNotTheFlags, in.Bottleneck.Message)
	}
	next := nextTurn(in)
	if d.Purpose = next.purpose; next.reason != "" {
		return d.hold(next.reason, next.message)
	}
	if guard := Guard(e, in.Guardrails); guard.Reason != "" {
		return d.hold(guard.Reason, guard.Message)
	}
	return d.size(in)
}

// size finds the setting and decides whether to act on it.
func (d Decision) size(in Inputs) Decision {
	e, o := in.Evidence, in.Objective
	calibration := Calibrate(e)
	s := newSizing(e, calibration.Parameters, o)
	d.CurrentLag = seconds(s.all.worst(o.Percentile))
	backlog, residual := s.all.backlog(), s.all.residual(o)
	if !residual.trusted() {
		return d.hold(v1alpha1.ReasonModelNotTrusted, residual.String()+"; "+calibration.Basis)
	}
	s = s.varied(s.chance())
	if fellShort(in) {
		s = s.varied(variation)
	}
	d.Uncapped = s.cheapest(spaceWithin(limits(), e.Flags)).flags
	found := s.cheapest(spaceWithin(learned(in), e.Flags))
	d.PredictedLag, d.Cost = seconds(found.lag), Cost(found.flags)
	d.Flags = bounded(found.flags, in.Bounds)
	figures := fmt.Sprintf("predicted %v instead of %v (objective %v) at cost %d instead of %d; %s",
		rounded(d.PredictedLag), rounded(d.CurrentLag), o.MaxLag, d.Cost, d.CurrentCost, calibration.Basis)
	switch {
	case d.Flags == (v1alpha1.Flags{}):
		return d.hold(v1alpha1.ReasonNoCheaperSetting, "no flag has a bound, so none may be written; "+figures)
	case d.Flags.Within(e.Flags) || found.lag > (1-worthwhile)*d.CurrentLag.Seconds():
		return d.hold(v1alpha1.ReasonNoCheaperSetting, "no setting within the bounds is a real gain; "+figures)
	}
	if why := failedBefore(in, found.flags); why != "" {
		return d.hold(v1alpha1.ReasonSettingFailedBefore, why+"; "+figures)
	}
	if why := backlog.wait(cmp.Or(e.HandOver, longestHandOver)); why != "" {
		return d.hold(v1alpha1.ReasonBacklogDraining, why+"; "+figures)
	}
	d.Act, d.Reason, d.Message = true, v1alpha1.ReasonObjectiveMissed, figures
	if d.PredictedLag > o.MaxLag {
		d.Reason, d.Message = v1alpha1.ReasonBoundReached, "the best that the bounds allow: "+figures
	}
	return d
}

func (d Decision) hold(reason, message string) Decision {
	d.Act, d.Reason, d.Message = false, reason, message
	return d
}

// changes is how many changes the summary rests on, in the API in which more were seen.
func changes(s lag.Summary) int {
	return max(s.Stat(lag.ResourceEndpointSlice, lag.DirectionAny).Samples(),
		s.Stat(lag.ResourceEndpoints, lag.DirectionAny).Samples())
}

// bounded is the part of the flags that has a bound: what may be written.
func bounded(f v1alpha1.Flags, b v1alpha1.Bounds) v1alpha1.Flags {
	var out v1alpha1.Flags
	if b.KubeAPIQPS.Max > 0 {
		out.KubeAPIQPS = f.KubeAPIQPS
	}
	if b.KubeAPIBurst.Max > 0 {
		out.KubeAPIBurst = f.KubeAPIBurst
	}
	if b.ConcurrentEndpointSyncs.Max > 0 {
		out.ConcurrentEndpointSyncs = f.ConcurrentEndpointSyncs
	}
	if b.ConcurrentServiceEndpointSyncs.Max > 0 {
		out.ConcurrentServiceEndpointSyncs = f.ConcurrentServiceEndpointSyncs
	}
	return out
}

// residual is how far the model is off what was measured, in the row where that is most.
type residual struct {
	row                 row
	predicted, measured float64 // seconds
}

// residual compares the last run, under the running flags, with the measurement, row by row. Rows that met the objective
// in both do not bear on the decision and are left out.
func (r *replay) residual(o Objective) residual {
	var worst residual
	for i, w := range r.rows {
		predicted, measured := r.comparable(i, o.Percentile)
		if max(predicted, measured) <= o.MaxLag.Seconds() {
			continue
		}
		if v := (residual{w, predicted, measured}); v.excess() >= worst.excess() {
			worst = v
		}
	}
	return worst
}

// excess is how far off it is, in units of what is allowed.
func (v residual) excess() float64 {
	return math.Abs(v.predicted-v.measured) / max(residualShare*v.measured, residualFloor)
}

func (v residual) trusted() bool { return v.excess() <= 1 }

func (v residual) String() string {
	return fmt.Sprintf("the model gives %v for the running flags where %v was measured (%s)",
		rounded(seconds(v.predicted)), rounded(seconds(v.measured)), v.row.direction)
}

// backlog is what was still waiting when the recording ended.
type backlog struct {
	open   int
	drains time.Duration // until the last of it is published under the running flags, by the model
	since  time.Duration // the last change
	age    time.Duration // of the episode that it belongs to
}

// backlog reads the last run, under the running flags.
func (r *replay) backlog() backlog {
	var b backlog
	all := r.trace.Arrivals
	for in := range kcm.APIs {
		for i, s := range r.seen[in] {
			if s.open {
				b.open++
				b.drains = max(b.drains, seconds(all[i].At+r.sim.Lags(in)[i]-r.end))
			}
		}
	}
	if len(all) == 0 {
		return b
	}
	first := len(all) - 1
	for first > 0 && all[first].At-all[first-1].At < settling.Seconds() {
		first--
	}
	b.since, b.age = seconds(r.end-all[len(all)-1].At), seconds(r.end-all[first].At)
	return b
}

// wait says why it is better not to restart now, which costs a hand-over; empty if it is not.
func (b backlog) wait(handOver time.Duration) string {
	switch {
	case b.open == 0:
		return ""
	case b.since < settling && b.age < patience:
		return fmt.Sprintf("Pods have been changing for %v and still are", rounded(b.age))
	case b.since >= settling && b.drains < handOver: // While Pods go on changing, others take the place of those.
		return fmt.Sprintf("the %d open changes drain in %v, sooner than a restart (%v)", b.open, rounded(b.drains), handOver)
	}
	return ""
}
