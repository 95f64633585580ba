package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
)

// Options are what the benchmark is run with.
type Options struct {
	Operator string // path of the operator's binary
	Lab      string // path of this program's binary, which the server and the rivals are subcommands of
	Root     string // directory of the operator's module
	Out      string // where the results go
	Pods     []int
	// Steady is how long nothing changes while the controller's requests are counted.
	Steady time.Duration
	// Churn is how long Pods change in the largest cluster; in the others it is 30 seconds at most.
	Churn time.Duration
	How   Churn
	// Settle lets garbage collection and its scavenger come to rest before a rival is measured.
	Settle time.Duration
	// Progress hears how far the benchmark is.
	Progress io.Writer
}

// shortChurn is how long Pods change in all clusters but the largest.
const shortChurn = 30 * time.Second

// Run measures every size of cluster, then the tracker by itself, and writes result.json and a table.
func Run(ctx context.Context, o Options, table io.Writer) error {
	result := Result{GoMaxProcs: runtime.GOMAXPROCS(0)}
	for i, pods := range o.Pods {
		r := run{Options: o, shape: ShapeOf(pods), churn: o.Churn, logs: filepath.Join(o.Out, "logs", strconv.Itoa(pods))}
		if i < len(o.Pods)-1 {
			r.churn = min(o.Churn, shortChurn)
		}
		p, err := r.point(ctx)
		if err != nil {
			return fmt.Errorf("%d Pods: %w", pods, err)
		}
		result.Points = append(result.Points, p)
		if err = outdir.WriteJSON(o.Out, "result.json", result); err != nil { // What is known so far, should the next one fail.
			return fmt.Errorf("write the result: %w", err)
		}
	}
	o.sayf("benchmark of the tracker")
	var err error
	if result.Tracker, err = benchmark(ctx, o.Root); err != nil {
		return err
	}
	if err = outdir.WriteJSON(o.Out, "result.json", result); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return result.print(table)
}

func (o Options) sayf(format string, values ...any) {
	_, _ = fmt.Fprintf(o.Progress, time.Now().Format(time.TimeOnly)+" "+format+"\n", values...)
}

// run is the measurement of one size of cluster.
type run struct {
	Options
	shape  Shape
	churn  time.Duration
	logs   string
	server *remote
}

// point measures the controller and the rivals, one after the other, against one server.
func (r *run) point(ctx context.Context) (p Point, err error) {
	r.sayf("%d Pods, %d Services, %d nodes: starting the synthetic API server", r.shape.Pods, r.shape.Services, r.shape.Nodes)
	if r.server, err = startServer(ctx, r.Options, r.shape, r.logs); err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, r.server.Stop()) }()
	p.Shape = r.shape
	if err = r.controller(ctx, &p); err != nil {
		return p, fmt.Errorf("the controller: %w", err)
	}
	if p.PlainInformersRSSBytes, p.Plain, err = r.rival(ctx, PlainInformers); err != nil {
		return p, fmt.Errorf("plain informers: %w", err)
	}
	if p.DefaultCacheRSSBytes, p.Default, err = r.rival(ctx, DefaultCache); err != nil {
		return p, fmt.Errorf("controller-runtime's cache: %w", err)
	}
	stats, err := r.server.stats(ctx)
	p.Sizes = stats.Sizes
	return p, err
}

// rival measures what it takes to follow the same objects in a usual way.
func (r *run) rival(ctx context.Context, which Rival) (peak int64, figures RivalFigures, err error) {
	if err = r.server.reset(ctx); err != nil {
		return 0, figures, err
	}
	begun := time.Now()
	p, err := start(ctx, string(which), filepath.Join(r.logs, string(which)+".log"), r.Lab,
		"scale", "hold", string(which), "--kubeconfig", r.server.kubeconfig)
	if err != nil {
		return 0, figures, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err = r.settled(ctx, p, rivalKinds()); err != nil {
		return 0, figures, err
	}
	figures.SyncSeconds = time.Since(begun).Seconds() - quietFor.Seconds()
	if err = sleep(ctx, r.Settle); err != nil {
		return 0, figures, err
	}
	used, err := p.usage()
	if err != nil {
		return 0, figures, err
	}
	stats, err := r.server.stats(ctx)
	if err != nil {
		return 0, figures, err
	}
	figures.SettledRSSBytes, figures.Lists = used.rss, stats.Traffic.Lists
	r.sayf("  %s: %s at most, %s settled, synced in %.1f s", which, megabytes(float64(used.peak)),
		megabytes(float64(used.rss)), figures.SyncSeconds)
	return used.peak, figures, nil
}

// rivalKinds are what rivals follow.
func rivalKinds() []string {
	return []string{resourcePods, resourceServices, resourceSlices, resourceEndpoints, resourceNodes, resourceNamespaces}
}

// controllerKinds are what the controller must have before anything is measured.
func controllerKinds() []string {
	return append(rivalKinds(), resourcePolicies)
}

const (
	// poll is how often a process that syncs is looked at.
	poll = 250 * time.Millisecond
	// quietFor is how long a process must do next to nothing to have done its work on the first lists, and quietCores
	// how little that is.
	quietFor   = 3 * time.Second
	quietCores = 0.1
	// syncLimit is how long the first lists may take.
	syncLimit = 10 * time.Minute
)

// settled waits until the server has sent all objects of the kinds to a process, and that process has nothing more to do
// with them.
func (r *run) settled(ctx context.Context, p *process, kinds []string) error {
	ctx, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	for {
		stats, err := r.server.stats(ctx)
		if err != nil {
			return err
		}
		if missing := without(kinds, stats.Traffic.Synced); len(missing) == 0 {
			break
		} else if err = sleep(ctx, poll); err != nil {
			return fmt.Errorf("wait until it has all %v: %w", missing, err)
		}
		if _, err = p.usage(); err != nil {
			return err
		}
	}
	return quiet(ctx, p)
}

// quiet waits until a process is idle.
func quiet(ctx context.Context, p *process) error {
	for {
		before, err := p.usage()
		if err != nil {
			return err
		}
		if err = sleep(ctx, quietFor); err != nil {
			return fmt.Errorf("wait until it is idle: %w", err)
		}
		after, err := p.usage()
		if err != nil {
			return err
		}
		if (after.cpu - before.cpu).Seconds() < quietCores*quietFor.Seconds() {
			return nil
		}
	}
}

func without(all, but []string) []string {
	var left []string
	for _, one := range all {
		found := false
		for _, other := range but {
			found = found || one == other
		}
		if !found {
			left = append(left, one)
		}
	}
	return left
}

// sleep waits, or says that the context ended.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
