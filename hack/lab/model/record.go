package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// Options are what a run takes.
type Options struct {
	// Out is the directory for the results; the rounds go into raw below it.
	Out string
	// Replay is a directory of rounds that were recorded before. With it nothing is run.
	Replay string
	// Rounds is how often each cell is measured.
	Rounds int
	// Quick runs a small part, once.
	Quick    bool
	Progress io.Writer
}

// Files of a recording. calibrationName is that of the run that the parameters come from, as a whole; each workload's
// part of it is in a file of its own.
const (
	rawDir          = "raw"
	extension       = ".json.gz"
	calibrationName = "calibration"
)

// Run measures every cell, compares, and writes result.json and prediction.svg to Options.Out.
func Run(ctx context.Context, o Options) (Result, error) {
	raw := o.Replay
	if raw == "" {
		raw = filepath.Join(o.Out, rawDir)
		p := fullPlan(o.Rounds)
		if o.Quick {
			p = quickPlan()
		}
		if err := record(ctx, p, raw, o.Progress); err != nil {
			return Result{}, err
		}
	}
	seen, err := load(raw)
	if err != nil {
		return Result{}, err
	}
	result, err := score(seen)
	if err != nil {
		return Result{}, err
	}
	return result, errors.Join(result.table(o.Progress), result.write(o.Out))
}

// record plays the calibration and then every cell, and keeps each round in a file.
func record(ctx context.Context, p plan, dir string, progress io.Writer) (err error) {
	b, err := trial.Open(ctx, progress, p.workloads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	b.Sayf("%d settings, %d workloads, %d rounds: about %s", len(p.settings), len(p.workloads), p.rounds, p.total().Round(time.Minute))
	if err = calibrate(ctx, b, p, dir); err != nil {
		return err
	}
	left := p.total() - p.roundsOf(v1alpha1.DefaultFlags())
	for i, f := range p.settings {
		b.Sayf("setting %d of %d: %s; about %s to go", i+1, len(p.settings), f, left.Round(10*time.Second))
		if err = b.Set(ctx, f); err != nil {
			return err
		}
		left -= restartTime
		for round := range p.rounds {
			for _, w := range p.workloads {
				name := fmt.Sprintf("%s-%s-%d", trial.SettingName(f), w.Name, round+1)
				if err = play(ctx, b, cell{w.Name, round + 1}, filepath.Join(dir, name+extension)); err != nil {
					return err
				}
				left -= estimate(w, f)
			}
		}
	}
	return nil
}

// cell is a workload and the number of the round, 0 for the calibration.
type cell struct {
	workload string
	round    int
}

// calibrate plays each workload once at the default flags, which run, and keeps the evidence of all of it as one.
func calibrate(ctx context.Context, b *trial.Bench, p plan, dir string) error {
	b.Sayf("calibration: each workload once at the default flags")
	since := b.Now()
	for _, w := range p.workloads {
		if err := play(ctx, b, cell{w.Name, 0}, filepath.Join(dir, calibrationName+"-"+w.Name+extension)); err != nil {
			return err
		}
	}
	return trial.Write(filepath.Join(dir, calibrationName+extension), b.Evidence(since))
}

func play(ctx context.Context, b *trial.Bench, c cell, path string) error {
	r, err := b.Play(ctx, c.workload)
	if err != nil {
		return fmt.Errorf("workload %s: %w", c.workload, err)
	}
	r.Round = c.round
	b.Sayf("  %-8s p50 %6.2f s, p99 %6.2f s; the Pods changed within %.1f s", c.workload, r.P50(), r.P99(), r.FlipSeconds)
	return trial.Write(path, r)
}

// recording is what a directory of rounds holds.
type recording struct {
	calibration tuner.Evidence
	demand      map[string]trial.Round // by workload: the calibration's part
	rounds      []trial.Round          // in the order of their files
}

// load reads a directory of rounds.
func load(dir string) (recording, error) {
	out := recording{demand: map[string]trial.Round{}}
	if err := trial.Read(filepath.Join(dir, calibrationName+extension), &out.calibration); err != nil {
		return out, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*-*"+extension))
	if err != nil {
		return out, err
	}
	for _, path := range paths {
		var r trial.Round
		if err = trial.Read(path, &r); err != nil {
			return out, err
		}
		if r.Round == 0 {
			out.demand[r.Workload] = r
			continue
		}
		out.rounds = append(out.rounds, r)
	}
	return out, nil
}
