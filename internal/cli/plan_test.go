package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
)

// policy is one that may do all the operator can.
func policy(name string, mode v1alpha1.Mode, age time.Duration) *v1alpha1.EndpointSyncPolicy {
	workers := v1alpha1.WorkersBound{Min: 5, Max: 50}
	return &v1alpha1.EndpointSyncPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 3, CreationTimestamp: metav1.NewTime(time.Now().Add(-age))},
		Spec: v1alpha1.EndpointSyncPolicySpec{Mode: mode, Objective: v1alpha1.Objective{MinSamples: 100}, Bounds: v1alpha1.Bounds{
			KubeAPIQPS: v1alpha1.QPSBound{Min: 20, Max: 100}, KubeAPIBurst: v1alpha1.BurstBound{Min: 30, Max: 400},
			ConcurrentEndpointSyncs: workers, ConcurrentServiceEndpointSyncs: workers,
		}},
	}
}

// reporting is a node whose agent says that all is well at the default flags. Its report is from the future, so that it
// is fresh when the measurement ends.
func reporting(name string) *v1alpha1.EndpointSyncNode {
	return &v1alpha1.EndpointSyncNode{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.EndpointSyncNodeSpec{Revision: new(int64(0))},
		Status: v1alpha1.EndpointSyncNodeStatus{
			Running: v1alpha1.DefaultFlags(), Leader: new(true), Healthy: new(true), ReportTime: metav1.NewTime(time.Now().Add(time.Minute)),
		},
	}
}

// plannedDocument runs plan over the scenario of 150 Services at the default flags.
func plannedDocument(t *testing.T, o planOptions, objects ...client.Object) (report.Plan, error) {
	t.Helper()
	tracker := lag.NewTracker(lag.Options{})
	s := &session{
		client: fakeClient(t, renewing(), objects...), tracker: tracker, clock: clock.RealClock{}, look: onKubeadm,
		feed: scenario{tracker: tracker, services: 150, perLag: 50 * time.Millisecond},
	}
	c, out, _ := testConsole(report.FormatJSON)
	var document report.Plan
	if err := o.plan(t.Context(), s, "https://test", c); err != nil {
		return document, err
	}
	if err := json.Unmarshal(out.Bytes(), &document); err != nil {
		t.Fatalf("standard output is not JSON: %v\n%s", err, out)
	}
	return document, nil
}

func TestPlan(t *testing.T) {
	tests := map[string]struct {
		mode     v1alpha1.Mode
		change   func(p *v1alpha1.EndpointSyncPolicy)
		nodes    []string
		step     string
		reason   string // of the step
		stalled  string // reason, if Stalled would be True
		restarts int
	}{
		"Enforce starts on the node":        {v1alpha1.ModeEnforce, nil, []string{"cp-1"}, "Start", v1alpha1.ReasonRolloutStarted, "", 1},
		"Enforce goes over three nodes":     {v1alpha1.ModeEnforce, nil, []string{"cp-1", "cp-2", "cp-3"}, "Start", v1alpha1.ReasonRolloutStarted, "", 3},
		"Enforce without agents is stalled": {v1alpha1.ModeEnforce, nil, nil, "Hold", v1alpha1.ReasonNoControlPlaneNodes, v1alpha1.ReasonNoControlPlaneNodes, 0},
		"Recommend recommends":              {v1alpha1.ModeRecommend, nil, []string{"cp-1"}, "Hold", v1alpha1.ReasonRecommended, "", 0},
		"Observe shows the setting in view": {v1alpha1.ModeObserve, nil, []string{"cp-1"}, "Hold", v1alpha1.ReasonObserving, "", 0},
		"Observe without the operator, too": {v1alpha1.ModeObserve, nil, nil, "Hold", v1alpha1.ReasonObserving, "", 0},
		"paused": {v1alpha1.ModeEnforce, func(p *v1alpha1.EndpointSyncPolicy) {
			p.Annotations = map[string]string{v1alpha1.PauseAnnotation: "true"}
		}, []string{"cp-1"}, "Hold", v1alpha1.ReasonPaused, "", 0},
		"outside of a maintenance window": {v1alpha1.ModeEnforce, func(p *v1alpha1.EndpointSyncPolicy) {
			p.Spec.Rollout.MaintenanceWindows = []v1alpha1.MaintenanceWindow{{Name: "noon", Schedule: "0 12 * * *", Duration: "1h"}}
		}, []string{"cp-1"}, "Hold", v1alpha1.ReasonOutsideMaintenanceWindow, "", 0},
		"a window that never opens": {v1alpha1.ModeEnforce, func(p *v1alpha1.EndpointSyncPolicy) {
			p.Spec.Rollout.MaintenanceWindows = []v1alpha1.MaintenanceWindow{{Name: "noon", Schedule: "@daily", Duration: "1h"}}
		}, []string{"cp-1"}, "Hold", v1alpha1.ReasonInvalidSpec, v1alpha1.ReasonInvalidSpec, 0},
		"no bounds: the usual ones in place": {v1alpha1.ModeObserve, func(p *v1alpha1.EndpointSyncPolicy) { p.Spec.Bounds = v1alpha1.Bounds{} }, []string{"cp-1"}, "Hold", v1alpha1.ReasonObserving, "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := policy("default", tt.mode, time.Hour)
				if tt.change != nil {
					tt.change(p)
				}
				objects := []client.Object{p}
				for i, name := range tt.nodes {
					n := reporting(name)
					n.Status.Leader = new(i == 0)
					objects = append(objects, n)
				}
				got, err := plannedDocument(t, planOptions{length: time.Minute}, objects...)
				if err != nil {
					t.Fatal(err)
				}
				if got.Step.Kind != tt.step || got.Step.Reason != tt.reason || got.Step.Restarts != tt.restarts {
					t.Errorf("step = %+v, want %s for %s with %d restarts", got.Step, tt.step, tt.reason, tt.restarts)
				}
				if got.Verdict.Outcome != report.OutcomeMissed || got.Bottleneck.Type != string(v1alpha1.BottleneckClientRateLimit) {
					t.Errorf("verdict %s, bottleneck %+v, want Missed for the rate limit", got.Verdict.Outcome, got.Bottleneck)
				}
				if len(got.Recommendation.Flags) != 4 || got.Recommendation.Snippet == "" {
					t.Errorf("recommendation = %+v, want all four flags and a snippet", got.Recommendation)
				}
				checkConditions(t, got.Conditions, tt.stalled)
				checkCurve(t, got)
			})
		})
	}
}

func checkConditions(t *testing.T, conditions []report.Condition, stalled string) {
	t.Helper()
	got := map[string]report.Condition{}
	for _, c := range conditions {
		got[c.Type] = c
	}
	if len(conditions) != 4 || len(got) != 4 {
		t.Errorf("conditions = %+v, want four", conditions)
	}
	if c := got[v1alpha1.ConditionStalled]; (c.Status == "True") != (stalled != "") || stalled != "" && c.Reason != stalled {
		t.Errorf("Stalled = %+v, want reason %q", c, stalled)
	}
	if stalled != "" && got[v1alpha1.ConditionReady].Status != "False" {
		t.Errorf("Ready = %+v while stalled, want False", got[v1alpha1.ConditionReady])
	}
}

func checkCurve(t *testing.T, p report.Plan) {
	t.Helper()
	marks := map[string]int{}
	for i, c := range p.Curve {
		if c.Chosen || c.InView {
			marks["decided"]++
			if diff := cmp.Diff(p.Recommendation.Flags, c.Flags); diff != "" {
				t.Errorf("the marked point is not what is recommended (-want +got):\n%s", diff)
			}
			if r := p.Recommendation; c.Chosen != r.Change || c.Cost != r.Cost || c.AddedCost != r.AddedCost || c.WorstSeconds != r.PredictedLagSeconds {
				t.Errorf("the marked point is %+v, want what is recommended: %+v", c, r)
			}
		}
		if c.Current {
			marks["current"]++
			if c.AddedCost != 0 || c.Cost != p.Running.Cost || c.WorstSeconds != p.Recommendation.ModelledLagSeconds {
				t.Errorf("the running flags are %+v, want their cost %d and %g s", c, p.Running.Cost, p.Recommendation.ModelledLagSeconds)
			}
		}
		if i > 0 && c.Flags[v1alpha1.FlagKubeAPIQPS] < p.Curve[i-1].Flags[v1alpha1.FlagKubeAPIQPS] {
			t.Errorf("the curve is not in order of QPS at %d", i)
		}
	}
	if marks["decided"] != 1 || marks["current"] != 1 {
		t.Errorf("marked points %v, want one that was decided and one current", marks)
	}
}

func TestPlanChoosesThePolicy(t *testing.T) {
	older, younger := policy("older", v1alpha1.ModeRecommend, 2*time.Hour), policy("younger", v1alpha1.ModeEnforce, time.Hour)
	tests := map[string]struct {
		options planOptions
		objects []client.Object
		want    string
		err     string
	}{
		"the oldest is in charge":        {planOptions{}, []client.Object{younger, older}, "older", ""},
		"the one that is named":          {planOptions{name: "younger"}, []client.Object{younger, older}, "younger", ""},
		"one that is not there":          {planOptions{name: "lost"}, []client.Object{older}, "", `no EndpointSyncPolicy "lost"`},
		"none in the cluster":            {planOptions{}, nil, "", "--file"},
		"a file needs no policy":         {planOptions{file: "testdata/policy.yaml"}, nil, "default", ""},
		"a file that is not there":       {planOptions{file: "testdata/lost.yaml"}, nil, "", "testdata/lost.yaml"},
		"a file of another kind":         {planOptions{file: "testdata/node.yaml"}, nil, "", "EndpointSyncNode"},
		"a file with an unknown field":   {planOptions{file: "testdata/unknown-field.yaml"}, nil, "", "maxLagg"},
		"the file beats the cluster's":   {planOptions{file: "testdata/policy.yaml"}, []client.Object{older}, "default", ""},
		"a file without a policy's name": {planOptions{file: "testdata/no-name.yaml"}, nil, "", "metadata.name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, _, err := tt.options.choose(t.Context(), fakeClient(t, interceptor.Funcs{}, tt.objects...))
			if tt.err == "" && (err != nil || got.Name != tt.want) {
				t.Errorf("choose = %q, %v, want %q", got.Name, err, tt.want)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("choose = %v, want an error with %q", err, tt.err)
			}
		})
	}
}

func TestPlanWithoutTheOperatorNeedsAFile(t *testing.T) {
	c := fakeClient(t, interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return &meta.NoKindMatchError{}
	}})
	if _, _, err := (&planOptions{}).choose(t.Context(), c); err == nil || !strings.Contains(err.Error(), "--file") {
		t.Errorf("choose = %v, want an error that names --file", err)
	}
	got, inCharge, err := (&planOptions{file: "testdata/policy.yaml"}).choose(t.Context(), c)
	if err != nil || got.Name != "default" || inCharge != "default" {
		t.Errorf("choose = %q, %q, %v, want the file's policy in charge", got.Name, inCharge, err)
	}
}

func TestAPolicyFromAFileHasTheGenerationItWouldHave(t *testing.T) {
	stored := *policy("default", v1alpha1.ModeEnforce, time.Hour)
	same := stored
	same.Generation = 0
	other := same
	other.Spec.Mode = v1alpha1.ModeObserve
	for name, tt := range map[string]struct {
		policy v1alpha1.EndpointSyncPolicy
		want   int64
	}{"the same spec": {same, 3}, "another spec": {other, 4}} {
		if got := withGeneration(tt.policy, []v1alpha1.EndpointSyncPolicy{stored}).Generation; got != tt.want {
			t.Errorf("%s: generation %d, want %d", name, got, tt.want)
		}
	}
}

func TestPlanForNoTimeShowsTheStatus(t *testing.T) {
	p := policy("default", v1alpha1.ModeEnforce, time.Hour)
	flags := v1alpha1.Flags{KubeAPIQPS: 80, KubeAPIBurst: 90}
	p.Status = v1alpha1.EndpointSyncPolicyStatus{
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionObjectiveMet, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonObjectiveMissed, Message: "p99 42s"},
		},
		Lag: []v1alpha1.Lag{{
			Resource: v1alpha1.ResourceEndpointSlice, Direction: v1alpha1.DirectionAny,
			Changes: new(int64(1000)), Open: new(int64(10)), P50: "20s", P99: ">=42s",
		}},
		Bottleneck:  v1alpha1.Bottleneck{Type: v1alpha1.BottleneckClientRateLimit, Message: "tokens"},
		Recommended: v1alpha1.Recommendation{Flags: flags, PredictedLag: "1.5s", Cost: 100, CurrentCost: 50, Reason: v1alpha1.ReasonObjectiveMissed},
	}
	got, err := plannedDocument(t, planOptions{}, p, reporting("cp-1"))
	if err != nil {
		t.Fatal(err)
	}
	if !got.FromStatus || got.Window != nil || got.Verdict.Outcome != report.OutcomeMissed || got.Bottleneck.Message != "tokens" {
		t.Errorf("plan = %+v, want the status", got)
	}
	if row := got.Lag[0]; row.Changes != 1000 || row.P99Seconds == nil || *row.P99Seconds != 42 || !row.P99LowerBound {
		t.Errorf("lag = %+v, want the status's", row)
	}
	if diff := cmp.Diff(report.FlagsOf(flags), got.Recommendation.Flags); diff != "" || got.Recommendation.PredictedLagSeconds != 1.5 {
		t.Errorf("recommendation = %+v, want the status's:\n%s", got.Recommendation, diff)
	}
	if got.Running.Source != "read by the agent on node cp-1, which leads" {
		t.Errorf("running = %+v, want the agent's", got.Running)
	}
}

func TestPlanAndMeasureWriteNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrote := errors.New("wrote")
		funcs := renewing()
		funcs.Create = func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return wrote }
		funcs.Update = func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error { return wrote }
		funcs.Patch = func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return wrote
		}
		funcs.Delete = func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error { return wrote }
		tracker := lag.NewTracker(lag.Options{})
		s := &session{
			client:  fakeClient(t, funcs, policy("default", v1alpha1.ModeEnforce, time.Hour), reporting("cp-1")),
			tracker: tracker, clock: clock.RealClock{}, look: onKubeadm,
			feed: scenario{tracker: tracker, services: 150, perLag: 50 * time.Millisecond},
		}
		c, out, _ := testConsole(report.FormatTable)
		if err := (&planOptions{length: time.Minute}).plan(t.Context(), s, "", c); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Policy default, mode Enforce", "Next step: Start on node cp-1", "chosen", "about 32s without", "kubeadm"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the plan lacks %q:\n%s", want, out)
			}
		}
	})
}

func TestReadPolicyTakesTheSamples(t *testing.T) {
	samples, err := filepath.Glob(filepath.Join("..", "..", "config", "samples", "*", "policy.yaml"))
	if err != nil || len(samples) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, path := range samples {
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		if _, err := readPolicy(path); err != nil {
			t.Errorf("readPolicy: %v", err)
		}
	}
}
