package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/qualify"
)

// newQualifyCommand holds the rollout over three nodes against faults.
func newQualifyCommand() *cobra.Command {
	var o qualify.Options
	cmd := &cobra.Command{
		Use:   "qualify",
		Short: "Hold the rollout over three control-plane nodes against kills, partitions, two leaders and bad values",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for _, path := range []*string{&o.Operator, &o.Out} {
				if *path, err = filepath.Abs(*path); err != nil {
					return err
				}
			}
			o.Progress = cmd.ErrOrStderr()
			return qualify.Run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Operator, "operator", "../../bin/endpoint-sync-operator", "the operator's binary")
	flags.StringVar(&o.Out, "out", "../../out/qualify", "where to write the results")
	flags.StringSliceVar(&o.Only, "only", nil, "scenarios to play, of a (controller killed), b (agents killed), c (partitions), d (two controllers), e (bad values) and f (Observe); none: all")
	flags.IntVar(&o.Points, "points", 0, "how many kills of the controller in each direction; 0: before and after each write")
	flags.IntVar(&o.Runs, "runs", 0, "how many rollouts with two controllers; 0: 120")
	flags.IntVar(&o.RollBacks, "rollbacks", 0, "how many roll-backs, with the API server up and stopped by turns; 0: 24")
	flags.IntVar(&o.Lanes, "lanes", 0, "how many control planes of each kind at once; 0: 3")
	return cmd
}
