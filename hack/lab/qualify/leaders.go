package qualify

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/proxy"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// holdLimit is how long a write is held if the other controller gets no further without it.
	holdLimit = 10 * time.Second
	// electionLimit is how long the second controller may take to lead: the Lease runs out after 60 s, and is looked at
	// every 10 s.
	electionLimit = 2 * time.Minute
)

// twoAtOnce has two controllers that both believe that they lead.
func twoAtOnce() fault { return fault{name: "two controllers", control: both} }

// oneLate has two controllers that both believe that they lead. One of them is stopped while its k-th write to a node or to
// the claim is on its way; the write arrives, and it goes on, when the other has told another node to change.
func oneLate(k int) fault {
	f := fault{name: fmt.Sprintf("two controllers, one stopped with its write %d on its way", k), control: both}
	return f.holding(k, 1, func(tr *trial, was int) {
		tr.holdUntil(holdLimit, func() bool { return tr.handedOut() > was })
	})
}

// overtaken has a leader stopped, with its k-th write to a node or to the claim on its way, until its Lease has run out and
// the other controller leads and has told a node to change.
func overtaken(k int) fault {
	f := fault{name: fmt.Sprintf("leader stopped past its Lease, with its write %d on its way", k), control: elected}
	f = f.holding(k, 0, func(tr *trial, was int) {
		first := tr.electedNow(tr.Context())
		tr.holdUntil(electionLimit, func() bool {
			now := tr.electedNow(tr.Context())
			return now != "" && now != first
		})
		tr.holdUntil(holdLimit, func() bool { return tr.handedOut() > was })
	})
	f.after = func(tr *trial) {
		if !tr.Reached {
			return
		}
		// Whoever has lost the Lease ends, and its Deployment starts it again; here the next run does.
		rig.Await(tr, electionLimit, func() string { return "the end of the controller that was overtaken" }, func(context.Context) bool {
			return ended(tr.controllers[0])
		})
		tr.controllers = tr.controllers[1:]
		tr.control = nobody
	}
	return f
}

// holding has the i-th controller, which goes through the gate, stopped while a write is held.
func (f fault) holding(k, i int, meanwhile func(tr *trial, handed int)) fault {
	type hold struct {
		held, goOn chan struct{}
		what       proxy.Write
	}
	h := hold{held: make(chan struct{}), goOn: make(chan struct{})}
	f.before = func(tr *trial) {
		victim := tr.controllers[i]
		var seen atomic.Int32
		tr.gate.Use(proxy.Hooks{Before: func(w proxy.Write) bool {
			if !turns(w) || int(seen.Add(1)) != k {
				return true
			}
			h.what = w
			stop(victim)
			close(h.held)
			<-h.goOn
			return true
		}})
	}
	f.during = func(tr *trial) {
		if tr.Reached = tr.until(func() bool { return closed(h.held) }); tr.Reached {
			tr.Fault += ", " + h.what.String()
			meanwhile(tr, tr.handedOut())
		}
		tr.gate.Use(proxy.Hooks{})
		// The write arrives first: whoever sent it knows of nothing yet.
		close(h.goOn)
		if err := tr.controllers[i].Signal(syscall.SIGCONT); err != nil {
			tr.Errorf("controller %d died by itself: %v", i+1, err)
		}
	}
	return f
}

// turns reports whether a write is one of those by which a node gets its turn.
func turns(w proxy.Write) bool {
	return strings.Contains(w.Path, "/endpointsyncnodes/") || strings.HasSuffix(w.Path, "/leases/endpoint-sync-rollout")
}

func stop(p *operator.Process) { _ = p.Signal(syscall.SIGSTOP) } // It fails only if the process is gone.

// handedOut is how often a node was told something in this rollout.
func (tr *trial) handedOut() int {
	_, _, now := tr.audit.now()
	return len(now.since(tr.was).handed)
}

// holdUntil waits for a condition, and not for ever.
func (tr *trial) holdUntil(limit time.Duration, holds func() bool) {
	deadline := time.After(limit)
	for !holds() {
		select {
		case <-tr.audit.next():
		case <-time.After(look):
		case <-deadline:
			return
		case <-tr.Context().Done():
			return
		}
	}
}
