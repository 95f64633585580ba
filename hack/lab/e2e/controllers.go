package e2e

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"golang.org/x/sync/errgroup"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

// stalled is how long a kubelet stands still in the middle of a rollout.
const stalled = time.Minute

// twoControllers runs two controllers that both believe they lead through rollouts in which other things go wrong, too:
// never may two nodes be in flight, and the leader is the last. Every kube-controller-manager gives its Lease up when it
// ends; what the hand-over costs then is read from the rollout in which nothing goes wrong.
func (s *scene) twoControllers(ctx context.Context) (err error) {
	if err = s.hurry(ctx); err != nil {
		return err
	}
	if err = s.setGates(ctx); err != nil {
		return err
	}
	if err = s.controllerArgs(ctx, "--leader-elect=false"); err != nil {
		return err
	}
	if s.Attach { // Else the cluster goes with its last stage.
		defer func() { err = errors.Join(err, s.controllerArgs(context.WithoutCancel(ctx), "--leader-elect")) }()
	}
	s.result.TwoControllers = &TwoControllers{}
	s.observer.Mark(releasing)
	if err = s.oneRollout(ctx, "nothing else", func(context.Context, *kubeadm.Node) error { return nil }); err != nil {
		return err
	}
	if err = s.judgeReleasing(ctx); err != nil {
		return err
	}
	if err = s.oneRollout(ctx, "a kubelet stopped for a minute", func(ctx context.Context, n *kubeadm.Node) error {
		return s.stall(ctx, n, stalled)
	}); err != nil {
		return err
	}
	if err = s.oneRollout(ctx, "a node rebooted", func(ctx context.Context, n *kubeadm.Node) error { return n.Reboot(ctx) }); err != nil {
		return err
	}
	if all := s.result.TwoControllers; all.MostInFlight > 1 || all.LeaderNotLast > 0 {
		return fmt.Errorf("up to %d nodes in flight, the leader not last in %d rollouts", all.MostInFlight, all.LeaderNotLast)
	}
	return nil
}

// oneRollout begins a rollout, lets the fault happen to the node that comes next, and waits for the end.
func (s *scene) oneRollout(ctx context.Context, what string, fault func(context.Context, *kubeadm.Node) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("two controllers, and %s: %w", what, err)
		}
	}()
	s.sayf("two controllers, and %s", what)
	flags, err := s.nextFlags(ctx)
	if err != nil {
		return err
	}
	s.audit.reset()
	first, err := s.begin(ctx, flags)
	if err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return fault(inner, s.node(first.Name)) })
	group.Go(func() error {
		if againErr := s.again(inner, first.Name, flags); againErr != nil {
			return againErr
		}
		return s.allRun(inner, flags, 2*rolloutTimeout)
	})
	if err = group.Wait(); err != nil {
		return err
	}
	begun, most := s.audit.report()
	all := s.result.TwoControllers
	all.Rollouts++
	all.MostInFlight = max(all.MostInFlight, most)
	for i, b := range begun {
		if b.led && i < len(begun)-1 {
			all.LeaderNotLast++
		}
	}
	s.sayf("  begun in the order %v", nodesOf(begun))
	_, err = s.atRest(ctx, comeBack)
	return err
}

// again waits for the end of a rollout's first change. If the kubelet took no notice of it, no node has the flags and the
// rollout is over; it is begun once more, as controllers do that decide the same again while the incident lasts.
func (s *scene) again(ctx context.Context, first string, flags v1alpha1.Flags) error {
	var last v1alpha1.ChangeResult
	if err := s.await(ctx, rolloutTimeout, first+" to end its change", func(ctx context.Context) error {
		nodes, err := s.syncNodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Name == first {
				if inFlight(n) {
					return fmt.Errorf("it is in phase %s", n.Status.Phase)
				}
				last = n.Status.Last
			}
		}
		return nil
	}); err != nil || last.Outcome != v1alpha1.OutcomeRolledBack || last.Reason != v1alpha1.ReasonNotPickedUp {
		return err
	}
	s.sayf("  %s took no notice; begun once more", first)
	_, err := s.begin(ctx, flags)
	return err
}

// nextFlags are others than those that run.
func (s *scene) nextFlags(ctx context.Context) (v1alpha1.Flags, error) {
	nodes, err := s.atRest(ctx, comeBack)
	if err != nil {
		return v1alpha1.Flags{}, err
	}
	flags := nodes[0].Status.Running
	flags.KubeAPIBurst = flags.KubeAPIBurst%800 + 1 // Below what a picky node refuses.
	flags.KubeAPIBurst = max(flags.KubeAPIBurst, flags.KubeAPIQPS)
	if flags == nodes[0].Status.Running {
		flags.KubeAPIBurst++
	}
	return flags, nil
}

// controllerArgs replaces how the controllers elect a leader, and waits until they run that way.
func (s *scene) controllerArgs(ctx context.Context, elect string) error {
	patch := fmt.Sprintf(`[{"op":"replace","path":"/spec/template/spec/containers/0/args/1","value":%q}]`, elect)
	if _, err := s.kubectl(ctx, "-n", operator.Namespace, "patch", "deployment", operator.Controller, "--type=json", "-p", patch); err != nil {
		return err
	}
	return s.operatorReady(ctx)
}
