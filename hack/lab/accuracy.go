package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/accuracy"
)

// newAccuracyCommand holds the operator's measurement against the observer and the audit log.
func newAccuracyCommand() *cobra.Command {
	o := accuracy.Options{Watcher: watcher}
	cmd := &cobra.Command{
		Use:   "accuracy",
		Short: "Hold the operator's measurement against the lab's observer and the API server's audit log",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Out, err = filepath.Abs(o.Out); err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			return accuracy.Run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Out, "out", "../../out/accuracy", "where to write the results")
	flags.IntVar(&o.Services, "services", accuracy.DefaultServices, "how many Services change in a burst, with one Pod each")
	flags.IntVar(&o.SteadyServices, "steady-services", accuracy.DefaultSteadyServices, "over how many Services the trickle goes")
	flags.IntVar(&o.PacedBursts, "paced-bursts", 2, "how many bursts of 100 Pods a second, at 300/325 50/50 and again at the default flags")
	flags.IntVar(&o.FullBursts, "full-bursts", 1, "how many bursts as fast as can be, at 300/325 50/50 and again at the default flags")
	flags.DurationVar(&o.Calm, "calm", 90*time.Second, "for how long only the trickle goes on before and after each burst")
	flags.BoolVar(&o.PressureOnly, "pressure-only", false, "print the CPU pressure of each window and compare nothing")
	cmd.AddCommand(newAccuracyWatchCommand())
	return cmd
}

// newAccuracyWatchCommand is a watching process of a run.
func newAccuracyWatchCommand() *cobra.Command {
	var o accuracy.WatchOptions
	cmd := &cobra.Command{
		Use:    "watch",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Commands, o.Ready = cmd.InOrStdin(), cmd.OutOrStdout()
			return accuracy.Watch(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&o.Role), "role", string(accuracy.RoleSubject), "subject or observer")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "how to reach the API server")
	flags.StringVar(&o.Out, "out", "", "where to write the recording")
	return cmd
}

// watcher runs this program again, as a watching process.
func watcher(ctx context.Context, o accuracy.WatchOptions) *exec.Cmd {
	return exec.CommandContext(ctx, os.Args[0], "accuracy", "watch",
		"--role="+string(o.Role), "--kubeconfig="+o.Kubeconfig, "--out="+o.Out)
}
