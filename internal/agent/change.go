package agent

import (
	"context"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

const (
	// attempts at a change that something passing keeps from starting, and at putting the old manifest back.
	attempts = 3

	retryChange = 5 * time.Second // between attempts at a change

	// Limits on what an instruction may ask for, the same as the policy's.
	maxHealthTimeout = 15 * time.Minute
	maxMinReady      = 10 * time.Minute
)

// begin carries an instruction out, from reading the manifest to the end of the proof.
func (a *Agent) begin(ctx context.Context, spec v1alpha1.EndpointSyncNodeSpec, before running) time.Duration {
	p, err := a.plan(spec)
	switch {
	case err != nil:
		return a.notBegun(spec, err)
	case p.unchanged():
		a.endUnwritten(spec, v1alpha1.OutcomeUnchanged, v1alpha1.ReasonUnchanged, "the manifest says so already; nothing was written")
		return 0
	}
	if d := a.journal.Contest.decide(spec, a.clock.now().Wall); d.Kind == decideRefuse {
		a.endUnwritten(spec, v1alpha1.OutcomeRefused, d.Reason, d.Message)
		return 0
	}
	if before.Leads {
		before.Holder = a.cluster.lease(ctx).Holder
	}
	j := a.journal
	j.Change = a.prepare(spec, p, before)
	if err := a.swap(j, p); err != nil {
		return a.swapFailed(ctx, spec, err)
	}
	a.tries = 0
	a.view.update(func(s *sight) { s.Manifest = nil })
	a.log.Info("the manifest was replaced", "revision", j.Change.Revision, "flags", spec.Flags.String(), "from", j.Change.H0, "to", j.Change.H1)
	a.proveNew(ctx)
	return 0
}

// prepare notes what must be known of the time before the swap.
func (a *Agent) prepare(spec v1alpha1.EndpointSyncNodeSpec, p plan, before running) change {
	return change{
		Revision: revisionOf(spec), Action: spec.Action, Flags: spec.Flags, Proven: p.proven, Replaced: p.replaced,
		PolicyGeneration: spec.PolicyGeneration, KCMVersion: before.Version,
		HealthTimeout: within(spec.HealthTimeout, defaultHealthTimeout, maxHealthTimeout),
		MinReady:      within(spec.MinReady, defaultMinReady, maxMinReady),
		H0:            p.before.Hash, H1: hashOf(p.after), Mode: p.before.mode & 0o600, GID: p.before.gid,
		Exempt: takesBack(situation{Instruction: spec, Journal: a.journal}),
		Began:  a.clock.now(), Led: before.Leads, Holder: before.Holder, OldUp: before.Up, Old: before.Process,
	}
}

// within reads a duration, taking the default for what is omitted or makes no sense.
func within(text v1alpha1.Duration, fallback, most time.Duration) time.Duration {
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 {
		return fallback
	}
	return min(d, most)
}

// notBegun deals with what keeps a change from beginning: something passing is tried again, anything else refuses it.
func (a *Agent) notBegun(spec v1alpha1.EndpointSyncNodeSpec, err error) time.Duration {
	why := asFailure(err)
	a.tries++
	if passing(why.Reason) && a.tries < attempts {
		d := hold(why.Reason, "revision %d could not be begun and is tried again: %v", revisionOf(spec), why)
		a.setHeld(d)
		return retryChange
	}
	a.tries = 0
	a.setHeld(decision{})
	a.endUnwritten(spec, v1alpha1.OutcomeRefused, why.Reason, why.Error())
	return 0
}

// swapFailed finds out from the manifest how far a swap got.
func (a *Agent) swapFailed(ctx context.Context, spec v1alpha1.EndpointSyncNodeSpec, err error) time.Duration {
	a.log.Error(err, "the swap failed", "revision", revisionOf(spec))
	if a.journal.Phase.open() {
		a.resume(ctx)
	}
	if a.journal.Phase.open() || !due(spec, a.journal) {
		return 0
	}
	return a.notBegun(spec, err)
}

// end journals how the open change ended, and tidies up.
func (a *Agent) end(r v1alpha1.ChangeResult) {
	j := a.journal
	c, now := j.Change, a.clock.now().Wall
	started := j.LastChange.Wall
	if j.LastChange.BootID == "" {
		started = c.Began.Wall
	}
	if c.Note != "" {
		r.Message += "; " + c.Note
	}
	r.Revision, r.Flags, r.Message = c.Revision, c.Flags, clean(r.Message)
	r.StartTime, r.FinishTime = metaTime(started), metaTime(now)
	j.Last = r
	j.ObservedRevision = max(j.ObservedRevision, c.Revision)
	if j.Phase = phaseRolledBack; r.Outcome == v1alpha1.OutcomeCommitted {
		j.Phase = phaseCommitted
	}
	j.Originals, j.Contest = a.originalsAfter(j, r.Outcome), j.Contest.ended(r.Outcome)
	if c.Verdict.Blame && c.Action == v1alpha1.ActionApply {
		j.Failed = prepend(j.Failed, v1alpha1.FailedSetting{
			Flags: c.Flags, KCMVersion: c.KCMVersion, PolicyGeneration: c.PolicyGeneration, Time: metaTime(now), Reason: c.Verdict.Reason,
		}, maxFailed)
	}
	// Before the journal says that the change has ended, so that whoever reads that finds nothing left of it.
	a.logIf(a.tidy(), "cannot remove what the change left")
	a.logIf(a.save(j), "cannot save the journal")
	a.log.Info("the change has ended", "revision", c.Revision, "outcome", string(r.Outcome), "reason", r.Reason, "message", r.Message)
	a.logIf(a.store.prune(c.H0, c.H1), "cannot remove old backups")
}

// originalsAfter returns what a restore has to put back after the open change. One that was not committed may have left
// values of ours in the manifest, if its roll-back did not come off or somebody else built on the new manifest.
func (a *Agent) originalsAfter(j journal, outcome v1alpha1.Outcome) []written {
	c := j.Change
	if outcome != v1alpha1.OutcomeCommitted {
		if c.Action == v1alpha1.ActionRestore {
			return j.Originals
		}
		c.Replaced = a.stillOurs(c)
	}
	return c.originals(j.Originals)
}

// stillOurs returns the flags that a change has replaced and that have the change's value in the manifest now. Of one
// that cannot be read all are taken to have it.
func (a *Agent) stillOurs(c change) []written {
	at, now, _ := a.look(c)
	if at == foundAbsent {
		return nil
	}
	settings, err := manifest.Read(now.Content)
	if err != nil {
		return c.Replaced
	}
	var still []written
	for _, ours := range manifest.Settings(c.Flags) {
		i := slices.IndexFunc(c.Replaced, func(w written) bool { return w.Name == ours.Name })
		if i >= 0 && slices.Contains(settings, ours) {
			still = append(still, c.Replaced[i])
		}
	}
	return still
}

func (a *Agent) endWith(outcome v1alpha1.Outcome, reason, message string) {
	a.end(v1alpha1.ChangeResult{Outcome: outcome, Reason: reason, Message: message})
}

// endUnwritten journals the end of an instruction for which nothing was written.
func (a *Agent) endUnwritten(spec v1alpha1.EndpointSyncNodeSpec, outcome v1alpha1.Outcome, reason, message string) {
	j := a.journal
	now := metaTime(a.clock.now().Wall)
	j.ObservedRevision = revisionOf(spec)
	j.Last = v1alpha1.ChangeResult{
		Revision: j.ObservedRevision, Outcome: outcome, Reason: reason, Message: clean(message), Flags: spec.Flags,
		StartTime: now, FinishTime: now,
	}
	if outcome == v1alpha1.OutcomeUnchanged && spec.Action == v1alpha1.ActionRestore {
		j.Originals = nil
	}
	a.log.Info("the instruction has ended and nothing was written", "revision", j.ObservedRevision, "outcome", string(outcome), "reason", reason, "message", message)
	a.logIf(a.save(j), "cannot save the journal")
}
