package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/intruder"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
)

const (
	// leastForbidden is how many different calls a raid has to try.
	leastForbidden = 400
	// raidQPS makes a raid last ten seconds or so.
	raidQPS = 300
)

// stolenToken takes the token of a running agent off its node and tries everything with it.
func (s *scene) stolenToken(ctx context.Context) error {
	node, others := s.cluster.Nodes[0], []string{v1alpha1.IsolationProbe}
	for _, n := range s.cluster.Nodes[1:] {
		others = append(others, n.Name)
	}
	token, err := agentToken(ctx, node)
	if err != nil {
		return err
	}
	grants, err := intruder.ReadGrants(filepath.Join(s.Root, "config", "rbac", "agent.yaml"))
	if err != nil {
		return err
	}
	got, err := intruder.Raid(ctx, intruder.Options{
		Admin: s.cluster.Admin, Token: token, Node: node.Name, Others: others, MayReport: true, Grants: grants, QPS: raidQPS,
	})
	if err != nil {
		return err
	}
	s.result.ForbiddenCalls = callsOf(got)
	s.sayf("a stolen token: %d calls tried, %d allowed", got.Tried, len(got.Allowed))
	if got.Tried < leastForbidden || len(got.Allowed)+len(got.Unexpected) > 0 {
		return fmt.Errorf("%d calls tried, want %d or more; allowed %v, unexpected answers %v", got.Tried, leastForbidden, got.Allowed, got.Unexpected)
	}
	return nil
}

// agentToken reads the token that the kubelet projected into the agent's Pod, where only the node itself sees it.
func agentToken(ctx context.Context, n *kubeadm.Node) (string, error) {
	const place = "*/volumes/kubernetes.io~projected/credentials/token"
	out, err := n.Output(ctx, "find", "/var/lib/kubelet/pods", "-path", place)
	if err != nil {
		return "", err
	}
	found := strings.Fields(string(out))
	if len(found) != 1 {
		return "", fmt.Errorf("%d files on %s match %s, want the agent's alone", len(found), n.Name, place)
	}
	token, err := n.Output(ctx, "cat", found[0])
	return strings.TrimSpace(string(token)), err
}
