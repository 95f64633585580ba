package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// attempts at a change that something passing keeps from starting, and at putting the old manifest back.
	attempts = 3

	retryChange   = 5 * time.Second // between attempts at a change
	retryRollback = time.Second     // between attempts at putting the old manifest back

	// settleTime is how long a manifest that is neither old nor new is given: kubeadm's upgrade takes it away for a
	// millisecond, an editor may leave it empty for a moment.
	settleTime = 2 * time.Second

	// manifestEvery is how often the manifest is looked at while a process is being proven.
	manifestEvery = time.Second

	// minRollbackTimeout is how long the old manifest's process gets at least. A healthy kubelet takes 15 s.
	minRollbackTimeout = 2 * time.Minute

	// acceptAfter is how long a process of which it is not certain that it is the new one must have been good: twice
	// the 20 s after which the kubelet looks at every file at the latest.
	acceptAfter = 40 * time.Second

	// shortestLook is how long a process is looked at when the agent comes back after the deadline: enough for health
	// and Lease to be seen, so that nothing healthy is rolled back unseen.
	shortestLook = 15 * time.Second

	// Limits on what an instruction may ask for, the same as the policy's.
	maxHealthTimeout = 15 * time.Minute
	maxMinReady      = 10 * time.Minute
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
	a.view.setJournal(j)
	err := a.store.saveJournal(j)
	a.unsaved = err != nil
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
	d := decide(situation{
		Instruction: spec, Policy: a.cluster.policy(ctx, spec.PolicyName), Journal: a.journal, Process: before,
		Paused: a.store.paused(), Now: a.clock.now(), MinInterval: a.cfg.MinInterval,
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
func (a *Agent) adopt(node *v1alpha1.EndpointSyncNode) {
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
	j := a.journal
	j.Change = a.prepare(spec, p, before)
	if err := a.swap(j, p); err != nil {
		return a.swapFailed(ctx, spec, err)
	}
	a.tries = 0
	a.log.Info("the manifest was replaced", "revision", j.Change.Revision, "flags", spec.Flags.String(), "from", j.Change.H0, "to", j.Change.H1)
	a.proveNew(ctx)
	return 0
}

// prepare notes what must be known of the time before the swap.
func (a *Agent) prepare(spec v1alpha1.EndpointSyncNodeSpec, p plan, before running) change {
	return change{
		Revision: revisionOf(spec), Action: spec.Action, Flags: spec.Flags, Proven: p.proven,
		PolicyGeneration: spec.PolicyGeneration, KCMVersion: before.Version,
		HealthTimeout: within(spec.HealthTimeout, defaultHealthTimeout, maxHealthTimeout),
		MinReady:      within(spec.MinReady, defaultMinReady, maxMinReady),
		H0:            p.before.Hash, H1: hashOf(p.after), Mode: p.before.mode & 0o600, GID: p.before.gid,
		Began: a.clock.now(), Led: before.Leads, OldUp: before.Up, Old: before.Process,
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

// resume goes on with a change that a crash, an error or somebody else's edit has interrupted.
func (a *Agent) resume(ctx context.Context) {
	c := a.journal.Change
	at, err := a.settled(ctx, c)
	remedy := recoverFrom(a.journal.Phase, at)
	a.log.Info("an open change is taken up", "revision", c.Revision, "phase", string(a.journal.Phase), "manifest", string(at), "remedy", string(remedy))
	if ctx.Err() != nil {
		return
	}
	a.view.update(func(s *sight) { s.Manifest = nil })
	switch remedy {
	case remedyNothing:
	case remedyForget:
		a.forget()
	case remedyProveNew:
		a.resumeProof(ctx)
	case remedyRollBack:
		a.putOldBack(ctx, foundH1)
	case remedyPutBack:
		a.rollBack(ctx, at, verdict{Reason: v1alpha1.ReasonManifestAbsent, Message: "the manifest was " + string(at) + " in the middle of the change"})
	case remedyProveOld:
		a.proveOld(ctx)
	case remedyUndone:
		a.endWith(v1alpha1.OutcomeRolledBack, v1alpha1.ReasonConflictingEdit, "somebody else put the old manifest back")
	case remedyYield:
		a.yield()
	case remedyHold:
		why := asFailure(fmt.Errorf("read the manifest of the open change: %w", err))
		a.view.update(func(s *sight) { s.Manifest = why })
	}
}

// settled looks at the manifest, twice if what it finds may be a moment in somebody else's work.
func (a *Agent) settled(ctx context.Context, c change) (found, error) {
	at, _, err := a.place.look(c)
	if at == foundH0 || at == foundH1 {
		return at, err
	}
	if a.wait(ctx, settleTime, nil) {
		at, _, err = a.place.look(c)
	}
	return at, err
}

// forget drops a change that never began. Its instruction still stands.
func (a *Agent) forget() {
	j := a.journal
	j.Phase, j.Change = phaseNone, change{}
	a.logIf(a.save(j), "cannot save the journal")
	a.logIf(a.tidy(), "cannot remove what the change left")
}

// resumeProof goes on with a proof with the time that is left. After a reboot every process is new and the proof
// begins from scratch.
func (a *Agent) resumeProof(ctx context.Context) {
	j := a.journal
	now := a.clock.now()
	dir, err := a.place.open()
	if err == nil { // what an interrupted rename may have left undone
		a.logIf(dir.sync(), "cannot fsync the manifests directory")
		a.logIf(a.prepareOld(dir, j.Change), "cannot prepare the file for a roll-back")
		a.logIf(dir.removeTemps(j.Change.oldFile()), "cannot remove what the change left")
		a.logIf(dir.Close(), "cannot close the manifests directory")
	}
	fresh := j.LastChange.BootID != now.BootID
	if j.Phase == phaseIntent || fresh {
		if j.Phase == phaseIntent {
			j.Restarts = prepend(j.Restarts, metaTime(j.Change.Began.Wall), maxRestarts)
			j.LastChange = j.Change.Began
		}
		if j.Phase = phaseApplied; fresh {
			j.LastChange, j.Change.Old, j.Change.OldUp, j.Change.Led = now, process{}, false, false
		}
		a.logIf(a.save(j), "cannot save the journal")
	}
	a.proveNew(ctx)
}

// proveNew proves the new manifest's process, and commits the change or rolls it back.
func (a *Agent) proveNew(ctx context.Context) {
	c, began, now := a.journal.Change, a.journal.LastChange.Boot, a.clock.now().Boot
	result := a.try(ctx, foundH1, trial{
		Began: began, Watched: now, Deadline: max(began+c.HealthTimeout, now+min(shortestLook, c.HealthTimeout)), MinReady: c.MinReady, DownTimeout: a.cfg.DownTimeout,
		Old: c.Old, OldWasUp: c.OldUp, Want: c.Proven, WantFlags: true, WantLeaseBeat: true,
	})
	switch {
	case result.interrupted:
	case result.at != foundH1:
		a.displaced(result.at)
	case result.verdict.Passed:
		a.commit(result.proof)
	default:
		a.journal.Change.New = process{}
		if result.proof.seen > 0 {
			a.journal.Change.New = result.proof.current
		}
		a.rollBack(ctx, foundH1, result.verdict)
	}
}

func (a *Agent) commit(p proof) {
	c := a.journal.Change
	handOver := v1alpha1.Duration("")
	if c.Led && p.handedOver > 0 {
		handOver = v1alpha1.Duration(fmt.Sprintf("%.2fs", p.handedOver.Seconds()))
	}
	reason := v1alpha1.ReasonCommitted
	if c.Action == v1alpha1.ActionRestore {
		reason = v1alpha1.ReasonRestored
	}
	message := fmt.Sprintf("the new process was proven %s after the swap", (a.clock.now().Boot - p.trial.Began).Round(time.Second))
	a.end(v1alpha1.ChangeResult{Outcome: v1alpha1.OutcomeCommitted, Reason: reason, Message: message, HandOver: handOver})
}

// rollBack journals that the old manifest is to be put back, and does it. A journal that cannot be written does not
// keep it from doing so: running the old manifest matters more.
func (a *Agent) rollBack(ctx context.Context, at found, why verdict) {
	j := a.journal
	a.log.Info("the change is rolled back", "revision", j.Change.Revision, "reason", why.Reason, "message", why.Message)
	j.Phase, j.Change.Verdict = phaseRollingBack, why
	a.logIf(a.save(j), "cannot save the journal; the roll-back goes on")
	a.putOldBack(ctx, at)
}

func (a *Agent) putOldBack(ctx context.Context, at found) {
	c := a.journal.Change
	for try := 1; ; try++ {
		err := a.putOld(c, at)
		if err == nil {
			break
		}
		a.log.Error(err, "cannot put the old manifest back", "revision", c.Revision, "attempt", try)
		why := asFailure(err)
		switch now, _, _ := a.place.look(c); {
		case now == foundH0:
			try = attempts // the rename was done, only its fsync failed
		case why.Reason == v1alpha1.ReasonConflictingEdit:
			a.displaced(now)
			return
		}
		if try >= attempts {
			if now, _, _ := a.place.look(c); now == foundH0 {
				break
			}
			a.endWith(v1alpha1.OutcomeRollbackFailed, why.Reason, "the old manifest could not be put back: "+why.Error())
			return
		}
		if !a.wait(ctx, retryRollback, nil) {
			return
		}
	}
	a.journal.Restarts = prepend(a.journal.Restarts, metaTime(a.clock.now().Wall), maxRestarts)
	a.logIf(a.save(a.journal), "cannot save the journal")
	a.proveOld(ctx)
}

// proveOld waits for a healthy process of the old manifest. It needs no API server.
func (a *Agent) proveOld(ctx context.Context) {
	c, now := a.journal.Change, a.clock.now().Boot
	t := trial{
		Began: now, Watched: now, Deadline: now + max(c.HealthTimeout, minRollbackTimeout), DownTimeout: a.cfg.DownTimeout,
		Old: c.New, OldWasUp: c.New != (process{}), Patient: true, AcceptAfter: acceptAfter,
	}
	if c.Verdict.Reason == v1alpha1.ReasonNotPickedUp { // nothing was restarted, so nothing will be
		t.OldWasUp = false
	}
	result := a.try(ctx, foundH0, t)
	why := c.Verdict
	switch {
	case result.interrupted:
	case result.at != foundH0:
		a.displaced(result.at)
	case result.verdict.Passed:
		a.endWith(v1alpha1.OutcomeRolledBack, why.Reason, why.Message+"; the old manifest runs again")
	default:
		a.endWith(v1alpha1.OutcomeRollbackFailed, v1alpha1.ReasonRollbackFailed, fmt.Sprintf(
			"%s: %s; the old manifest was put back, and its process is not healthy either: %s", why.Reason, why.Message, result.verdict.Message))
	}
}

// displaced ends a change whose manifest somebody else has changed while the agent was running.
func (a *Agent) displaced(at found) {
	if at == foundH0 {
		a.endWith(v1alpha1.OutcomeRolledBack, v1alpha1.ReasonConflictingEdit, "somebody else put the old manifest back")
		return
	}
	a.yield()
}

// yield leaves the manifest to whoever changed it.
func (a *Agent) yield() {
	a.endWith(v1alpha1.OutcomeRollbackFailed, v1alpha1.ReasonConflictingEdit,
		"somebody else changed or removed the manifest in the middle of the change; it is theirs now and is left as it is")
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
	a.log.Info("the instruction has ended and nothing was written", "revision", j.ObservedRevision, "outcome", string(outcome), "reason", reason, "message", message)
	a.logIf(a.save(j), "cannot save the journal")
}

func (a *Agent) logIf(err error, message string) {
	if err != nil {
		a.log.Error(err, message)
	}
}

// attempt is how a trial went.
type attempt struct {
	verdict     verdict
	proof       proof
	at          found // what the manifest's path holds
	interrupted bool  // the agent is being stopped; the journal says how to go on
}

// try follows a trial until its verdict, or until the manifest is another one than it is about.
func (a *Agent) try(ctx context.Context, about found, t trial) attempt {
	ctx, cancel := context.WithCancel(ctx)
	beside, done := a.accompany(ctx)
	defer done()
	defer cancel()
	result := attempt{proof: newProof(t), at: about}
	var refused, looked time.Duration
	for {
		health, fingerprint := a.probe(ctx)
		if ctx.Err() != nil {
			result.interrupted = true
			return result
		}
		now := a.clock.now().Boot
		if health == answerRefused {
			refused = now
		}
		a.showHealth(health, beside.lastDetails())
		if result.proof, result.verdict = result.proof.step(beside.merge(now, health, fingerprint, refused)); result.verdict.done() {
			return result
		}
		if now-looked >= manifestEvery {
			looked = now
			if at, _, _ := a.place.look(a.journal.Change); at != about && at != foundUnreadable {
				if result.at, _ = a.settled(ctx, a.journal.Change); result.at != about && result.at != foundUnreadable {
					return result
				}
			}
		}
		if !a.wait(ctx, min(probeEvery, t.next(now)), nil) {
			result.interrupted = true
			return result
		}
	}
}

// next returns how long it is until something is due that must not come late.
func (t trial) next(now time.Duration) time.Duration {
	if left := t.Deadline - now; left > 0 {
		return left
	}
	return probeEvery
}

// showHealth lets the status say what is seen during a trial.
func (a *Agent) showHealth(health answer, d details) {
	good := health == answerGood
	a.view.update(func(s *sight) {
		if s.Healthy == nil || *s.Healthy != good {
			signal(a.view.changed)
		}
		s.Healthy = &good
		s.take(d)
	})
}
