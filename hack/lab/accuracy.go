package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/accuracy"
)

// newAccuracyCommand holds the operator's measurement against the observer and the audit log.
func newAccuracyCommand() *cobra.Command {
	var o accuracy.Options
	cmd := &cobra.Command{
		Use:   "accuracy",
		Short: "Hold the operator's measurement against the lab's observer and the API server's audit log",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Out, err = filepath.Abs(o.Out); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			o.Watcher = func(ctx context.Context, w accuracy.WatchOptions) *exec.Cmd {
				return exec.CommandContext(ctx, self, "accuracy", "watch",
					"--role="+string(w.Role), "--kubeconfig="+w.Kubeconfig, "--out="+w.Out)
			}
			result, err := accuracy.Run(cmd.Context(), o)
			if err != nil || o.PressureOnly {
				return err
			}
			if missed := result.Missed(); len(missed) > 0 {
				return fmt.Errorf("targets missed: %s", strings.Join(missed, "; "))
			}
			return nil
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
