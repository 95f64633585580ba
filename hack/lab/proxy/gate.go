package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
)

// Gate passes the requests of one client on to the API server, with the client's own credentials, and counts those that
// change something: every POST, PUT, PATCH and DELETE.
type Gate struct {
	// Address is where it listens.
	Address string

	server    *http.Server
	transport *http.Transport
	running   sync.WaitGroup

	mu     sync.Mutex
	hooks  Hooks
	writes []Write
}

// Write is a request that changes something.
type Write struct {
	Number       int // counted from 1 since Use
	Method, Path string
}

// String is method, resource and name, without group, version and namespace.
func (w Write) String() string {
	parts := strings.Split(strings.Trim(w.Path, "/"), "/")
	switch parts[0] {
	case "apis":
		parts = parts[min(3, len(parts)):]
	case "api":
		parts = parts[min(2, len(parts)):]
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	return w.Method + " " + strings.Join(parts, "/")
}

// Hooks are called for each Write, from any goroutine. Either may be nil.
type Hooks struct {
	// Before is called before the API server sees the write, which waits meanwhile, and says whether it goes on.
	Before func(Write) (goesOn bool)
	// After is called when the API server has answered, before the client learns of it.
	After func(Write)
}

// NewGate listens at a free port of 127.0.0.1, in front of a control plane's API server and with its certificate.
func NewGate(ctx context.Context, cp *controlplane.ControlPlane) (*Gate, error) {
	certificate, err := tls.LoadX509KeyPair(cp.ServingCertificate())
	if err != nil {
		return nil, fmt.Errorf("load the API server's certificate: %w", err)
	}
	target, err := url.Parse(cp.Admin.Host)
	if err != nil {
		return nil, fmt.Errorf("parse the API server's address: %w", err)
	}
	authority := cp.Admin.CAData
	if len(authority) == 0 {
		if authority, err = os.ReadFile(cp.Admin.CAFile); err != nil {
			return nil, fmt.Errorf("load the API server's authority: %w", err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return newGate(ctx, target, certificate, roots)
}

// headerTimeout bounds what a client may take to say what it wants.
const headerTimeout = 10 * time.Second

func newGate(ctx context.Context, target *url.URL, certificate tls.Certificate, roots *x509.CertPool) (*Gate, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for requests to %s: %w", target, err)
	}
	g := &Gate{Address: listener.Addr().String(), transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
	}}
	quiet := log.New(io.Discard, "", 0) // Clients are killed here; that their requests break off is no news.
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     g.transport,
		FlushInterval: -1, // Watches.
		ErrorLog:      quiet,
	}
	g.server = &http.Server{
		Handler: g.handler(forward), ReadHeaderTimeout: headerTimeout, ErrorLog: quiet,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"},
		},
	}
	g.running.Go(func() { _ = g.server.ServeTLS(listener, "", "") }) // It ends with Close.
	return g, nil
}

// Close ends every request.
func (g *Gate) Close() error {
	err := g.server.Close()
	g.running.Wait()
	g.transport.CloseIdleConnections()
	return err
}

// Use sets the hooks of all writes from now on, and counts from 1 again.
func (g *Gate) Use(h Hooks) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hooks, g.writes = h, nil
}

// Writes returns what was written since Use, in order.
func (g *Gate) Writes() []Write {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Write(nil), g.writes...)
}

func (g *Gate) count(r *http.Request) (Write, Hooks) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := Write{Number: len(g.writes) + 1, Method: r.Method, Path: r.URL.Path}
	g.writes = append(g.writes, w)
	return w, g.hooks
}

func (g *Gate) handler(forward *httputil.ReverseProxy) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		default:
			forward.ServeHTTP(w, r)
			return
		}
		// What the client sent goes on whatever becomes of the client meanwhile, as it does in a network.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r = r.WithContext(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		write, hooks := g.count(r)
		if hooks.Before != nil && !hooks.Before(write) {
			panic(http.ErrAbortHandler)
		}
		last := *forward
		last.ModifyResponse = func(*http.Response) error {
			if hooks.After != nil {
				hooks.After(write)
			}
			return nil
		}
		last.ServeHTTP(w, r)
	})
}
