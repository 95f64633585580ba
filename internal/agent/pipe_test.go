package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// errRefused is what dialling an address where nobody listens gives.
var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

// pipeListener is a listener within the process. Only so is waiting for a connection something that virtual time can
// pass over.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	one, other := net.Pipe()
	server, client := buffer(one), buffer(other)
	err := error(errRefused)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, server.Close(), client.Close())
}

// bufferedConn is an end of a pipe whose writes do not wait for the reader, as a socket's do not.
type bufferedConn struct {
	net.Conn
	out chan []byte

	mu     sync.Mutex
	closed bool
}

func buffer(c net.Conn) *bufferedConn {
	b := &bufferedConn{Conn: c, out: make(chan []byte, 1024)}
	go b.pump()
	return b
}

// pump writes what is to be written, until the connection is closed and all of it was written or could not be.
func (b *bufferedConn) pump() {
	for chunk := range b.out {
		_, _ = b.Conn.Write(chunk)
	}
	_ = b.Conn.Close()
}

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	b.out <- append([]byte(nil), p...)
	return len(p), nil
}

func (b *bufferedConn) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.out)
		return b.Conn.SetDeadline(time.Now().Add(100 * time.Millisecond)) // for what is still to be written
	}
	return nil
}

// The deadlines of TLS for writing would drop what waits in the buffer.

func (b *bufferedConn) SetDeadline(t time.Time) error    { return b.SetReadDeadline(t) }
func (b *bufferedConn) SetWriteDeadline(time.Time) error { return nil }
