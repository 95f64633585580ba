package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
)

// releaseGate lets a process that ends give its Lease up.
const releaseGate = "--feature-gates=ControllerManagerReleaseLeaderElectionLockOnExit=true"

// releasing is the observer's window for a rollout of processes that have the gate.
const releasing = "releasing"

// setGates sets the gate on every node by hand, as a platform team would: the operator never does.
func (s *scene) setGates(ctx context.Context) error {
	for _, n := range s.cluster.Nodes {
		if err := s.setGate(ctx, n); err != nil {
			return fmt.Errorf("set the gate on %s: %w", n.Name, err)
		}
	}
	_, err := s.atRest(ctx, comeBack) // The last process without the gate has left its Lease to run out.
	return err
}

// judgeReleasing reads what the hand-over of a rollout has cost where the Lease is given up.
func (s *scene) judgeReleasing(ctx context.Context) error {
	handOver, err := s.handedOver(ctx, releasing)
	if err != nil {
		return err
	}
	s.result.HandoversReleasing, s.result.LeaderlessSecondsReleasing = handOver.changes, handOver.longest.Seconds()
	s.sayf("with the Lease released on exit: %d hand-over, %s without a leader", handOver.changes, handOver.longest.Round(10*time.Millisecond))
	if handOver.changes != 1 || handOver.longest > mostLeaderlessReleasing {
		s.missf("with the Lease released on exit %d hand-overs, %s without a leader: want 1 within %s", handOver.changes, handOver.longest, mostLeaderlessReleasing)
	}
	return nil
}

// setGate adds the gate to a node's manifest, as an administrator does, and waits until the process runs with it.
func (s *scene) setGate(ctx context.Context, n *kubeadm.Node) error {
	path := filepath.Join(n.Manifests(), manifestName)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const first = "    - kube-controller-manager\n"
	if strings.Contains(string(text), first+"    - "+releaseGate) {
		return nil // An earlier run on the same cluster has set it.
	}
	edited := strings.Replace(string(text), first, first+"    - "+releaseGate+"\n", 1)
	temp := filepath.Join(n.Manifests(), ".e2e-"+manifestName)
	if err = os.WriteFile(temp, []byte(edited), 0o600); err != nil {
		return err
	}
	if err = os.Rename(temp, path); err != nil {
		return err
	}
	return s.await(ctx, comeBack, n.Name+" to run with the gate", func(ctx context.Context) error {
		nodes, err := s.syncNodes(ctx)
		if err != nil {
			return err
		}
		for _, one := range nodes {
			gate := one.Status.Settings.ReleaseOnExit
			if one.Name == n.Name && (gate == nil || !*gate || one.Status.Leader == nil || one.Status.Healthy == nil || !*one.Status.Healthy) {
				return fmt.Errorf("it reports %v", one.Status.Settings)
			}
		}
		return nil
	})
}
