package qualify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

// Options are what is played, and with what. Counts of zero mean all, or what the issue asks for.
type Options struct {
	// Operator is the operator's binary, and Out where results and logs go. Play does without.
	Operator, Out string
	// Only names the scenarios to play; empty: all.
	Only []string
	// Points is how many kills of the controller there are; 0: before and after each write.
	Points int
	// Runs is how many rollouts two controllers share; 0: 120.
	Runs int
	// RollBacks is how many there are, with the API server up and stopped by turns; 0: 24.
	RollBacks int
	// Lanes is how many control planes there are at once for runs about order, and as many for runs about time; 0: 3.
	Lanes int
	// Progress receives a line for each run; nil discards them.
	Progress io.Writer
}

// What the issue asks for, with a little to spare.
const (
	defaultRuns      = 120
	defaultRollBacks = 24
	defaultLanes     = 3
	// overtakings is how many of the runs are with a leader that is stopped past its Lease: each takes a minute and a half.
	overtakings = 6
	// retries is how often a fault is tried again that came too late.
	retries = 2
)

func (o Options) withDefaults() Options {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, d := range []struct {
		value *int
		usual int
	}{{&o.Runs, defaultRuns}, {&o.RollBacks, defaultRollBacks}, {&o.Lanes, defaultLanes}} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	return o
}

func (o Options) plays(scenario string) bool {
	return len(o.Only) == 0 || slices.Contains(o.Only, scenario)
}

// player plays pairs on its fleets and collects what came of them.
type player struct {
	Options

	environment *rig.Environment

	mu     sync.Mutex
	result Result
}

// Run plays scenarios with an operator's binary, writes the result into a directory and prints it. It is an error if
// anything was wrong.
func Run(ctx context.Context, o Options, w io.Writer) (err error) {
	e, err := rig.NewEnvironment()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	e.UseOperator(o.Operator)
	result, err := Play(ctx, e, o)
	err = errors.Join(err, outdir.WriteJSON(o.Out, "result.json", result), result.print(w))
	if n := len(result.Problems()); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d problems; the logs of those runs are in %s", n, filepath.Join(o.Out, "logs")))
	}
	return err
}

// Play plays scenarios and returns what came of them. An error means that something could not be played at all.
func Play(ctx context.Context, e *rig.Environment, o Options) (Result, error) {
	p := &player{Options: o.withDefaults(), environment: e, result: Result{Nodes: 3, Writes: map[string][]string{}}}
	began := time.Now()
	quick := p.quickPairs()
	if p.plays(KilledController) {
		// What is to be killed at is known when it was counted.
		if err := p.playAll(ctx, quickly(), p.countingPairs(), 1); err != nil {
			return p.result, err
		}
		quick = append(p.writePairs(), quick...)
	}
	lanes := []func() error{
		func() error { return p.playAll(ctx, quickly(), quick, p.Lanes) },
		func() error { return p.playAll(ctx, asKubelet(), p.rollBackPairs(), p.Lanes) },
		func() error { return p.observe(ctx) },
	}
	errs := make([]error, len(lanes))
	var running sync.WaitGroup
	for i, play := range lanes {
		running.Go(func() { errs[i] = play() })
	}
	running.Wait()
	p.result.Minutes = time.Since(began).Minutes()
	slices.SortFunc(p.result.Runs, byCase)
	return p.result.summed(scenarios()), errors.Join(errs...)
}

// playAll plays pairs on several fleets.
func (p *player) playAll(ctx context.Context, pace pace, pairs []pair, lanes int) error {
	queue := make(chan pair, len(pairs))
	for _, q := range pairs {
		queue <- q
	}
	close(queue)
	errs := make([]error, min(lanes, len(pairs)))
	var running sync.WaitGroup
	for i := range errs {
		running.Go(func() { errs[i] = p.lane(ctx, pace, queue) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// lane plays pairs until there are no more, on one fleet as long as it is whole.
func (p *player) lane(ctx context.Context, pace pace, queue <-chan pair) error {
	l := &lane{player: p, ctx: ctx, pace: pace}
	defer l.discard()
	for q := range queue {
		if err := l.play(applying, q.apply); err != nil {
			return err
		}
		if err := l.play(restoring, q.restore); err != nil {
			return err
		}
	}
	return nil
}

// lane has one fleet at a time.
type lane struct {
	*player

	ctx     context.Context //nolint:containedctx // It belongs to the lane's one goroutine.
	pace    pace
	scope   *rig.Scope
	fleet   *fleet
	applied bool // whether there is something to restore
}

// play plays one step, on a new fleet if there is none that is whole. A fault that came too late is tried again.
func (l *lane) play(d direction, s step) error {
	for try := 0; ; try++ {
		if err := l.ready(d); err != nil {
			return err
		}
		run := l.once(d, s)
		l.add(run)
		if run.Reached || len(run.Problems) > 0 || try == retries || run.Scenario == KilledController {
			return l.ctx.Err()
		}
	}
}

// ready makes sure that there is a fleet, and on it what the direction begins from.
func (l *lane) ready(d direction) error {
	for try := 0; ; try++ {
		if l.fleet == nil {
			if err := l.start(); err != nil {
				return err
			}
		}
		if l.applied == (d == restoring) {
			return nil
		}
		before := applying
		if l.applied {
			before = restoring
		}
		l.add(l.once(before, step{}))
		if try == retries {
			return fmt.Errorf("the %s lane cannot prepare a rollout (%s)", l.pace.name, d)
		}
	}
}

func (l *lane) start() error {
	l.scope = rig.NewScope(l.ctx, l.pace.name+" fleet", l.Progress)
	if l.scope.Do(func() { l.fleet = newFleet(l.scope, l.environment, l.pace) }) {
		return nil
	}
	l.fleet = nil
	return fmt.Errorf("start a fleet: %s", strings.Join(l.scope.End(), "; "))
}

func (l *lane) discard() {
	if l.scope == nil {
		return
	}
	for _, problem := range l.scope.End() {
		_, _ = fmt.Fprintln(l.Progress, "ending a fleet:", problem)
	}
	l.scope, l.fleet, l.applied = nil, nil, false
}

// once plays one run. A fleet on which something went wrong is not used again.
func (l *lane) once(d direction, s step) Rollout {
	scenario, what := s.make()
	scope := rig.NewScope(l.ctx, fmt.Sprintf("%s, %s, %s", scenario, d, what.name), l.Progress)
	tr := &trial{T: scope, fleet: l.fleet, Rollout: Rollout{Scenario: scenario, Direction: string(d), Fault: what.name}}
	scope.Do(func() { tr.rollOut(d, what) })
	tr.Problems = scope.End()
	l.applied = d == applying
	if len(tr.Problems) > 0 {
		l.keepLogs(tr.Rollout)
		l.discard()
	}
	return tr.Rollout
}

func (p *player) add(r Rollout) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Runs = append(p.result.Runs, r)
	_, _ = fmt.Fprintf(p.Progress, "%4d %s %-7s %5.1f s  %s: %s %s\n", len(p.result.Runs), r.Scenario, r.Direction, r.Seconds, r.Fault, r.Ended, r.Reason)
	for _, problem := range r.Problems {
		_, _ = fmt.Fprintln(p.Progress, "     PROBLEM", problem)
	}
}

// keepLogs copies what the fleet's processes said, for whoever looks into a problem.
func (l *lane) keepLogs(r Rollout) {
	if l.Out == "" {
		return
	}
	l.mu.Lock()
	dir := filepath.Join(l.Out, "logs", fmt.Sprintf("run-%d", len(l.result.Runs)+1))
	l.mu.Unlock()
	for _, path := range l.fleet.logs() {
		content, err := os.ReadFile(path)
		to := filepath.Join(dir, filepath.Base(filepath.Dir(filepath.Dir(path)))+"-"+filepath.Base(path))
		if err == nil {
			err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(to, content, 0o644))
		}
		if err != nil {
			_, _ = fmt.Fprintf(l.Progress, "keep the log %s of %s: %v\n", path, r.Fault, err)
		}
	}
}

// observe plays the faults under a policy that only observes.
func (p *player) observe(ctx context.Context) error {
	if !p.plays(Observing) {
		return nil
	}
	l := &lane{player: p, ctx: ctx, pace: quickly()}
	defer l.discard()
	if err := l.start(); err != nil {
		return err
	}
	scope := rig.NewScope(ctx, "observing", p.Progress)
	run := Rollout{Scenario: Observing, Fault: "all, while the policy observes"}
	began := time.Now()
	var o Observation
	if scope.Do(func() { o = l.fleet.observeOnly(scope) }) {
		run.Ended, run.Reached = endDesired, true
	}
	run.Problems, run.Seconds = scope.End(), seconds(time.Since(began))
	if len(run.Problems) > 0 {
		l.keepLogs(run)
	}
	p.add(run)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Observe = &o
	return nil
}
