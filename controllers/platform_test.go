package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

var rke2 = platform.Finding{Platform: platform.RKE2, Reason: "the API server is v1.36.2+rke2r1"}

func TestConcludeOnAPlatform(t *testing.T) {
	tests := map[string]struct {
		mode    v1alpha1.Mode
		found   platform.Finding
		busy    bool // a node is in flight
		stalled string
		step    rollout.StepKind
		reason  string
	}{
		"Enforce where the manifest is ours": {v1alpha1.ModeEnforce, patchable, false, "", rollout.Start, v1alpha1.ReasonRolloutStarted},
		"Enforce where it is not": {
			v1alpha1.ModeEnforce, rke2, false, v1alpha1.ReasonUnsupportedPlatform, rollout.Hold, v1alpha1.ReasonUnsupportedPlatform,
		},
		"Enforce where it is not, with a node in flight": {
			v1alpha1.ModeEnforce, rke2, true, v1alpha1.ReasonUnsupportedPlatform, rollout.Wait, v1alpha1.ReasonProgressing,
		},
		"Enforce before anybody has looked": {
			v1alpha1.ModeEnforce, platform.Finding{}, false, "", rollout.Hold, v1alpha1.ReasonPlatformNotKnown,
		},
		"Enforce before anybody has looked, with a node in flight": {
			v1alpha1.ModeEnforce, platform.Finding{}, true, "", rollout.Wait, v1alpha1.ReasonProgressing,
		},
		"Recommend works anywhere":  {v1alpha1.ModeRecommend, rke2, false, "", rollout.Hold, v1alpha1.ReasonRecommended},
		"Observe works anywhere":    {v1alpha1.ModeObserve, rke2, false, "", rollout.Hold, v1alpha1.ReasonObserving},
		"Observe without knowledge": {v1alpha1.ModeObserve, platform.Finding{}, false, "", rollout.Hold, v1alpha1.ReasonObserving},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := valid()
			s.Policy.Spec.Mode, s.Platform = tt.mode, tt.found
			if tt.busy {
				s.Nodes[0].Status.Phase = v1alpha1.PhaseApplied
			}
			got := Conclude(s)
			if got.Stalled != tt.stalled || got.Step.Kind != tt.step || got.Step.Reason != tt.reason {
				t.Errorf("Conclude = stalled %q, step %s for %s; want %q, %s for %s",
					got.Stalled, got.Step.Kind, got.Step.Reason, tt.stalled, tt.step, tt.reason)
			}
			if tt.stalled != "" && (!strings.Contains(got.Message, rke2.Reason) || !strings.Contains(got.Message, "status.recommended.snippet")) {
				t.Errorf("message = %s; want the evidence and what to do", got.Message)
			}
		})
	}
}

// TestNoNodesOnACloud says what the cloud is, and not only that there are no nodes.
func TestNoNodesOnACloud(t *testing.T) {
	s := valid()
	s.Nodes, s.Platform = nil, platform.Finding{Platform: platform.EKS, Reason: "the API server is v1.33.5-eks-113cf36"}
	if got := Conclude(s); got.Stalled != v1alpha1.ReasonUnsupportedPlatform || !strings.Contains(got.Message, "EKS") {
		t.Errorf("Conclude = %s: %s; want %s for EKS", got.Stalled, got.Message, v1alpha1.ReasonUnsupportedPlatform)
	}
}

func TestRecommendedSnippet(t *testing.T) {
	tests := map[string]struct {
		found platform.Finding
		want  string // part of the snippet; empty: none
	}{
		"of the platform":                       {rke2, "kube-controller-manager-arg:"},
		"of kubeadm":                            {patchable, "kind: ClusterConfiguration"},
		"of no platform before any is known":    {platform.Finding{}, ""},
		"of a platform that was not recognised": {platform.Finding{Platform: platform.Unknown}, "- --kube-api-qps="},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := valid()
			s.Policy.Spec.Mode, s.Platform = v1alpha1.ModeRecommend, tt.found
			s.Policy.Status = Step(valid()).Status // another platform's
			got := Step(s).Status.Recommended
			if got.Flags == (v1alpha1.Flags{}) || !strings.Contains(got.Snippet, tt.want) || (tt.want == "") != (got.Snippet == "") {
				t.Errorf("recommended = %+v, want flags and a snippet with %q", got, tt.want)
			}
		})
	}
}

// kubeadmFacts are what a kubeadm cluster shows.
func kubeadmFacts() platform.Facts {
	return platform.Facts{
		NodesKnown: true, PodsKnown: true, Nodes: []platform.Node{{Name: "cp-1", ControlPlane: true}},
		Pods: []platform.Pod{{
			Namespace: "kube-system", Name: "kube-controller-manager-cp-1",
			Labels:      map[string]string{"component": "kube-controller-manager", "tier": "control-plane"},
			Annotations: map[string]string{"kubernetes.io/config.mirror": "0f1e", "kubernetes.io/config.source": "file"},
		}},
	}
}

func TestPlatformWatch(t *testing.T) {
	swapping := kubeadmFacts()
	swapping.Pods = nil
	elsewhere := kubeadmFacts()
	elsewhere.ServerVersion = "v1.36.2+rke2r1"
	refused := errors.New("connection refused")
	type look struct {
		facts platform.Facts
		err   error
		again time.Duration
		found platform.Platform
	}
	tests := map[string][]look{
		"what is known is looked at seldom": {
			{kubeadmFacts(), nil, surveyPace, platform.Kubeadm}, {kubeadmFacts(), nil, surveyPace, platform.Kubeadm},
		},
		"what could not be looked at is tried again, more and more seldom": {
			{platform.Facts{}, refused, surveyRetry, ""}, {platform.Facts{}, refused, 2 * surveyRetry, ""},
			{platform.Facts{}, refused, 4 * surveyRetry, ""}, {kubeadmFacts(), nil, surveyPace, platform.Kubeadm},
			{platform.Facts{}, refused, surveyRetry, platform.Kubeadm},
		},
		"a mirror Pod that is not there yet": {
			{swapping, nil, surveyRetry, platform.Unknown}, {kubeadmFacts(), nil, surveyPace, platform.Kubeadm},
		},
		"a mirror Pod that is away while the manifest is swapped": {
			{kubeadmFacts(), nil, surveyPace, platform.Kubeadm}, {swapping, nil, surveyRetry, platform.Kubeadm},
		},
		"another platform than before": {
			{kubeadmFacts(), nil, surveyPace, platform.Kubeadm}, {elsewhere, nil, surveyPace, platform.RKE2},
		},
	}
	for name, looks := range tests {
		t.Run(name, func(t *testing.T) {
			var next look
			w := &platformWatch{look: func(context.Context) (platform.Facts, error) { return next.facts, next.err }}
			for i, l := range looks {
				next = l
				if again := w.update(t.Context()); again != l.again || w.finding().Platform != l.found {
					t.Errorf("look %d: %q, again after %s; want %q, %s", i+1, w.finding().Platform, again, l.found, l.again)
				}
			}
		})
	}
}

func TestPlatformWatchNeverGivesUp(t *testing.T) {
	w := &platformWatch{look: func(context.Context) (platform.Facts, error) { return platform.Facts{}, errors.New("no") }}
	longest := time.Duration(0)
	for range 20 {
		longest = max(longest, w.update(t.Context()))
	}
	if longest != surveyPace {
		t.Errorf("the longest pause is %s, want %s", longest, surveyPace)
	}
}

// TestPlatformWatchStarts looks at once, and again when it is time.
func TestPlatformWatchStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		w := &platformWatch{clock: clock.RealClock{}, look: func(context.Context) (platform.Facts, error) {
			looks++
			return kubeadmFacts(), nil
		}}
		ctx, stop := context.WithTimeout(t.Context(), 2*surveyPace+time.Second)
		defer stop()
		if err := w.Start(ctx); err != nil || looks != 3 {
			t.Errorf("Start = %v after %d looks, want three: at once and every %s", err, looks, surveyPace)
		}
	})
}
