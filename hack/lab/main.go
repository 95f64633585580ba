// Command lab runs a real control plane on loopback, without root, for the demo, the benchmark and whoever wants to try
// the operator by hand.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func main() { os.Exit(run()) }

// run returns the exit status. Its deferred calls end what the command started.
func run() int {
	// What client libraries log of an API server that is being stopped is no news to whoever watches the lab.
	klog.SetLogger(logr.Discard())
	log.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Run a real Kubernetes control plane on loopback, without root",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newBuildCommand(), newUpCommand(), newImageCommand(),
		newDemoCommand(), newBenchCommand(), newScaleCommand(), newAccuracyCommand(), newModelCommand(), newSweepCommand(),
		newE2ECommand(), newE2EUpCommand(), newE2EDownCommand(), newStoryClientCommand(), newQualifyCommand(),
	)
	return root
}
