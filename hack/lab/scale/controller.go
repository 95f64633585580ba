package scale

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

// controller measures the operator's controller: its start, a time without changes, and the churn.
func (r *run) controller(ctx context.Context, p *Point) (err error) {
	addresses, err := controlplane.FreeAddresses(ctx, 2)
	if err != nil {
		return err
	}
	begun := time.Now()
	c, err := start(ctx, "controller", filepath.Join(r.logs, "controller.log"), r.Operator, "controller",
		"--kubeconfig", r.server.kubeconfig, "--metrics-bind-address", addresses[0], "--health-probe-bind-address", addresses[1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if err = r.settled(ctx, c, controllerKinds()); err != nil {
		return err
	}
	p.Controller.SyncSeconds = time.Since(begun).Seconds() - quietFor.Seconds()
	if err = operator.Ready(ctx, addresses[1]); err != nil {
		return err
	}
	synced, err := c.usage()
	if err != nil {
		return err
	}
	p.Controller.SyncedRSSBytes, p.Controller.SyncedPeakRSSBytes = synced.rss, synced.peak
	p.Controller.SyncCPUSeconds = synced.cpu.Seconds()
	r.sayf("  controller: %s at most, %s synced, in %.1f s", megabytes(float64(synced.peak)), megabytes(float64(synced.rss)),
		p.Controller.SyncSeconds)
	if err = r.steady(ctx, c, &p.Controller); err != nil {
		return fmt.Errorf("without churn: %w", err)
	}
	if err = r.churned(ctx, c, newScraper(addresses[0]), p); err != nil {
		return fmt.Errorf("with churn: %w", err)
	}
	return nil
}

// steady counts what the controller asks the API server for while nothing changes.
func (r *run) steady(ctx context.Context, c *process, f *ControllerFigures) error {
	first, err := r.sample(ctx, c, time.Now())
	if err != nil {
		return err
	}
	begun := time.Now()
	if err = sleep(ctx, r.Steady); err != nil {
		return err
	}
	last, err := r.sample(ctx, c, begun)
	if err != nil {
		return err
	}
	before, after := first.done.Traffic, last.done.Traffic
	f.SteadySeconds = last.at.Seconds()
	f.SteadyCores = (last.used.cpu - first.used.cpu).Seconds() / f.SteadySeconds
	f.ListsSteady, f.WatchRenewalsSteady = after.Lists-before.Lists, after.Watches-before.Watches
	f.RequestsPerSecondSteady = float64(f.ListsSteady+after.Others-before.Others) / f.SteadySeconds
	r.sayf("  controller, nothing changes: %d LISTs, %d watches renewed, %.3f other requests/s, %.3f cores",
		f.ListsSteady, f.WatchRenewalsSteady, f.RequestsPerSecondSteady, f.SteadyCores)
	return nil
}

// sample is what a process has used and what the server has done, at a time since the churn began.
type sample struct {
	at   time.Duration
	used usage
	done ServerStats
}

// sample looks at the controller and the server.
func (r *run) sample(ctx context.Context, c *process, begun time.Time) (s sample, err error) {
	if s.done, err = r.server.stats(ctx); err != nil {
		return s, err
	}
	s.at = time.Since(begun)
	s.used, err = c.usage()
	return s, err
}

// churned measures the controller while Pods change.
func (r *run) churned(ctx context.Context, c *process, metrics scraper, p *Point) error {
	before, err := metrics.scrape(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	first, err := r.sample(ctx, c, begun)
	if err != nil {
		return err
	}
	if err = r.server.churn(ctx, r.How, r.churn); err != nil {
		return err
	}
	samples, err := r.watched(ctx, c, begun)
	if err != nil {
		return err
	}
	// The few changes that end what the churn began are not part of it.
	during := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.at > r.churn })
	if len(during) < 2 {
		return fmt.Errorf("a churn of %s is too short to measure: at least 3s", r.churn)
	}
	p.ControllerCores = p.Controller.churn(first, during)
	p.Controller.GrowthBytes, p.Controller.GrowthBytesPerMinute = growth(during, r.churn)
	if err = quiet(ctx, c); err != nil {
		return err
	}
	return r.conclude(ctx, c, metrics, before, p)
}

// churn fills in what happened during the churn and returns how many cores the controller used.
func (f *ControllerFigures) churn(first sample, during []sample) (cores float64) {
	last := during[len(during)-1]
	seconds := (last.at - first.at).Seconds()
	was, is := first.done.Churn, last.done.Churn
	changes := is.PodChanges - was.PodChanges
	events := changes + is.Replacements - was.Replacements + is.SliceWrites - was.SliceWrites + is.EndpointsWrites - was.EndpointsWrites
	f.ChurnSeconds, f.ChangesPerSecond, f.EventsPerSecond = seconds, float64(changes)/seconds, float64(events)/seconds
	asked, before := last.done.Traffic, first.done.Traffic
	f.ListsChurn, f.WatchRenewalsChurn = asked.Lists-before.Lists, asked.Watches-before.Watches
	f.RequestsPerSecondChurn = float64(f.ListsChurn+asked.Others-before.Others) / seconds
	f.WatchesExpired, f.MaxEventsBehind = asked.Expired, asked.MaxBehind
	return (last.used.cpu - first.used.cpu).Seconds() / seconds
}

// sampleEvery is how often the controller is looked at during the churn.
const sampleEvery = time.Second

// watched looks at the controller until the churn has ended.
func (r *run) watched(ctx context.Context, c *process, begun time.Time) ([]sample, error) {
	var samples []sample
	said := begun
	for {
		if err := sleep(ctx, sampleEvery); err != nil {
			return nil, err
		}
		s, err := r.sample(ctx, c, begun)
		if err != nil {
			return nil, err
		}
		samples = append(samples, s)
		if !s.done.Churn.Running {
			return samples, nil
		}
		if time.Since(said) > time.Minute {
			said = time.Now()
			r.sayf("  controller, %s of churn: %s, %d changes", s.at.Round(time.Second),
				megabytes(float64(s.used.rss)), s.done.Churn.PodChanges)
		}
	}
}

// conclude reads what is known when all work on the churn is done.
func (r *run) conclude(ctx context.Context, c *process, metrics scraper, before families, p *Point) error {
	after, err := metrics.scrape(ctx)
	if err != nil {
		return err
	}
	p.P99DelaySeconds, p.Controller.P99DelayByKind = delays(before.delays(), after.delays())
	p.Controller.HeapGoalBeforeBytes, p.Controller.HeapGoalAfterBytes = before.heapGoal(), after.heapGoal()
	if open, told := after.open(); told {
		p.Controller.OpenChangesAfter = &open
	}
	used, err := c.usage()
	if err != nil {
		return err
	}
	p.ControllerRSSBytes, p.Controller.RSSAfterChurnBytes = used.peak, used.rss
	p.Controller.AnonymousAfterChurnBytes = used.anonymous
	r.sayf("  controller, %.0f changes/s for %.0f s: %.2f cores, %s at most, growth %s a minute", p.Controller.ChangesPerSecond,
		p.Controller.ChurnSeconds, p.ControllerCores, megabytes(float64(used.peak)), megabytes(p.Controller.GrowthBytesPerMinute))
	return nil
}

// delays are the 99th percentiles of what was counted between two scrapes; nil where nothing was.
func delays(before, after map[string]buckets) (all *float64, byKind map[string]*float64) {
	const p99 = 0.99
	total := buckets{}
	byKind = map[string]*float64{}
	for kind, b := range after {
		since := b.minus(before[kind])
		total.add(since)
		if v, counted := since.quantile(p99); counted {
			byKind[kind] = &v
		}
	}
	if v, counted := total.quantile(p99); counted {
		all = &v
	}
	return all, byKind
}

// growth compares the memory at the end with that after the first minute, or half of a shorter churn, and fits a straight
// line to the samples since (bytes per minute).
func growth(samples []sample, churn time.Duration) (bytes int64, perMinute float64) {
	from := min(time.Minute, churn/2)
	var late []sample
	for _, s := range samples {
		if s.at >= from {
			late = append(late, s)
		}
	}
	if len(late) < 2 {
		return 0, 0
	}
	var meanAt, meanRSS, covariance, variance float64
	for _, s := range late {
		meanAt += s.at.Minutes() / float64(len(late))
		meanRSS += float64(s.used.rss) / float64(len(late))
	}
	for _, s := range late {
		d := s.at.Minutes() - meanAt
		covariance += d * (float64(s.used.rss) - meanRSS)
		variance += d * d
	}
	return late[len(late)-1].used.rss - late[0].used.rss, covariance / variance
}
