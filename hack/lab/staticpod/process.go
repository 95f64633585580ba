package staticpod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// resetBackOff is how long a container must have run for its crash back-off to start again (twice the longest back-off,
// client-go flowcontrol.Backoff).
const resetBackOff = 2 * maxBackOff

// keepContainer runs a container's command again and again, with the kubelet's back-off, until ctx ends.
func (r *Runner) keepContainer(ctx context.Context, pod *corev1.Pod, c *corev1.Container) {
	backOff := r.opts.BackOffBase
	for {
		began := r.clock.Now()
		if err := r.runOnce(ctx, pod, c); err != nil {
			r.opts.Log.Error(err, "Container did not start", "pod", pod.Name, "container", c.Name)
		}
		if ctx.Err() != nil {
			return
		}
		if r.clock.Since(began) >= resetBackOff {
			backOff = r.opts.BackOffBase
		}
		r.opts.Log.Info("Container ended", "pod", pod.Name, "container", c.Name, "backOff", backOff)
		if !r.sleep(ctx, backOff) {
			return
		}
		backOff = min(2*backOff, maxBackOff)
	}
}

// runOnce starts one process and returns when it is gone: on its own, because a probe failed, or because ctx ended.
func (r *Runner) runOnce(ctx context.Context, pod *corev1.Pod, c *corev1.Container) error {
	cmd, p, err := r.prepare(pod, c)
	if err != nil {
		return err
	}
	if err = r.spawn.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p.PID, p.Started = cmd.Process.Pid, r.clock.Now()
	r.mu.Lock()
	r.processes = append(r.processes, p)
	r.mu.Unlock()
	r.mirror.running(pod, c.Name, p.Started)

	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r.reap(cmd, p)
	}()
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()
	failed := r.probe(probing, c)
	select {
	case <-gone:
	case why := <-failed:
		r.opts.Log.Info("Probe failed, restarting", "pod", pod.Name, "container", c.Name, "probe", why)
		r.end(cmd, gone, graceOf(pod))
	case <-ctx.Done():
		grace := graceOf(pod)
		if r.stopping(pod) {
			grace = min(grace, stopGrace)
		}
		r.end(cmd, gone, grace)
	}
	r.mirror.exited(pod, c.Name)
	return nil
}

// prepare builds the command and opens its log file.
func (r *Runner) prepare(pod *corev1.Pod, c *corev1.Container) (*exec.Cmd, *Process, error) {
	args := slices.Concat(c.Command, c.Args)
	if len(args) == 0 {
		return nil, nil, fmt.Errorf("container %s has no command, and there are no images here", c.Name)
	}
	path, known := r.opts.Binaries[args[0]]
	if !known {
		path = args[0]
	}
	if !filepath.IsAbs(path) {
		return nil, nil, fmt.Errorf("container %s: no binary is known for command %q", c.Name, args[0])
	}
	r.mu.Lock()
	name := fmt.Sprintf("%s.%d.log", pod.Name, len(r.processes)+1)
	r.mu.Unlock()
	log, err := os.OpenFile(filepath.Join(r.opts.LogDir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open log of container %s: %w", c.Name, err)
	}
	cmd := &exec.Cmd{Path: path, Args: args, Stdout: log, Stderr: log, Env: os.Environ()}
	for _, e := range c.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	// Its own process group, so that what it starts ends with it; the death signal, so that it ends with the lab.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, &Process{
		Pod: fullName(pod), UID: pod.UID, ConfigHash: pod.Annotations[annotationHash],
		Container: c.Name, Args: args, LogFile: log.Name(),
	}, nil
}

// reap waits for the process and records its end.
func (r *Runner) reap(cmd *exec.Cmd, p *Process) {
	err := cmd.Wait()
	if log, ok := cmd.Stdout.(*os.File); ok {
		err = errors.Join(err, log.Close())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Exited, p.ExitCode = r.clock.Now(), cmd.ProcessState.ExitCode()
	r.opts.Log.Info("Process ended", "pod", p.Pod, "pid", p.PID, "exitCode", p.ExitCode, "error", err)
}

// end asks the process group to end, and kills it after the grace period.
func (r *Runner) end(cmd *exec.Cmd, gone <-chan struct{}, grace time.Duration) {
	r.signal(cmd, syscall.SIGTERM)
	t := r.clock.NewTimer(grace)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C():
	}
	// The group is killed even when its leader is gone: it may have left children behind.
	r.signal(cmd, syscall.SIGKILL)
	<-gone
}

func (r *Runner) signal(cmd *exec.Cmd, s syscall.Signal) {
	if err := syscall.Kill(-cmd.Process.Pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		r.opts.Log.Error(err, "Process group could not be signalled", "pid", cmd.Process.Pid, "signal", s.String())
	}
}

// stopping reports whether the Pod ends with the runner rather than because its manifest went.
func (r *Runner) stopping(pod *corev1.Pod) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.instances[pod.UID]
	return in != nil && in.pod == pod
}

func graceOf(pod *corev1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// spawner starts processes from one thread that lives as long as it does: the kernel sends the death signal when the
// thread that started a process ends, not when the program does.
type spawner chan spawn

type spawn struct {
	cmd *exec.Cmd
	err chan error
}

func newSpawner() spawner {
	s := make(spawner)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for req := range s {
			req.err <- req.cmd.Start()
		}
	}()
	return s
}

func (s spawner) start(cmd *exec.Cmd) error {
	req := spawn{cmd, make(chan error, 1)}
	s <- req
	return <-req.err
}
