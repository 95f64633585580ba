package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestMain lets the test binary be the stand-in itself.
func TestMain(m *testing.M) {
	if os.Args[0] == "standin" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	url  string
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, done: make(chan struct{}), url: "https://127.0.0.1:" + port}
	p.cmd = exec.CommandContext(t.Context(), path)
	p.cmd.Args = append([]string{"standin", "--secure-port=" + port, "--unknown-flag", "--v=2"}, args...)
	p.cmd.Stderr = t.Output()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// get waits until the process listens.
func (p *process) get(path string, header http.Header) (int, string) {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, http.NoBody)
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header = header
		res, err := client.Do(req)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			p.t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	p.t.Fatalf("GET %s: nobody answers", path)
	return 0, ""
}

// tunedFlags are what /flagz says of the tuned flags.
func (p *process) tunedFlags() map[string]string {
	p.t.Helper()
	code, body := p.get("/flagz", http.Header{"Accept": {"application/json;v=v1beta1;g=config.k8s.io;as=Flagz"}})
	var answer struct {
		Kind  string
		Flags map[string]string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK || answer.Kind != "Flagz" {
		p.t.Fatalf("/flagz = %d %s (%v)", code, body, err)
	}
	got := map[string]string{}
	for name := range tuned() {
		got[name] = answer.Flags[name]
	}
	return got
}

func TestBehaviourAppliesToChangedFlagsOnly(t *testing.T) {
	with := func(name, value string) map[string]string {
		f := tuned()
		f[name] = value
		return f
	}
	tests := map[string]struct {
		behaviour string
		args      []string
		exits     bool
		health    int
		flags     map[string]string
	}{
		"no flags, told to exit":                     {"exit", nil, false, 200, tuned()},
		"default value, told to exit":                {"exit", []string{"--kube-api-qps=20"}, false, 200, tuned()},
		"changed value, told to exit":                {"exit", []string{"--kube-api-qps=50"}, true, 0, nil},
		"changed workers, told to exit":              {"exit", []string{"--concurrent-endpoint-syncs=6"}, true, 0, nil},
		"changed value, told nothing":                {"", []string{"--kube-api-burst=40"}, false, 200, with("kube-api-burst", "40")},
		"changed value, told to be unhealthy":        {"unhealthy\n", []string{"--kube-api-qps=50"}, false, 500, with("kube-api-qps", "50")},
		"default value, told to be unhealthy":        {"unhealthy", nil, false, 200, tuned()},
		"changed value, told to ignore its flags":    {"ignore-flags", []string{"--kube-api-qps=50"}, false, 200, tuned()},
		"the very value that is to fail":             {"exit --kube-api-qps=50", []string{"--kube-api-qps=50"}, true, 0, nil},
		"another value than the one that is to fail": {"exit --kube-api-qps=50", []string{"--kube-api-qps=60"}, false, 200, with("kube-api-qps", "60")},
		"an unknown behaviour ends a changed start":  {"dance", []string{"--kube-api-qps=50"}, true, 0, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "behaviour")
			if err := os.WriteFile(file, []byte(tt.behaviour), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, append(tt.args, "--standin-behaviour-file="+file)...)
			if tt.exits {
				<-p.done
				if code := p.cmd.ProcessState.ExitCode(); code != 1 {
					t.Errorf("exit code = %d, want 1", code)
				}
				return
			}
			if code, body := p.get("/healthz", nil); code != tt.health {
				t.Errorf("/healthz = %d %s, want %d", code, body, tt.health)
			}
			if diff := cmp.Diff(tt.flags, p.tunedFlags()); diff != "" {
				t.Errorf("flags (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMetricsAreValidAndSayWhatTheOperatorReads(t *testing.T) {
	before := time.Now()
	_, body := start(t).get("/metrics", nil)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	for _, name := range []string{
		"rest_client_rate_limiter_duration_seconds", "rest_client_request_duration_seconds", "kubernetes_build_info",
		"workqueue_depth", "workqueue_adds_total", "workqueue_queue_duration_seconds", "workqueue_work_duration_seconds",
	} {
		if families[name] == nil {
			t.Errorf("metric %s is missing", name)
		}
	}
	if got := families["leader_election_master_status"].GetMetric()[0].GetGauge().GetValue(); got != 1 {
		t.Errorf("leader_election_master_status = %v, want 1", got)
	}
	started := families["process_start_time_seconds"].GetMetric()[0].GetGauge().GetValue()
	if started < float64(before.Unix()) || started > float64(time.Now().Unix()+1) {
		t.Errorf("process_start_time_seconds = %v, want about %d", started, before.Unix())
	}
}

func TestConfigzSaysWhatFlagzSays(t *testing.T) {
	_, body := start(t, "--kube-api-qps=50", "--concurrent-service-endpoint-syncs=9").get("/configz", nil)
	var answer map[string]struct {
		Generic struct {
			ClientConnection struct{ QPS, Burst float64 }
		}
		EndpointSliceController struct{ ConcurrentServiceEndpointSyncs float64 }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	got := answer["kubecontrollermanager.config.k8s.io"]
	if got.Generic.ClientConnection.QPS != 50 || got.Generic.ClientConnection.Burst != 30 ||
		got.EndpointSliceController.ConcurrentServiceEndpointSyncs != 9 {
		t.Errorf("/configz = %s", body)
	}
}

// apiserver knows one token, lets it read /metrics alone, and keeps one Lease.
type apiserver struct {
	mu    sync.Mutex
	lease map[string]any
}

func (a *apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var in map[string]any
	if r.Body != nil {
		json.NewDecoder(r.Body).Decode(&in)
	}
	spec, _ := in["spec"].(map[string]any)
	switch {
	case strings.HasSuffix(r.URL.Path, "/tokenreviews"):
		json.NewEncoder(w).Encode(map[string]any{"status": map[string]any{
			"authenticated": spec["token"] == "good", "user": map[string]any{"username": "agent"},
		}})
	case strings.HasSuffix(r.URL.Path, "/subjectaccessreviews"):
		attributes, _ := spec["nonResourceAttributes"].(map[string]any)
		json.NewEncoder(w).Encode(map[string]any{"status": map[string]any{
			"allowed": spec["user"] == "agent" && attributes["path"] == "/metrics",
		}})
	case r.Method == http.MethodGet && a.lease == nil:
		http.NotFound(w, r)
	case r.Method == http.MethodGet:
		json.NewEncoder(w).Encode(a.lease)
	default:
		a.lease = in
		json.NewEncoder(w).Encode(in)
	}
}

func (a *apiserver) holder() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	spec, _ := a.lease["spec"].(map[string]any)
	holder, _ := spec["holderIdentity"].(string)
	return holder
}

func startAPI(t *testing.T, a *apiserver) (kubeconfig string, stop func()) {
	t.Helper()
	s := httptest.NewTLSServer(a)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	text := fmt.Sprintf("clusters: [{cluster: {server: %q, certificate-authority: %q}}]\nusers: [{user: {token: t}}]\n", s.URL, ca)
	kubeconfig = filepath.Join(dir, "kubeconfig")
	if err := errors.Join(os.WriteFile(ca, block, 0o600), os.WriteFile(kubeconfig, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return kubeconfig, s.Close
}

func TestCallersAreAskedAbout(t *testing.T) {
	kubeconfig, stop := startAPI(t, &apiserver{})
	p := start(t, "--kubeconfig="+kubeconfig, "--leader-elect=false")
	for _, tt := range []struct {
		token, path string
		want        int
	}{
		{"", "/healthz", 200}, {"", "/metrics", 403}, {"bad", "/metrics", 401}, {"good", "/metrics", 200}, {"good", "/flagz", 403},
	} {
		header := http.Header{}
		if tt.token != "" {
			header.Set("Authorization", "Bearer "+tt.token)
		}
		if got, body := p.get(tt.path, header); got != tt.want {
			t.Errorf("GET %s with token %q = %d %s, want %d", tt.path, tt.token, got, body, tt.want)
		}
	}
	stop()
	if got, _ := p.get("/metrics", http.Header{"Authorization": {"Bearer good"}}); got != 200 {
		t.Errorf("GET /metrics of a known caller with the API server down = %d, want 200 from the cache", got)
	}
	if got, _ := p.get("/flagz", http.Header{"Authorization": {"Bearer other"}}); got != 401 {
		t.Errorf("GET /flagz of an unknown caller with the API server down = %d, want 401", got)
	}
}

func TestTheLeaseIsTakenAtOnce(t *testing.T) {
	a := &apiserver{lease: map[string]any{"spec": map[string]any{"holderIdentity": "somebody", "leaseTransitions": 4}}}
	kubeconfig, _ := startAPI(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	start(t, "--kubeconfig="+kubeconfig)
	for a.holder() == "somebody" {
		if ctx.Err() != nil {
			t.Fatal("the Lease was not taken")
		}
	}
}

// electing are the flags of stand-ins that share a Lease, which runs out sooner than by default.
func electing(kubeconfig, host string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig, "--standin-lease=elect", "--standin-host=" + host,
		"--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=50ms",
	}
}

// awaitHolder returns when the Lease is held by a process of the host.
func awaitHolder(t *testing.T, a *apiserver, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !strings.HasPrefix(a.holder(), host+"_") {
		if ctx.Err() != nil {
			t.Fatalf("the Lease is held by %q, want a process of %s", a.holder(), host)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAnElectedStandInWaitsForItsTurn(t *testing.T) {
	a := &apiserver{}
	kubeconfig, _ := startAPI(t, a)
	first := start(t, electing(kubeconfig, "one")...)
	awaitHolder(t, a, "one")
	start(t, electing(kubeconfig, "two")...)
	for range 100 { // A process that does not wait takes it within milliseconds.
		if time.Sleep(10 * time.Millisecond); !strings.HasPrefix(a.holder(), "one_") {
			t.Fatalf("the Lease went to %q while its holder renewed it", a.holder())
		}
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitHolder(t, a, "two")
}

func TestAnElectedStandInEndsWithItsLease(t *testing.T) {
	a := &apiserver{}
	kubeconfig, stop := startAPI(t, a)
	p := start(t, electing(kubeconfig, "one")...)
	awaitHolder(t, a, "one")
	stop()
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code = %d, want 1", code)
	}
}
