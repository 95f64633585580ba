package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine/boot"
)

const (
	// tick is how often it is looked whether a unit may start or must be killed.
	tick = 50 * time.Millisecond
	// restartDelay keeps a unit that ends at once from starting all the time; kubeadm's kubelet.service waits longer.
	restartDelay = time.Second
	// stopGrace is how long a unit, and at shutdown everything else, may take to end before it is killed.
	stopGrace = 10 * time.Second
)

// unit is a process to keep running.
type unit struct {
	boot.Unit

	wanted    bool
	pid       int       // 0: it does not run.
	notBefore time.Time // when it may start again
	killAt    time.Time // when it is killed, if it is to stop
	waiting   []chan<- string
}

// request is a line from the socket; the answer is sent once.
type request struct {
	words  []string
	answer chan<- string
}

// supervisor belongs to one goroutine, so that no process is reaped by another than the one that started it.
type supervisor struct {
	clock clock.Clock
	units []*unit
	log   func(format string, args ...any)
}

// supervise keeps the units running until SIGTERM, and then shuts down.
func supervise(s boot.Spec) error {
	v := &supervisor{clock: clock.RealClock{}, log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	for _, u := range s.Units {
		v.units = append(v.units, &unit{Unit: u, wanted: true})
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	requests, err := listen(s.Socket)
	if err != nil {
		return err
	}
	for {
		v.reap()
		v.act()
		select {
		case <-signals:
			v.shutDown(children)
			return nil
		case r := <-requests:
			v.handle(r)
		case <-children:
		case <-v.clock.After(tick):
		}
	}
}

// listen passes each line that comes in on as a request.
func listen(socket string) (<-chan request, error) {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	//nolint:noctx // It listens as long as the machine lives.
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	requests := make(chan request)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return // The process ends.
			}
			go serve(connection, requests)
		}
	}()
	return requests, nil
}

func serve(connection net.Conn, requests chan<- request) {
	defer func() { _ = connection.Close() }()
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		answer := make(chan string, 1)
		requests <- request{strings.Fields(lines.Text()), answer}
		if _, err := fmt.Fprintln(connection, <-answer); err != nil {
			return // Whoever asked has gone.
		}
	}
}

func (v *supervisor) handle(r request) {
	if len(r.words) != 2 {
		r.answer <- "want a verb and a unit"
		return
	}
	at := slices.IndexFunc(v.units, func(u *unit) bool { return u.Name == r.words[1] })
	switch {
	case at < 0:
		r.answer <- "no unit " + r.words[1]
	case r.words[0] == boot.StartUnit:
		u := v.units[at]
		u.wanted, u.killAt, u.notBefore = true, time.Time{}, time.Time{}
		u.waiting = append(u.waiting, r.answer)
	case r.words[0] == boot.StopUnit:
		v.stop(v.units[at])
		v.units[at].waiting = append(v.units[at].waiting, r.answer)
	default:
		r.answer <- "no verb " + r.words[0]
	}
}

func (v *supervisor) stop(u *unit) {
	u.wanted, u.killAt = false, v.clock.Now().Add(stopGrace)
	if u.pid > 0 {
		v.signal(u, unix.SIGTERM)
		v.signal(u, unix.SIGCONT) // A stopped process would not hear it.
	}
}

func (v *supervisor) signal(u *unit, s unix.Signal) {
	if err := unix.Kill(u.pid, s); err != nil {
		v.log("signal %s: %v", u.Name, err)
	}
}

// act brings each unit to where it should be, as far as it can be now, and answers who waits for that.
func (v *supervisor) act() {
	now := v.clock.Now()
	for _, u := range v.units {
		switch {
		case u.wanted && u.pid == 0 && !now.Before(u.notBefore) && ready(u.Needs):
			v.start(u)
		case !u.wanted && u.pid > 0 && now.After(u.killAt):
			v.signal(u, unix.SIGKILL)
		}
		if u.wanted == (u.pid > 0) {
			for _, answer := range u.waiting {
				answer <- boot.Done
			}
			u.waiting = nil
		}
	}
}

// ready tells whether of each set of files one exists.
func ready(needs [][]string) bool {
	for _, files := range needs {
		if !slices.ContainsFunc(files, func(f string) bool { _, err := os.Stat(f); return err == nil }) {
			return false
		}
	}
	return true
}

func (v *supervisor) start(u *unit) {
	u.notBefore = v.clock.Now().Add(restartDelay)
	log, err := os.OpenFile(u.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		v.log("start %s: %v", u.Name, err)
		return
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		v.log("start %s: %v", u.Name, err)
		return
	}
	defer func() { _ = null.Close() }()
	process, err := os.StartProcess(u.Command[0], u.Command, &os.ProcAttr{
		Dir: "/", Env: append(os.Environ(), u.Env...), Files: []*os.File{null, log, log}, Sys: &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		v.log("start %s: %v", u.Name, err)
		return
	}
	u.pid = process.Pid
	_ = process.Release() // It is reaped with all others.
	v.log("%s runs as %d", u.Name, u.pid)
}

// reap collects every child that has ended.
func (v *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == 0 {
			return // None has ended, or none is left.
		}
		for _, u := range v.units {
			if u.pid == pid {
				v.log("%s ended: exit status %d, signal %d", u.Name, status.ExitStatus(), status.Signal())
				u.pid = 0
			}
		}
	}
}

// shutDown ends the units, the last one first so that the kubelet starts nothing anew, and then asks everything else.
func (v *supervisor) shutDown(children <-chan os.Signal) {
	for _, u := range slices.Backward(v.units) {
		v.stop(u)
		for u.pid > 0 {
			v.wait(children)
		}
	}
	if os.Getpid() != 1 {
		return // The rest is not this machine's.
	}
	_ = unix.Kill(-1, unix.SIGTERM) // It fails only if nothing is left.
	deadline := v.clock.Now().Add(stopGrace)
	for others() && v.clock.Now().Before(deadline) {
		v.wait(children)
	}
}

// wait for a child to end, or a tick.
func (v *supervisor) wait(children <-chan os.Signal) {
	select {
	case <-children:
	case <-v.clock.After(tick):
	}
	v.reap()
	v.act()
}

// others tells whether anything runs besides this process and the shims, which have nothing to end in order.
func others() bool {
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.ContainsFunc(processes, func(file string) bool {
		command, err := os.ReadFile(filepath.Clean(file))
		return err == nil && len(command) > 0 && file != "/proc/1/cmdline" && !bytes.Contains(command, []byte("containerd-shim"))
	})
}
