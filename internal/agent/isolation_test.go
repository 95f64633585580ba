package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func TestOnlyTheAdmissionPolicysDenialShowsIsolation(t *testing.T) {
	nodes := schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "endpointsyncnodes"}
	byRBAC := apierrors.NewForbidden(nodes, v1alpha1.IsolationProbe, errors.New(
		`User "system:serviceaccount:endpoint-sync-system:endpoint-sync-agent" cannot patch resource "endpointsyncnodes/status"`))
	const policy = "ValidatingAdmissionPolicy '" + confinement + "' with binding '" + confinement + "' denied request: "
	tests := map[string]struct {
		answer error
		shown  bool   // by the answer alone
		keeps  bool   // what was shown before
		doubt  string // has this in it
	}{
		"the policy, for this node":                      {deny("cp-1"), true, true, ""},
		"the policy, for another node":                   {deny("cp-2"), false, false, "cp-2"},
		"the policy, for a token without a node":         {denial(policy + "agent credentials must be a pod-bound token carrying a node name"), false, false, "pod-bound"},
		"another policy":                                 {denial("ValidatingAdmissionPolicy 'no-dry-runs' denied request: node cp-1 may not write the status of zz-isolation-probe"), false, false, "no-dry-runs"},
		"RBAC":                                           {byRBAC, false, false, "cannot patch"},
		"no credentials":                                 {apierrors.NewUnauthorized("expired"), false, false, "expired"},
		"nobody":                                         {nil, false, false, "config/admission"},
		"no probe to ask with":                           {fmt.Errorf("write: %w", apierrors.NewNotFound(nodes, v1alpha1.IsolationProbe)), false, false, "the controller makes it"},
		"an API server that is out of reach":             {errors.New("connection refused"), false, true, "connection refused"},
		"an API server that is overloaded":               {apierrors.NewTooManyRequests("later", 1), false, true, "later"},
		"an API server whose admission is out of order":  {apierrors.NewInternalError(errors.New("no informer")), false, true, "no informer"},
		"an API server that is about to be started anew": {apierrors.NewServiceUnavailable("soon"), false, true, "soon"},
	}
	before, now := moment{BootID: "b", Boot: time.Hour}, moment{BootID: "b", Boot: time.Hour + 10*time.Minute}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := isolation{}.next(tt.answer, "cp-1", now)
			if shown := got.missing(now) == ""; shown != tt.shown || !strings.Contains(got.doubt, tt.doubt) || (got.doubt == "") != shown {
				t.Errorf("next() = %+v, want it shown: %t, with a doubt about %q", got, tt.shown, tt.doubt)
			}
			got = isolation{shown: before}.next(tt.answer, "cp-1", now)
			if kept := got.missing(now) == ""; kept != tt.keeps {
				t.Errorf("next() = %+v after a good answer, want that kept: %t", got, tt.keeps)
			}
		})
	}
}

func TestAGoodAnswerLastsFor25Minutes(t *testing.T) {
	shown := isolation{shown: moment{BootID: "b", Boot: time.Hour}}
	for age, want := range map[time.Duration]bool{0: true, maxIsolationAge: true, maxIsolationAge + time.Second: false} {
		if got := shown.missing(moment{BootID: "b", Boot: time.Hour + age}) == ""; got != want {
			t.Errorf("%s after a good answer: shown is %t, want %t", age, got, want)
		}
	}
	if (isolation{}).missing(moment{BootID: "b", Boot: time.Minute}) == "" {
		t.Error("isolation is shown although nobody has asked")
	}
}

// readyIs reports whether the condition Ready has a status and a reason.
func readyIs(status metav1.ConditionStatus, reason string) func(v1alpha1.EndpointSyncNodeStatus) bool {
	return func(s v1alpha1.EndpointSyncNodeStatus) bool {
		ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
		return ready != nil && ready.Status == status && ready.Reason == reason
	}
}

func TestWithoutIsolationNoChangeBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.cluster.answerProbe(nil)
		b.startAgent(t)
		b.cluster.instruct(apply(1))
		b.waitFor(t, "a status that says so", readyIs(metav1.ConditionFalse, v1alpha1.ReasonNotIsolated))
		pause(t.Context(), 5*time.Minute)
		checkManifest(t, b, manifestText)
		b.cluster.answerProbe(deny("cp-1"))
		mended := time.Now()
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
		if took := time.Since(mended); took > isolationRetry+10*time.Second {
			t.Errorf("the change ended %s after the policies came, want it begun within %s", took, isolationRetry)
		}
		b.waitFor(t, "a status that is ready", readyIs(metav1.ConditionTrue, v1alpha1.ReasonReady))
	})
}

func TestAnInstructionThatIsolationHoldsForLongIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.cluster.answerProbe(nil)
		b.startAgent(t)
		b.cluster.instruct(apply(1))
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeRefused, v1alpha1.ReasonOutdated)
		if !strings.Contains(s.Last.Message, v1alpha1.ReasonNotIsolated) || !strings.Contains(s.Last.Message, "config/admission") {
			t.Errorf("the message is %q, want it to name the reason and the remedy", s.Last.Message)
		}
		checkManifest(t, b, manifestText)
	})
}

func TestIsolationThatIsLostIsNoticedAndAnOpenChangeEndsAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(neverHealthy))
		b.startAgent(t)
		b.interrupt(t, patiently("12m", "1s")) // the policies are taken away while it goes on, which the next test sees
		b.cluster.answerProbe(nil)
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonNeverHealthy)
		b.waitFor(t, "a status that says so", readyIs(metav1.ConditionFalse, v1alpha1.ReasonNotIsolated))
		checkManifest(t, b, manifestText)
	})
}

func TestAnAPIServerThatWasAwayNeedNotShowIsolationAgainAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.startAgent(t)
		b.waitFor(t, "a status that is ready", readyIs(metav1.ConditionTrue, v1alpha1.ReasonReady))
		b.cluster.setDead(true)
		pause(t.Context(), 20*time.Minute)
		b.cluster.answerProbe(errors.New("still out of order"))
		b.cluster.setDead(false)
		b.cluster.instruct(apply(1))
		s := b.waitFor(t, "end of revision 1", ended(1))
		checkEnd(t, s, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
		pause(t.Context(), 5*time.Minute)
		b.waitFor(t, "a status that says that it is too long ago", readyIs(metav1.ConditionFalse, v1alpha1.ReasonNotIsolated))
	})
}
