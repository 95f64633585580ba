package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// manifestEvery is how often the manifest is looked at while a process is being proven.
	manifestEvery = time.Second

	// shortestLook is how long a process is looked at when the agent comes back after the deadline: enough for health
	// and Lease to be seen, so that nothing healthy is rolled back unseen.
	shortestLook = 15 * time.Second
)

// proveNew proves the new manifest's process, and commits the change or rolls it back.
func (a *Agent) proveNew(ctx context.Context) {
	c, began, now := a.journal.Change, a.journal.LastChange.Boot, a.clock.now().Boot
	result := a.try(ctx, foundH1, trial{
		Began: began, Watched: now, Deadline: max(began+c.HealthTimeout, now+min(shortestLook, c.HealthTimeout)), MinReady: c.MinReady, DownTimeout: a.cfg.DownTimeout,
		Old: c.Old, OldWasUp: c.OldUp, Holder: c.Holder, Want: c.Proven, WantFlags: true, WantLeaseBeat: true,
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
	if took := p.leaderless(); c.Led && took > 0 {
		handOver = v1alpha1.Duration(fmt.Sprintf("%.2fs", took.Seconds()))
	}
	reason := v1alpha1.ReasonCommitted
	if c.Action == v1alpha1.ActionRestore {
		reason = v1alpha1.ReasonRestored
	}
	message := fmt.Sprintf("the new process was proven %s after the swap", (a.clock.now().Boot - p.trial.Began).Round(time.Second))
	a.end(v1alpha1.ChangeResult{Outcome: v1alpha1.OutcomeCommitted, Reason: reason, Message: message, HandOver: handOver})
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
	beside, done := a.accompany(ctx, t)
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
		result.proof, result.verdict = result.proof.step(beside.merge(now, health, fingerprint, refused))
		if result.verdict.done() || now-looked >= manifestEvery { // a verdict on another manifest's process is worth nothing
			looked = now
			result.at = a.stillThere(ctx, about)
		}
		if result.verdict.done() || result.at != about {
			return result
		}
		if !a.wait(ctx, min(probeEvery, t.next(now)), nil) {
			result.interrupted = true
			return result
		}
	}
}

// stillThere returns what the manifest's path holds if that is certain and not what the trial is about.
func (a *Agent) stillThere(ctx context.Context, about found) found {
	at, _, _ := a.look(a.journal.Change)
	if at != about && at != foundUnreadable {
		at, _ = a.settled(ctx, a.journal.Change)
	}
	if at == foundUnreadable {
		return about
	}
	return at
}

// next returns how long it is until something is due that must not come late.
func (t trial) next(now time.Duration) time.Duration {
	if left := t.Deadline - now; left > 0 {
		return left
	}
	return probeEvery
}

// leasePace returns after how long the Lease is read again.
func (t trial) leasePace(now time.Duration) time.Duration {
	if t.Holder != "" && now-t.Began < handOverFor {
		return handOverEvery
	}
	return leaseEvery
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
