package tests

import (
	"os"
	"testing"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

var environment *rig.Environment

func TestMain(m *testing.M) {
	os.Exit(rig.Main(m, func(e *rig.Environment) { environment = e }))
}
