// Command init is the first process of a machine of the lab. It makes the machine's mounts, keeps its units running,
// reaps what else ends in its PID namespace, and starts and stops units when it is asked to over its socket.
//
// When it ends, the kernel ends everything else in the machine. With SIGTERM it shuts the machine down in order first.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/balancer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

func main() { os.Exit(run(os.Args)) }

// run is "init SPEC", or "init balance LISTEN BACKEND…".
func run(args []string) int {
	if err := start(args); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

func start(args []string) error {
	switch {
	case len(args) > 3 && args[1] == "balance":
		return balancer.Run(context.Background(), args[2], args[3:], os.Stderr)
	case len(args) == 2:
		s, err := boot.Read(args[1])
		if err != nil {
			return err
		}
		if err = enter(s); err != nil {
			return err
		}
		return supervise(s)
	default:
		return fmt.Errorf("usage: %s SPEC, or %[1]s balance LISTEN BACKEND…; given: %s", args[0], strings.Join(args[1:], " "))
	}
}
