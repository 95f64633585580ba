package tuner

import (
	"fmt"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

const (
	// comparableShare is how much of the load before a change the load after it must have to say that it helped. Half of
	// an incident drains in less than half the time, so that with less the flags would be praised for a quiet day.
	comparableShare = 0.5

	// heavierShare is how much of the load before a change the load after it may have for a lag that did not fall to be the
	// change's fault.
	heavierShare = 1.1

	// shiftShare is how much more load than a setting was sized for is another workload.
	shiftShare = 1.5

	// failureMemory is how long a setting that did not help, or did harm, is not tried again on that version.
	failureMemory = 24 * time.Hour

	// alike is the most by which two values of a flag may differ and count as the same try: a search on the next episode
	// lands on a slightly different number, and that is no new idea.
	alike = 1.25

	// peakSpan is over how long the peak of a load is taken: as long as the storm that Cost prices.
	peakSpan = stormSeconds * time.Second

	// undoPatience is how long the undoing of a change that merely did not help waits for open changes to drain. One that
	// did harm does not wait.
	undoPatience = 5 * time.Minute
)

// Workload is how much demand a figure rests on. Changes of a hand-over, and from before the recording, are no part of it.
type Workload struct {
	// Changes is how many there were, Peak the most of them in ten seconds.
	Changes, Peak int
}

// WorkloadOf measures demand.
func WorkloadOf(d lag.Demand) Workload {
	var l Workload
	times := make([]time.Duration, 0, len(d.Changes))
	for _, c := range d.Changes {
		if c.Startup || c.HandOver {
			continue
		}
		times = append(times, c.At)
		if c.At-times[len(times)-1-l.Peak] < peakSpan { // one more than the most so far, in as long
			l.Peak++
		}
	}
	l.Changes = len(times)
	return l
}

// covers reports whether the load is comparable with the other, or heavier.
func (l Workload) covers(other Workload) bool {
	return float64(l.Changes) >= comparableShare*float64(other.Changes) &&
		float64(l.Peak) >= comparableShare*float64(other.Peak)
}

// exceeds reports whether the load is heavier than the other by more than chance.
func (l Workload) exceeds(other Workload) bool {
	return float64(l.Changes) > heavierShare*float64(other.Changes) || float64(l.Peak) > heavierShare*float64(other.Peak)
}

// outgrows reports whether the load is so much heavier than the other that what was sized for that is not to blame.
func (l Workload) outgrows(other Workload) bool {
	return float64(l.Changes) > shiftShare*float64(other.Changes) || float64(l.Peak) > shiftShare*float64(other.Peak)
}

// String is the load for a person.
func (l Workload) String() string {
	return fmt.Sprintf("%s, %d in ten seconds", counted(l.Changes, "change"), l.Peak)
}

// Before is the lag that a decision rests on, at the objective's percentile in the row that decided the verdict: as it
// was measured or, where that is a lower bound because changes are still open, as the model has it once they are
// published, if that is more.
func Before(j Judgement, o Objective, modelled time.Duration) time.Duration {
	q := atLeast(j.Row, o.Percentile)
	if q.LowerBound {
		return max(q.Value, modelled)
	}
	return q.Value
}

// Judge says what came of a revision, by the evidence since it was committed, and the lag that was achieved at the
// objective's percentile, in the worst row; pending, and zero, while too little has happened to tell. A raise has helped
// if the objective is met at a comparable load, if the lag fell by worthwhile against that before at a comparable load,
// or if it is by as much below what the model gives for the same demand under the flags from before: a heavier load may
// well be later than a lighter one was, and the flags are not to blame for it. Where the model does not reproduce what was
// measured, only a load that is no heavier than that before speaks against a raise.
func Judge(r Revision, e Evidence, o Objective) (Effect, time.Duration) {
	verdict, load := Verdict(e.Lag, o), WorkloadOf(e.Demand)
	quantile := atLeast(verdict.Row, o.Percentile)
	likeBefore := load.covers(r.Workload)
	switch {
	case load.Changes < o.MinSamples || verdict.Outcome == Inconclusive:
		return EffectPending, 0
	case verdict.Outcome == Met && likeBefore:
		return EffectHelped, quantile.Value
	case verdict.Outcome == Met:
		return EffectPending, 0
	case r.Purpose == PurposeRelax:
		return EffectNone, quantile.Value
	}
	fell := func(late, before time.Duration) bool { return float64(late) <= (1-worthwhile)*float64(before) }
	if quantile.LowerBound { // It may still rise.
		if late, known := withoutBacklog(r, e, o); known && likeFor(r, load) && !fell(late, r.Before) {
			return EffectNone, quantile.Value
		}
		return EffectPending, 0
	}
	before, trusted := lagUnder(r.From, e, o)
	switch {
	case r.Before > 0 && likeBefore && fell(quantile.Value, r.Before), trusted && fell(quantile.Value, before):
		return EffectHelped, quantile.Value
	case trusted:
		return EffectNone, quantile.Value
	}
	if late, known := withoutBacklog(r, e, o); known && likeFor(r, load) && !fell(late, r.Before) {
		return EffectNone, quantile.Value
	}
	return EffectPending, 0
}

// likeFor reports whether a lag under the load that did not fall speaks against the revision.
func likeFor(r Revision, load Workload) bool { return r.Before > 0 && !load.exceeds(r.Workload) }

// withoutBacklog is the lag at the objective's percentile of the changes that did not queue behind what piled up in the
// hand-over, which is no fault of the new flags: where Pods were changing when the revision was committed, those of the
// first undoPatience do not count. It is not known while there are too few.
func withoutBacklog(r Revision, e Evidence, o Objective) (late time.Duration, known bool) {
	changes := usable(e.Demand.Changes)
	since := func(c lag.Change) time.Duration { return e.Demand.Start.Add(c.At).Sub(r.Committed) }
	if len(changes) > 0 && since(changes[0]) < settling {
		changes = slices.DeleteFunc(changes, func(c lag.Change) bool { return since(c) < undoPatience })
	}
	return lagOf(changes, o.Percentile), len(changes) >= o.MinSamples
}

// lagUnder is the lag that the model gives for the recorded demand under other flags, at the objective's percentile in
// the worst row, and whether the model reproduces what was measured under those that ran.
func lagUnder(f v1alpha1.Flags, e Evidence, o Objective) (late time.Duration, trusted bool) {
	if !complete(f) || !complete(e.Flags) {
		return 0, false
	}
	r := newReplay(e.Demand, Calibrate(e).Parameters, e.Now)
	r.run(e.Flags)
	trusted = r.residual(o).trusted()
	r.run(f)
	return seconds(r.worst(o.Percentile)), trusted
}

// committed returns the index of the newest revision that nodes took, or -1.
func committed(past []Revision) int {
	return slices.IndexFunc(past, func(r Revision) bool { return !r.Committed.IsZero() })
}

// running returns the newest revision that nodes took, if its flags still run: somebody else may have changed them.
func running(past []Revision, f v1alpha1.Flags) (Revision, bool) {
	i := committed(past)
	if i < 0 || !past[i].To.Within(f) {
		return Revision{}, false
	}
	return past[i], true
}

// raises reports whether the revision was meant to lower the lag.
func (r Revision) raises() bool { return r.Purpose == PurposeRaise || r.Purpose == PurposeCorrect }

// failed reports whether the revision is one to take back.
func (r Revision) failed() bool {
	return r.raises() && (r.Effect == EffectNone || r.Effect == EffectHarmed)
}

// Settle returns the past, newest first, with what the evidence tells of it: the effect of the revision that runs, when
// the objective was first met under it, and that of those that were replaced before they could be judged. harm says what
// a guardrail was breached by since the newest was committed; empty if none was.
func Settle(past []Revision, e Evidence, o Objective, harm string) []Revision {
	out := slices.Clone(past)
	newest := committed(out)
	for i := newest + 1; 0 < i && i < len(out); i++ {
		out[i].replaced(out[:i])
	}
	if _, ours := running(out, e.Flags); !ours {
		return out
	}
	r := &out[newest]
	if r.Met.IsZero() && Verdict(e.Lag, o).Outcome == Met && WorkloadOf(e.Demand).covers(r.Workload) {
		r.Met = e.Now
	}
	switch {
	case r.Purpose == PurposeUndo || r.failed():
	case harm != "" && r.raises():
		r.Effect, r.Judged, r.Harm = EffectHarmed, e.Now, harm
	case r.Effect == EffectPending:
		if r.Effect, r.Achieved = Judge(*r, e, o); r.Effect != EffectPending {
			r.Judged = e.Now
		}
	}
	return out
}

// replaced settles a revision that no longer runs. What was undone had failed, even if the word that said so was lost.
func (r *Revision) replaced(newer []Revision) {
	if r.Effect != EffectPending || r.Committed.IsZero() || r.Purpose == PurposeUndo {
		return
	}
	next := newer[len(newer)-1]
	r.Effect, r.Judged = EffectUnknown, next.Decided
	if next.Purpose == PurposeUndo && r.raises() {
		r.Effect = EffectNone
	}
}

// undo takes back the revision that runs, if it did not help or did harm: every flag that has a bound goes back to what
// it was before, or as near as its bound allows. What was undone is not undone again.
func undo(in Inputs) (Decision, bool) {
	e := in.Evidence
	r, ours := running(in.Past, e.Flags)
	if !ours || !r.failed() || e.Leader != Led || !complete(e.Flags) {
		return Decision{}, false
	}
	back := nearest(r.From.Or(e.Flags), in.Bounds)
	if back.Within(e.Flags) {
		return Decision{}, false
	}
	whole := back.Or(e.Flags)
	d := Decision{
		Act: true, Purpose: PurposeUndo, Flags: back, Uncapped: whole,
		CurrentLag: r.Achieved, PredictedLag: r.Before, Cost: Cost(whole), CurrentCost: Cost(e.Flags),
		Reason: v1alpha1.ReasonDidNotHelp, Message: r.whyUndone() + "; back to " + back.String(),
	}
	if r.Effect == EffectHarmed {
		d.Reason = v1alpha1.ReasonHarmed
		return d, true
	}
	if n := open(e.Lag); n > 0 && e.Now.Sub(r.Judged) < undoPatience {
		return d.hold(v1alpha1.ReasonBacklogDraining, fmt.Sprintf("%s are still open; %s", counted(n, "change"), d.Message)), true
	}
	return d, true
}

// whyUndone is what came of a failed revision, for a person.
func (r Revision) whyUndone() string {
	if r.Effect == EffectHarmed {
		return fmt.Sprintf("revision %d (%s) did harm: %s", r.Number, r.To, r.Harm)
	}
	return fmt.Sprintf("revision %d (%s) did not help: %v before it, %v after it", r.Number, r.To, rounded(r.Before), rounded(r.Achieved))
}

// open is how many changes of the window are not published yet, in the API in which more are.
func open(s lag.Summary) int {
	return max(s.Stat(lag.ResourceEndpointSlice, lag.DirectionAny).Open, s.Stat(lag.ResourceEndpoints, lag.DirectionAny).Open)
}

// nearest is what may be written to come as near to the flags as the bounds allow; a flag without a bound is absent.
func nearest(f v1alpha1.Flags, b v1alpha1.Bounds) v1alpha1.Flags {
	within := func(v, low, high, most int32) int32 {
		if high == 0 {
			return 0
		}
		return min(max(v, low, 1), high, most)
	}
	return v1alpha1.Flags{
		KubeAPIQPS:              within(f.KubeAPIQPS, b.KubeAPIQPS.Min, b.KubeAPIQPS.Max, v1alpha1.MaxKubeAPIQPS),
		KubeAPIBurst:            within(f.KubeAPIBurst, b.KubeAPIBurst.Min, b.KubeAPIBurst.Max, v1alpha1.MaxKubeAPIBurst),
		ConcurrentEndpointSyncs: within(f.ConcurrentEndpointSyncs, b.ConcurrentEndpointSyncs.Min, b.ConcurrentEndpointSyncs.Max, v1alpha1.MaxWorkers),
		ConcurrentServiceEndpointSyncs: within(f.ConcurrentServiceEndpointSyncs,
			b.ConcurrentServiceEndpointSyncs.Min, b.ConcurrentServiceEndpointSyncs.Max, v1alpha1.MaxWorkers),
	}
}

// failures are the past's failed revisions that still count: on that version, within the time to live, under the spec
// of today.
func failures(in Inputs) []Revision {
	var out []Revision
	for _, r := range in.Past {
		sameVersion := r.Version == "" || in.Evidence.Version == "" || r.Version == in.Evidence.Version
		if r.failed() && sameVersion && !r.SpecChanged && in.Evidence.Now.Sub(r.Judged) < failureMemory {
			out = append(out, r)
		}
	}
	return out
}

// failedBefore says which failure speaks against a setting: one that a node rolled back, or one so much like it that
// it would be the same try. Empty if none does.
func failedBefore(in Inputs, found v1alpha1.Flags) string {
	for _, f := range in.Failed {
		if f.Or(in.Evidence.Flags) == found {
			return f.String() + " was tried and rolled back"
		}
	}
	for _, r := range failures(in) {
		if similar(r.To.Or(r.From), found) {
			return r.whyUndone() + fmt.Sprintf("; nothing like it is tried again before %s, unless the policy's spec changes",
				r.Judged.Add(failureMemory).UTC().Format(time.RFC3339))
		}
	}
	return ""
}

// similar reports whether no flag differs by more than a small part.
func similar(a, b v1alpha1.Flags) bool {
	other := b.List()
	for i, v := range a.List() {
		x, y := float64(v.Value), float64(other[i].Value)
		if max(x, y) > alike*min(x, y) {
			return false
		}
	}
	return true
}

// learned is the bounds with the ceilings that harm has taught.
func learned(in Inputs) v1alpha1.Bounds {
	b := in.Bounds
	ceiling, _ := Ceiling(failures(in), in.Evidence.Now)
	lower := func(low, high *int32, most int32) {
		if *high > 0 && most > 0 {
			*high = max(*low, min(*high, most))
		}
	}
	lower(&b.KubeAPIQPS.Min, &b.KubeAPIQPS.Max, ceiling.KubeAPIQPS)
	lower(&b.KubeAPIBurst.Min, &b.KubeAPIBurst.Max, ceiling.KubeAPIBurst)
	lower(&b.ConcurrentEndpointSyncs.Min, &b.ConcurrentEndpointSyncs.Max, ceiling.ConcurrentEndpointSyncs)
	lower(&b.ConcurrentServiceEndpointSyncs.Min, &b.ConcurrentServiceEndpointSyncs.Max, ceiling.ConcurrentServiceEndpointSyncs)
	return b
}

// fellShort reports whether a raise runs, and the objective is missed all the same.
func fellShort(in Inputs) bool {
	r, ours := running(in.Past, in.Evidence.Flags)
	return ours && r.raises() && !r.failed()
}

// turn is what a raise would be, or why none is due.
type turn struct {
	purpose Purpose
	// reason and message say why to hold; empty if a raise is due.
	reason, message string
}

// nextTurn says what a raise would be after the past: the first for a workload, or the one correction that follows a
// raise that fell short. After both, the workload must have shifted: the objective was met since at a load like that
// which they were sized for, or the load has outgrown that.
func nextTurn(in Inputs) turn {
	r, ours := running(in.Past, in.Evidence.Flags)
	load := WorkloadOf(in.Evidence.Demand)
	switch {
	case !ours || !r.raises() || r.failed():
		return turn{purpose: PurposeRaise}
	case r.Effect == EffectPending:
		return turn{reason: v1alpha1.ReasonTooFewSamples, message: fmt.Sprintf(
			"revision %d is not judged yet: %s since, it was sized for %s", r.Number, load, r.Workload)}
	case !r.Met.IsZero():
		return turn{purpose: PurposeRaise}
	case r.Purpose == PurposeRaise:
		return turn{purpose: PurposeCorrect}
	case load.outgrows(r.Workload):
		return turn{purpose: PurposeRaise}
	}
	return turn{reason: v1alpha1.ReasonBoundReached, message: fmt.Sprintf(
		"a raise and a correction brought the lag from %v to %v; the objective of %v is out of reach, and no further restart is made for it",
		rounded(r.Before), rounded(r.Achieved), in.Objective.MaxLag)}
}
