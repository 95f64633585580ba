package cli

import (
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/endpointsync/endpoint-sync-operator/internal/agent"
)

// newAgentCommand runs the node-side half of the operator: it edits this node's manifest when told to, and undoes it.
func newAgentCommand() *cobra.Command {
	var (
		to   connection
		logs logging
		cfg  agent.Config
	)
	command := &cobra.Command{
		Use:   "agent",
		Short: "Carry out changes on one control-plane node and report from it",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			logs.start()
			config, err := to.restConfig()
			if err != nil {
				return err
			}
			return agent.Run(logr.NewContext(command.Context(), ctrl.Log), cfg, config)
		},
	}
	flags := command.Flags()
	to.bind(flags)
	logs.bind(flags)
	flags.StringVar(&cfg.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of the node that this agent runs on; default $NODE_NAME")
	flags.StringVar(&cfg.ManifestDir, "manifest-dir", agent.DefaultManifestDir, "the kubelet's directory of static Pods")
	flags.StringVar(&cfg.ManifestName, "manifest-name", agent.DefaultManifestName, "kube-controller-manager's file in that directory")
	flags.StringVar(&cfg.StateDir, "state-dir", agent.DefaultStateDir, "directory for the journal and the backups, outside the manifests directory")
	flags.StringVar(&cfg.KCMURL, "kcm-url", agent.DefaultKCMURL, "where kube-controller-manager on this node serves its metrics")
	flags.StringVar(&cfg.KCMCAFile, "kcm-ca-file", "", "certificates to verify kube-controller-manager with; empty: it is not verified, because it signs its own certificate, and --kcm-url must be a loopback address")
	flags.DurationVar(&cfg.DownTimeout, "down-timeout", agent.DefaultDownTimeout, "how long no process may answer after a change before it is rolled back; more than 0s")
	flags.DurationVar(&cfg.MinInterval, "min-interval", agent.DefaultMinInterval, "shortest time between two changes of values, 0s for no limit; rolling back and restoring need not wait")
	return command
}
