//go:build linux

package controlplane

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// victimVariable makes TestVictim start a control plane and wait to be killed.
const victimVariable = "LAB_TEST_VICTIM_DIR"

func TestVictim(t *testing.T) {
	dir := os.Getenv(victimVariable)
	if dir == "" {
		return // Not asked for: it is the other half of TestNothingSurvivesAKilledLab.
	}
	cp, err := Start(t.Context(), Options{Dir: dir, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stdout, "victim %s %s\n", address(cp.ports.etcdClient), strings.TrimPrefix(cp.Admin.Host, "https://"))
	<-t.Context().Done()
}

func TestNothingSurvivesAKilledLab(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVictim$", "-test.v")
	cmd.Env = append(os.Environ(), victimVariable+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var servers []string
	lines := bufio.NewScanner(out)
	for servers == nil && lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "victim" {
			servers = fields[1:]
		}
	}
	if servers == nil {
		t.Fatal("the victim did not start")
	}
	if err = cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed, which is an error.
	for _, server := range servers {
		waitRefused(t, server)
	}
}

// waitRefused returns when nothing listens any more; the test's own timeout ends it.
func waitRefused(t *testing.T, server string) {
	t.Helper()
	for {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp4", server)
		if err != nil {
			return
		}
		_ = conn.Close()
		select {
		case <-clock.RealClock{}.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("%s still listens", server)
		}
	}
}
