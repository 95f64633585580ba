package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/model"
)

// newModelCommand holds the model against a real kube-controller-manager.
func newModelCommand() *cobra.Command {
	var o model.Options
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Hold the model's predictions against a real kube-controller-manager, over settings and workloads",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Out, err = filepath.Abs(o.Out); err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			_, err = model.Run(cmd.Context(), o)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Out, "out", "../../out/model", "where to write the results")
	flags.StringVar(&o.Replay, "replay", "", "compare with the rounds in this directory, and run nothing")
	flags.IntVar(&o.Rounds, "rounds", 3, "how often each cell is measured")
	flags.BoolVar(&o.Quick, "quick", false, "a small part, once, to see that it works")
	return cmd
}
