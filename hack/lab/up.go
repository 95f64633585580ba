package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

// upOptions are the flags of "lab up".
type upOptions struct {
	dir           string
	noFsync       bool
	services      int
	incidentEvery time.Duration
}

// workerNodes is how many nodes the workload's Pods are spread over.
const workerNodes = 4

func newUpCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a control plane until interrupted and print its kubeconfig's path",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return up(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "directory for everything, empty or absent, kept (default: a temporary one, removed at the end)")
	cmd.Flags().BoolVar(&o.noFsync, "unsafe-no-fsync", false, "let etcd skip fsync")
	cmd.Flags().IntVar(&o.services, "services", 0, "Services with one Pod each to create")
	cmd.Flags().DurationVar(&o.incidentEvery, "incident-every", 0, "change the readiness of all Pods this often (0: never)")
	return cmd
}

// up runs a control plane, its nodes, kube-controller-manager as a static Pod and, if asked for, the workload.
func up(ctx context.Context, o upOptions, out, progress io.Writer) (err error) {
	cp, err := controlplane.Start(ctx, controlplane.Options{Dir: o.dir, UnsafeNoFsync: o.noFsync, Progress: progress})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()
	nodes, err := controlplane.StartNodes(ctx, cp.Admin, 1, workerNodes)
	if err != nil {
		return err
	}
	defer nodes.Stop()
	manifests := filepath.Join(cp.Dir, "manifests")
	runner, err := runController(ctx, cp, nodes.ControlPlane[0], manifests)
	if err != nil {
		return err
	}
	defer runner.Stop()
	_, err = fmt.Fprintf(out, "export KUBECONFIG=%s\n# static Pods: %s\n# logs: %s\n# kube-controller-manager: %s\n",
		cp.AdminKubeconfig, manifests, cp.Logs, cp.KCMURL)
	if err != nil {
		return err
	}
	if o.services > 0 {
		if err = incidents(ctx, cp, nodes.Workers, o, progress); err != nil && ctx.Err() == nil {
			return err
		}
	}
	_, _ = fmt.Fprintln(progress, "running; interrupt to end")
	<-ctx.Done()
	return nil
}

// runController runs the control plane's kube-controller-manager from a manifest in the given directory.
func runController(ctx context.Context, cp *controlplane.ControlPlane, node, manifests string) (*staticpod.Runner, error) {
	manifest, err := cp.KCMManifest()
	if err != nil {
		return nil, err
	}
	if err = os.MkdirAll(manifests, 0o700); err != nil {
		return nil, fmt.Errorf("make manifests directory: %w", err)
	}
	if err = os.WriteFile(filepath.Join(manifests, "kube-controller-manager.yaml"), manifest, 0o600); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	client, err := kubernetes.NewForConfig(cp.Admin)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return staticpod.Start(ctx, staticpod.Options{
		ManifestDir: manifests,
		LogDir:      cp.Logs,
		NodeName:    node,
		Binaries:    map[string]string{"kube-controller-manager": cp.Binaries.ControllerManager},
		Client:      client,
	})
}

// incidents sets the workload up and then makes one incident after another.
func incidents(ctx context.Context, cp *controlplane.ControlPlane, nodes []string, o upOptions, progress io.Writer) error {
	w, err := workload.New(cp.Admin, workload.Options{Services: o.services, Nodes: nodes, Progress: progress})
	if err != nil {
		return err
	}
	if err = w.Setup(ctx); err != nil {
		return err
	}
	for o.incidentEvery > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-clock.RealClock{}.After(o.incidentEvery):
		}
		flip, flipErr := w.Flip(ctx)
		if flipErr != nil {
			return flipErr
		}
		_, _ = fmt.Fprintf(progress, "incident: %d Pods changed in %s\n", flip.Pods, flip.Duration.Round(time.Millisecond))
	}
	return nil
}
