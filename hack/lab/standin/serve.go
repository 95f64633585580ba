package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"
)

// server answers as kube-controller-manager's secure port does.
type server struct {
	flags   map[string]string
	healthy bool
	depth   string // of each work queue
	clock   clock.Clock
	started time.Time
	callers *callers // nil: everybody may read everything
	lease   *lease   // nil: leads, because nobody else is asked
}

// serve listens on 127.0.0.1 until ctx ends.
func (s *server) serve(ctx context.Context, port string) error {
	if port == "" {
		port = "10257"
	}
	certificate, err := selfSigned(s.started)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /metrics", s.allowed(s.metrics))
	mux.HandleFunc("GET /flagz", s.allowed(s.flagz))
	mux.HandleFunc("GET /configz", s.allowed(s.configz))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	h := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
	}
	// Like kube-controller-manager it drops everything at SIGTERM.
	stop := context.AfterFunc(ctx, func() {
		if closeErr := h.Close(); closeErr != nil {
			fmt.Fprintln(os.Stderr, "close:", closeErr)
		}
	})
	defer stop()
	if serveErr := h.ServeTLS(listener, "", ""); !errors.Is(serveErr, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", serveErr)
	}
	return nil
}

// selfSigned makes a new key for each process.
func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// allowed lets a request through if the API server says that its bearer may read the path.
func (s *server) allowed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.callers == nil {
			next(w, r)
			return
		}
		token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !given {
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
		switch s.callers.mayGet(r.Context(), token, r.URL.Path) {
		case callerAllowed:
			next(w, r)
		case callerForbidden:
			http.Error(w, "Forbidden", http.StatusForbidden)
		case callerUnknown:
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		}
	}
}

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	if !s.healthy {
		http.Error(w, "[-]standin failed: reason withheld", http.StatusInternalServerError)
		return
	}
	send(w, "text/plain; charset=utf-8", "ok")
}

// flagz answers in the structured form if it is asked for, and else in the text form, whose delimiter changes from
// process to process.
func (s *server) flagz(w http.ResponseWriter, r *http.Request) {
	if accept := r.Header.Get("Accept"); strings.Contains(accept, "application/json") {
		const v1beta1 = "v=v1beta1"
		if !strings.Contains(accept, v1beta1) || !strings.Contains(accept, "g=config.k8s.io") || !strings.Contains(accept, "as=Flagz") {
			http.Error(w, "only the following media types are accepted: application/json;g=config.k8s.io;v=v1beta1;as=Flagz", http.StatusNotAcceptable)
			return
		}
		sendJSON(w, "application/json;g=config.k8s.io;v=v1beta1;as=Flagz", map[string]any{
			keyKind: "Flagz", keyVersion: "config.k8s.io/v1beta1",
			"metadata": map[string]string{"name": "kube-controller-manager"}, "flags": s.flags,
		})
		return
	}
	delimiters := []string{":", ": ", "=", " "}
	delimiter := delimiters[int(s.started.UnixNano())%len(delimiters)]
	var text strings.Builder
	text.WriteString("\nkube-controller-manager flagz\nWarning: This endpoint is not meant to be machine parseable.\n")
	for name, value := range s.flags {
		text.WriteString(name + delimiter + value + "\n")
	}
	send(w, "text/plain; charset=utf-8", text.String())
}

// configz answers with those fields of KubeControllerManagerConfiguration that come from the tuned flags.
func (s *server) configz(w http.ResponseWriter, _ *http.Request) {
	sendJSON(w, "application/json", map[string]any{
		"kubecontrollermanager.config.k8s.io": map[string]any{
			keyKind:    "KubeControllerManagerConfiguration",
			keyVersion: "kubecontrollermanager.config.k8s.io/v1alpha1",
			"Generic": map[string]any{"ClientConnection": map[string]any{
				"qps": s.number("kube-api-qps"), "burst": s.number("kube-api-burst"),
			}},
			"EndpointController": map[string]any{"ConcurrentEndpointSyncs": s.number("concurrent-endpoint-syncs")},
			"EndpointSliceController": map[string]any{
				"ConcurrentServiceEndpointSyncs": s.number("concurrent-service-endpoint-syncs"),
			},
		},
	})
}

func (s *server) number(flag string) float64 {
	n, err := strconv.ParseFloat(s.flags[flag], 64)
	if err != nil {
		return 0
	}
	return n
}

// metrics answers with the metrics that the operator reads. The counters stand still but for the Lease's writes.
func (s *server) metrics(w http.ResponseWriter, _ *http.Request) {
	leads, writes := s.lease.state()
	var b strings.Builder
	fmt.Fprintf(&b, "# TYPE kubernetes_build_info gauge\nkubernetes_build_info{git_version=%q,major=\"1\",minor=\"37\"} 1\n", version)
	fmt.Fprintf(&b, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %.3f\n", float64(s.started.UnixMilli())/1000)
	fmt.Fprintf(&b, "# TYPE leader_election_master_status gauge\nleader_election_master_status{name=\"kube-controller-manager\"} %d\n", leads)
	for _, name := range []string{"rest_client_rate_limiter_duration_seconds", "rest_client_request_duration_seconds"} {
		fmt.Fprintf(&b, "# TYPE %s histogram\n", name)
		b.WriteString(histogram(name, `host="127.0.0.1",verb="PUT"`, writes))
	}
	queues := []string{"endpoint", "endpoint_slice", "endpoint_slice_mirroring"}
	for _, m := range []struct{ name, kind, value string }{{"workqueue_depth", "gauge", s.depth}, {"workqueue_adds_total", "counter", "0"}} {
		fmt.Fprintf(&b, "# TYPE %s %s\n", m.name, m.kind)
		for _, q := range queues {
			fmt.Fprintf(&b, "%s{name=%q} %s\n", m.name, q, m.value)
		}
	}
	for _, name := range []string{"workqueue_queue_duration_seconds", "workqueue_work_duration_seconds"} {
		fmt.Fprintf(&b, "# TYPE %s histogram\n", name)
		for _, q := range queues {
			b.WriteString(histogram(name, fmt.Sprintf("name=%q", q), 0))
		}
	}
	send(w, "text/plain; version=0.0.4; charset=utf-8", b.String())
}

func histogram(name, labels string, count int) string {
	return fmt.Sprintf("%[1]s_bucket{%[2]s,le=\"1\"} %[3]d\n%[1]s_bucket{%[2]s,le=\"+Inf\"} %[3]d\n"+
		"%[1]s_sum{%[2]s} 0\n%[1]s_count{%[2]s} %[3]d\n", name, labels, count)
}

func sendJSON(w http.ResponseWriter, contentType string, body any) {
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	send(w, contentType, string(text))
}

func send(w http.ResponseWriter, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	if _, err := io.WriteString(w, body); err != nil {
		return // the caller is gone
	}
}
