package qualify

import (
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/proxy"
)

// How long networks are cut: much shorter than the health timeout; longer than that; and longer than it takes a client to
// find out that its connection is dead (client-go: 30 s without a frame, and 15 s for the answer to a ping).
const (
	briefly = 20 * time.Second
	tooLong = healthTimeout + 20*time.Second
	forLong = time.Minute
)

// party is who is cut off from the API server.
type party string

const (
	theController party = "the controller"
	theAgent      party = "the agent"
	theProcess    party = "kube-controller-manager"
)

// cut cuts a party on the i-th node off from the API server in a phase of that node's change, for a while.
func cut(who party, i int, phase string, long time.Duration) fault {
	f := fault{name: fmt.Sprintf("%s of node %d cut off for %s, phase %s", who, i+1, long, phase)}
	if who == theController {
		f.control = linked
		f.name = fmt.Sprintf("%s cut off for %s, node %d in phase %s", who, long, i+1, phase)
	}
	if who != theController && long > healthTimeout {
		f.ends = desiredOrStop // The proof needs the API server: the node goes back in time, and no value is blamed.
	}
	link := func(tr *trial) *proxy.Link {
		switch who {
		case theController:
			return tr.link
		case theAgent:
			return tr.order[i].agentLink
		case theProcess:
			return tr.order[i].processLink
		}
		return nil
	}
	if phase == notBegun {
		f.before = func(tr *trial) { link(tr).Cut() }
	}
	f.during = func(tr *trial) {
		if phase != notBegun {
			tr.until(func() bool { return tr.told(tr.order[i]) })
			tr.Reached = tr.awaitPhase(tr.order[i], phase) == phase
			link(tr).Cut()
		}
		time.Sleep(long) // The time is the point.
		link(tr).Heal()
	}
	return f
}
