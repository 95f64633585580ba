package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/show"
)

// newDemoCommand shows the main job once.
func newDemoCommand() *cobra.Command {
	return newScene("demo", "Watch the incident, and the operator end it", show.Demo)
}

// newBenchCommand compares settings side by side.
func newBenchCommand() *cobra.Command {
	return newScene("bench", "Compare flag settings on the same incident, the operator's choice among them", show.Bench)
}

func newScene(name, short string, play func(context.Context, show.Options) error) *cobra.Command {
	var o show.Options
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for _, path := range []*string{&o.Operator, &o.Out, &o.Config} {
				if *path, err = filepath.Abs(*path); err != nil {
					return err
				}
			}
			o.Progress = cmd.ErrOrStderr()
			return play(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Operator, "operator", "../../bin/endpoint-sync-operator", "the operator's binary")
	flags.StringVar(&o.Config, "config", "../../config", "the operator's manifests")
	flags.StringVar(&o.Out, "out", "../../out/"+name, "where to write the results")
	flags.IntVar(&o.Services, "services", 1000, "how many Services, with one Pod each")
	flags.IntVar(&o.Rounds, "rounds", 5, "how many incidents for each setting of the benchmark")
	return cmd
}
