package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/story"
)

// newStoryClientCommand opens connections from where it runs: the end-to-end test starts it in a node's network namespace.
func newStoryClientCommand() *cobra.Command {
	var d story.Drive
	var out string
	cmd := &cobra.Command{
		Use:   "story-client",
		Short: "Open new connections to a Service at a fixed rate and count those that fail",
		Long: `Open new connections at a fixed rate, whatever becomes of earlier ones: connect, ask, read the answer. It ends after
--for, or with Ctrl-C, and writes what became of them, second by second.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			traffic, err := d.Run(cmd.Context())
			if err != nil {
				return err
			}
			text, err := json.MarshalIndent(traffic, "", "  ")
			if err != nil {
				return fmt.Errorf("encode the result: %w", err)
			}
			text = append(text, '\n')
			if out == "" {
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			return os.WriteFile(out, text, 0o600)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&d.Address, "address", "", "IP:PORT of the Service")
	flags.IntVar(&d.Rate, "rate", 40, "connections to open in a second")
	flags.DurationVar(&d.For, "for", 75*time.Second, "for how long to open them")
	flags.DurationVar(&d.Timeout, "timeout", time.Second, "how long connection, request and answer may take")
	flags.StringVar(&out, "out", "", "where to write the result as JSON (default: standard output)")
	return cmd
}
