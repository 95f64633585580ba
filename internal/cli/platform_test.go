package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
)

// onKubeadm is a look at a kubeadm cluster.
func onKubeadm(context.Context) (platform.Facts, error) {
	return platform.Facts{
		ServerVersion: "v1.37.2", NodesKnown: true, PodsKnown: true, Kubeadm: platform.Yes,
		Nodes: []platform.Node{{Name: "cp-1", ControlPlane: true}},
		Pods: []platform.Pod{{Name: "kube-controller-manager-cp-1", Annotations: map[string]string{
			"kubernetes.io/config.mirror": "0f1e", "kubernetes.io/config.source": "file",
		}}},
	}, nil
}

// onRKE2 is a look at an RKE2 cluster by somebody who may not read its nodes and Pods.
func onRKE2(context.Context) (platform.Facts, error) {
	return platform.Facts{ServerVersion: "v1.36.2+rke2r1"}, nil
}

func TestMeasurePrintsThePlatformsSnippet(t *testing.T) {
	tests := map[string]struct {
		look func(context.Context) (platform.Facts, error)
		want []string
		not  string
	}{
		"kubeadm": {onKubeadm, []string{"For kubeadm (ConfigMap", "kind: ClusterConfiguration", "Platform: Kubeadm: ConfigMap"}, "does not edit"},
		"RKE2": {onRKE2, []string{
			"For RKE2:", "# In /etc/rancher/rke2/config.yaml", "kube-controller-manager-arg:",
			"Platform: RKE2, whose manifest the operator does not edit: the API server is",
		}, "ClusterConfiguration"},
		"a look that fails": {
			func(context.Context) (platform.Facts, error) { return platform.Facts{}, errors.New("gone away") },
			[]string{"For kubeadm (ConfigMap", "who renders kube-controller-manager's command", "gone away"}, "Platform:",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, out, _ := testConsole(report.FormatTable)
				_ = (&measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99}).measure(t.Context(), looking(t, tt.look), "", c)
				text := strings.Join(strings.Fields(out.String()), " ")
				for _, want := range tt.want {
					if !strings.Contains(text, want) {
						t.Errorf("the result lacks %q:\n%s", want, out)
					}
				}
				if strings.Contains(text, tt.not) {
					t.Errorf("the result has %q:\n%s", tt.not, out)
				}
			})
		})
	}
}

// looking is a session over an incident, of a cluster that shows its platform.
func looking(t *testing.T, look func(context.Context) (platform.Facts, error)) *session {
	t.Helper()
	tracker := lag.NewTracker(lag.Options{})
	return &session{
		client:  fakeClient(t, renewing(), kcmPod("cp-1"), policy("default", v1alpha1.ModeEnforce, time.Hour), reporting("cp-1")),
		tracker: tracker, clock: clock.RealClock{}, look: look,
		feed: scenario{tracker: tracker, services: 400, perLag: 50 * time.Millisecond},
	}
}

func TestPlanOnAPlatformThatIsNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, out, _ := testConsole(report.FormatJSON)
		if err := (&planOptions{length: time.Minute}).plan(t.Context(), looking(t, onRKE2), "", c); err != nil {
			t.Fatal(err)
		}
		var got report.Plan
		if err := json.NewDecoder(bytes.NewReader(out.Bytes())).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Platform == nil || got.Platform.Name != "RKE2" || got.Platform.Patchable || got.Platform.Reason == "" {
			t.Errorf("platform = %+v, want RKE2, with evidence", got.Platform)
		}
		if got.Step.Reason != v1alpha1.ReasonUnsupportedPlatform || !strings.Contains(got.Recommendation.Snippet, "kube-controller-manager-arg:") {
			t.Errorf("step %+v, snippet %q; want none for %s, and RKE2's", got.Step, got.Recommendation.Snippet, v1alpha1.ReasonUnsupportedPlatform)
		}
		checkConditions(t, got.Conditions, v1alpha1.ReasonUnsupportedPlatform)
	})
}

// TestThePlatformIsLookedAtOnce asks no more once it is known.
func TestThePlatformIsLookedAtOnce(t *testing.T) {
	looks := 0
	s := &session{unread: map[source]string{}, look: func(ctx context.Context) (platform.Facts, error) {
		if looks++; looks < 3 {
			return platform.Facts{}, errors.New("not yet")
		}
		return onKubeadm(ctx)
	}}
	for range 5 {
		s.readPlatform(t.Context())
	}
	if looks != 3 || s.platform.Platform != platform.Kubeadm || len(s.unread) != 0 {
		t.Errorf("%d looks, %+v, unread %v; want three, and kubeadm", looks, s.platform, s.unread)
	}
}
