package rig

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

var environment *Environment

func TestMain(m *testing.M) {
	os.Exit(Main(m, func(e *Environment) { environment = e }))
}

func atOnce() time.Duration { return 0 }

func TestTheStandInRunsFromTheManifest(t *testing.T) {
	c := environment.Shared(t)
	r := New(t, environment, c, Options{RestartDelay: atOnce, BackOffBase: 10 * time.Millisecond})
	if args, running := r.KCMArgs(); !running || args[0] != "kube-controller-manager" {
		t.Errorf("command = %v, running %v", args, running)
	}
	// The Lease is renewed, with the credentials that the manifest names.
	Await(t, time.Minute, func() string { return "a Lease" }, func(ctx context.Context) bool {
		lease, err := c.Client.CoordinationV1().Leases("kube-system").Get(ctx, "kube-controller-manager", metav1.GetOptions{})
		return err == nil && lease.Spec.HolderIdentity != nil
	})
	// The mirror Pod comes with it.
	Await(t, time.Minute, func() string { return "a mirror Pod" }, func(ctx context.Context) bool {
		_, err := c.Client.CoreV1().Pods("kube-system").Get(ctx, "kube-controller-manager-"+r.Node, metav1.GetOptions{})
		return err == nil
	})
}

func TestTheAgentsCredentialsAreConfinedToTheirNode(t *testing.T) {
	c := environment.Shared(t)
	r := New(t, environment, c, Options{RestartDelay: atOnce})
	r.Instruct(t, v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)})
	config, err := clientcmd.BuildConfigFromFlags("", r.Kubeconfig(t, operator.Agent))
	if err != nil {
		t.Fatal(err)
	}
	agent, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	patch := []byte(`{"status":{"phase":"Idle"}}`)
	if _, err = agent.Resource(nodesResource()).Patch(t.Context(), r.Node, mergePatch, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Errorf("own status: %v, want success", err)
	}
	const other = "another-node"
	if _, err = c.Dynamic.Resource(nodesResource()).Apply(t.Context(), other,
		nodeObject(other, v1alpha1.EndpointSyncNodeSpec{Revision: new(int64)}), applyOptions()); err != nil {
		t.Fatal(err)
	}
	_, err = agent.Resource(nodesResource()).Patch(t.Context(), other, mergePatch, patch, metav1.PatchOptions{}, "status")
	if !apierrors.IsForbidden(err) {
		t.Errorf("another's status: %v, want forbidden", err)
	}
	// kube-controller-manager lets the agent read what it needs.
	client, err := rest.HTTPClientFor(&rest.Config{BearerToken: config.BearerToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/metrics", "/flagz", "/configz"} {
		res, getErr := client.Get(r.KCMURL + path)
		if getErr != nil {
			t.Fatal(getErr)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("GET %s = %s, want 200", path, res.Status)
		}
	}
	node, err := r.Object(t.Context())
	if err != nil || node.Status.Phase != v1alpha1.PhaseIdle {
		t.Errorf("status = %+v (%v), want phase Idle", node.Status, err)
	}
}

func TestTheRealKubeControllerManagerAnswersAsTheStandInDoes(t *testing.T) {
	c := environment.Shared(t)
	r := New(t, environment, c, Options{RealKCM: true, KCMArgs: []string{"--kube-api-qps=21"}})
	config, err := clientcmd.BuildConfigFromFlags("", r.Kubeconfig(t, operator.Agent))
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(&rest.Config{BearerToken: config.BearerToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.KCMURL+"/flagz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var flagz struct{ Flags map[string]string }
	if err = json.NewDecoder(res.Body).Decode(&flagz); err != nil || flagz.Flags["kube-api-qps"] != "21" || flagz.Flags["kube-api-burst"] != "30" {
		t.Errorf("flagz = %+v (%v), want qps 21, burst 30", flagz, err)
	}
}

func TestTheWatcherSeesCarefulAndCarelessWriters(t *testing.T) {
	const before, after = "old", "new"
	tests := map[string]struct {
		write   func(t *testing.T, dir string)
		careful bool
	}{
		"rename over from a dot file": {func(t *testing.T, dir string) {
			t.Helper()
			write(t, filepath.Join(dir, ".tmp"), after)
			rename(t, filepath.Join(dir, ".tmp"), filepath.Join(dir, ManifestName))
		}, true},
		"nothing at all": {func(*testing.T, string) {}, true},
		"in place": {func(t *testing.T, dir string) {
			t.Helper()
			write(t, filepath.Join(dir, ManifestName), after)
		}, false},
		"other content": {func(t *testing.T, dir string) {
			t.Helper()
			write(t, filepath.Join(dir, ManifestName), "torn")
		}, false},
		"a temporary with no dot": {func(t *testing.T, dir string) {
			t.Helper()
			write(t, filepath.Join(dir, "tmp"), after)
		}, false},
		"move away and back": {func(t *testing.T, dir string) {
			t.Helper()
			rename(t, filepath.Join(dir, ManifestName), filepath.Join(dir, ".away"))
			rename(t, filepath.Join(dir, ".away"), filepath.Join(dir, ManifestName))
		}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, ManifestName), before)
			w := Watch(t, dir)
			awaitReads(t, w)
			tt.write(t, dir)
			awaitReads(t, w)
			w.stop()
			verdict := &recorder{TB: t}
			w.Verify(verdict, Hash([]byte(before)), Hash([]byte(after)))
			if verdict.failed == tt.careful {
				t.Errorf("Verify failed = %v, want %v", verdict.failed, !tt.careful)
			}
			if got := w.Sightings(); len(got) == 0 || got[0].Hash != Hash([]byte(before)) {
				t.Errorf("Sightings() = %v, want the first content first", got)
			}
		})
	}
}

// awaitReads returns when the watcher has surely looked again.
func awaitReads(t *testing.T, w *Watcher) {
	t.Helper()
	n := w.Reads()
	Await(t, time.Minute, func() string { return "reads of the watcher" }, func(context.Context) bool { return w.Reads() > n+2 })
}

// recorder notes failures instead of failing.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Error(...any)          { r.failed = true }
func (r *recorder) Errorf(string, ...any) { r.failed = true }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
