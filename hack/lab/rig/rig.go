package rig

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
)

// ManifestName is kube-controller-manager's file in the manifests directory, as kubeadm names it.
const ManifestName = "kube-controller-manager.yaml"

// Options of a rig. The zero value runs the stand-in on node control-plane-1, started as a kubelet would.
type Options struct {
	// Node is the name of the control-plane node. Empty means control-plane-1. Rigs that live at the same time on one
	// cluster need different ones.
	Node string
	// RealKCM runs kube-controller-manager instead of the stand-in.
	RealKCM bool
	// RestartDelay and BackOffBase are the static-Pod runner's: nil and zero mean as the kubelet.
	RestartDelay func() time.Duration
	BackOffBase  time.Duration
	// KCMArgs are put at the end of kube-controller-manager's command, for example "--kube-api-qps=20".
	KCMArgs []string
	// KCMKubeconfig is how kube-controller-manager reaches the API server. Empty means directly.
	KCMKubeconfig string
}

// Rig is one control-plane node: a manifests directory, what runs from it, and an agent's state directory.
type Rig struct {
	Cluster *Cluster
	Node    string
	// ManifestDir, StateDir and LogDir are the node's directories; Manifest is the path of the manifest.
	ManifestDir, StateDir, LogDir, Manifest string
	// Original is the manifest's content at the start.
	Original []byte
	// KCMURL is where this node's kube-controller-manager serves.
	KCMURL string
	// Pods keeps the static Pods.
	Pods *staticpod.Runner

	environment *Environment
	behaviour   string
	kubeconfigs map[string]string // by ServiceAccount
}

// New makes a node of the cluster and returns when its kube-controller-manager is healthy. It goes with the test.
func New(t T, e *Environment, c *Cluster, o Options) *Rig {
	t.Helper()
	if o.Node == "" {
		o.Node = "control-plane-1"
	}
	dir := t.TempDir()
	r := &Rig{
		Cluster: c, Node: o.Node, environment: e,
		ManifestDir: filepath.Join(dir, "manifests"), StateDir: filepath.Join(dir, "state"), LogDir: filepath.Join(dir, "logs"),
		behaviour: filepath.Join(dir, "behaviour"), kubeconfigs: map[string]string{},
	}
	r.Manifest = filepath.Join(r.ManifestDir, ManifestName)
	for _, d := range []string{r.ManifestDir, r.StateDir, r.LogDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { r.report(t) })
	r.register(t)
	r.prepareManifest(t, o)
	r.startPods(t, o)
	r.AwaitHealthy(t, time.Minute)
	return r
}

func (r *Rig) startPods(t T, o Options) {
	t.Helper()
	kcm := r.Cluster.Binaries.ControllerManager
	if !o.RealKCM {
		kcm = r.environment.StandIn(t)
	}
	var err error
	r.Pods, err = staticpod.Start(context.WithoutCancel(t.Context()), staticpod.Options{
		ManifestDir: r.ManifestDir, LogDir: r.LogDir, NodeName: r.Node, Client: r.Cluster.Client,
		Binaries:     map[string]string{"kube-controller-manager": kcm},
		RestartDelay: o.RestartDelay, BackOffBase: o.BackOffBase,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Pods.Stop)
}

// register makes the Node object, and takes it and what the operator keeps for it away at the end.
func (r *Rig) register(t T) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: r.Node, Labels: map[string]string{controlplane.ControlPlaneLabel: "", corev1.LabelHostname: r.Node},
	}}
	_, err := r.Cluster.Client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("register node %s: %v", r.Node, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), settle)
		defer cancel()
		err := r.Cluster.Dynamic.Resource(nodesResource()).Delete(ctx, r.Node, metav1.DeleteOptions{})
		if nodeErr := r.Cluster.Client.CoreV1().Nodes().Delete(ctx, r.Node, metav1.DeleteOptions{}); nodeErr != nil {
			t.Logf("delete node %s: %v", r.Node, nodeErr)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			t.Logf("delete what the operator keeps for %s: %v", r.Node, err)
		}
	})
}

// prepareManifest writes kubeadm's manifest for a port of this node's own.
func (r *Rig) prepareManifest(t T, o Options) {
	t.Helper()
	manifest, err := r.Cluster.KCMManifest()
	if err != nil {
		t.Fatal(err)
	}
	_, oldPort, err := net.SplitHostPort(r.Cluster.KCMURL[len("https://"):])
	if err != nil {
		t.Fatal(err)
	}
	ports, err := controlplane.FreePorts(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(ports[0])
	manifest = bytes.ReplaceAll(manifest, []byte("--secure-port="+oldPort), []byte("--secure-port="+port))
	manifest = bytes.ReplaceAll(manifest, []byte("containerPort: "+oldPort), []byte("containerPort: "+port))
	if o.KCMKubeconfig != "" {
		manifest = bytes.ReplaceAll(manifest, []byte(r.Cluster.KCMKubeconfig), []byte(o.KCMKubeconfig))
	}
	args := o.KCMArgs
	if !o.RealKCM {
		args = append([]string{"--standin-behaviour-file=" + r.behaviour}, args...)
	}
	const last = "    - --use-service-account-credentials=true\n"
	var lines strings.Builder
	lines.WriteString(last)
	for _, arg := range args {
		lines.WriteString("    - " + arg + "\n")
	}
	if bytes.Count(manifest, []byte(last)) != 1 {
		t.Fatalf("the lab's manifest has no single line %q to put arguments after", last)
	}
	r.Original = bytes.Replace(manifest, []byte(last), []byte(lines.String()), 1)
	r.KCMURL = "https://" + net.JoinHostPort("127.0.0.1", port)
	if err = os.WriteFile(r.Manifest, r.Original, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Misbehave tells the stand-in how to behave from its next start on, if its flags are not the defaults: "exit",
// "unhealthy", "ignore-flags", or "" to behave. A second word, as in "exit --kube-api-qps=50", narrows that to commands
// with this argument.
func (r *Rig) Misbehave(t T, how string) {
	t.Helper()
	if err := os.WriteFile(r.behaviour, []byte(how), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Healthy reports whether kube-controller-manager answers healthz with 200.
func (r *Rig) Healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.KCMURL+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // each process signs its own certificate
		DisableKeepAlives: true,
	}}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// AwaitHealthy returns when kube-controller-manager is healthy.
func (r *Rig) AwaitHealthy(t T, within time.Duration) {
	t.Helper()
	Await(t, within, func() string { return "a healthy kube-controller-manager on " + r.Node }, r.Healthy)
}

// Read returns the manifest as it is now.
func (r *Rig) Read(t T) []byte {
	t.Helper()
	content, err := os.ReadFile(r.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// With is what the agent must make of the original manifest: flags at the end of the command, in the order of kubeadm's
// ConfigMap, and every other byte as it was.
func (r *Rig) With(t T, flags v1alpha1.Flags) []byte {
	t.Helper()
	const after = "    image: "
	if bytes.Count(r.Original, []byte(after)) != 1 {
		t.Fatalf("the manifest has no single line %q", after)
	}
	var lines strings.Builder
	for arg := range strings.FieldsSeq(flags.String()) {
		lines.WriteString("    - " + arg + "\n")
	}
	return bytes.Replace(r.Original, []byte(after), []byte(lines.String()+after), 1)
}

// Journal is how far the agent is with a change.
type Journal struct {
	// Phase is a word of the agent's own; empty: no change is open, or there never was one.
	Phase string
	// Revision of the change that the phase is of.
	Revision int64
}

// Journal reads the agent's journal: a line of header, then JSON. It is replaced as a whole, so any read is whole.
func (r *Rig) Journal(t T) Journal {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(r.StateDir, "journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return Journal{}
	}
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(content, []byte("\n"))
	var j struct {
		Phase  string `json:"phase"`
		Change struct {
			Revision int64 `json:"revision"`
		} `json:"change"`
	}
	if err = json.Unmarshal(body, &j); err != nil {
		t.Fatalf("the journal is torn: %v\n%s", err, content)
	}
	return Journal{Phase: j.Phase, Revision: j.Change.Revision}
}

// report shows the logs of a test that failed.
func (r *Rig) report(t T) {
	t.Helper()
	if !t.Failed() {
		return
	}
	logs, err := filepath.Glob(filepath.Join(r.LogDir, "*.log"))
	if err != nil {
		return
	}
	const shown = 4000
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		t.Logf("%s (its end):\n%s", filepath.Base(path), content[max(0, len(content)-shown):])
	}
	if r.Pods != nil {
		for _, p := range r.Pods.Processes() {
			t.Logf("process %d of %.8s: started %s, ended %s with %d, …%v", p.PID, p.UID,
				p.Started.Format(time.StampMilli), p.Exited.Format(time.StampMilli), p.ExitCode, p.Args[max(0, len(p.Args)-4):])
		}
	}
}
