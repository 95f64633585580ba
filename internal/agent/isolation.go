package agent

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// isolationEvery is how often the agent asks whether it is confined to its own node. Each time costs one dry run.
	isolationEvery = 10 * time.Minute

	// isolationRetry is how soon it asks again when that was not shown, so that whoever mends it need not wait.
	isolationRetry = 15 * time.Second

	// maxIsolationAge is how old the last good answer may be when a change begins: the API server may have been out of
	// reach twice, and the answer after that may be late.
	maxIsolationAge = 25 * time.Minute

	// confinement is the admission policy that confines agents to their own nodes (config/admission).
	confinement = "endpoint-sync-agent-own-node-only"
)

// isolation is what is known of whether the API server confines this agent to the status of its own node.
type isolation struct {
	shown moment // when it was last shown; zero: never, or it does not any more
	doubt string // why it was not shown the last time; empty if it was
}

// next takes in what the API server answered to an attempt that it must deny. Only an answer can take back what was
// shown before: a server that is out of reach lets nobody write anything.
func (i isolation) next(answer error, node string, now moment) isolation {
	refusal, refused := errors.AsType[*apierrors.StatusError](answer)
	switch {
	case answer == nil:
		return isolation{doubt: "the API server would let it write the status of any node: apply config/admission, " +
			"the policy " + confinement + " and its binding"}
	case !refused, refusal.ErrStatus.Code >= http.StatusInternalServerError, refusal.ErrStatus.Code == http.StatusTooManyRequests:
		i.doubt = "the API server gave no answer: " + answer.Error()
		return i
	case confined(refusal, node):
		return isolation{shown: now}
	case apierrors.IsNotFound(refusal):
		return isolation{doubt: "EndpointSyncNode " + v1alpha1.IsolationProbe + ", which it must be refused, is not there: " +
			"the controller makes it, so look whether that runs"}
	}
	return isolation{doubt: "the API server does not refuse by the admission policy " + confinement +
		" of config/admission, but says: " + answer.Error()}
}

// confined reports whether the admission policy denied the write because it knows this agent's node, and that the
// object is not that node's. Any other refusal, by RBAC or for a token without a node, shows nothing of the kind.
func confined(refusal *apierrors.StatusError, node string) bool {
	if refusal.ErrStatus.Code != http.StatusForbidden || refusal.ErrStatus.Details == nil {
		return false
	}
	return slices.ContainsFunc(refusal.ErrStatus.Details.Causes, func(c metav1.StatusCause) bool {
		return strings.HasPrefix(c.Message, "ValidatingAdmissionPolicy '"+confinement+"' ") &&
			strings.HasSuffix(c.Message, " denied request: node "+node+" may not write the status of "+v1alpha1.IsolationProbe)
	})
}

// missing returns why a change must not begin, or nothing.
func (i isolation) missing(now moment) string {
	if i.shown != (moment{}) && now.since(i.shown) <= maxIsolationAge {
		return ""
	}
	return "no change begins on this node, because it is not shown that its agent is confined to it: " + i.doubt
}

// again returns when to ask again.
func (i isolation) again() time.Duration {
	if i.doubt == "" {
		return isolationEvery
	}
	return isolationRetry
}

// testIsolation asks again and again whether the API server confines this agent, until ctx ends. It never keeps the work
// on a change from going on.
func (a *Agent) testIsolation(ctx context.Context) {
	for {
		answer := a.cluster.tryProbe(ctx)
		if ctx.Err() != nil {
			return
		}
		var was, is isolation
		a.view.update(func(s *sight) {
			was = s.Isolation
			is = was.next(answer, a.cfg.NodeName, a.clock.now())
			s.Isolation = is
		})
		if was.doubt != is.doubt {
			a.log.Info("whether this agent is confined to its own node has changed", "confined", is.doubt == "", "doubt", is.doubt)
			signal(a.view.changed)
			signal(a.view.wake)
		}
		if !a.wait(ctx, is.again(), nil) {
			return
		}
	}
}
