package qualify

import (
	"fmt"
	"syscall"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/proxy"
)

// moment of a write: before the API server sees it, or when it has answered and the controller does not know yet.
type moment string

const (
	beforeWrite moment = "before"
	afterWrite  moment = "after"
)

// counted is a rollout without a fault whose writes are kept: every POST, PUT, PATCH and DELETE of the controller, also of
// Events and of the policy's status.
func counted(keep func([]proxy.Write)) fault {
	return fault{
		name:    "none, writes counted",
		control: gated,
		before:  func(tr *trial) { tr.gate.Use(proxy.Hooks{}) },
		after:   func(tr *trial) { keep(tr.gate.Writes()) },
	}
}

// killedAt kills the controller before or after its n-th write, and starts it again.
func killedAt(n int, when moment) fault {
	var what proxy.Write
	hit := make(chan struct{})
	return fault{
		name:    fmt.Sprintf("controller killed %s write %d", when, n),
		control: gated,
		before: func(tr *trial) {
			victim := tr.controllers[0]
			shoot := func(w proxy.Write) {
				what = w
				victim.Kill()
				close(hit)
			}
			hooks := proxy.Hooks{Before: func(w proxy.Write) bool {
				if w.Number == n && when == beforeWrite {
					shoot(w)
					return false
				}
				return true
			}}
			if when == afterWrite {
				hooks.After = func(w proxy.Write) {
					if w.Number == n {
						shoot(w)
					}
				}
			}
			tr.gate.Use(hooks)
		},
		during: func(tr *trial) {
			tr.Reached = tr.until(func() bool { return closed(hit) })
			tr.gate.Use(proxy.Hooks{})
			if closed(hit) { // Perhaps only just now.
				tr.Reached = true
				tr.Fault += ", " + what.String()
				tr.restart(tr, 0)
			}
		},
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Phases of the agent's journal, as its file says them, and the time before.
const (
	notBegun         = "not begun"
	phaseIntent      = "intent"
	phaseApplied     = "applied"
	phaseRollingBack = "rollingback"
	phaseCommitted   = "committed"
	phaseRolledBack  = "rolledback"
)

// over says whether a phase comes after which no other does.
func over(phase string) bool { return phase == phaseCommitted || phase == phaseRolledBack }

// agentKilled kills an agent when its change is in a phase, and starts it again. The node is the one that is changed as the
// i-th. For the last two phases the node's kube-controller-manager does not take the values, and the rollout stops there.
func agentKilled(i int, phase string) fault {
	f := fault{name: fmt.Sprintf("agent of node %d killed, phase %s", i+1, phase)}
	if phase == phaseRollingBack || phase == phaseRolledBack {
		f.ends = stopped
		f.before = func(tr *trial) { tr.order[i].Misbehave(tr, fmt.Sprintf("exit --kube-api-qps=%d", tr.flags.KubeAPIQPS)) }
		f.after = func(tr *trial) { tr.order[i].Misbehave(tr, "") }
	}
	if phase == notBegun {
		f.before = func(tr *trial) { tr.order[i].agent.Kill() }
		f.during = func(tr *trial) {
			tr.Reached = tr.until(func() bool { return tr.told(tr.order[i]) })
			tr.startAgent(tr, tr.order[i])
		}
		return f
	}
	f.during = func(tr *trial) {
		victim := tr.order[i]
		tr.until(func() bool { return tr.told(victim) })
		tr.awaitPhase(victim, phase)
		if err := victim.agent.Signal(syscall.SIGSTOP); err != nil {
			tr.Fatalf("the agent of %s died by itself: %v", victim.Node, err)
		}
		tr.Reached = tr.phase(victim) == phase // It may have gone on until it was stopped.
		victim.agent.Kill()
		tr.startAgent(tr, victim)
	}
	return f
}

// phase is how far a node is with this rollout.
func (tr *trial) phase(n *node) string {
	j := n.Journal(tr)
	if j.Revision < tr.revision || j.Phase == "" {
		return notBegun
	}
	return j.Phase
}

// awaitPhase returns when the journal holds a phase of this rollout, or the rollout is over on the node. Some phases last
// for milliseconds.
func (tr *trial) awaitPhase(n *node, wanted string) string {
	const often = 100 * time.Microsecond
	for deadline := time.Now().Add(endLimit); time.Now().Before(deadline); time.Sleep(often) {
		if at := tr.phase(n); at == wanted || over(at) {
			return at
		}
	}
	tr.Fatalf("the journal of %s never came to phase %q", n.Node, wanted)
	return ""
}
