// Package cli wires the subcommands of endpoint-sync-operator: flags in, exit status out. It decides nothing.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// Main runs the command line and returns the exit status: 0 done (and, for measure, objective met), 1 an error, 2 the
// objective is missed, 3 refused.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRootCommand().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	status := 1
	if coded := (interface{ ExitStatus() int })(nil); errors.As(err, &coded) {
		status = coded.ExitStatus()
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "error:", text)
	}
	return status
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "endpoint-sync-operator",
		Short:         "Keep endpoint changes visible in time by sizing kube-controller-manager from measurements",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (%s --help lists the flags)", err, cmd.CommandPath())
	})
	root.AddCommand(
		newMeasureCommand(),
		newPlanCommand(),
		newManifestCommand(),
		newControllerCommand(),
		newAgentCommand(),
	)
	return root
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}

// connection is how a subcommand reaches the API server, with kubectl's habits.
type connection struct {
	kubeconfig string
	context    string
}

func (c *connection) bind(flags *pflag.FlagSet) {
	flags.StringVar(&c.kubeconfig, "kubeconfig", "",
		"path of a kubeconfig; omitted: $KUBECONFIG, ~/.kube/config, or the cluster this runs in")
	flags.StringVar(&c.context, "context", "", "context of the kubeconfig to use")
}

// restConfig resolves the connection in kubectl's order.
func (c *connection) restConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.context})
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find a cluster to talk to (give --kubeconfig): %w", err)
	}
	cfg.UserAgent = "endpoint-sync-operator/" + version()
	return cfg, nil
}

// logging binds the --zap-* flags and makes the process's logger on first use.
type logging struct{ options zap.Options }

func (l *logging) bind(flags *pflag.FlagSet) {
	set := flag.NewFlagSet("zap", flag.ContinueOnError)
	l.options.BindFlags(set)
	flags.AddGoFlagSet(set)
}

func (l *logging) start() {
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&l.options)))
}
