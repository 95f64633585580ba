package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	maxMessage = 1024 // ChangeResult.Message, in characters

)

// statusInput is all that the status is made of.
type statusInput struct {
	Sight      sight
	Journal    journal
	Conditions []metav1.Condition // as written before, for their transition times
	Generation int64
	Now        moment
}

// nextStatus computes the whole status. Nothing else makes one.
func nextStatus(in statusInput) v1alpha1.EndpointSyncNodeStatus {
	s, j, now := in.Sight, in.Journal, metaTime(in.Now.Wall)
	status := v1alpha1.EndpointSyncNodeStatus{
		Conditions:         slices.Clone(in.Conditions),
		ObservedRevision:   j.ObservedRevision,
		ReportTime:         now,
		Phase:              changePhase(j.Phase),
		Last:               j.Last,
		Running:            s.Running,
		Settings:           s.Settings,
		KCMVersion:         s.Signals.Version,
		ManifestHash:       string(s.ManifestHash),
		ManifestChangeTime: metaTime(s.Seen.changed),
		Healthy:            s.Healthy,
		Leader:             s.Signals.Leader,
		Signals:            s.Signals.KCM,
		Restarts:           j.Restarts,
		Failed:             j.Failed,
	}
	ready := readiness(in)
	ready.Type, ready.ObservedGeneration = v1alpha1.ConditionReady, in.Generation
	ready.LastTransitionTime = now
	meta.SetStatusCondition(&status.Conditions, ready)
	return status
}

// changePhase is the phase as people see it.
func changePhase(p phase) v1alpha1.ChangePhase {
	switch p {
	case phaseIntent:
		return v1alpha1.PhaseIntent
	case phaseApplied:
		return v1alpha1.PhaseApplied
	case phaseRollingBack:
		return v1alpha1.PhaseRollingBack
	case phaseNone, phaseCommitted, phaseRolledBack:
	}
	return v1alpha1.PhaseIdle
}

// readiness orders cases by what a person has to know first.
func readiness(in statusInput) metav1.Condition {
	s, j, exposed := in.Sight, in.Journal, in.Sight.Isolation.missing(in.Now)
	is := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Status: status, Reason: reason, Message: clean(message)}
	}
	switch {
	case s.Stuck != nil:
		return is(metav1.ConditionFalse, s.Stuck.Reason, s.Stuck.Error())
	case s.Manifest != nil:
		return is(metav1.ConditionFalse, s.Manifest.Reason, s.Manifest.Error())
	case j.Phase.open():
		return is(metav1.ConditionFalse, v1alpha1.ReasonProgressing,
			fmt.Sprintf("revision %d is being carried out: %s", j.Change.Revision, changePhase(j.Phase)))
	case j.Last.Outcome == v1alpha1.OutcomeRollbackFailed && (s.Healthy == nil || !*s.Healthy):
		return is(metav1.ConditionFalse, v1alpha1.ReasonRollbackFailed, j.Last.Message)
	case s.Healthy == nil || !*s.Healthy:
		return is(metav1.ConditionFalse, v1alpha1.ReasonNodeUnhealthy, "kube-controller-manager on this node does not answer /healthz with ok")
	case exposed != "":
		return is(metav1.ConditionFalse, v1alpha1.ReasonNotIsolated, exposed)
	case s.Held.Kind == decideHold:
		return is(metav1.ConditionTrue, s.Held.Reason, s.Held.Message)
	}
	return is(metav1.ConditionTrue, v1alpha1.ReasonReady, "kube-controller-manager answers and no change is under way")
}

// clean makes any text fit for a message: valid, printable, of bounded length.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > maxMessage {
		return string(runes[:maxMessage-1]) + "…"
	}
	return text
}

// metaTime is a wall time as the API writes it: UTC, whole seconds.
func metaTime(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }
