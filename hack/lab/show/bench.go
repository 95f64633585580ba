package show

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
)

// objectiveFactor makes the benchmark's objective from what the best known setting reaches in the same run.
const objectiveFactor = 1.25

// setting is one row of the benchmark.
type setting struct {
	name  string
	flags v1alpha1.Flags
}

// settings are what the operator's choice is held against: the defaults, more workers alone, the well-known cure, and
// that cure with the most workers that kube-controller-manager takes.
func settings() []setting {
	return []setting{
		{"defaults", v1alpha1.DefaultFlags()},
		{"workers-only", stage.Flags(20, 30, 50)},
		{"classic", stage.Flags(300, 325, 5)},
		{"classic-workers", stage.Flags(300, 325, 50)},
	}
}

// Bench makes the same incident under each setting, Rounds times, each from a full token bucket, and then under what the
// operator chose for an objective of 1.25 times what classic-workers reached. It writes result.json to Options.Out.
func Bench(ctx context.Context, o Options) (err error) {
	s, err := newScene(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	result := benchResult{KubernetesVersion: controlplane.KubernetesVersion, Services: o.Services}
	for _, set := range settings() {
		s.sayf("%s: %s", set.name, set.flags)
		if err = s.RunWith(ctx, set.flags); err != nil {
			return err
		}
		var measured row
		if measured, err = s.rounds(ctx, set); err != nil {
			return err
		}
		result.Rows = append(result.Rows, measured)
	}
	result.MaxLagSeconds = objectiveFactor * result.Rows[len(result.Rows)-1].MedianP99Seconds
	chosen, err := s.operatorChooses(ctx, &result)
	if err != nil {
		return err
	}
	own, err := s.rounds(ctx, chosen)
	if err != nil {
		return err
	}
	result.Rows = append(result.Rows, own)
	result.OperatorMet = own.MedianP99Seconds <= result.MaxLagSeconds
	if err = outdir.WriteJSON(o.Out, "result.json", result); err != nil {
		return err
	}
	return benchTable(result)
}

// operatorChooses lets the operator see one incident at the default flags and roll out what it makes of it.
func (s *scene) operatorChooses(ctx context.Context, result *benchResult) (setting, error) {
	s.sayf("operator: objective p99 within %.2f s; first the default flags for it to measure", result.MaxLagSeconds)
	if err := s.RunWith(ctx, v1alpha1.Flags{}); err != nil {
		return setting{}, err
	}
	if err := s.startOperator(ctx); err != nil {
		return setting{}, err
	}
	if _, _, err := s.incident(ctx, "operator-learns"); err != nil {
		return setting{}, err
	}
	maxLag := time.Duration(result.MaxLagSeconds * float64(time.Second))
	policy, err := s.rollOut(ctx, demoPolicy(maxLag))
	if err != nil {
		return setting{}, err
	}
	if err = seconds(string(policy.Status.History[0].PredictedLag), &result.PredictedP99Seconds); err != nil {
		return setting{}, err
	}
	return setting{"operator", policy.Status.Nodes[0].Running}, nil
}

// rounds makes the incident several times, each from a full bucket.
func (s *scene) rounds(ctx context.Context, set setting) (row, error) {
	out := row{Name: set.name, Flags: flagMap(set.flags), Cost: tuner.Cost(set.flags), Rounds: s.Rounds}
	var p50, flips []float64
	for round := range s.Rounds {
		if err := s.pause(ctx, refill(set.flags)); err != nil {
			return out, err
		}
		flip, seen, err := s.incident(ctx, fmt.Sprintf("%s-%d", set.name, round+1))
		if err != nil {
			return out, err
		}
		worst := max(seen.EndpointSlice.P99, seen.Endpoints.P99).Seconds()
		out.P99Seconds = append(out.P99Seconds, worst)
		p50 = append(p50, max(seen.EndpointSlice.P50, seen.Endpoints.P50).Seconds())
		flips = append(flips, flip.Duration.Seconds())
		s.sayf("  round %d of %d: p99 %.2f s, the Pods changed within %.2f s", round+1, s.Rounds, worst, flip.Duration.Seconds())
	}
	out.MedianP50Seconds, out.MedianP99Seconds, out.MedianFlipSeconds = median(p50), median(out.P99Seconds), median(flips)
	out.MinP99Seconds, out.MaxP99Seconds = slices.Min(out.P99Seconds), slices.Max(out.P99Seconds)
	return out, nil
}

// median is the middle value, the mean of the two in the middle of an even count.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

func benchTable(result benchResult) error {
	style := report.Detect(os.Stdout, os.Getenv)
	var rows [][]string
	for _, r := range result.Rows {
		rows = append(rows, []string{
			r.Name,
			fmt.Sprintf("%d/%d", r.Flags[v1alpha1.FlagKubeAPIQPS], r.Flags[v1alpha1.FlagKubeAPIBurst]),
			fmt.Sprintf("%d/%d", r.Flags[v1alpha1.FlagConcurrentEndpointSyncs], r.Flags[v1alpha1.FlagConcurrentServiceEndpointSyncs]),
			strconv.FormatInt(r.Cost, 10), figure(r.MedianP50Seconds), figure(r.MedianP99Seconds),
			figure(r.MinP99Seconds), figure(r.MaxP99Seconds), figure(r.MedianFlipSeconds),
		})
	}
	_, _ = fmt.Fprintf(os.Stdout, "\n%s\n", style.Bold(fmt.Sprintf(
		"Lag of %d endpoint changes, in seconds, the worse of EndpointSlices and Endpoints; %d rounds each",
		result.Services, result.Rows[0].Rounds)))
	header := []string{"SETTING", "QPS/BURST", "WORKERS", "COST", "P50", "P99", "MIN P99", "MAX P99", "PODS CHANGED WITHIN"}
	err := report.Table(os.Stdout, header, rows)
	_, _ = fmt.Fprintf(os.Stdout, "objective %.2f s (1.25 x classic-workers): met by the operator's setting: %t; predicted %.2f s\n",
		result.MaxLagSeconds, result.OperatorMet, result.PredictedP99Seconds)
	return err
}
