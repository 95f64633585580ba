package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

// process is one of the programs that are compared, or the server.
type process struct {
	*operator.Process

	name string
	log  string
}

// start runs a program, its output in a log. It goes with this process, however that ends, and not with ctx: it has to be stopped.
func start(ctx context.Context, name, log, binary string, args ...string) (*process, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, args...)
	cmd.Env = environment()
	p, err := operator.Run(cmd, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &process{Process: p, name: name, log: log}, nil
}

// environment is ours without what changes how Go programs use memory: all run as they would without advice.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOGC=") || strings.HasPrefix(v, "GOMEMLIMIT=") || strings.HasPrefix(v, "GODEBUG=")
	})
}

// usage is what a process has used.
type usage struct {
	rss       int64         // bytes now
	peak      int64         // bytes at most, ever (VmHWM)
	anonymous int64         // bytes now without its program and other files
	cpu       time.Duration // of all its threads
}

// clockTick is the unit of times in /proc (USER_HZ, 100 on every platform that Go runs on).
const clockTick = 10 * time.Millisecond

// usage reads what the process has used; it is an error if the process has ended.
func (p *process) usage() (usage, error) {
	select {
	case <-p.Ended():
		return usage{}, fmt.Errorf("%s ended before its time: read %s", p.name, p.log)
	default:
	}
	dir := filepath.Join("/proc", strconv.Itoa(p.PID()))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, fmt.Errorf("read the memory of %s: %w", p.name, err)
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, fmt.Errorf("read the processor time of %s: %w", p.name, err)
	}
	u, err := parseUsage(string(status), string(stat))
	if err != nil {
		return u, fmt.Errorf("what %s has used: %w", p.name, err)
	}
	return u, nil
}

func parseUsage(status, stat string) (usage, error) {
	var u usage
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &u.rss, "VmHWM": &u.peak, "RssAnon": &u.anonymous}[name]
		if into == nil {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return u, fmt.Errorf("read %s: %w", name, err)
		}
		*into = kib << 10
	}
	// After the name in parentheses, which may hold anything, utime and stime are the 12th and 13th field (proc(5)).
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	const userTime, systemTime = 11, 12
	if len(fields) <= systemTime || u.peak == 0 {
		return u, errors.New("/proc has another form than proc(5) says")
	}
	for _, field := range []string{fields[userTime], fields[systemTime]} {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("read processor time: %w", err)
		}
		u.cpu += time.Duration(ticks) * clockTick
	}
	return u, nil
}
