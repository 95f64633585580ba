package tests

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// line is a TCP connection to the API server that can be cut and held up: a proxy that knows nothing of what it carries.
type line struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu   sync.Mutex
	cut  bool
	held chan struct{} // Closed when the line flows.
	ends map[net.Conn]struct{}
}

// newLine listens on a port of its own until the test ends.
func newLine(t *testing.T, target string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{target: target, listener: listener, held: make(chan struct{}), ends: map[net.Conn]struct{}{}}
	close(l.held)
	l.running.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		l.flow()
		l.drop()
		l.running.Wait()
	})
	return l
}

func (l *line) address() string { return l.listener.Addr().String() }

// sever breaks every connection and lets no new one through until mend.
func (l *line) sever() {
	l.mu.Lock()
	l.cut = true
	l.mu.Unlock()
	l.drop()
}

// mend lets new connections through again.
func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// drop breaks every connection; new ones get through.
func (l *line) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.ends {
		_ = c.Close() // Whoever copies notices.
	}
}

// hold keeps back everything that is sent, without breaking a connection, until flow.
func (l *line) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = make(chan struct{})
}

// flow lets through what was held back.
func (l *line) flow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.held:
	default:
		close(l.held)
	}
}

func (l *line) flowing() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

func (l *line) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() { l.connect(near) })
	}
}

func (l *line) connect(near net.Conn) {
	defer l.forget(near)
	if !l.keep(near) {
		return
	}
	far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", l.target)
	if err != nil {
		return
	}
	defer l.forget(far)
	if !l.keep(far) {
		return
	}
	var one sync.WaitGroup
	one.Go(func() { l.carry(far, near) })
	l.carry(near, far)
	one.Wait()
}

// keep makes a connection one of those that break; false when the line is cut.
func (l *line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	l.ends[c] = struct{}{}
	return true
}

func (l *line) forget(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ends, c)
}

// carry copies one way until either end breaks, and then breaks both.
func (l *line) carry(to, from net.Conn) {
	defer func() { _ = errors.Join(to.Close(), from.Close()) }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-l.flowing()
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func TestLine(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() { // An echo, until the listener is closed.
		for {
			c, acceptErr := listener.Accept()
			if acceptErr != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	l := newLine(t, listener.Addr().String())
	dial := func() net.Conn { return dialLine(t, l) }
	c := dial()
	if err = echoes(c); err != nil {
		t.Errorf("through the line: %v", err)
	}
	l.hold()
	done := make(chan error, 1)
	go func() { done <- echoes(c) }()
	l.flow()
	if err = <-done; err != nil {
		t.Errorf("through a line that was held up: %v", err)
	}
	l.sever()
	if echoes(c) == nil || echoes(dial()) == nil {
		t.Error("a line that is cut carries something")
	}
	l.mend()
	if err = echoes(dial()); err != nil {
		t.Errorf("through a mended line: %v", err)
	}
	c = dial()
	if err = echoes(c); err != nil {
		t.Fatal(err)
	}
	l.drop()
	if echoes(c) == nil {
		t.Error("a dropped connection carries something")
	}
	if err = echoes(dial()); err != nil {
		t.Errorf("a new connection after a drop: %v", err)
	}
}

func dialLine(t *testing.T, l *line) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echoes says whether a byte comes back.
func echoes(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}
