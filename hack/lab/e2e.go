package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/e2e"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine"
)

func newE2ECommand() *cobra.Command {
	o := e2e.Options{}
	cmd := &cobra.Command{
		Use:   "e2e",
		Short: "Prove the operator on a highly available kubeadm cluster: make it, install, break things, measure, remove (root, Linux)",
		Long: "Stages, in their order: " + strings.Join(e2e.Stages(), ", ") + ".\n\n" +
			"With --attach it uses the cluster that e2e-up left running, and leaves it running.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = cmd.ErrOrStderr()
			return e2e.Run(cmd.Context(), o)
		},
	}
	dirFlag(cmd, &o.Dir)
	flags := cmd.Flags()
	flags.StringVar(&o.Root, "root", "../..", "the operator's source tree")
	flags.StringVar(&o.Operator, "operator", "../../bin/"+operatorName, "the operator's binary")
	flags.StringVar(&o.Image, "image", "../../bin/"+operatorName+"-linux-"+runtime.GOARCH+".tar", "the operator's image, as \"lab image\" makes it")
	flags.StringVar(&o.Out, "out", "../../out/e2e", "directory for the results")
	flags.BoolVar(&o.Attach, "attach", false, "use the cluster of e2e-up")
	flags.BoolVar(&o.ReportMissed, "report-missed", false, "report figures that are not as wanted, and fail for broken rules only")
	flags.StringSliceVar(&o.Only, "only", nil, "run these stages only")
	return cmd
}

func newE2EUpCommand() *cobra.Command {
	var o kubeadm.Options
	cmd := &cobra.Command{
		Use:   "e2e-up",
		Short: "Make a highly available kubeadm cluster on this host (root, Linux) and leave it running",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = cmd.ErrOrStderr()
			if err := machine.InstallPackages(cmd.Context(), o.Progress); err != nil {
				return err
			}
			c, err := kubeadm.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			return describe(cmd.OutOrStdout(), c)
		},
	}
	dirFlag(cmd, &o.Dir)
	cmd.Flags().IntVar(&o.Nodes, "nodes", 0, "control-plane nodes (default 3)")
	return cmd
}

func newE2EDownCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "e2e-down",
		Short: "End the cluster of e2e-up, and remove all that it left",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return kubeadm.Down(cmd.Context(), dir)
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", kubeadm.DefaultDir(), "directory that holds everything of the cluster")
}

// describe says how to go on.
func describe(out io.Writer, c *kubeadm.Cluster) error {
	_, err := fmt.Fprintf(out, "export KUBECONFIG=%s\n# kubectl: %s\n", c.AdminKubeconfig, c.Binaries.Kubectl)
	for _, n := range c.Nodes {
		if err == nil {
			_, err = fmt.Fprintf(out, "# %s %s: %s\n#   static Pods %s, logs %s\n",
				n.Name, n.Address, n.EnterCommand(), n.Manifests(), n.Log("*"))
		}
	}
	return err
}
