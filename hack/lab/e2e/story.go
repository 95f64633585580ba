package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/story"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	// drive is for how long users open connections, 40 a second: it outlasts an incident at the defaults.
	drive     = 76 * time.Second
	driveRate = 40
	// patience is how long they wait for an answer: longer than one takes on a machine that is short of processors, which is
	// no endpoint's fault. Who was sent to a Pod that has gone waits in vain, however long.
	patience = 3 * time.Second
	// leadIn is how long all is well before the incident begins, and head how long that has been going on when the
	// Deployment is restarted.
	leadIn = 5 * time.Second
	head   = 18 * time.Second
	// incidentLength is over which time the Services change: 42 a second are more than the 20 that the default flags let
	// each controller write, and less than what three API servers take that share a small machine.
	incidentLength = 24 * time.Second
	// measured is for how long measure runs, from the beginning of a drive: until the restarted Deployment is whole.
	measured = 55 * time.Second
	// settleTimeout bounds what has to follow from an incident that is over.
	settleTimeout = 2 * time.Minute
)

// policySpec is what the platform team of this story asks for.
func (s *scene) policySpec(mode v1alpha1.Mode) v1alpha1.EndpointSyncPolicySpec {
	return v1alpha1.EndpointSyncPolicySpec{
		Mode:      mode,
		Objective: v1alpha1.Objective{Percentile: 99, MaxLag: v1alpha1.DurationOf(maxLag), Window: "30m", MinSamples: 300},
		// The floor is what SIG Scalability runs its own jobs with: the cheapest setting for the incident that was seen leaves
		// nothing for Pods that start beside the next one, on the same two processors.
		Bounds: v1alpha1.Bounds{
			KubeAPIQPS:                     v1alpha1.QPSBound{Min: 100, Max: 300},
			KubeAPIBurst:                   v1alpha1.BurstBound{Min: 100, Max: s.maxBurst},
			ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 25, Max: 50},
			ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 25, Max: 50},
		},
		// Three control planes share the processor of one small machine, so that an API server is slower here than any that
		// a team would run: the default guardrails would rightly refuse.
		Guardrails: v1alpha1.Guardrails{MaxMutatingLatency: "30s", MaxRejectedPercent: 5},
		Rollout: v1alpha1.Rollout{
			Cooldown: "1m", MinReady: "5s", HealthTimeout: "2m",
			RestartBudget: v1alpha1.RestartBudget{MaxRestarts: 16, Period: "1m"},
		},
	}
}

// applyPolicy creates the policy or gives it this spec.
func (s *scene) applyPolicy(ctx context.Context, spec v1alpha1.EndpointSyncPolicySpec) error {
	p := &v1alpha1.EndpointSyncPolicy{ObjectMeta: metav1.ObjectMeta{Name: policyName}, Spec: spec}
	err := s.objects.Create(ctx, p)
	if apierrors.IsAlreadyExists(err) {
		present, getErr := s.policy(ctx)
		if getErr != nil {
			return getErr
		}
		before := present.DeepCopy()
		present.Spec = spec
		err = s.objects.Patch(ctx, &present, client.MergeFrom(before))
	}
	if err != nil {
		return fmt.Errorf("apply policy %s: %w", policyName, err)
	}
	return nil
}

// incidentAtTheDefaults makes the incident with nobody tuning anything, and counts what users of a Service see of it. The
// policy observes.
func (s *scene) incidentAtTheDefaults(ctx context.Context) error {
	if err := s.applyPolicy(ctx, s.policySpec(v1alpha1.ModeObserve)); err != nil {
		return err
	}
	traffic, seen, err := s.tell(ctx, "before")
	if err != nil {
		return err
	}
	s.result.Before, s.result.Story.Before = incidentOf(seen), trafficOf(traffic)
	if err = s.describe(ctx, s.result.Before); err != nil {
		return err
	}
	if traffic.FailedPercent < 10 {
		s.missf("%.1f %% of the connections failed at the defaults, want 10 or more: this is not the incident", traffic.FailedPercent)
	}
	return nil
}

// tell lets users open connections to a Deployment that is restarted while all the other Services change. What is beside it
// begins with the users.
func (s *scene) tell(
	ctx context.Context, window string, beside ...func(context.Context) error,
) (traffic story.Traffic, seen observer.Result, err error) {
	group, inner := errgroup.WithContext(ctx)
	for _, run := range beside {
		group.Go(func() error { return run(inner) })
	}
	group.Go(func() (err error) { traffic, err = s.drive(inner); return err })
	group.Go(func() (err error) {
		if err = s.sleep(inner, leadIn); err != nil {
			return err
		}
		seen, err = s.incident(inner, window)
		return err
	})
	group.Go(func() error {
		if waitErr := s.sleep(inner, leadIn+head); waitErr != nil {
			return waitErr
		}
		return app(0).RolloutRestart(inner, s.kube, s.clock.Now())
	})
	if err = group.Wait(); err != nil {
		return traffic, seen, err
	}
	s.sayf("%s: lag p99 %.2f s in EndpointSlices, %.2f s in Endpoints; %.2f %% of %d connections failed, in %d seconds: %v", window,
		seen.EndpointSlice.P99.Seconds(), seen.Endpoints.P99.Seconds(), traffic.FailedPercent, traffic.Attempts, traffic.SecondsWithFailures,
		traffic.Failures)
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return traffic, seen, app(0).WaitRolledOut(ctx, s.kube)
}

// incident changes every Pod and returns when the observer has seen all of it published.
func (s *scene) incident(ctx context.Context, window string) (seen observer.Result, err error) {
	s.observer.Mark(window)
	if err = s.flip(ctx); err != nil {
		return seen, err
	}
	if err = s.work.WaitConverged(ctx); err != nil {
		return seen, err
	}
	err = s.await(ctx, settleTimeout, "the observer to have seen all of the incident", func(context.Context) error {
		if seen, err = s.observer.Result(window); err != nil {
			return err
		}
		if open := seen.EndpointSlice.Pending + seen.Endpoints.Pending; open > 0 || seen.EndpointSlice.Changes < services {
			return fmt.Errorf("%d changes, %d open", seen.EndpointSlice.Changes, open)
		}
		return nil
	})
	return seen, err
}

// flip changes every Pod once, Service by Service.
func (s *scene) flip(ctx context.Context) error {
	_, err := s.work.FlipAt(ctx, workload.Pace{Over: incidentLength})
	return err
}

// sleep lets a time pass that is part of the story, and not a wait for something.
func (s *scene) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-s.clock.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drive runs the users on the first node, in its network.
func (s *scene) drive(ctx context.Context) (t story.Traffic, err error) {
	service, err := s.kube.CoreV1().Services(app(0).Namespace).Get(ctx, app(0).Name, metav1.GetOptions{})
	if err != nil {
		return t, fmt.Errorf("find the story's Service: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	if err = s.forgetConnections(ctx, service.Spec.ClusterIP); err != nil {
		return t, err
	}
	out, err := s.cluster.Nodes[0].Output(ctx, self, "story-client", "--address", address,
		"--rate", strconv.Itoa(driveRate), "--for", drive.String(), "--timeout", patience.String())
	if err != nil {
		return t, fmt.Errorf("open connections to %s: %w", address, err)
	}
	return t, json.Unmarshal(out, &t)
}

// forgetConnections drops what the users' node remembers of connections to a Service. One that was opened to a Pod that had
// gone is remembered for two minutes (nf_conntrack_tcp_timeout_syn_sent), and whoever comes by its port meanwhile is sent
// to that Pod, too: a failure of the drive before, and not of this one.
func (s *scene) forgetConnections(ctx context.Context, service string) error {
	_, err := s.cluster.Nodes[0].Output(ctx, "conntrack", "-D", "-p", "tcp", "--orig-dst", service)
	if err != nil && !strings.Contains(err.Error(), " 0 flow entries") {
		return fmt.Errorf("forget connections to %s: %w", service, err)
	}
	return nil
}

// describe adds what the operator says of an incident.
func (s *scene) describe(ctx context.Context, i *Incident) error {
	p, err := s.policy(ctx)
	if err != nil {
		return err
	}
	i.ObjectiveMet = string(condition(p, v1alpha1.ConditionObjectiveMet).Status)
	for _, row := range p.Status.Lag {
		if row.Resource == v1alpha1.ResourceEndpointSlice && row.Direction == v1alpha1.DirectionAny {
			i.OperatorP99 = row.P99
		}
	}
	nodes, err := s.syncNodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Status.Leader != nil && *n.Status.Leader {
			i.Flags = n.Status.Running.String()
		}
	}
	return nil
}

// storyAfterwards is the same incident under the flags that the operator chose: once for the users and for measure, which
// recommends a preStop sleep, and once for users of Pods with that sleep.
func (s *scene) storyAfterwards(ctx context.Context) error {
	var sleep int
	traffic, seen, err := s.tell(ctx, "after", func(ctx context.Context) (err error) { sleep, err = s.measure(ctx); return err })
	if err != nil {
		return err
	}
	s.result.Story.PreStopSeconds = sleep
	s.sayf("measure recommends a preStop sleep of %d s", sleep)
	s.result.After, s.result.Story.After = incidentOf(seen), trafficOf(traffic)
	if err = s.objectiveMet(ctx); err != nil {
		s.missf("%v", err)
	}
	if err = s.describe(ctx, s.result.After); err != nil {
		return err
	}
	deploying, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err = s.deployStory(deploying, int64(sleep)); err != nil {
		return err
	}
	lossless, _, err := s.tell(ctx, "afterWithPreStop")
	if err != nil {
		return err
	}
	s.result.Story.AfterWithPreStop = trafficOf(lossless)
	s.judgeStory(s.result.Story)
	return nil
}

// judgeStory holds the story against what it has to show.
func (s *scene) judgeStory(t Story) {
	before, after, lossless := t.Before, t.After, t.AfterWithPreStop
	if lossless.Failed > 0 || lossless.Attempts < 2900 {
		s.missf("%d of %d connections failed with the recommended preStop sleep, want 0 of 2900 or more", lossless.Failed, lossless.Attempts)
	}
	if before != nil && after.FailedPercent > before.FailedPercent/8 {
		s.missf("%.2f %% of the connections failed afterwards and %.2f %% before, want an eighth at most", after.FailedPercent, before.FailedPercent)
	}
	if before != nil && after.SecondsWithFailures > before.SecondsWithFailures/2 {
		s.missf("connections failed in %d seconds afterwards and in %d before, want half at most", after.SecondsWithFailures, before.SecondsWithFailures)
	}
}

// objectiveMet waits until the policy says so.
func (s *scene) objectiveMet(ctx context.Context) error {
	return s.await(ctx, settleTimeout, "the policy to say that its objective is met", func(ctx context.Context) error {
		p, err := s.policy(ctx)
		if err != nil {
			return err
		}
		if c := condition(p, v1alpha1.ConditionObjectiveMet); c.Status != metav1.ConditionTrue {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		return nil
	})
}

// measure runs the command while the incident goes on and the Deployment is restarted, as people do whose users complain of
// just that, and returns the preStop sleep that it recommends.
func (s *scene) measure(ctx context.Context) (seconds int, err error) {
	cmd := exec.CommandContext(ctx, s.Operator, "measure", "--kubeconfig", s.cluster.AdminKubeconfig,
		"--for", measured.String(), "--objective", maxLag.String(), "-o", "json")
	log, err := os.Create(filepath.Join(s.cluster.Dir, "measure.log"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	out, err := cmd.Output()
	// Exit status 2 says that the objective was missed, which others check.
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 2) {
		return 0, fmt.Errorf("run measure: %w", err)
	}
	var document struct {
		PreStop struct {
			SleepSeconds int `json:"sleepSeconds"`
		} `json:"preStop"`
	}
	if err = json.Unmarshal(out, &document); err != nil {
		return 0, fmt.Errorf("read what measure printed: %w", err)
	}
	if document.PreStop.SleepSeconds == 0 {
		return 0, errors.New("measure recommends no preStop sleep")
	}
	return document.PreStop.SleepSeconds, nil
}
