package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
)

func newBuildCommand() *cobra.Command {
	node := false
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build etcd, kube-apiserver and kube-controller-manager into the cache, once, and print where they are",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var binaries controlplane.NodeBinaries
			if node {
				binaries, err = controlplane.EnsureNodeBinaries(cmd.Context(), cmd.ErrOrStderr())
			} else {
				binaries.Binaries, err = controlplane.EnsureBinaries(cmd.Context(), cmd.ErrOrStderr())
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), filepath.Dir(binaries.APIServer))
			return err
		},
	}
	cmd.Flags().BoolVar(&node, "node", false, "also build what a kubeadm node runs: kubelet, kubeadm, kube-scheduler, kube-proxy, kubectl")
	return cmd
}
