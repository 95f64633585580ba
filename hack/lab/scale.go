package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/scale"
)

// newScaleCommand measures what the controller costs in large clusters.
func newScaleCommand() *cobra.Command {
	var o scale.Options
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Measure the controller's memory and processor time with up to 150,000 synthetic Pods, beside other ways to watch",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if len(o.Pods) == 0 {
				return errors.New("name at least one number of --pods")
			}
			for _, path := range []*string{&o.Operator, &o.Out, &o.Root} {
				if *path, err = filepath.Abs(*path); err != nil {
					return err
				}
			}
			if o.Lab, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			o.Progress = cmd.ErrOrStderr()
			return scale.Run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Operator, "operator", "../../bin/endpoint-sync-operator", "the operator's binary")
	flags.StringVar(&o.Root, "root", "../..", "the operator's module, for the benchmark of its tracker")
	flags.StringVar(&o.Out, "out", "../../out/bench-scale", "where to write the results")
	flags.IntSliceVar(&o.Pods, "pods", []int{10_000, 50_000, 150_000}, "sizes of cluster, 15 Pods for each Service")
	flags.DurationVar(&o.Steady, "steady", time.Minute, "how long to count requests while nothing changes")
	flags.DurationVar(&o.Settle, "settle", 10*time.Second, "how long to let garbage collection rest before a rival is measured")
	flags.DurationVar(&o.Churn, "churn", 10*time.Minute, "how long Pods change in the last cluster (30s at most in the others)")
	flags.Float64Var(&o.How.Rate, "rate", 1000, "changes of Pods per second")
	flags.DurationVar(&o.How.Lag, "lag", 50*time.Millisecond, "how long after a change the slices and Endpoints follow")
	cmd.AddCommand(newServeCommand(), newHoldCommand())
	return cmd
}

// newServeCommand is the server's own process.
func newServeCommand() *cobra.Command {
	var kubeconfig string
	var pods int
	cmd := &cobra.Command{
		Use:    "serve",
		Short:  "Serve a synthetic cluster on loopback until interrupted",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			identity, err := scale.NewIdentity()
			if err != nil {
				return err
			}
			listener, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			server := scale.NewServer(scale.ShapeOf(pods))
			if err = identity.WriteKubeconfig(kubeconfig, listener.Addr().String()); err != nil {
				return errors.Join(err, listener.Close())
			}
			return server.Serve(cmd.Context(), listener, identity)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "where to write how to reach the server")
	cmd.Flags().IntVar(&pods, "pods", 1000, "how many Pods there are")
	return cmd
}

// newHoldCommand is a rival's own process.
func newHoldCommand() *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:    "hold plain|default-cache",
		Short:  "Follow a cluster as most tools do until interrupted",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("read kubeconfig: %w", err)
			}
			return scale.Rival(args[0]).Hold(cmd.Context(), config, func() error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "synced")
				return err
			})
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the server")
	return cmd
}
