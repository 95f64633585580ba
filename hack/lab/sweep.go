package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/sweep"
)

// newSweepCommand holds the operator's choice against a sweep over settings.
func newSweepCommand() *cobra.Command {
	var o sweep.Options
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Hold what the operator chooses against the cheapest setting of a grid that meets the objective",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for _, path := range []*string{&o.Operator, &o.Out, &o.Config} {
				if *path, err = filepath.Abs(*path); err != nil {
					return err
				}
			}
			o.Progress = cmd.ErrOrStderr()
			_, err = sweep.Run(cmd.Context(), o)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Operator, "operator", "../../bin/endpoint-sync-operator", "the operator's binary")
	flags.StringVar(&o.Config, "config", "../../config", "the operator's manifests")
	flags.StringVar(&o.Out, "out", "../../out/sweep", "where to write the results")
	flags.IntSliceVar(&o.Services, "services", []int{400, 1000, 3000}, "how many Services change in an incident")
	flags.DurationSliceVar(&o.MaxLags, "max-lag", []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second}, "the objectives")
	flags.IntVar(&o.Rounds, "rounds", 3, "how often a setting is measured that is near an objective")
	flags.BoolVar(&o.ByOperator, "by-operator", true, "let the installed operator choose for the first size and the tightest objective too")
	return cmd
}
