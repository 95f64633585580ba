// Package balancer passes TCP connections on to those API servers that say that they are ready, as the load balancer
// before a highly available control plane does. It looks at no byte of what it passes on.
package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"k8s.io/utils/clock"
)

const (
	// probePeriod and probeTimeout say how soon a backend counts as down: long against an API server's answer, short
	// against a Lease.
	probePeriod  = 500 * time.Millisecond
	probeTimeout = 2 * time.Second
	missedProbes = 3
	// dialTimeout is how long a backend may take to accept before the next one is tried.
	dialTimeout = time.Second
)

// state is what the last probes say of a backend.
type state string

const (
	unready state = "not ready" // it may answer; also before the first probe
	ready   state = "ready"
	down    state = "down"
)

// backend is one API server.
type backend struct {
	address string

	mu    sync.Mutex
	state state
	// broken is closed when the backend goes down, and its connections with it: a client that waits for a stopped server
	// would wait long. Another takes its place then.
	broken chan struct{}
}

// balancer takes the backends in turn.
type balancer struct {
	backends []*backend
	log      io.Writer

	mu   sync.Mutex
	next int
}

// Run passes connections on until ctx is done. As long as no backend is ready, each is tried.
func Run(ctx context.Context, listen string, backends []string, log io.Writer) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("balance: %w", err)
	}
	return serve(ctx, listener, backends, log)
}

func serve(ctx context.Context, listener net.Listener, backends []string, log io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	b := &balancer{log: log}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	client := probeClient()
	for _, address := range backends {
		one := &backend{address: address, state: unready, broken: make(chan struct{})}
		b.backends = append(b.backends, one)
		running.Go(func() { b.watch(ctx, one, client) })
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		connection, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("balance: %w", err)
		}
		running.Go(func() { b.pass(ctx, connection) })
	}
}

// probeClient asks anew each time, so that an answer says something about new connections.
func probeClient() *http.Client {
	return &http.Client{Timeout: probeTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // It asks for one word and believes nothing else.
	}}
}

// watch keeps a backend's state true until ctx is done. One answer that stays out says no more than that the machine is
// busy; several in a row, or nobody listening, say that the backend is down. One that answers that it is not ready gets no
// new connections, and keeps those that it has: it is busy or about to end, and ends them itself then.
func (b *balancer) watch(ctx context.Context, one *backend, client *http.Client) {
	missed := 0
	for {
		err := probe(ctx, client, one.address)
		if missed++; err == nil {
			missed = 0
		}
		now := unready
		switch _, answered := errors.AsType[statusError](err); {
		case err == nil:
			now = ready
		case errors.Is(err, syscall.ECONNREFUSED) || missed >= missedProbes && !answered:
			now = down
		}
		if (now != unready || missed >= missedProbes) && one.set(now) {
			_, _ = fmt.Fprintf(b.log, "%s is %s (%v)\n", one.address, now, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-clock.RealClock{}.After(probePeriod):
		}
	}
}

func probe(ctx context.Context, client *http.Client, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return statusError(response.Status)
	}
	return nil
}

// statusError is an answer other than 200.
type statusError string

func (e statusError) Error() string { return string(e) }

// set notes a backend's state, and tells whether that is new.
func (one *backend) set(now state) (changed bool) {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.state == now {
		return false
	}
	one.state = now
	if now == down {
		close(one.broken)
		one.broken = make(chan struct{})
	}
	return true
}

// now returns whether the backend takes connections, and what tells those that it has that it went down.
func (one *backend) now() (takes bool, broken <-chan struct{}) {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.state == ready, one.broken
}

// inTurn returns all backends, each time beginning with another, those that are ready first.
func (b *balancer) inTurn() []*backend {
	b.mu.Lock()
	first := b.next
	b.next++
	b.mu.Unlock()
	var takers, rest []*backend
	for i := range b.backends {
		one := b.backends[(first+i)%len(b.backends)]
		if takes, _ := one.now(); takes {
			takers = append(takers, one)
		} else {
			rest = append(rest, one)
		}
	}
	return append(takers, rest...)
}

// pass connects a client with a backend until one of them ends the connection or the backend goes down.
func (b *balancer) pass(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	dialer := net.Dialer{Timeout: dialTimeout}
	for _, one := range b.inTurn() {
		_, broken := one.now()
		server, err := dialer.DialContext(ctx, "tcp", one.address)
		if err != nil {
			continue
		}
		join(ctx, client, server, broken)
		return
	}
}

// join copies both ways. One side's end ends both: neither TLS nor HTTP goes on with half of a connection.
func join(ctx context.Context, client, server net.Conn, broken <-chan struct{}) {
	ended := make(chan struct{}, 2)
	var copying sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		copying.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // An error is an end like any other.
			ended <- struct{}{}
		})
	}
	select {
	case <-ended:
	case <-broken:
	case <-ctx.Done():
	}
	_, _ = client.Close(), server.Close()
	copying.Wait()
}
