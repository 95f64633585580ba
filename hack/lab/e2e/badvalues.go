package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/image"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

const (
	// rollbacks is how many are measured, and withoutAPI how many of them with the node's API server standing still.
	rollbacks  = 5
	withoutAPI = 2
	// mostRollback is what their median may be.
	mostRollback = 90 * time.Second
	// rollbackTimeout bounds one.
	rollbackTimeout = 4 * time.Minute
	// highestBurst is what the policy allows until it has become known what is refused.
	highestBurst = 1000
	// look is how often a manifest is read.
	look = 20 * time.Millisecond
	// refused is the first of the bursts that are rolled out and that the program e2e/picky refuses.
	refused = 901
	// apiserver is the name of its process.
	apiserver = "kube-apiserver"
	kcmBinary = "/usr/local/bin/kube-controller-manager"
)

// badValues gives one node a kube-controller-manager that exits with certain flags, and has the operator roll those out:
// that node must come back by itself, the others must not be touched, and the policy must say what happened.
func (s *scene) badValues(ctx context.Context) (err error) {
	if err = s.hurry(ctx); err != nil {
		return err
	}
	nodes, err := s.atRest(ctx, settleTimeout)
	if err != nil {
		return err
	}
	node := s.node(standbys(nodes)[0])
	flags := s.runningFlags(nodes, node.Name)
	undo, err := s.makePicky(ctx, node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo(context.WithoutCancel(ctx))) }()
	before, err := s.manifests()
	if err != nil {
		return err
	}
	for i := range rollbacks {
		bad := flags
		bad.KubeAPIBurst = int32(refused + i)
		during := func(string) error { return nil }
		if i >= rollbacks-withoutAPI {
			during = func(argument string) error { return s.withoutAPIServer(ctx, node, argument) }
		}
		took, rollErr := s.rollback(ctx, node, bad, during)
		if rollErr != nil {
			return fmt.Errorf("roll-back %d: %w", i+1, rollErr)
		}
		s.result.RollbackSeconds = append(s.result.RollbackSeconds, took.Seconds())
		s.sayf("roll-back %d of %d on %s took %s", i+1, rollbacks, node.Name, took.Round(100*time.Millisecond))
	}
	if err = s.manifestsAre(before); err != nil {
		return fmt.Errorf("after the roll-backs: %w", err)
	}
	if median := s.medianRollback(); median > mostRollback {
		s.missf("half of the roll-backs took %s or longer, want %s at most", median, mostRollback)
	}
	if err = s.policyTells(ctx, node.Name); err != nil {
		return err
	}
	s.maxBurst = refused - 1 // What the policy's message says to do; until then it is stalled.
	return s.applyPolicy(ctx, s.policySpec(v1alpha1.ModeEnforce))
}

// hurry lifts the agents' own limit of one change in ten minutes, with which what follows would take hours.
func (s *scene) hurry(ctx context.Context) error {
	const hurried = "--min-interval=1ms"
	set, err := s.kube.AppsV1().DaemonSets(operator.Namespace).Get(ctx, operator.Agent, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("hurry the agents: %w", err)
	}
	if slices.Contains(set.Spec.Template.Spec.Containers[0].Args, hurried) {
		return nil
	}
	const patch = `[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"` + hurried + `"}]`
	if _, err := s.kubectl(ctx, "-n", operator.Namespace, "patch", "daemonset", operator.Agent, "--type=json", "-p", patch); err != nil {
		return err
	}
	return s.operatorReady(ctx)
}

func (s *scene) medianRollback() time.Duration {
	all := slices.Sorted(slices.Values(s.result.RollbackSeconds))
	return time.Duration(all[len(all)/2] * float64(time.Second))
}

func (s *scene) runningFlags(nodes []v1alpha1.EndpointSyncNode, name string) v1alpha1.Flags {
	for _, n := range nodes {
		if n.Name == name {
			return n.Status.Running
		}
	}
	return v1alpha1.Flags{}
}

// makePicky replaces the node's image of kube-controller-manager, under the same reference, by one whose program exits
// when it is given a burst of 900 or more. The process that runs is not disturbed.
func (s *scene) makePicky(ctx context.Context, n *kubeadm.Node) (undo func(context.Context) error, err error) {
	program, err := kubeadm.Program(ctx, filepath.Join(s.cluster.Dir, "bin"), "e2e/picky")
	if err != nil {
		return nil, err
	}
	reference := "lab.local/kube-controller-manager:" + controlplane.KubernetesVersion
	spec := image.Spec{
		Reference: reference, Architecture: runtime.GOARCH, Uncompressed: true,
		Files: []image.File{
			{Path: kcmBinary, Source: program, Mode: 0o755},
			{Path: kcmBinary + ".real", Source: s.cluster.Binaries.ControllerManager, Mode: 0o755},
		},
		Entrypoint: []string{kcmBinary}, Env: []string{"PATH=/usr/local/bin"},
	}
	if err = imageOn(ctx, n, s.cluster.Dir, spec); err != nil {
		return nil, err
	}
	plain := spec
	plain.Files = []image.File{{Path: kcmBinary, Source: s.cluster.Binaries.ControllerManager, Mode: 0o755}}
	return func(ctx context.Context) error { return imageOn(ctx, n, s.cluster.Dir, plain) }, nil
}

// manifests are the contents of all nodes' manifests of kube-controller-manager.
func (s *scene) manifests() (map[string]string, error) {
	all := map[string]string{}
	for _, n := range s.cluster.Nodes {
		text, err := os.ReadFile(filepath.Join(n.Manifests(), manifestName))
		if err != nil {
			return nil, fmt.Errorf("read the manifest of %s: %w", n.Name, err)
		}
		all[n.Name] = string(text)
	}
	return all, nil
}

// manifestsAre checks that no node's manifest has changed.
func (s *scene) manifestsAre(before map[string]string) error {
	now, err := s.manifests()
	if err != nil {
		return err
	}
	for name, text := range before {
		if now[name] != text {
			return fmt.Errorf("kube-controller-manager's manifest on %s is not what it was", name)
		}
	}
	return nil
}

// rollback rolls bad flags out to a node and returns how long it took from the new manifest until the old one ran healthy.
// Something may happen while the manifest has the bad argument.
func (s *scene) rollback(ctx context.Context, n *kubeadm.Node, bad v1alpha1.Flags, during func(argument string) error) (took time.Duration, err error) {
	if _, err = s.atRest(ctx, comeBack); err != nil {
		return 0, err
	}
	if _, err = s.beginOn(ctx, n.Name, bad); err != nil {
		return 0, err
	}
	marker := fmt.Sprintf("--kube-api-burst=%d", bad.KubeAPIBurst)
	swapped, err := s.manifestIs(ctx, n, "one with "+marker, func(text string) bool { return strings.Contains(text, marker) })
	if err != nil {
		return 0, err
	}
	if err = during(marker); err != nil {
		return 0, err
	}
	err = s.await(ctx, rollbackTimeout, "the roll-back of "+bad.String(), func(ctx context.Context) error {
		nodes, listErr := s.syncNodes(ctx)
		if listErr != nil {
			return listErr
		}
		for _, one := range nodes {
			last := one.Status.Last
			if one.Name == n.Name && (last.Flags != bad || inFlight(one)) {
				return fmt.Errorf("phase %s, last %+v", one.Status.Phase, last)
			}
			if one.Name == n.Name && last.Outcome != v1alpha1.OutcomeRolledBack {
				return fmt.Errorf("it ended as %s: %s: %s", last.Outcome, last.Reason, last.Message)
			}
		}
		return nil
	})
	return s.clock.Since(swapped), err
}

// withoutAPIServer stops the node's API server until a bad argument is gone from the manifest. Until it goes on, the old
// process cannot be healthy: kube-controller-manager does not serve before its own node's API server has answered it.
func (s *scene) withoutAPIServer(ctx context.Context, n *kubeadm.Node, argument string) (err error) {
	defer func() { err = errors.Join(err, n.SignalAll(apiserver, syscall.SIGCONT)) }()
	if err = n.SignalAll(apiserver, syscall.SIGSTOP); err != nil {
		return err
	}
	_, err = s.manifestIs(ctx, n, "one without "+argument, func(text string) bool { return !strings.Contains(text, argument) })
	return err
}

// manifestIs returns when the node's manifest was first seen to be as wanted.
func (s *scene) manifestIs(ctx context.Context, n *kubeadm.Node, what string, wanted func(text string) bool) (at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for ctx.Err() == nil {
		text, err := os.ReadFile(filepath.Join(n.Manifests(), manifestName))
		if err == nil && wanted(string(text)) {
			return s.clock.Now(), nil
		}
		if err = s.sleep(ctx, look); err != nil {
			break
		}
	}
	return at, fmt.Errorf("the manifest of %s never was %s", n.Name, what)
}

// policyTells checks that the policy says which node, why, and what to do.
func (s *scene) policyTells(ctx context.Context, node string) error {
	return s.await(ctx, settleTimeout, "the policy to tell of the roll-back", func(ctx context.Context) error {
		p, err := s.policy(ctx)
		if err != nil {
			return err
		}
		c := condition(p, v1alpha1.ConditionStalled)
		for _, want := range []string{"node " + node, "--kube-api-burst=", v1alpha1.ReasonNeverStarted, "spec.bounds"} {
			if c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonRolledBack || !strings.Contains(c.Message, want) {
				return fmt.Errorf("%s %s: %s; want it stalled, with %q", c.Status, c.Reason, c.Message, want)
			}
		}
		return nil
	})
}
