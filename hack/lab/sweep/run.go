package sweep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/show"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// Options are what a sweep takes.
type Options struct {
	// Operator is the path of its binary, and Config the repository's config directory.
	Operator, Config string
	// Out is the directory for the results.
	Out string
	// Services are the sizes of the incidents, and MaxLags the objectives.
	Services []int
	MaxLags  []time.Duration
	// Rounds is how often a setting is measured that is near an objective.
	Rounds int
	// ByOperator has the installed operator itself make the choice for the first size and objective too.
	ByOperator bool
	Progress   io.Writer
}

// run is the sweep of one size of incident.
type run struct {
	Options
	bench *trial.Bench
	set   v1alpha1.Flags // what runs
	known map[v1alpha1.Flags]measured
}

// Run does all of it and writes result.json to Options.Out, after each size what there is until then.
func Run(ctx context.Context, o Options) (Result, error) {
	var result Result
	for _, services := range o.Services {
		r := &run{Options: o, known: map[v1alpha1.Flags]measured{}}
		objectives, err := r.size(ctx, services)
		result.Objectives = append(result.Objectives, objectives...)
		result.Grid = append(result.Grid, r.points(services)...)
		if err != nil {
			return result, fmt.Errorf("incident of %d Services: %w", services, err)
		}
		result.conclude()
		if err = outdir.WriteJSON(o.Out, "result.json", result); err != nil {
			return result, err
		}
	}
	if o.ByOperator {
		own, err := byOperator(ctx, o)
		if err != nil {
			return result, err
		}
		result.Objectives = append(result.Objectives, own.withCheapestOf(result.Objectives))
		result.conclude()
	}
	return result, errors.Join(outdir.WriteJSON(o.Out, "result.json", result), result.table(o.Progress))
}

// size looks at one size of incident.
func (r *run) size(ctx context.Context, services int) (out []Objective, err error) {
	w := trial.Incident(services)
	if r.bench, err = trial.Open(ctx, r.Progress, []trial.Workload{w}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.bench.Close()) }()
	r.set = v1alpha1.DefaultFlags()
	first, err := r.measure(ctx, w, r.set, 1)
	if err != nil {
		return nil, err
	}
	// The loosest objective first: what fails it fails the others.
	for _, maxLag := range slices.Backward(slices.Sorted(slices.Values(r.MaxLags))) {
		c, failed := r.choose(ctx, w, question{maxLag, bounds()}, first.rounds[0])
		if failed != nil {
			return out, failed
		}
		o := objectiveOf(w, maxLag, c, r.known[c.flags])
		if failed = r.cheapest(ctx, w, &o); failed != nil {
			return out, failed
		}
		o.Reachable = o.Cheapest != nil || o.Met
		out = append(out, o)
	}
	if services == r.Services[0] {
		o, failed := r.unreachable(ctx, w, slices.Min(r.MaxLags), first.rounds[0])
		return append(out, o), failed
	}
	return out, nil
}

// unreachable asks for an objective that the bounds leave out of reach.
func (r *run) unreachable(ctx context.Context, w trial.Workload, maxLag time.Duration, first trial.Round) (Objective, error) {
	c, err := r.choose(ctx, w, question{maxLag, tightBounds()}, first)
	if err != nil {
		return Objective{}, err
	}
	o := objectiveOf(w, maxLag, c, r.known[c.flags])
	o.Bounds = "tight"
	return o, nil
}

// cheapest looks through the grid, cheapest first, for a setting that meets the objective: unless neither the choice nor
// the dearest setting does, with which no limit of ours binds.
func (r *run) cheapest(ctx context.Context, w trial.Workload, o *Objective) error {
	all := grid()
	if !o.Met {
		best, err := r.judge(ctx, w, all[len(all)-1], o.maxLag)
		if err != nil || best.median() > o.maxLag.Seconds() {
			return err
		}
	}
	for _, f := range all {
		if float64(tuner.Cost(f)) > costCap*float64(o.ChosenCost) {
			return nil
		}
		if tokenBound(w, f) > o.maxLag {
			o.Pruned++
			continue
		}
		m, err := r.judge(ctx, w, f, o.maxLag)
		if err != nil {
			return err
		}
		o.Measured++
		if m.median() <= o.maxLag.Seconds() {
			o.found(f, m)
			return nil
		}
	}
	return nil
}

// byOperator lets the operator, installed as in a cluster, choose for the first size and the tightest objective.
func byOperator(ctx context.Context, o Options) (Objective, error) {
	w, maxLag := trial.Incident(o.Services[0]), slices.Min(o.MaxLags)
	seen, err := show.Choose(ctx, show.Options{
		Operator: o.Operator, Config: o.Config, Out: o.Out, Services: w.Services, Pace: w.Pace, Progress: o.Progress,
	}, maxLag)
	if err != nil {
		return Objective{}, fmt.Errorf("let the operator choose: %w", err)
	}
	return Objective{
		Services: w.Services, MaxLagSeconds: maxLag.Seconds(), By: "operator", maxLag: maxLag,
		Chosen: flagMap(seen.Flags), ChosenCost: tuner.Cost(seen.Flags), Restarts: seen.Restarts,
		PredictedP99Seconds: seen.PredictedP99Seconds, AchievedP99Seconds: seen.AchievedP99Seconds,
		Met: seen.AchievedP99Seconds <= maxLag.Seconds(), Message: seen.Message,
	}, nil
}
