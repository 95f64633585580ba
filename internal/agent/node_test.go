package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
)

// manifestText is a small manifest in kubeadm's shape.
const manifestText = `apiVersion: v1
kind: Pod
metadata:
  name: kube-controller-manager
  namespace: kube-system
  labels:
    component: kube-controller-manager
spec:
  containers:
  - command:
    - kube-controller-manager
    - --leader-elect=true
    image: registry.k8s.io/kube-controller-manager:v1.37.2
    name: kube-controller-manager
`

var asked = v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 200, ConcurrentEndpointSyncs: 10, ConcurrentServiceEndpointSyncs: 20}

// behaviour is how the stand-in for kube-controller-manager takes a setting.
type behaviour string

const (
	behaves      behaviour = ""
	exits        behaviour = "exits"        // never listens
	exitsLater   behaviour = "exitsLater"   // listens for a moment, then is started again
	neverHealthy behaviour = "neverHealthy" // answers 500
	ignoresFlags behaviour = "ignoresFlags" // says that it runs with the defaults
	unauthorized behaviour = "unauthorized" // cannot check tokens: the API server is dead
)

// node stands in for a kubelet and a kube-controller-manager: whenever the manifest's bytes change, the process is
// replaced by one that reads its flags from it.
type node struct {
	t        *testing.T
	manifest string
	bad      func(v1alpha1.Flags) behaviour

	mu       sync.Mutex
	listener *pipeListener // nil while nobody listens
	server   *http.Server
	started  time.Time
	flags    v1alpha1.Flags
	how      behaviour
	starts   int
	identity string
	deaf     bool // the kubelet does not look at its files
}

func newNode(t *testing.T, manifestPath string, bad func(v1alpha1.Flags) behaviour) *node {
	t.Helper()
	n := &node{t: t, manifest: manifestPath, bad: bad}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { n.run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
		n.stop()
	})
	return n
}

func (n *node) run(ctx context.Context) {
	last := hash("")
	for ctx.Err() == nil {
		content, err := os.ReadFile(n.manifest)
		if err == nil && hashOf(content) != last && !n.isDeaf() {
			last = hashOf(content)
			n.stop()
			n.start(content)
		}
		if n.exitsNow() {
			n.stop()
			n.start(content)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := clock.RealClock{}.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	}
}

func (n *node) isDeaf() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf
}

func (n *node) setDeaf() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = true
}

// holder is the identity of the process that leads, or led last.
func (n *node) holder() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.identity
}

// awaitUp returns when a process has been started.
func (n *node) awaitUp() {
	for up := false; !up; {
		pause(n.t.Context(), 20*time.Millisecond)
		n.mu.Lock()
		up = n.starts > 0
		n.mu.Unlock()
	}
}

// reboot replaces the process, as booting the machine does.
func (n *node) reboot() {
	n.stop()
	n.start([]byte(readFile(n.t, n.manifest)))
}

// dial connects to the process.
func (n *node) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	listener := n.listener
	n.mu.Unlock()
	if listener == nil {
		return nil, errRefused
	}
	return listener.dial(ctx)
}

func (n *node) exitsNow() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.how == exitsLater && time.Since(n.started) > 900*time.Millisecond
}

func (n *node) start(content []byte) {
	settings, err := manifest.Read(content)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flags = flagsOf(settings).Or(v1alpha1.DefaultFlags())
	n.how = n.bad(n.flags)
	n.starts++
	n.started = time.Now()
	if n.how == exits {
		return
	}
	n.identity = fmt.Sprintf("cp-1_%d", n.starts)
	n.listener = newPipeListener()
	listener := tls.NewListener(n.listener, &tls.Config{Certificates: []tls.Certificate{freshCertificate(n.t)}, MinVersion: tls.VersionTLS12})
	n.server = &http.Server{Handler: n.handler(n.flags, n.how, n.started), ReadHeaderTimeout: time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	server := n.server
	go func() { _ = server.Serve(listener) }()
}

func (n *node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		_ = n.listener.Close() // the server may not have begun to listen
		_ = n.server.Close()
		n.server, n.listener = nil, nil
	}
}

func (n *node) handler(flags v1alpha1.Flags, how behaviour, started time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if how == neverHealthy {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, "ok")
	})
	mux.HandleFunc("/flagz", func(w http.ResponseWriter, _ *http.Request) {
		if how == unauthorized {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		shown := flags
		if how == ignoresFlags {
			shown = v1alpha1.DefaultFlags()
		}
		fmt.Fprint(w, `{"kind":"Flagz","flags":{"leader-elect":"true"`)
		for _, f := range shown.List() {
			fmt.Fprintf(w, ",%q:%q", f.Name, strconv.Itoa(int(f.Value)))
		}
		fmt.Fprint(w, "}}")
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		if how == unauthorized {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "process_start_time_seconds %.2f\n", float64(started.UnixMilli())/1e3)
		fmt.Fprint(w, "leader_election_master_status{name=\"kube-controller-manager\"} 1\n")
		fmt.Fprint(w, "kubernetes_build_info{git_version=\"v1.37.2\"} 1\n")
	})
	return mux
}

// freshCertificate is made anew for each process, as kube-controller-manager does.
func freshCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// bed is a whole node with its agent.
type bed struct {
	cfg     Config
	clock   bootClock
	cluster *fakeCluster
	node    *node
	stop    func()
}

func enforcing() *v1alpha1.EndpointSyncPolicy {
	p := &v1alpha1.EndpointSyncPolicy{}
	p.Name, p.Generation = "default", 1
	p.Spec.Mode = v1alpha1.ModeEnforce
	p.Spec.Bounds = v1alpha1.Bounds{
		KubeAPIQPS: v1alpha1.QPSBound{Min: 20, Max: 300}, KubeAPIBurst: v1alpha1.BurstBound{Min: 30, Max: 1000},
		ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 5, Max: 50},
		ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 5, Max: 50},
	}
	return p
}

func apply(revision int64) v1alpha1.EndpointSyncNodeSpec {
	return v1alpha1.EndpointSyncNodeSpec{
		Revision: &revision, Action: v1alpha1.ActionApply, Flags: asked, PolicyName: "default", PolicyGeneration: 1,
		HealthTimeout: "4s", MinReady: "300ms",
	}
}

// newBed starts a node whose process is up. It belongs into a bubble of testing/synctest: there is no network, and all
// time is virtual.
func newBed(t *testing.T, bad func(v1alpha1.Flags) behaviour) *bed {
	t.Helper()
	t.Cleanup(func() { pause(context.Background(), time.Minute) }) // for connections that are being closed
	manifests := privateDir(t)
	b := &bed{
		cfg: Config{
			NodeName: "cp-1", ManifestDir: manifests, StateDir: filepath.Join(privateDir(t), "state"),
			DownTimeout: 2 * time.Second,
		},
		clock:   bootedAgo("first", time.Hour),
		cluster: &fakeCluster{pol: enforcing(), node: &v1alpha1.EndpointSyncNode{}, probed: deny("cp-1")},
	}
	b.cluster.node.UID = "1"
	writeFile(t, b.path(), manifestText, 0o600)
	b.node = newNode(t, b.path(), bad)
	b.cluster.holder = b.node.holder
	var err error
	if b.cfg, err = b.cfg.withDefaults(); err != nil {
		t.Fatal(err)
	}
	return b
}

// bootedAgo is the clock of a machine that was booted that long ago.
func bootedAgo(id string, ago time.Duration) bootClock {
	booted := time.Now().Add(-ago)
	return bootClock{bootID: id, boot: func() time.Duration { return time.Since(booted) }, wall: clock.RealClock{}}
}

func (b *bed) path() string { return filepath.Join(b.cfg.ManifestDir, DefaultManifestName) }

// startAgent runs an agent until the test ends or b.stop is called.
func (b *bed) startAgent(t *testing.T) {
	t.Helper()
	kcm, err := scrape.NewKCM(b.cfg.KCMURL, &rest.Config{Dial: b.node.dial}, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := start(ctx, b.cfg, b.clock, kcm, b.cluster); err != nil {
			t.Error(err)
		}
	})
	b.stop = func() {
		cancel()
		group.Wait()
	}
	t.Cleanup(b.stop)
}

// waitFor waits for the status to satisfy a condition.
func (b *bed) waitFor(t *testing.T, what string, ok func(v1alpha1.EndpointSyncNodeStatus) bool) v1alpha1.EndpointSyncNodeStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if s := b.cluster.status(); ok(s) {
			return s
		}
		pause(ctx, 10*time.Millisecond)
	}
	t.Fatalf("no %s within 20 minutes; the status is %+v", what, b.cluster.status())
	return v1alpha1.EndpointSyncNodeStatus{}
}

func ended(revision int64) func(v1alpha1.EndpointSyncNodeStatus) bool {
	return func(s v1alpha1.EndpointSyncNodeStatus) bool {
		return s.ObservedRevision == revision && s.Phase == v1alpha1.PhaseIdle
	}
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
