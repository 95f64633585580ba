package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/outdir"
)

// Options are how a run goes.
type Options struct {
	// Root is the operator's source tree, whose config/ is installed.
	Root string
	// Operator is the path of its binary, and Image that of its image's tarball.
	Operator, Image string
	// Out is where result.json goes.
	Out string
	// Dir is the cluster's; "" is its default.
	Dir string
	// Attach uses the cluster that runs already and leaves it running.
	Attach bool
	// Only are the stages to run; none means all.
	Only []string
	// ReportMissed has a figure that is not as wanted be reported, and not make the run fail: for machines whose speed is
	// not known. What must hold on any machine fails it all the same.
	ReportMissed bool
	// Progress receives a line for each step.
	Progress io.Writer
}

// stage is one part of a run.
type stage struct {
	name string
	run  func(*scene, context.Context) error
}

// stages are in the order in which they run. Each may rest on those before it.
func stages() []stage {
	return []stage{
		{"install", (*scene).install},
		{"incident", (*scene).incidentAtTheDefaults},
		{"rollout", (*scene).rollOut},
		{"story", (*scene).storyAfterwards},
		{"token", (*scene).stolenToken},
		{"observe", (*scene).observeWritesNothing},
		{"badvalues", (*scene).badValues},
		{"kubeadm", (*scene).kubeadmRewrites},
		{"twocontrollers", (*scene).twoControllers}, // Last: kubeadm would take away what it sets by hand.
	}
}

// Stages returns the names of all stages, in their order.
func Stages() []string {
	var names []string
	for _, s := range stages() {
		names = append(names, s.name)
	}
	return names
}

// Run brings a cluster up, runs the stages, writes the result and removes the cluster. The result is written also when a
// stage fails; the others are not run then. A figure that is not as wanted makes the run fail, unless it is only to be
// reported, but no stage.
func Run(ctx context.Context, o Options) (err error) {
	for _, name := range o.Only {
		if !slices.Contains(Stages(), name) {
			return fmt.Errorf("no stage %q: want some of %s", name, strings.Join(Stages(), ", "))
		}
	}
	s := &scene{
		Options: o, clock: clock.RealClock{}, maxBurst: highestBurst,
		result: Result{KubernetesVersion: controlplane.KubernetesVersion},
	}
	s.began = s.clock.Now()
	if err = s.bringUp(ctx); err != nil {
		return err
	}
	if err = machine.Outrank(); err != nil {
		return err
	}
	if !o.Attach {
		defer func() { err = errors.Join(err, kubeadm.Down(context.WithoutCancel(ctx), s.cluster.Dir)) }()
	}
	defer s.close()
	if err = s.connect(ctx); err != nil {
		return err
	}
	defer func() {
		s.result.TotalSeconds = s.clock.Since(s.began).Seconds()
		err = errors.Join(err, outdir.WriteJSON(o.Out, "result.json", s.result))
	}()
	for _, one := range stages() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, one.name) {
			continue
		}
		s.sayf("== %s", one.name)
		if err = one.run(s, ctx); err != nil {
			return fmt.Errorf("stage %s: %w\n%s", one.name, err, s.evidence(context.WithoutCancel(ctx)))
		}
		if err = outdir.WriteJSON(o.Out, "result.json", s.result); err != nil {
			return err
		}
	}
	figures := filepath.Join(o.Out, "result.json")
	if missed := s.result.Missed; len(missed) > 0 {
		err = fmt.Errorf("all stages ran; not as wanted, of the figures in %s:\n%s", figures, strings.Join(missed, "\n"))
		if !o.ReportMissed {
			return err
		}
		s.sayf("%v", err)
		return nil
	}
	s.sayf("all stages passed; the figures are in %s", figures)
	return nil
}

// missf notes a figure that is not as wanted.
func (s *scene) missf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.result.Missed = append(s.result.Missed, text)
	s.sayf("MISSED: %s", text)
}

// bringUp makes the cluster, or finds the one that runs.
func (s *scene) bringUp(ctx context.Context) (err error) {
	if s.Attach {
		s.cluster, err = kubeadm.Attach(ctx, s.Dir)
		return err
	}
	if err = machine.InstallPackages(ctx, s.Progress); err != nil {
		return err
	}
	started := s.clock.Now()
	s.cluster, err = kubeadm.Up(ctx, kubeadm.Options{Dir: s.Dir, Progress: s.Progress})
	s.result.UpSeconds = s.clock.Since(started).Seconds()
	return err
}

func (s *scene) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Progress, "%7s  %s\n", s.clock.Since(s.began).Round(100*time.Millisecond), fmt.Sprintf(format, args...))
}
