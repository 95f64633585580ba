// Package boot is what a machine is told when it starts, and how it is told something later: the description that the
// host writes and the machine's first process reads, and the few words of the socket between them.
package boot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/utils/clock"
)

// Spec is all that the first process of a machine needs to know. Paths on the left of a mount are the host's.
type Spec struct {
	// Hostname is the machine's; "" keeps the host's, and mounts nothing.
	Hostname string
	// Cgroups are the directories, one in each hierarchy, that the process and its children belong to.
	Cgroups []string
	// Overlays are directories of the host whose changes go elsewhere.
	Overlays []Overlay
	// Binds are directories of their own, which they are given on top of the overlays.
	Binds []Bind
	// Files are written, with mode 0644, when all is mounted; so are symbolic Links, by what they point to.
	Files map[string]string
	Links map[string]string
	// Masks are files that shadow one of the host's, such as a sysctl that belongs to the whole kernel.
	Masks []Bind
	// Sysctls are set; they must be such as belong to a network namespace.
	Sysctls map[string]string
	// Units are the processes that it keeps running.
	Units []Unit
	// Socket is where it listens for Ask.
	Socket string
}

// Overlay is a directory whose changes go to Upper; Work is an empty directory on the same file system.
type Overlay struct{ Target, Upper, Work string }

// Bind is a file or directory that appears at Target.
type Bind struct{ Source, Target string }

// Unit is a process that is started again whenever it ends.
type Unit struct {
	Name    string
	Command []string
	Env     []string
	// Log is the file that its output is appended to.
	Log string
	// Needs are sets of files; of each set one must exist before the process is started.
	Needs [][]string
}

// Write puts the description where Read finds it.
func (s Spec) Write(file string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode machine: %w", err)
	}
	if err = os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write machine: %w", err)
	}
	return nil
}

// Read returns a description that Write wrote.
func Read(file string) (s Spec, err error) {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return Spec{}, fmt.Errorf("read machine: %w", err)
	}
	if err = json.Unmarshal(text, &s); err != nil {
		return Spec{}, fmt.Errorf("read machine %s: %w", file, err)
	}
	return s, nil
}

// Requests that a machine's first process understands. Each is followed by the name of a unit.
const (
	StartUnit = "start"
	StopUnit  = "stop"
)

const (
	// Done is the answer to a request that was carried out; any other says why it was not.
	Done = "done"
	// dialPoll is how often a machine that does not listen yet is asked again.
	dialPoll = 20 * time.Millisecond
)

// Ask has a machine start or stop a unit, and returns when the unit's process was started or is gone.
func Ask(ctx context.Context, socket, request, unit string) error {
	connection, err := dial(ctx, socket)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = connection.Close() })
	defer stop()
	if _, err = fmt.Fprintf(connection, "%s %s\n", request, unit); err != nil {
		return fmt.Errorf("ask machine to %s %s: %w", request, unit, err)
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return fmt.Errorf("ask machine to %s %s: %w", request, unit, errors.Join(err, context.Cause(ctx)))
	}
	if answer = strings.TrimSpace(answer); answer != Done {
		return fmt.Errorf("ask machine to %s %s: it says: %s", request, unit, answer)
	}
	return nil
}

// dial waits for a machine that is about to listen.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	var dialer net.Dialer
	for {
		connection, err := dialer.DialContext(ctx, "unix", socket)
		if err == nil {
			return connection, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach machine: %w", errors.Join(err, context.Cause(ctx)))
		case <-clock.RealClock{}.After(dialPoll):
		}
	}
}
