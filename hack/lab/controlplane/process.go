package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/logend"
)

// process is one child in a process group of its own. It is killed when the lab dies.
type process struct {
	name    string
	group   int
	logPath string
	ended   chan struct{} // Closed when the child has been waited for; exit is set before.
	exit    string        // For example "exit status 1".
}

// lessGC trades memory, of which the lab needs little, for processor time, of which it has little: an incident of 1,000
// Services then costs 8.5 s of it instead of 10 s.
const lessGC = "GOGC=400"

// startProcess runs a command with its output appended to a log file.
func startProcess(name string, command []string, logPath string) (*process, error) {
	log, err := os.OpenFile(filepath.Clean(logPath), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	//nolint:noctx // It ends by stop, which asks first, and not with a context, which kills.
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append([]string{lessGC}, os.Environ()...) // The last one wins: the caller's, if it sets it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	p := &process{name: name, logPath: logPath, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that started the child ends, so that thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		defer func() { _ = log.Close() }()
		startErr := cmd.Start()
		if startErr == nil {
			p.group = cmd.Process.Pid
		}
		started <- startErr
		if startErr == nil {
			_ = cmd.Wait() // Says what exit says.
			p.exit = cmd.ProcessState.String()
		}
	}()
	if err = <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends a signal to the whole group, unless the child has ended (its number may belong to another by then).
func (p *process) signal(s syscall.Signal) error {
	if !p.running() {
		return fmt.Errorf("signal %s: %w", p.name, os.ErrProcessDone)
	}
	if err := syscall.Kill(-p.group, s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// stop asks the process to end, waits for grace, then kills it, and returns when it is gone.
func (p *process) stop(grace time.Duration) error {
	err := p.signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	_ = p.signal(syscall.SIGCONT) // A stopped process would not hear SIGTERM.
	select {
	case <-p.ended:
		return nil
	case <-clock.RealClock{}.After(grace):
	}
	if err = p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}

// waitUntil polls ok until it returns nil, the process ends or ctx is done.
func (p *process) waitUntil(ctx context.Context, ok func(context.Context) error) error {
	var last error
	for {
		if last = ok(ctx); last == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended while starting: %s; end of its log %s:\n%s", p.name, p.exit, p.logPath, logend.Of(p.logPath))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w; end of its log %s:\n%s",
				p.name, context.Cause(ctx), last, p.logPath, logend.Of(p.logPath))
		case <-clock.RealClock{}.After(readyPoll):
		}
	}
}

// readyPoll is how often a starting process is asked whether it is ready.
const readyPoll = 50 * time.Millisecond
