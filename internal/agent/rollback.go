package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	retryRollback = time.Second // between attempts at putting the old manifest back

	// minRollbackTimeout is how long the old manifest's process gets at least. A healthy kubelet takes 15 s.
	minRollbackTimeout = 2 * time.Minute

	// acceptAfter is how long a process of which it is not certain that it is the new one must have been good: twice
	// the 20 s after which the kubelet looks at every file at the latest.
	acceptAfter = 40 * time.Second
)

// rollBack journals that the old manifest is to be put back, and does it. A journal that cannot be written does not
// keep it from doing so: running the old manifest matters more.
func (a *Agent) rollBack(ctx context.Context, at found, why verdict) {
	j := a.journal
	a.log.Info("the change is rolled back", "revision", j.Change.Revision, "reason", why.Reason, "message", why.Message)
	j.Phase, j.Change.Verdict = phaseRollingBack, why
	if why.Reason == v1alpha1.ReasonNotPickedUp && len(j.Restarts) > 0 {
		j.Restarts = j.Restarts[1:] // counted at the swap, and it did not happen
	}
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
		switch now, _, _ := a.look(c); {
		case why.Reason == v1alpha1.ReasonConflictingEdit:
			a.displaced(now)
			return
		case now == foundUnreadable: // It may be the new one still: the roll-back goes on when it can be read.
			a.view.update(func(s *sight) { s.Manifest = why })
			return
		case now == foundH0:
			try = attempts // the rename was done, only its fsync failed
		}
		if try >= attempts {
			if now, _, _ := a.look(c); now == foundH0 {
				break
			}
			a.endWith(v1alpha1.OutcomeRollbackFailed, why.Reason, "the old manifest could not be put back: "+why.Error())
			return
		}
		if !a.wait(ctx, retryRollback, nil) {
			return
		}
	}
	if c.Verdict.Reason != v1alpha1.ReasonNotPickedUp {
		a.countRestart()
	}
	a.proveOld(ctx)
}

func (a *Agent) countRestart() {
	j := a.journal
	j.Restarts = prepend(j.Restarts, metaTime(a.clock.now().Wall), maxRestarts)
	a.logIf(a.save(j), "cannot save the journal")
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
	if why.Reason == v1alpha1.ReasonNotPickedUp && !result.interrupted && c.Old.compare(result.proof.current) == different {
		a.countRestart() // the kubelet did pick something up after all
	}
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

// displaced ends a change in the middle of which somebody else changed the manifest, and leaves it to them.
func (a *Agent) displaced(at found) {
	message := "somebody else changed or removed the manifest in the middle of the change; it is theirs now and is left as it is"
	if at == foundH0 {
		message = "somebody else put the old manifest back in the middle of the change"
	}
	a.endWith(v1alpha1.OutcomeDisplaced, v1alpha1.ReasonConflictingEdit, message)
}
