package controllers

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// settled is the policy's past with what the evidence tells of it. Evidence from before the last change tells nothing.
func settled(s Situation, o tuner.Objective) []tuner.Revision {
	past := pastOf(s)
	i := slices.IndexFunc(past, func(r tuner.Revision) bool { return !r.Committed.IsZero() })
	if i < 0 || s.Evidence.Demand.Start.Before(past[i].Committed) {
		return past
	}
	harm, _ := tuner.Breached(past[i], s.Evidence.ServerBefore, s.Evidence.Server, s.Guardrails)
	return tuner.Settle(past, s.Evidence, o, harm.Message)
}

// pastOf is the policy's history as the tuner takes it, newest first.
func pastOf(s Situation) []tuner.Revision {
	past := make([]tuner.Revision, 0, len(s.Policy.Status.History))
	for _, e := range s.Policy.Status.History {
		if e.Purpose == v1alpha1.PurposeRepeat {
			continue // Nothing was decided: a node got back what it had lost.
		}
		r := tuner.Revision{
			Number: e.Revision, From: e.From, To: e.To, Decided: e.Time.Time, Version: e.KCMVersion, Cause: e.Bottleneck,
			Purpose: purposeFrom(e.Purpose), Effect: tuner.Effect(e.Effect), Judged: e.JudgedTime.Time, Met: e.MetTime.Time, Harm: e.Harm,
			Workload:    tuner.Workload{Changes: int(value(e.Load.Changes)), Peak: int(value(e.Load.Peak))},
			SpecChanged: e.PolicyGeneration != 0 && e.PolicyGeneration != s.Policy.Generation,
		}
		r.Before, _ = e.MeasuredLag.Value()
		r.Predicted, _ = e.PredictedLag.Value()
		r.Achieved, _ = e.AchievedLag.Value()
		if complete(&e, pass{Situation: s}); e.Outcome == v1alpha1.OutcomeCommitted {
			r.Committed = e.Time.Time // Not before; of the one that runs the nodes know better.
			for _, n := range s.Nodes {
				if last := n.Status.Last; last.Revision == e.Revision && last.Outcome == v1alpha1.OutcomeCommitted {
					r.Committed = later(r.Committed, last.FinishTime.Time)
				}
			}
		}
		past = append(past, r)
	}
	return past
}

// purposeFrom is the tuner's word for a purpose, whose zero value is a raise.
func purposeFrom(p v1alpha1.Purpose) tuner.Purpose {
	if p == v1alpha1.PurposeRaise {
		return tuner.PurposeRaise
	}
	return tuner.Purpose(p)
}

// purposeOf is what a change is for: as this pass decided or, where the word was lost with a status that could not be
// written, an undoing if it goes back to what ran before the last change. What the last change asked for already that was
// taken is a repeat.
func purposeOf(e v1alpha1.HistoryEntry, p pass) v1alpha1.Purpose {
	history := p.Policy.Status.History
	switch {
	case p.goesOn && asked(history, e.To):
		return v1alpha1.PurposeRepeat
	case p.Handed == e.Revision && p.Decision.Act && p.Decision.Flags == e.To:
		if p.Decision.Purpose != tuner.PurposeRaise {
			return v1alpha1.Purpose(p.Decision.Purpose)
		}
	case len(history) > 0 && e.To.Within(history[0].From):
		return v1alpha1.PurposeUndo
	}
	return v1alpha1.PurposeRaise
}

// asked says whether the last change that was taken, or one after it that was not, asked for the flags.
func asked(history []v1alpha1.HistoryEntry, flags v1alpha1.Flags) bool {
	for _, e := range history {
		if e.To == flags {
			return true
		}
		if e.Outcome == "" || e.Outcome == v1alpha1.OutcomeCommitted || e.Outcome == v1alpha1.OutcomeUnchanged {
			break
		}
	}
	return false
}

// judged writes into an entry what the pass found out about it. What was settled stays, except that harm outweighs help.
func judged(e *v1alpha1.HistoryEntry, past []tuner.Revision) {
	i := slices.IndexFunc(past, func(r tuner.Revision) bool { return r.Number == e.Revision })
	if i < 0 {
		return
	}
	r := past[i]
	if e.MetTime.IsZero() && !r.Met.IsZero() {
		e.MetTime = metav1.NewTime(r.Met)
	}
	if v1alpha1.Effect(r.Effect) == e.Effect {
		return
	}
	e.Effect, e.AchievedLag, e.Harm = v1alpha1.Effect(r.Effect), duration(r.Achieved), bounded(r.Harm)
	e.JudgedTime = metav1.NewTime(r.Judged)
}
