package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Link passes the bytes of TCP connections on, until it is cut. Its methods may be called from any goroutine.
type Link struct {
	// Address is where it listens.
	Address string

	target   string
	listener net.Listener
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu     sync.Mutex
	whole  chan struct{} // closed while the link is not cut
	closed bool
	open   map[net.Conn]struct{}
}

// NewLink listens at a free port of 127.0.0.1 and connects to target, host:port, for each connection.
func NewLink(ctx context.Context, target string) (*Link, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for connections to %s: %w", target, err)
	}
	l := &Link{Address: listener.Addr().String(), target: target, listener: listener, open: map[net.Conn]struct{}{}}
	l.whole = make(chan struct{})
	close(l.whole)
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.running.Go(func() { l.accept(ctx) })
	return l, nil
}

// Cut lets nothing through any more, in either direction, and closes nothing: neither side learns of it but by waiting in
// vain. What was sent meanwhile arrives after Heal, if both sides still wait for it.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.whole:
		l.whole = make(chan struct{})
	default: // It is cut already.
	}
}

// Heal lets everything through again.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.whole:
	default:
		close(l.whole)
	}
}

// Close ends every connection.
func (l *Link) Close() error {
	err := l.listener.Close()
	l.cancel()
	l.mu.Lock()
	l.closed = true
	for c := range l.open {
		err = errors.Join(err, c.Close())
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

func (l *Link) accept(ctx context.Context) {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // It was closed.
		}
		l.running.Go(func() { l.serve(ctx, client) })
	}
}

// serve keeps one connection until either side ends it.
func (l *Link) serve(ctx context.Context, client net.Conn) {
	defer l.forget(client)
	if !l.remember(client) || !l.wait(ctx) {
		return
	}
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp4", l.target)
	if err != nil {
		return // As if the server refused the client itself.
	}
	defer l.forget(server)
	if !l.remember(server) {
		return
	}
	done := make(chan struct{}, 2)
	for _, way := range []struct{ from, to net.Conn }{{client, server}, {server, client}} {
		go func() {
			l.pass(ctx, way.to, way.from)
			done <- struct{}{}
		}()
	}
	<-done
	// The other direction ends with the connections.
	l.forget(client)
	l.forget(server)
	<-done
}

func (l *Link) pass(ctx context.Context, to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !l.wait(ctx) {
				return
			}
			if _, failed := to.Write(buffer[:n]); failed != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait returns true when the link is whole, false when it is being closed.
func (l *Link) wait(ctx context.Context) bool {
	l.mu.Lock()
	whole := l.whole
	l.mu.Unlock()
	select {
	case <-whole:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *Link) remember(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.open[c] = struct{}{}
	}
	return !l.closed
}

func (l *Link) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.open[c]; open && !l.closed {
		delete(l.open, c)
		_ = c.Close() // The other side may have closed it.
	}
}
