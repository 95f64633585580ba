package accuracy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	manifestName   = "kube-controller-manager.yaml"
	leaseNamespace = "kube-system"
	leaseName      = "kube-controller-manager"
	// burstNamespace is where many Services change at once, and steadyNamespace where a few do all the time.
	burstNamespace, steadyNamespace = "burst", "steady"
	workers                         = 4
	poll                            = 200 * time.Millisecond
)

// setupFlags make the endpoints of a new workload quickly; nothing is measured under them.
func setupFlags() v1alpha1.Flags { return flags(1000, 2000, 50) }

func flags(qps, burst, syncs int32) v1alpha1.Flags {
	return v1alpha1.Flags{
		KubeAPIQPS: qps, KubeAPIBurst: burst, ConcurrentEndpointSyncs: syncs, ConcurrentServiceEndpointSyncs: syncs,
	}
}

// stage is a control plane that writes an audit log, its kube-controller-manager, and the workload.
type stage struct {
	cp       *controlplane.ControlPlane
	nodes    *controlplane.Nodes
	kube     kubernetes.Interface
	runner   *staticpod.Runner
	manifest []byte
	bursts   *crowd
	trickle  *steady
	undo     []func() error // ends what was started
}

// newStage brings all of it up, with every endpoint in place and kube-controller-manager at the set-up's flags.
func newStage(ctx context.Context, o Options) (_ *stage, err error) {
	s := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.cp, err = controlplane.Start(ctx, controlplane.Options{Progress: o.Progress, AuditPolicy: AuditPolicy()}); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, s.cp.Stop)
	if s.nodes, err = controlplane.StartNodes(ctx, s.cp.Admin, 1, workers); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() error { s.nodes.Stop(); return nil })
	if s.kube, err = kubernetes.NewForConfig(s.cp.Admin); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if s.manifest, err = s.cp.KCMManifest(); err != nil {
		return nil, err
	}
	if err = s.runWith(ctx, setupFlags()); err != nil {
		return nil, err
	}
	s.bursts, err = s.populate(ctx, burstNamespace, o.Services)
	if err != nil {
		return nil, err
	}
	calm, err := s.populate(ctx, steadyNamespace, o.SteadyServices)
	s.trickle = &steady{crowd: calm, clock: clock.RealClock{}}
	return s, err
}

// populate makes Services with one Pod each, and returns when their endpoints are published.
func (s *stage) populate(ctx context.Context, namespace string, services int) (*crowd, error) {
	w, err := workload.New(s.cp.Admin, workload.Options{Namespace: namespace, Services: services, Nodes: s.nodes.Workers})
	if err != nil {
		return nil, err
	}
	if err = w.Setup(ctx); err != nil {
		return nil, err
	}
	if err = w.WaitConverged(ctx); err != nil {
		return nil, err
	}
	return newCrowd(ctx, s.cp.Admin, namespace)
}

// runWith replaces the running kube-controller-manager by one with the given flags, and returns when it leads.
func (s *stage) runWith(ctx context.Context, f v1alpha1.Flags) (err error) {
	dir := filepath.Join(s.cp.Dir, "manifests")
	if s.runner == nil {
		if err = os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		s.undo = append(s.undo, func() error { s.runner.Stop(); return nil })
	} else if err = s.release(ctx); err != nil {
		return err
	}
	// No runner reads the directory now, so there is no need for a rename.
	if err = os.WriteFile(filepath.Join(dir, manifestName), withFlags(s.manifest, f), 0o600); err != nil {
		return err
	}
	s.runner, err = staticpod.Start(ctx, staticpod.Options{
		ManifestDir: dir, LogDir: s.cp.Logs, NodeName: s.nodes.ControlPlane[0], Client: s.kube,
		Binaries: map[string]string{leaseName: s.cp.Binaries.ControllerManager},
	})
	if err != nil {
		return err
	}
	return waitFor(ctx, "kube-controller-manager to lead", poll, func(ctx context.Context) (bool, error) {
		lease, err := s.kube.CoordinationV1().Leases(leaseNamespace).Get(ctx, leaseName, metav1.GetOptions{})
		return err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "", nil
	})
}

// release ends the runner and frees the Lease that its process held, so that the next one leads at once.
func (s *stage) release(ctx context.Context) error {
	s.runner.Stop()
	err := s.kube.CoordinationV1().Leases(leaseNamespace).Delete(ctx, leaseName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("free the Lease of kube-controller-manager: %w", err)
	}
	return nil
}

// withFlags puts flags before the first argument of the lab's own manifest.
func withFlags(manifest []byte, f v1alpha1.Flags) []byte {
	const anchor = "    - kube-controller-manager\n"
	var args bytes.Buffer
	args.WriteString(anchor)
	for _, v := range f.List() {
		if v.Value > 0 {
			fmt.Fprintf(&args, "    - --%s=%d\n", v.Name, v.Value)
		}
	}
	return bytes.Replace(manifest, []byte(anchor), args.Bytes(), 1)
}

// close ends everything, the last started first.
func (s *stage) close() error {
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

// waitFor polls until the condition holds; the context bounds it.
func waitFor(ctx context.Context, what string, every time.Duration, condition wait.ConditionWithContextFunc) error {
	if err := wait.PollUntilContextCancel(ctx, every, true, condition); err != nil {
		return fmt.Errorf("wait for %s: %w", what, errors.Join(err, context.Cause(ctx)))
	}
	return nil
}
