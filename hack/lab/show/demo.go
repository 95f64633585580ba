package show

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
)

const (
	policyName = "default"
	// demoMaxLag is the objective that the demo asks for.
	demoMaxLag = 2 * time.Second
	// rolloutTimeout bounds the wait for the one change: a hand-over takes half a minute.
	rolloutTimeout = 5 * time.Minute
	// reportTimeout bounds the wait for the operator's status to show what has happened.
	reportTimeout = time.Minute
)

// Demo shows the main job: the incident at the default flags, a policy, one rollout, the incident again. It writes
// result.json and the series behind the plot, series.json, to Options.Out.
func Demo(ctx context.Context, o Options) (err error) {
	s, err := newScene(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	s.sayf("starting the operator: controller and agent, each with its own service account")
	if err = s.startOperator(ctx); err != nil {
		return err
	}
	result := demoResult{KubernetesVersion: controlplane.KubernetesVersion, Services: o.Services}
	before, plotBefore, err := s.phase(ctx, "before")
	if err != nil {
		return err
	}
	policy, err := s.rollOut(ctx, demoPolicy(demoMaxLag))
	if err != nil {
		return err
	}
	entry := policy.Status.History[0]
	before.Flags = flagMap(entry.From)
	if before.bothFigures, err = reported(entry.Before); err != nil {
		return err
	}
	handOver, err := s.observer.Result("rollout")
	if err != nil {
		return err
	}
	result.ObserverHandoverSeconds = handOver.Leadership.Handover.Seconds()
	result.Bottleneck = string(entry.Bottleneck)
	if err = errors.Join(
		seconds(string(entry.HandOver), &result.HandoverSeconds),
		seconds(string(entry.PredictedLag), &result.PredictedP99Seconds),
	); err != nil {
		return err
	}
	if err = s.pause(ctx, refill(policy.Status.Nodes[0].Running)); err != nil {
		return err
	}
	after, plotAfter, err := s.phase(ctx, "after")
	if err != nil {
		return err
	}
	after.Flags = flagMap(policy.Status.Nodes[0].Running)
	if after.bothFigures, err = s.reportedAfter(ctx); err != nil {
		return err
	}
	result.Phases, result.KCMRestarts = []phase{before, after}, s.Restarts()
	return s.finish(result, []report.Series{plotBefore, plotAfter})
}

// phase makes one incident and returns the observer's figures and series.
func (s *scene) phase(ctx context.Context, name string) (phase, report.Series, error) {
	s.sayf("incident %q: all %d Pods change", name, s.Services)
	flip, seen, err := s.incident(ctx, name)
	if err != nil {
		return phase{}, report.Series{}, err
	}
	s.sayf("  the Pods changed within %s; p99 of the lag %s in EndpointSlices, %s in Endpoints (observer)",
		flip.Duration.Round(10*time.Millisecond), seen.EndpointSlice.P99.Round(10*time.Millisecond), seen.Endpoints.P99.Round(10*time.Millisecond))
	return phase{Name: name, FlipSeconds: flip.Duration.Seconds(), Observer: observed(seen)}, series(name, seen), nil
}

// series is the lag of each change over the time at which it was made.
func series(name string, r observer.Result) report.Series {
	out := report.Series{Name: name}
	for _, c := range r.EndpointSlice.Series {
		out.Points = append(out.Points, report.Point{Seconds: c.At.Seconds(), LagSeconds: c.Lag.Seconds()})
	}
	return out
}

// demoPolicy lets the operator act within wide bounds.
func demoPolicy(maxLag time.Duration) *v1alpha1.EndpointSyncPolicy {
	return &v1alpha1.EndpointSyncPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: policyName},
		Spec: v1alpha1.EndpointSyncPolicySpec{
			Mode:      v1alpha1.ModeEnforce,
			Objective: v1alpha1.Objective{Percentile: 99, MaxLag: v1alpha1.DurationOf(maxLag), Window: "30m", MinSamples: 300},
			Bounds: v1alpha1.Bounds{
				KubeAPIQPS:                     v1alpha1.QPSBound{Min: 20, Max: 300},
				KubeAPIBurst:                   v1alpha1.BurstBound{Min: 30, Max: 1000},
				ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 5, Max: 50},
				ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 5, Max: 50},
			},
			// etcd shares a disk and two processors with all else here: one write that takes 0.2 s must not end the demo.
			Guardrails: v1alpha1.Guardrails{MaxMutatingLatency: "10s"},
			Rollout:    v1alpha1.Rollout{MinReady: "5s"},
		},
	}
}

// rollOut applies the policy and returns it when its change has been committed and reported.
func (s *scene) rollOut(ctx context.Context, policy *v1alpha1.EndpointSyncPolicy) (*v1alpha1.EndpointSyncPolicy, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rolloutTimeout, errors.New("the operator did not finish in time"))
	defer cancel()
	s.observer.Mark("rollout")
	if err := s.objects.Create(ctx, policy); err != nil {
		return nil, fmt.Errorf("apply the policy: %w", err)
	}
	s.sayf("policy applied: 99 %% of the changes visible within %s", policy.Spec.Objective.MaxLag)
	told := ""
	err := s.waitFor(ctx, "the rollout", func(ctx context.Context) (bool, error) {
		if err := s.objects.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return false, err
		}
		if line := standing(policy.Status); line != told {
			told = line
			s.sayf("  %s", line)
		}
		if c := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.ConditionStalled); c != nil && c.Status == metav1.ConditionTrue {
			return false, fmt.Errorf("the policy is stalled: %s: %s", c.Reason, c.Message)
		}
		h := policy.Status.History
		return len(h) > 0 && h[0].Outcome == v1alpha1.OutcomeCommitted, nil
	})
	return policy, err
}

// standing is what a policy's status says just now, in one line.
func standing(status v1alpha1.EndpointSyncPolicyStatus) string {
	ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return "the operator has not seen the policy yet"
	}
	line := fmt.Sprintf("bottleneck %s; %s: %s", status.Bottleneck.Type, ready.Reason, ready.Message)
	if h := status.History; len(h) > 0 {
		line = fmt.Sprintf("bottleneck %s; %s; predicted lag %s; %s", h[0].Bottleneck, h[0].To, h[0].PredictedLag, ready.Message)
		if h[0].Outcome != "" {
			line = fmt.Sprintf("%s: %s (hand-over %s)", h[0].Outcome, h[0].Message, h[0].HandOver)
		}
	}
	return line
}

// reportedAfter waits until the operator's status speaks of every change of the incident after the rollout.
func (s *scene) reportedAfter(ctx context.Context) (out bothFigures, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, reportTimeout, errors.New("the operator's status does not show the incident"))
	defer cancel()
	want := int64(s.Services)
	var policy v1alpha1.EndpointSyncPolicy
	err = s.waitFor(ctx, "the operator's figures", func(ctx context.Context) (bool, error) {
		if err = s.objects.Get(ctx, client.ObjectKey{Name: policyName}, &policy); err != nil {
			return false, err
		}
		out, err = reported(policy.Status.Lag)
		return out.EndpointSlice.all(want) && out.Endpoints.all(want), err
	})
	if err != nil {
		if shown, failed := json.Marshal(policy.Status); failed == nil {
			err = fmt.Errorf("%w; it shows %s", err, shown)
		}
	}
	return out, err
}

// refill is how long an empty token bucket takes to fill, with a little to spare.
func refill(f v1alpha1.Flags) time.Duration {
	if f.KubeAPIQPS == 0 {
		return 0
	}
	return time.Duration(float64(f.KubeAPIBurst)/float64(f.KubeAPIQPS)*float64(time.Second)) + 2*time.Second
}

// finish writes the files and shows the table and the plot.
func (s *scene) finish(result demoResult, plots []report.Series) error {
	if err := errors.Join(outdir.WriteJSON(s.Out, "result.json", result), outdir.WriteJSON(s.Out, "series.json", plots)); err != nil {
		return err
	}
	style := report.Detect(os.Stdout, os.Getenv)
	var rows [][]string
	for _, p := range result.Phases {
		for _, r := range []struct {
			name          string
			own, observed lagFigures
		}{{"EndpointSlice", p.EndpointSlice, p.Observer.EndpointSlice}, {"Endpoints", p.Endpoints, p.Observer.Endpoints}} {
			rows = append(rows, []string{
				p.Name, r.name, strconv.FormatInt(r.observed.Changes, 10),
				figure(r.own.P50Seconds), figure(r.own.P99Seconds), figure(r.observed.P50Seconds), figure(r.observed.P99Seconds),
			})
		}
	}
	_, _ = fmt.Fprintf(os.Stdout, "\n%s\n", style.Bold("Lag of endpoint changes, in seconds: the operator's own figures and the observer's"))
	err := report.Table(os.Stdout, []string{"INCIDENT", "RESOURCE", "CHANGES", "OWN P50", "OWN P99", "OBSERVED P50", "OBSERVED P99"}, rows)
	for _, p := range result.Phases {
		_, _ = fmt.Fprintf(os.Stdout, "%-7s %s\n", p.Name, flagsOf(p.Flags))
	}
	_, _ = fmt.Fprintf(os.Stdout, "bottleneck %s, predicted p99 %s s, %d restart of kube-controller-manager, %s s without a leader\n\n",
		result.Bottleneck, figure(result.PredictedP99Seconds), result.KCMRestarts, figure(result.HandoverSeconds))
	return errors.Join(err, report.LagPlot(os.Stdout, plots, report.PlotOptions{
		Style: style, Caption: "lag in EndpointSlices over the time at which a Pod changed", LimitAt: demoMaxLag.Seconds(), Height: 15,
	}))
}

func figure(v float64) string { return fmt.Sprintf("%.2f", v) }

func flagsOf(flags map[string]int32) string {
	var f v1alpha1.Flags
	for name, value := range flags {
		f.Set(name, value)
	}
	return f.String()
}
