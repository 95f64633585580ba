// Command endpoint-sync-operator keeps endpoint changes visible in time by sizing kube-controller-manager's client
// rate limit and workers from measurements. See README.md.
package main

import (
	"os"
	_ "time/tzdata" // Maintenance windows name time zones, and the image holds nothing but this program.

	"github.com/endpointsync/endpoint-sync-operator/internal/cli"
)

func main() {
	os.Exit(cli.Main())
}
