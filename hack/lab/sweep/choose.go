package sweep

import (
	"context"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// maxRestarts is one raise and one correction, as the operator allows itself.
const maxRestarts = 2

// bounds are wide: the benchmark asks what is chosen where nothing but the objective limits it.
func bounds() v1alpha1.Bounds {
	return v1alpha1.Bounds{
		KubeAPIQPS:                     v1alpha1.QPSBound{Min: 20, Max: 400},
		KubeAPIBurst:                   v1alpha1.BurstBound{Min: 30, Max: v1alpha1.MaxKubeAPIBurst},
		ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 5, Max: v1alpha1.MaxWorkers},
		ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 5, Max: v1alpha1.MaxWorkers},
	}
}

// tightBounds are those that no setting meets an objective of seconds within, for an incident of hundreds of Services.
func tightBounds() v1alpha1.Bounds {
	return v1alpha1.Bounds{
		KubeAPIQPS:                     v1alpha1.QPSBound{Min: 20, Max: 30},
		KubeAPIBurst:                   v1alpha1.BurstBound{Min: 30, Max: 60},
		ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 5, Max: 10},
		ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 5, Max: 10},
	}
}

// guardrails are those of a policy that sets none.
func guardrails() tuner.Guardrails {
	g := v1alpha1.EndpointSyncPolicySpec{}.WithDefaults().Guardrails
	latency, _ := g.MaxMutatingLatency.Value()
	return tuner.Guardrails{MaxWriteLatency: latency, MaxRefused: float64(g.MaxRejectedPercent) / 100}
}

func objective(maxLag time.Duration) tuner.Objective {
	return tuner.Objective{Percentile: percentile, MaxLag: maxLag, MinSamples: 300}
}

// choice is how the deciding code got to a setting.
type choice struct {
	flags    v1alpha1.Flags
	restarts int
	// predicted is the model's p99 of the last decision that acted, in seconds; 0 without one.
	predicted       float64
	reason, message string // of the last decision
}

// question is what a setting is asked for.
type question struct {
	maxLag time.Duration
	bounds v1alpha1.Bounds
}

// choose has the deciding code decide after each incident, from the first one at the default flags, until it holds: the
// objective is met, or nothing more is to be done for it.
func (r *run) choose(ctx context.Context, w trial.Workload, q question, first trial.Round) (choice, error) {
	out := choice{flags: first.Flags}
	seen := first
	var past []tuner.Revision
	for {
		past = tuner.Settle(past, seen.Evidence, objective(q.maxLag), "")
		d := decide(seen, q, past)
		out.reason, out.message = d.Reason, d.Message
		r.bench.Sayf("  %s within %s: %s %s: %s", w.Name, q.maxLag, verb(d), d.Reason, d.Message)
		if !d.Act || out.restarts == maxRestarts {
			return out, nil
		}
		out.flags, out.predicted = d.Flags.Or(out.flags), d.PredictedLag.Seconds()
		out.restarts++
		now := r.bench.Now()
		past = append([]tuner.Revision{{
			Number: int64(out.restarts), From: seen.Flags, To: out.flags, Decided: now, Committed: now,
			Version: controlplane.KubernetesVersion, Before: trial.Span(seen.P99()), Predicted: d.PredictedLag, Purpose: d.Purpose,
			Workload: tuner.WorkloadOf(seen.Evidence.Demand),
		}}, past...)
		measured, err := r.measure(ctx, w, out.flags, r.Rounds)
		if err != nil {
			return out, err
		}
		if measured.median() <= q.maxLag.Seconds() {
			return out, nil
		}
		seen = measured.rounds[len(measured.rounds)-1]
	}
}

// decide is what the operator would do about one incident.
func decide(seen trial.Round, q question, past []tuner.Revision) tuner.Decision {
	o := objective(q.maxLag)
	return tuner.Decide(tuner.Inputs{
		Objective: o, Bounds: q.bounds, Evidence: seen.Evidence, Bottleneck: tuner.Diagnose(seen.Evidence, o),
		Past: past, Guardrails: guardrails(),
	})
}

func verb(d tuner.Decision) string {
	if d.Act {
		return "set " + d.Flags.String() + ":"
	}
	return "hold:"
}
