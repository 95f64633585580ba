package agent

import (
	"context"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// work is the agent's one thread of doing: it looks, ends what is open, and takes up what is asked, until ctx ends.
func (a *Agent) work(ctx context.Context) {
	again := time.Duration(0)
	for {
		switch {
		case a.stuck(): // nothing but looking
		case a.journal.Phase.open():
			a.resume(ctx)
		default:
			again = a.follow(ctx)
		}
		every := a.observe(ctx)
		if again > 0 {
			every = min(every, again)
		}
		if !a.wait(ctx, every, a.view.wake) {
			return
		}
	}
}

// stuck reports whether nothing may be done because the journal cannot be read or written, and tries to get over it.
func (a *Agent) stuck() bool {
	var err error
	switch {
	case !a.loaded:
		var j journal
		if j, err = a.store.loadJournal(); err == nil {
			a.loaded, a.journal = true, j
			a.view.setJournal(j)
			if j.Phase != phaseNone {
				a.view.vouch()
			}
			if !j.Phase.open() {
				a.logIf(a.tidy(), "cannot remove what an earlier change left")
			}
		}
	case a.unsaved:
		err = a.save(a.journal)
	}
	var why *failure
	if err != nil {
		why = asFailure(err)
		a.log.Error(err, "the agent holds")
	}
	a.view.update(func(s *sight) { s.Stuck = why })
	return err != nil
}

// save makes a journal durable. The agent goes on with it even if that fails; then nothing new is begun until it was
// saved.
func (a *Agent) save(j journal) error {
	before := a.journal.Phase
	a.journal = j
	if j.Phase.open() {
		a.view.setJournal(j)
	}
	err := a.store.saveJournal(j)
	a.unsaved = err != nil
	if !a.unsaved { // That a change has ended is told when a crash cannot undo it any more: others start then.
		a.view.setJournal(j)
	}
	if before != j.Phase {
		a.log.Info("the change has another phase", "revision", j.Change.Revision, "phase", string(j.Phase))
	}
	return err
}

// follow takes up the instruction if it is due and returns when to look at it again, 0 if only a new one matters.
func (a *Agent) follow(ctx context.Context) time.Duration {
	node := a.view.currentNode()
	if node == nil {
		return 0
	}
	a.adopt(node)
	spec := node.Spec
	if !due(spec, a.journal) {
		a.setHeld(decision{})
		return 0
	}
	before := a.process(ctx)
	policy, others := a.cluster.permits(ctx, spec.PolicyName)
	others.Silent = a.heard.silent(others.Nodes, a.clock.now())
	d := decide(situation{
		Instruction: spec, Policy: policy, Others: others, Journal: a.journal, Process: before,
		Isolation: a.view.currentSight().Isolation, Paused: a.store.paused(), Now: a.clock.now(), MinInterval: a.cfg.MinInterval, Held: a.heldFor(revisionOf(spec)),
	})
	switch d.Kind {
	case decideStart:
		a.setHeld(decision{})
		return a.begin(ctx, spec, before)
	case decideRefuse:
		a.setHeld(decision{})
		a.endUnwritten(spec, v1alpha1.OutcomeRefused, d.Reason, d.Message)
	case decideHold:
		a.setHeld(d)
	case decideNothing:
	}
	return d.Wait
}

// waiting is since when an instruction is due.
type waiting struct {
	revision int64
	since    time.Duration // on the boot clock
}

// heldFor returns for how long this agent has seen that the revision is due.
func (a *Agent) heldFor(revision int64) time.Duration {
	now := a.clock.now().Boot
	if a.held.revision != revision {
		a.held = waiting{revision: revision, since: now}
	}
	return now - a.held.since
}

func (a *Agent) setHeld(d decision) {
	changed := a.view.currentSight().Held.Reason != d.Reason
	a.view.update(func(s *sight) { s.Held = d })
	if changed {
		a.log.Info("whether the instruction is held has changed", "reason", d.Reason, "message", d.Message)
		signal(a.view.changed)
	}
}

// adopt learns back from the status what a wiped state directory has lost: which instructions have ended, and which
// settings failed. A change that was open then is not undone blindly; it counts as ended.
// A journal that was there when the agent started knows better than any status.
func (a *Agent) adopt(node *v1alpha1.EndpointSyncNode) {
	if a.view.vouched() {
		return
	}
	defer a.view.vouch()
	s := node.Status
	lost := s.Phase != "" && s.Phase != v1alpha1.PhaseIdle
	if a.journal.Phase != phaseNone || a.journal.ObservedRevision > 0 || (s.ObservedRevision == 0 && !lost) {
		return
	}
	j := a.journal
	j.ObservedRevision, j.Last, j.Failed, j.Restarts = s.ObservedRevision, s.Last, s.Failed, s.Restarts
	if lost && due(node.Spec, j) {
		now := metaTime(a.clock.now().Wall)
		j.ObservedRevision = revisionOf(node.Spec)
		j.Last = v1alpha1.ChangeResult{
			Revision: j.ObservedRevision, Outcome: v1alpha1.OutcomeRefused, Reason: v1alpha1.ReasonJournalUnreadable,
			Message: "the journal of this change is gone; the manifest is left as it is", StartTime: now, FinishTime: now,
		}
	}
	j.Phase = phaseCommitted
	j.Lost = lost || (len(s.Restarts) > 0 && s.Last.Reason != v1alpha1.ReasonRestored)
	a.logIf(a.save(j), "cannot save what was learnt from the status")
}

// process looks at the process that runs now.
func (a *Agent) process(ctx context.Context) running {
	health, fingerprint := a.probe(ctx)
	d := a.readDetails(ctx)
	return running{
		Up: health == answerGood || health == answerBad, Healthy: health == answerGood, Known: d.known,
		Process: process{Fingerprint: fingerprint}.and(d.process), Version: d.signals.Version,
		Leads: d.signals.Leader != nil && *d.signals.Leader,
	}
}

func (a *Agent) logIf(err error, message string) {
	if err != nil {
		a.log.Error(err, message)
	}
}
