package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// rolloutTimeout bounds a rollout over all nodes: about 25 s each, and the hand-over.
	rolloutTimeout = 6 * time.Minute
	// mostLeaderless is how long nobody may lead: an unreleased Lease of 15 s, the retry period and a busy machine.
	mostLeaderless = 20 * time.Second
	// mostLeaderlessReleasing is the same where a process that ends gives its Lease up.
	mostLeaderlessReleasing = 3 * time.Second
)

// rollOut lets the operator act on an incident, and checks that it changed each node once, the leader last, at the price
// of one hand-over.
func (s *scene) rollOut(ctx context.Context) error {
	s.audit.reset()
	if err := s.applyPolicy(ctx, s.policySpec(v1alpha1.ModeEnforce)); err != nil {
		return err
	}
	s.observer.Mark("rollout")
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.flip(inner); err != nil {
			return err
		}
		return s.work.WaitConverged(inner)
	})
	group.Go(func() error { return s.committed(inner, rolloutTimeout) })
	if err := group.Wait(); err != nil {
		return err
	}
	handOver, err := s.handedOver(ctx, "rollout")
	if err != nil {
		return err
	}
	s.result.Order, s.result.Handovers, s.result.LeaderlessSeconds = handOver.order, handOver.changes, handOver.longest.Seconds()
	if handOver.changes != 1 || handOver.longest > mostLeaderless {
		s.missf("%d hand-overs, %s without a leader: want 1 within %s", handOver.changes, handOver.longest, mostLeaderless)
	}
	p, err := s.policy(ctx)
	if err != nil {
		return err
	}
	entry := p.Status.History[0]
	s.result.PredictedLag = string(entry.PredictedLag)
	s.sayf("rolled out %s for %s, predicted %s, over %v; %s without a leader (the operator says %s)", entry.To, entry.Bottleneck,
		entry.PredictedLag, handOver.order, handOver.longest.Round(100*time.Millisecond), entry.HandOver)
	return nil
}

// committed waits until the policy's newest change has ended well on all nodes.
func (s *scene) committed(ctx context.Context, within time.Duration) error {
	return s.await(ctx, within, "the rollout to be committed on all nodes", func(ctx context.Context) error {
		p, err := s.policy(ctx)
		if err != nil {
			return err
		}
		if len(p.Status.History) == 0 || p.Status.History[0].Outcome == "" {
			c := condition(p, v1alpha1.ConditionReady)
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		if entry := p.Status.History[0]; entry.Outcome != v1alpha1.OutcomeCommitted {
			return fmt.Errorf("revision %d: %s: %s: %s", entry.Revision, entry.Outcome, entry.Reason, entry.Message)
		}
		return nil
	})
}

// handingOver is what a rollout cost.
type handingOver struct {
	order   []string
	changes int
	longest time.Duration
}

// handedOver reads from the Lease's history and the audit what a rollout has cost, and checks its order.
func (s *scene) handedOver(ctx context.Context, window string) (h handingOver, err error) {
	begun, most := s.audit.report()
	if h.order, err = order(begun); err != nil {
		return h, err
	}
	if most > 1 || len(h.order) != len(s.cluster.Nodes) {
		return h, fmt.Errorf("up to %d nodes in flight, begun %v: want 1 and all nodes", most, h.order)
	}
	seen, err := s.observer.Result(window)
	if err != nil {
		return h, err
	}
	h.changes, h.longest = seen.Leadership.HolderChanges, seen.Leadership.Handover
	_, err = s.atRest(ctx, settleTimeout)
	return h, err
}

// begin tells the first standby what a controller would, as the first node of a rollout; the controllers go on with it on
// the other nodes, without an incident that would have to be decided on.
func (s *scene) begin(ctx context.Context, flags v1alpha1.Flags) (v1alpha1.EndpointSyncNode, error) {
	nodes, err := s.atRest(ctx, comeBack)
	if err != nil {
		return v1alpha1.EndpointSyncNode{}, err
	}
	return s.beginOn(ctx, standbys(nodes)[0], flags)
}

// beginOn is begin on a given node.
func (s *scene) beginOn(ctx context.Context, name string, flags v1alpha1.Flags) (told v1alpha1.EndpointSyncNode, err error) {
	p, err := s.policy(ctx)
	if err != nil {
		return told, err
	}
	nodes, err := s.syncNodes(ctx)
	if err != nil {
		return told, err
	}
	var next int64
	for _, n := range nodes {
		next = max(next, *n.Spec.Revision, n.Status.ObservedRevision)
		if n.Name == name {
			told = n
		}
	}
	return s.instruct(ctx, told, p, v1alpha1.EndpointSyncNodeSpec{Revision: new(next + 1), Flags: flags})
}

// instruct writes a node's spec on behalf of a policy.
func (s *scene) instruct(
	ctx context.Context, n v1alpha1.EndpointSyncNode, p v1alpha1.EndpointSyncPolicy, told v1alpha1.EndpointSyncNodeSpec,
) (v1alpha1.EndpointSyncNode, error) {
	before := n.DeepCopy()
	told.Action, told.PolicyName, told.PolicyGeneration = v1alpha1.ActionApply, p.Name, p.Generation
	told.DeletionPolicy, told.HealthTimeout, told.MinReady = v1alpha1.DeletionRetain, p.Spec.Rollout.HealthTimeout, p.Spec.Rollout.MinReady
	n.Spec = told
	if err := s.objects.Patch(ctx, &n, client.MergeFrom(before)); err != nil {
		return n, fmt.Errorf("instruct node %s: %w", n.Name, err)
	}
	return n, nil
}

// allRun waits until every node runs the flags and is at rest.
func (s *scene) allRun(ctx context.Context, flags v1alpha1.Flags, within time.Duration) error {
	return s.await(ctx, within, "all nodes to run "+flags.String(), func(ctx context.Context) error {
		nodes, err := s.syncNodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if !flags.Within(n.Status.Running) || inFlight(n) {
				return fmt.Errorf("node %s runs %s, phase %s, last %s %s %s", n.Name, n.Status.Running, n.Status.Phase,
					n.Status.Last.Outcome, n.Status.Last.Reason, n.Status.Last.Message)
			}
		}
		return nil
	})
}
