// Package stage is a control plane of the lab whose kube-controller-manager can be replaced in seconds by one with other
// flags, for benchmarks that compare many settings. What it does between two settings is not what an operator does: it
// frees the Lease, so that nobody waits for a hand-over.
package stage

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

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

// ManifestName is kube-controller-manager's file in ManifestDir, as kubeadm names it.
const ManifestName = "kube-controller-manager.yaml"

const (
	leaseNamespace = "kube-system"
	leaseName      = "kube-controller-manager"
	// workers is how many nodes the Pods are bound to.
	workers = 4
	poll    = 100 * time.Millisecond
)

// Stage is etcd, kube-apiserver, nodes and one kube-controller-manager. Its methods are for one goroutine.
type Stage struct {
	CP    *controlplane.ControlPlane
	Nodes *controlplane.Nodes
	Kube  kubernetes.Interface

	runner   *staticpod.Runner
	manifest []byte         // as kubeadm writes it: no flag of ours
	undo     []func() error // ends what was started
}

// New brings a control plane up, without a kube-controller-manager. Close ends it.
func New(ctx context.Context, o controlplane.Options) (_ *Stage, err error) {
	s := &Stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.CP, err = controlplane.Start(ctx, o); err != nil {
		return nil, err
	}
	s.Defer(s.CP.Stop)
	if s.Nodes, err = controlplane.StartNodes(ctx, s.CP.Admin, 1, workers); err != nil {
		return nil, err
	}
	s.Defer(func() error { s.Nodes.Stop(); return nil })
	if s.Kube, err = kubernetes.NewForConfig(s.CP.Admin); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	s.manifest, err = s.CP.KCMManifest()
	return s, err
}

// Flags are one setting with the same number of workers in both controllers.
func Flags(qps, burst, syncs int32) v1alpha1.Flags {
	return v1alpha1.Flags{
		KubeAPIQPS: qps, KubeAPIBurst: burst, ConcurrentEndpointSyncs: syncs, ConcurrentServiceEndpointSyncs: syncs,
	}
}

// SetupFlags make the endpoints of a new workload quickly; nothing is measured under them.
func SetupFlags() v1alpha1.Flags { return Flags(1000, 2000, 50) }

// Populate makes a workload, and returns when its endpoints are published.
func (s *Stage) Populate(ctx context.Context, o workload.Options) (*workload.Workload, error) {
	o.Nodes = s.Nodes.Workers
	w, err := workload.New(s.CP.Admin, o)
	if err != nil {
		return nil, err
	}
	if err = w.Setup(ctx); err != nil {
		return nil, err
	}
	return w, w.WaitConverged(ctx)
}

// ManifestDir is the directory that the static-Pod runner reads.
func (s *Stage) ManifestDir() string { return filepath.Join(s.CP.Dir, "manifests") }

// Node is the name of the control-plane node.
func (s *Stage) Node() string { return s.Nodes.ControlPlane[0] }

// Restarts is how many processes of kube-controller-manager there were since RunWith, besides its own.
func (s *Stage) Restarts() int { return len(s.runner.Processes()) - 1 }

// RunWith replaces the running kube-controller-manager by one with the given flags, and returns when it leads. Absent
// flags are not written: with none of them the manifest is as kubeadm writes it.
func (s *Stage) RunWith(ctx context.Context, f v1alpha1.Flags) (err error) {
	dir := s.ManifestDir()
	if s.runner == nil {
		if err = os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		s.Defer(func() error { s.runner.Stop(); return nil })
	} else if err = s.release(ctx); err != nil {
		return err
	}
	// No runner reads the directory now, so there is no need for a rename.
	if err = os.WriteFile(filepath.Join(dir, ManifestName), withFlags(s.manifest, f), 0o600); err != nil {
		return err
	}
	// The runner outlives whatever bounds the start; Close ends it.
	s.runner, err = staticpod.Start(context.WithoutCancel(ctx), staticpod.Options{
		ManifestDir: dir, LogDir: s.CP.Logs, NodeName: s.Node(), Client: s.Kube,
		Binaries: map[string]string{leaseName: s.CP.Binaries.ControllerManager},
	})
	if err != nil {
		return err
	}
	return WaitFor(ctx, "kube-controller-manager to lead", poll, func(ctx context.Context) (bool, error) {
		lease, err := s.Kube.CoordinationV1().Leases(leaseNamespace).Get(ctx, leaseName, metav1.GetOptions{})
		return err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "", nil
	})
}

// release ends the runner and frees the Lease that its process held, so that the next one leads at once.
func (s *Stage) release(ctx context.Context) error {
	s.runner.Stop()
	err := s.Kube.CoordinationV1().Leases(leaseNamespace).Delete(ctx, leaseName, metav1.DeleteOptions{})
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

// Defer has something ended by Close, before what was deferred earlier.
func (s *Stage) Defer(undo func() error) { s.undo = append(s.undo, undo) }

// Close ends everything, the last started first.
func (s *Stage) Close() error {
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		errs = append(errs, undo())
	}
	s.undo = nil
	return errors.Join(errs...)
}

// WaitFor polls until the condition holds; the context bounds it.
func WaitFor(ctx context.Context, what string, every time.Duration, condition wait.ConditionWithContextFunc) error {
	if err := wait.PollUntilContextCancel(ctx, every, true, condition); err != nil {
		return fmt.Errorf("wait for %s: %w", what, errors.Join(err, context.Cause(ctx)))
	}
	return nil
}
