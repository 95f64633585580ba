package cli

import (
	"crypto/tls"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/controllers"
)

func newControllerCommand() *cobra.Command {
	var (
		conn connection
		logs logging
		opts = controllers.Options{Clock: clock.RealClock{}}
	)
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the controller: measure, decide, and tell the agents what to do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logs.start()
			collectGarbage()
			cfg, err := conn.restConfig()
			if err != nil {
				return err
			}
			return controllers.Run(cmd.Context(), cfg, opts)
		},
	}
	flags := cmd.Flags()
	conn.bind(flags)
	logs.bind(flags)
	flags.BoolVar(&opts.LeaderElect, "leader-elect", false, "elect a leader among replicas; only it decides")
	flags.StringVar(&opts.Namespace, "namespace", "endpoint-sync-system", "namespace of the operator's own Lease")
	flags.StringVar(&opts.MetricsAddress, "metrics-bind-address", ":8443",
		"where to serve metrics over TLS, with authentication and authorization; 0 turns them off")
	flags.StringVar(&opts.ProbeAddress, "health-probe-bind-address", ":8081", "where to serve healthz and readyz; 0 turns them off")
	opts.TLS = []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }}
	return cmd
}

// garbagePercent is how much garbage the controller lets pile up for each byte that is in use. It keeps what it measures
// for ever and produces little garbage, so that the runtime's 100 would hold twice the memory to spare a few percent of a core:
// at 150,000 Pods and 1,000 changes a second (make bench-scale).
const garbagePercent = 20

// collectGarbage makes the controller collect its garbage early, unless its operator says otherwise with GOGC.
func collectGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}
