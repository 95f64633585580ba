// Package accuracy holds the operator's measurement against two truths on a real control plane: the lab's observer, and
// the stage timestamps of kube-apiserver's audit log. It shows how wrong the measurement is; it does not correct it.
package accuracy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

// Options are the size of a run.
type Options struct {
	// Out is the directory for the result and the recordings.
	Out string
	// Services change at once in each burst, one Pod each; SteadyServices change all the time, a few each second.
	Services, SteadyServices int
	// PacedBursts and FullBursts are how many bursts are made at 300/325 50/50, and again at upstream's default flags: at
	// 100 Pods a second, and as fast as the API server takes them.
	PacedBursts, FullBursts int
	// Calm is how long only the trickle goes on after each burst has been published.
	Calm time.Duration
	// Watcher is the command of a watching process: one that calls Watch with these options and its standard streams.
	Watcher func(ctx context.Context, o WatchOptions) *exec.Cmd
	// PressureOnly tells the CPU pressure of each window and compares nothing: what a threshold is chosen from.
	PressureOnly bool
	Progress     io.Writer
}

// DefaultServices and DefaultSteadyServices are the size of a burst, and of the trickle.
const (
	DefaultServices       = 1000
	DefaultSteadyServices = 240
)

// run is a run in progress.
type run struct {
	Options
	*ground

	clock     clock.Clock
	began     time.Time
	processes []*process

	mu       sync.Mutex
	phase    string
	phases   []string
	pressure []float64
}

// Run produces changes, has them watched, and writes result.json to Options.Out. With PressureOnly it writes nothing, and
// the result is empty.
func Run(ctx context.Context, o Options) (_ Result, err error) {
	if err = os.MkdirAll(o.Out, 0o755); err != nil {
		return Result{}, err
	}
	r := &run{Options: o, clock: clock.RealClock{}, phase: "start"}
	if _, err = readPressure(); err != nil {
		return Result{}, err
	}
	r.sayf("starting a control plane with %d Services for bursts and %d for the trickle", o.Services, o.SteadyServices)
	if r.ground, err = newGround(ctx, o); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err = r.perform(ctx); err != nil {
		return Result{}, err
	}
	if o.PressureOnly {
		for i, p := range r.pressure {
			r.sayf("window %3d  %-8s  pressure %.3f", i, r.phases[i], p)
		}
		return Result{}, nil
	}
	result, err := r.conclude()
	if err != nil {
		return Result{}, err
	}
	r.print(result)
	return result, r.keep("result.json", result)
}

// perform makes the changes while both processes watch.
func (r *run) perform(ctx context.Context) error {
	if err := r.RunWith(ctx, stage.Flags(300, 325, 50)); err != nil {
		return err
	}
	for _, role := range []Role{RoleSubject, RoleObserver} {
		p, err := startProcess(ctx, r.Options, role, r.CP.AdminKubeconfig)
		if err != nil {
			return err
		}
		r.processes = append(r.processes, p)
		r.Defer(p.abandon)
	}
	r.began = r.clock.Now().Add(time.Second)
	for _, p := range r.processes {
		if err := p.begin(r.began); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sampling sync.WaitGroup
	sampling.Go(func() {
		if err := r.sample(ctx); err != nil {
			cancel(err)
		}
	})
	err := r.play(ctx)
	cancel(err)
	sampling.Wait()
	return err
}

// play makes bursts at fast flags and then at the default ones, over a trickle that never stops but for the restart of
// kube-controller-manager in between, which is not what is measured here.
func (r *run) play(ctx context.Context) error {
	if err := r.pause(ctx, 2*time.Second); err != nil { // the windows have begun
		return err
	}
	if err := r.bursting(ctx, "fast"); err != nil {
		return err
	}
	r.enter("restart")
	if err := r.RunWith(ctx, v1alpha1.DefaultFlags()); err != nil {
		return err
	}
	if err := r.bursting(ctx, "default"); err != nil {
		return err
	}
	r.enter("end")
	return r.pause(ctx, windowLength+statementDelay+time.Second)
}

// bursting makes bursts over the trickle and returns when everything is published.
func (r *run) bursting(ctx context.Context, phase string) (err error) {
	r.enter(phase)
	trickling, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	var trickleErr error
	running.Go(func() { trickleErr = r.trickle.run(trickling) })
	defer func() {
		stop()
		running.Wait()
		if err = errors.Join(err, trickleErr); err == nil {
			err = r.finish(ctx)
		}
	}()
	for range r.FullBursts {
		if err = r.burst(ctx, 0, fullWriters); err != nil {
			return err
		}
	}
	for range r.PacedBursts {
		if err = r.burst(ctx, pacedPeriod, pacedWriters); err != nil {
			return err
		}
	}
	return r.pause(ctx, r.Calm)
}

const (
	// pacedPeriod makes a burst of 1,000 Pods last ten seconds: it loads two cores without taking them.
	pacedPeriod  = 10 * time.Millisecond
	pacedWriters = 4
	// fullWriters keep the API server busy all the time.
	fullWriters = 32
)

// burst waits, makes one burst, and returns when it is published.
func (r *run) burst(ctx context.Context, period time.Duration, writers int) error {
	if err := r.pause(ctx, r.Calm); err != nil {
		return err
	}
	start := r.clock.Now()
	if err := r.bursts.flipAll(ctx, period, writers); err != nil {
		return err
	}
	flipped := r.clock.Since(start)
	err := stage.WaitFor(ctx, "a burst's endpoints", time.Second, func(ctx context.Context) (bool, error) { return r.bursts.published(ctx) })
	if err != nil {
		return err
	}
	r.sayf("%s: %d Pods changed within %.1f s, published after %.1f s", r.phase, len(r.bursts.pods), flipped.Seconds(), r.clock.Since(start).Seconds())
	return nil
}

// finish returns when the trickle has ended everywhere.
func (r *run) finish(ctx context.Context) error {
	if err := r.pause(ctx, terminating); err != nil {
		return err
	}
	if err := r.trickle.finish(ctx); err != nil {
		return err
	}
	return stage.WaitFor(ctx, "the trickle's endpoints", poll, r.trickle.shown)
}

// sample reads the CPU pressure at each window's end until ctx is done.
func (r *run) sample(ctx context.Context) error {
	if err := r.until(ctx, r.began); err != nil {
		return nil //nolint:nilerr // The run has ended, for a reason that its leader knows.
	}
	before, err := readPressure()
	if err != nil {
		return err
	}
	for at := r.began.Add(windowLength); r.until(ctx, at) == nil; at = at.Add(windowLength) {
		now, err := readPressure()
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.pressure = append(r.pressure, float64(now-before)/float64(windowLength))
		r.phases = append(r.phases, r.phase)
		r.mu.Unlock()
		before = now
	}
	return nil
}

func (r *run) enter(phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phase
}

func (r *run) pause(ctx context.Context, d time.Duration) error {
	return r.until(ctx, r.clock.Now().Add(d))
}

func (r *run) until(ctx context.Context, t time.Time) error {
	timer := r.clock.NewTimer(-r.clock.Since(t))
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// conclude ends the watching and compares.
func (r *run) conclude() (Result, error) {
	o := observations{began: r.began, pressure: r.pressure, phases: r.phases}
	for _, p := range r.processes {
		seen, err := p.end()
		if err != nil {
			return Result{}, err
		}
		if p.role == RoleSubject {
			o.subject = seen
		} else {
			o.observer = seen
		}
	}
	log, err := os.Open(r.CP.AuditLog())
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = log.Close() }()
	if o.audit, err = AuditTruth(log, workload.ServiceLabel); err != nil {
		return Result{}, err
	}
	if err = r.keep("audit.json", recording{Changes: o.audit}); err != nil {
		return Result{}, err
	}
	out := judge(o)
	out.KubernetesVersion = controlplane.KubernetesVersion
	return out, nil
}

// keep writes a file beside the result, or the result itself.
func (r *run) keep(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.Out, name), append(text, '\n'), 0o644)
}

func (r *run) print(result Result) {
	for _, t := range []struct {
		name string
		figures
	}{{"observer", result.figures}, {"audit log", result.Audit}} {
		r.sayf("against the %s: %d changes, |error| %.1f ms at p99 and %.1f ms at most with %d of %d windows left out (all: %.1f and %.1f ms); %d windows within their bound",
			t.name, t.Changes, 1e3*t.P99ErrorSeconds, 1e3*t.MaxErrorSeconds, t.WindowsLeftOut, t.Windows,
			1e3*t.P99ErrorAllSeconds, 1e3*t.MaxErrorAllSeconds, t.WindowsWithinBound)
	}
}

func (r *run) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(r.Progress, format+"\n", args...)
}
