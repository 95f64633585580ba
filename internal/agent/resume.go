package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// settleTime is how long a manifest that is neither old nor new is given: kubeadm's upgrade takes it away for a
// millisecond, an editor may leave it empty for a moment.
const settleTime = 2 * time.Second

// resume goes on with a change that a crash, an error or somebody else's edit has interrupted.
func (a *Agent) resume(ctx context.Context) {
	c := a.journal.Change
	at, err := a.settled(ctx, c)
	what := recoverFrom(a.journal.Phase, at)
	a.log.Info("an open change is taken up", "revision", c.Revision, "phase", string(a.journal.Phase), "manifest", string(at), "remedy", string(what))
	if ctx.Err() != nil {
		return
	}
	a.view.update(func(s *sight) { s.Manifest = nil })
	switch what {
	case remedyNothing:
	case remedyForget:
		a.forget()
	case remedyProveNew:
		a.resumeProof(ctx)
	case remedyRollBack:
		a.putOldBack(ctx, foundH1)
	case remedyPutBack:
		if a.journal.Phase == phaseRollingBack { // Its verdict stands.
			a.putOldBack(ctx, at)
			return
		}
		a.rollBack(ctx, at, verdict{Reason: v1alpha1.ReasonManifestAbsent, Message: "the manifest was " + string(at) + " in the middle of the change"})
	case remedyProveOld:
		a.proveOld(ctx)
	case remedyYield:
		a.displaced(at)
	case remedyHold:
		why := asFailure(fmt.Errorf("read the manifest of the open change: %w", err))
		a.view.update(func(s *sight) { s.Manifest = why })
	}
}

// settled looks at the manifest, twice if what it finds may be a moment in somebody else's work.
func (a *Agent) settled(ctx context.Context, c change) (found, error) {
	at, _, err := a.look(c)
	if at == foundH0 || at == foundH1 {
		return at, err
	}
	if a.wait(ctx, settleTime, nil) {
		at, _, err = a.look(c)
	}
	return at, err
}

// forget drops a change that never began. Its instruction still stands.
func (a *Agent) forget() {
	j := a.journal
	if j.Change.Exempt { // What it takes back is not known any more, and it need not wait all the same.
		j.LastChange = moment{}
	}
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
	if j.Phase == phaseIntent { // the crash came between the rename and the journal
		j = j.swapped(j.Change.Began)
	}
	if j.LastChange.BootID != now.BootID {
		j.LastChange, j.Change.Old, j.Change.OldUp, j.Change.Led, j.Change.Holder = now, process{}, false, false, ""
	}
	a.logIf(a.save(j), "cannot save the journal")
	a.proveNew(ctx)
}
