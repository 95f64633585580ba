package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
)

const (
	// reapplyTimeout bounds how long a node that kubeadm has rewritten goes without our flags: the time for the dust to
	// settle, a change, and a pass on either side.
	reapplyTimeout = 5 * time.Minute
	// persistTimeout bounds how long kubeadm-config takes to be in step.
	persistTimeout = 2 * time.Minute
)

// kubeadmRewrites has the real kubeadm write manifests anew. Without persistence that takes the flags away, which is
// seen as drift, waited out and mended; with it kubeadm's own configuration has them, and nothing restarts.
func (s *scene) kubeadmRewrites(ctx context.Context) error {
	if err := s.hurry(ctx); err != nil {
		return err
	}
	if err := s.rewrittenWithout(ctx); err != nil {
		return fmt.Errorf("persistence None: %w", err)
	}
	if err := s.rewrittenWith(ctx); err != nil {
		return fmt.Errorf("persistence KubeadmConfig: %w", err)
	}
	return nil
}

func (s *scene) rewrittenWithout(ctx context.Context) error {
	nodes, err := s.atRest(ctx, comeBack)
	if err != nil {
		return err
	}
	n, flags := s.node(standbys(nodes)[0]), nodes[0].Status.Running
	s.sayf("kubeadm upgrade node on %s", n.Name)
	if err = s.upgradeNode(ctx, n); err != nil {
		return err
	}
	rewritten := s.clock.Now()
	if now, readErr := s.manifests(); readErr != nil || strings.Contains(now[n.Name], "--kube-api-qps=") {
		return errors.Join(readErr, fmt.Errorf("kubeadm has left the flags in the manifest of %s", n.Name))
	}
	if err = s.allRun(ctx, flags, reapplyTimeout); err != nil {
		return err
	}
	s.result.ReapplySeconds = s.clock.Since(rewritten).Seconds()
	s.sayf("%s runs our flags again %.0f s after kubeadm took them away", n.Name, s.result.ReapplySeconds)
	return nil
}

func (s *scene) rewrittenWith(ctx context.Context) error {
	if _, err := s.kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(s.Root, "config", "kubeadm-config")); err != nil {
		return err
	}
	spec := s.policySpec(v1alpha1.ModeEnforce)
	spec.Persistence = v1alpha1.PersistenceKubeadmConfig
	if err := s.applyPolicy(ctx, spec); err != nil {
		return err
	}
	nodes, err := s.atRest(ctx, comeBack)
	if err != nil {
		return err
	}
	flags := nodes[0].Status.Running
	if err = s.await(ctx, persistTimeout, "kubeadm-config to have the flags", func(ctx context.Context) error {
		return persisted(ctx, s.kube, flags)
	}); err != nil {
		return err
	}
	before, err := s.manifests()
	if err != nil {
		return err
	}
	for i, n := range s.cluster.Nodes {
		s.sayf("kubeadm upgrade on %s", n.Name)
		if i == 0 {
			err = s.upgradeApply(ctx, n)
		} else {
			err = s.upgradeNode(ctx, n)
		}
		if err != nil {
			return err
		}
	}
	if _, err = s.atRest(ctx, comeBack); err != nil {
		return err
	}
	if err = s.manifestsAre(before); err != nil { // The kubelet restarts nothing whose manifest is what it was.
		return fmt.Errorf("kubeadm-config has the flags, and yet: %w", err)
	}
	return s.allRun(ctx, flags, settleTimeout)
}

func (s *scene) upgradeNode(ctx context.Context, n *kubeadm.Node) error {
	_, err := n.Output(ctx, s.cluster.Binaries.Kubeadm, "upgrade", "node", "--etcd-upgrade=false", "--patches", kubeadm.PatchDir,
		"--ignore-preflight-errors=all")
	return err
}

func (s *scene) upgradeApply(ctx context.Context, n *kubeadm.Node) error {
	_, err := n.Output(ctx, s.cluster.Binaries.Kubeadm, "upgrade", "apply", controlplane.KubernetesVersion, "--yes", "--force",
		"--etcd-upgrade=false", "--patches", kubeadm.PatchDir, "--ignore-preflight-errors=all", "--skip-phases=addon")
	return err
}

// persisted says what kubeadm-config lacks.
func persisted(ctx context.Context, kube kubernetes.Interface, flags v1alpha1.Flags) error {
	config, err := kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "kubeadm-config", metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, f := range flags.List() {
		if !strings.Contains(config.Data["ClusterConfiguration"], "name: "+f.Name+"\n") {
			return fmt.Errorf("no %s in kubeadm-config", f.Name)
		}
	}
	return nil
}
