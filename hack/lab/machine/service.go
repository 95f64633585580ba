package machine

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

// StartService keeps a unit running on the host, with the host's files and network, by the program machine/init. It
// belongs to the directory that Clean is called with, which ends it.
func StartService(dir, initProgram string, u boot.Unit) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("start %s: %w", u.Name, err)
	}
	groups, err := makeCgroups(Prefix + u.Name)
	if err != nil {
		return fmt.Errorf("start %s: %w", u.Name, err)
	}
	u.Log = filepath.Join(dir, u.Name+".log")
	spec := boot.Spec{Cgroups: groups, Units: []boot.Unit{u}, Socket: filepath.Join(dir, "socket")}
	file := filepath.Join(dir, "boot.json")
	if err = spec.Write(file); err != nil {
		return err
	}
	first := process{
		dir: dir, log: filepath.Join(dir, "init.log"), namespaces: unix.CLONE_NEWPID, command: []string{initProgram, file},
	}
	if err = first.start(); err != nil {
		return fmt.Errorf("start %s: %w", u.Name, err)
	}
	return nil
}
