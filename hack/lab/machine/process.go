package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"
)

// process is a first process, which outlives whoever starts it and is found again by a file in its directory.
type process struct {
	dir, log   string
	namespaces uintptr // flags of clone(2)
	command    []string
}

// start runs the process and notes its number and when it started: together they name one process and no other.
func (p process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	//nolint:noctx // It ends by its own means, whatever bounds the start.
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: p.namespaces}
	if err = cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.command[0], err)
	}
	go func() { _ = cmd.Wait() }() // Its log says why it ended.
	started, err := startTime(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid)))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, pidFile), fmt.Appendf(nil, "%d %s\n", cmd.Process.Pid, started), 0o600)
}

// readPID returns the number of the process that was started with this directory, if it still runs.
func readPID(dir string) (int, error) {
	file := filepath.Join(filepath.Clean(dir), pidFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		return 0, fmt.Errorf("%s: want a number and a time", file)
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	if started, err := startTime(filepath.Join("/proc", fields[0])); err != nil || started != fields[1] {
		return 0, os.ErrProcessDone
	}
	return pid, nil
}

// endProcess sends a signal to the process of a directory and returns when it is gone. Without one it does nothing.
func endProcess(ctx context.Context, dir string, s unix.Signal) error {
	pid, err := readPID(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = unix.Kill(pid, s); err != nil {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return wait.PollUntilContextCancel(ctx, poll, true, func(context.Context) (bool, error) {
		_, err := readPID(dir)
		return err != nil, nil
	})
}

// startTime is when a process started, in ticks since boot, by its directory in /proc. A process that has ended and was
// not waited for has none.
func startTime(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", fmt.Errorf("read process: %w", err)
	}
	// The name, in brackets, may hold anything; the state is the first field after it and the start time the twentieth.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", os.ErrProcessDone
	}
	return fields[19], nil
}

// Process is a process of a machine.
type Process struct {
	// PID is its number inside the machine.
	PID int
	// Args is its command line.
	Args []string

	dir, started string
}

// Processes returns those whose program has this name (the last part of the first argument), the oldest first, whether
// they run in a container or not.
func (m *Machine) Processes(name string) ([]Process, error) {
	pid, err := m.pid()
	if err != nil {
		return nil, err
	}
	// The machine's own /proc, seen from here: its processes, under their numbers there.
	dirs, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "root/proc/[0-9]*"))
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, dir := range dirs {
		command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // It has ended.
		}
		p := Process{dir: dir, Args: strings.Split(strings.TrimSuffix(string(command), "\x00"), "\x00")}
		if filepath.Base(p.Args[0]) != name {
			continue
		}
		if p.started, err = startTime(dir); err != nil {
			continue
		}
		p.PID, _ = strconv.Atoi(filepath.Base(dir)) // It matched the pattern.
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return found, nil
}

// Signal sends a signal to the process and to no other that got its number since.
func (p Process) Signal(s syscall.Signal) error {
	dir, err := os.Open(p.dir)
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID, os.ErrProcessDone)
	}
	defer func() { _ = dir.Close() }()
	if started, statErr := startTime(p.dir); statErr != nil || started != p.started {
		return fmt.Errorf("signal process %d: %w", p.PID, os.ErrProcessDone)
	}
	// A directory of /proc serves as a descriptor of its process; numbers there and here differ.
	if err = unix.PidfdSendSignal(int(dir.Fd()), s, nil, 0); err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// SignalAll sends a signal to all processes of a name; it is an error if there is none.
func (m *Machine) SignalAll(name string, s syscall.Signal) error {
	all, err := m.Processes(name)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("signal %s on %s: %w", name, m.Name, os.ErrProcessDone)
	}
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Signal(s))
	}
	return errors.Join(errs...)
}

// run runs a program of the host for its effect.
func run(ctx context.Context, name string, args ...string) error {
	_, err := output(exec.CommandContext(ctx, name, args...))
	return err
}

// runAll runs a program with one list of arguments after the other, until one fails.
func runAll(ctx context.Context, name string, lists [][]string) error {
	for _, args := range lists {
		if err := run(ctx, name, args...); err != nil {
			return err
		}
	}
	return nil
}

// output runs a command; its error has what the command wrote to its standard error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.Bytes(), nil
}
