package accuracy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// process is a watching process of this run.
type process struct {
	role  Role
	out   string
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// startProcess runs a watching process and returns when it has seen everything that exists.
func startProcess(ctx context.Context, o Options, role Role, kubeconfig string) (_ *process, err error) {
	p := &process{role: role, out: filepath.Join(o.Out, string(role)+".json")}
	p.cmd = o.Watcher(ctx, WatchOptions{Role: role, Kubeconfig: kubeconfig, Out: p.out})
	p.cmd.Stderr = o.Progress
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	if err = p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	if _, err = bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("%s ended before it was ready: %w", role, p.cmd.Wait())
	}
	return p, nil
}

// begin tells when the windows begin.
func (p *process) begin(from time.Time) error {
	if _, err := fmt.Fprintln(p.stdin, from.Format(time.RFC3339Nano)); err != nil {
		return fmt.Errorf("tell %s when the windows begin: %w", p.role, err)
	}
	return nil
}

// end ends the process and returns what it saw.
func (p *process) end() (r recording, err error) {
	if err = p.stdin.Close(); err != nil {
		return r, fmt.Errorf("end %s: %w", p.role, err)
	}
	if err = p.cmd.Wait(); err != nil {
		return r, fmt.Errorf("%s: %w", p.role, err)
	}
	text, err := os.ReadFile(p.out)
	if err != nil {
		return r, err
	}
	if err = json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", p.out, err)
	}
	return r, nil
}

// abandon ends the process if it still runs, and forgets what it saw.
func (p *process) abandon() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Kill() // Wait tells whether it ended.
	if err := p.cmd.Wait(); p.cmd.ProcessState == nil {
		return fmt.Errorf("end %s: %w", p.role, err)
	}
	return nil
}
