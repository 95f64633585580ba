package scale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// controller measures the operator's controller: its start, a time without changes, and the churn.
func (r *run) controller(ctx context.Context, p *Point) (err error) {
	addresses, err := freeAddresses(ctx, 2)
	if err != nil {
		return err
	}
	begun := time.Now()
	c, err := start("controller", filepath.Join(r.logs, "controller.log"), r.Operator, "controller",
		"--kubeconfig", r.server.kubeconfig, "--metrics-bind-address", addresses[0], "--health-probe-bind-address", addresses[1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err = r.settled(ctx, c, controllerKinds()); err != nil {
		return err
	}
	p.Controller.SyncSeconds = time.Since(begun).Seconds() - quietFor.Seconds()
	if err = answers(ctx, "http://"+addresses[1]+"/readyz"); err != nil {
		return err
	}
	synced, err := c.usage()
	if err != nil {
		return err
	}
	p.Controller.SyncedRSSBytes, p.Controller.SyncedPeakRSSBytes = synced.rss, synced.peak
	p.Controller.SyncCPUSeconds = synced.cpu.Seconds()
	r.say("  controller: %s at most, %s synced, in %.1f s", megabytes(float64(synced.peak)), megabytes(float64(synced.rss)),
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
	before, used, begun := ServerStats{}, usage{}, time.Now()
	var err error
	if before, err = r.server.stats(ctx); err != nil {
		return err
	}
	if used, err = c.usage(); err != nil {
		return err
	}
	if err = sleep(ctx, r.Steady); err != nil {
		return err
	}
	after, err := r.server.stats(ctx)
	if err != nil {
		return err
	}
	now, err := c.usage()
	if err != nil {
		return err
	}
	f.SteadySeconds = time.Since(begun).Seconds()
	f.SteadyCores = (now.cpu - used.cpu).Seconds() / f.SteadySeconds
	f.ListsSteady = after.Traffic.Lists - before.Traffic.Lists
	f.WatchRenewalsSteady = after.Traffic.Watches - before.Traffic.Watches
	f.RequestsPerSecondSteady = float64(f.ListsSteady+after.Traffic.Others-before.Traffic.Others) / f.SteadySeconds
	r.say("  controller, nothing changes: %d LISTs, %d watches renewed, %.3f other requests/s, %.3f cores",
		f.ListsSteady, f.WatchRenewalsSteady, f.RequestsPerSecondSteady, f.SteadyCores)
	return nil
}

// sample is the memory of a process at a time since the churn began.
type sample struct {
	at  time.Duration
	rss int64
}

// churned measures the controller while Pods change.
func (r *run) churned(ctx context.Context, c *process, metrics scraper, p *Point) error {
	before, err := metrics.scrape(ctx)
	if err != nil {
		return err
	}
	stats, err := r.server.stats(ctx)
	if err != nil {
		return err
	}
	used, err := c.usage()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err = r.server.churn(ctx, r.How, r.churn); err != nil {
		return err
	}
	samples, err := r.watched(ctx, c, begun)
	if err != nil {
		return err
	}
	after, err := r.server.stats(ctx)
	if err != nil {
		return err
	}
	now, err := c.usage()
	if err != nil {
		return err
	}
	f := &p.Controller
	f.ChurnSeconds = time.Since(begun).Seconds()
	p.ControllerCores = (now.cpu - used.cpu).Seconds() / f.ChurnSeconds
	f.ListsChurn = after.Traffic.Lists - stats.Traffic.Lists
	f.WatchesExpired, f.MaxEventsBehind = after.Traffic.Expired, after.Traffic.MaxBehind
	changes := after.Churn.PodChanges - stats.Churn.PodChanges
	f.ChangesPerSecond = float64(changes) / f.ChurnSeconds
	f.EventsPerSecond = float64(changes+after.Churn.Replacements-stats.Churn.Replacements+
		after.Churn.SliceWrites-stats.Churn.SliceWrites+after.Churn.EndpointsWrites-stats.Churn.EndpointsWrites) / f.ChurnSeconds
	f.GrowthBytes, f.GrowthBytesPerMinute = growth(samples, r.churn)
	if err = quiet(ctx, c); err != nil {
		return err
	}
	return r.conclude(ctx, c, metrics, before, p)
}

// sampleEvery is how often memory is read during the churn.
const sampleEvery = time.Second

// watched reads the memory of the controller until the churn has ended.
func (r *run) watched(ctx context.Context, c *process, begun time.Time) ([]sample, error) {
	var samples []sample
	said := begun
	for {
		if err := sleep(ctx, sampleEvery); err != nil {
			return nil, err
		}
		used, err := c.usage()
		if err != nil {
			return nil, err
		}
		samples = append(samples, sample{at: time.Since(begun), rss: used.rss})
		stats, err := r.server.stats(ctx)
		if err != nil {
			return nil, err
		}
		if !stats.Churn.Running {
			return samples, nil
		}
		if time.Since(said) > time.Minute {
			said = time.Now()
			r.say("  controller, %s of churn: %s, %d changes", time.Since(begun).Round(time.Second),
				megabytes(float64(used.rss)), stats.Churn.PodChanges)
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
	if open, told := after.open(); told {
		p.Controller.OpenChangesAfter = &open
	}
	used, err := c.usage()
	if err != nil {
		return err
	}
	p.ControllerRSSBytes, p.Controller.RSSAfterChurnBytes = used.peak, used.rss
	r.say("  controller, %.0f changes/s for %.0f s: %.2f cores, %s at most, growth %s a minute", p.Controller.ChangesPerSecond,
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
		meanRSS += float64(s.rss) / float64(len(late))
	}
	for _, s := range late {
		d := s.at.Minutes() - meanAt
		covariance += d * (float64(s.rss) - meanRSS)
		variance += d * d
	}
	return late[len(late)-1].rss - late[0].rss, covariance / variance
}

// answers checks that a URL answers 200.
func answers(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	if err = answer.Body.Close(); err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return nil
}

// freeAddresses are addresses on loopback that nobody listened on a moment ago.
func freeAddresses(ctx context.Context, n int) (addresses []string, err error) {
	for range n {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = listener.Close() }() // Held until all are found, so that they differ.
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}
