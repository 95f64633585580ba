package tests

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	// measuredNamespace holds the incident, and the accounts that measure it.
	measuredNamespace = "measured"
	// measuredServices make an incident of (400-30)/20 = 18.5 s at the default flags.
	measuredServices = 400
	// measuredFor covers it and the time until it begins.
	measuredFor = 45 * time.Second
	// maxRequests is one a second, half a probe a second and five while the Pods flip (10 s), what it takes to find the API's
	// kinds and to begin (30), and the retries of two watches that are not allowed, with client-go's back-off (15 each).
	maxRequests = 45 + 23 + 50 + 30 + 2*15
	// observerError is how far the lab's observer, one more reader on a busy machine, may be off itself.
	observerError = 50 * time.Millisecond
)

// readWhatIsMeasured are all the rights that measure needs.
var readWhatIsMeasured = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods", "services", "endpoints"}, Verbs: []string{"list", "watch"}},
	{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
}

// readMore is what it reads besides if it may.
var readMore = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"nodes", "namespaces"}, Verbs: []string{"list", "watch"}},
	{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get"}},
}

// measured is what a script reads from measure -o json.
type measured struct {
	Version int `json:"version"`
	Lag     []struct {
		Resource      string  `json:"resource"`
		Direction     string  `json:"direction"`
		Changes       int     `json:"changes"`
		Closed        int     `json:"closed"`
		Open          int     `json:"open"`
		P50Seconds    float64 `json:"p50Seconds"`
		P99Seconds    float64 `json:"p99Seconds"`
		MaxSeconds    float64 `json:"maxSeconds"`
		P99LowerBound bool    `json:"p99LowerBound"`
	} `json:"lag"`
	Confidence struct {
		Level    string `json:"level"`
		Episodes int    `json:"episodes"`
	} `json:"confidence"`
	ErrorBoundSeconds *float64 `json:"errorBoundSeconds"`
	Verdict           struct {
		Outcome string `json:"outcome"`
	} `json:"verdict"`
	Bottleneck struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"bottleneck"`
	Running struct {
		Flags   map[string]int `json:"flags"`
		Source  string         `json:"source"`
		Assumed bool           `json:"assumed"`
	} `json:"running"`
	Recommendation struct {
		Change  bool           `json:"change"`
		Message string         `json:"message"`
		Flags   map[string]int `json:"flags"`
	} `json:"recommendation"`
	PreStop struct {
		SleepSeconds   int     `json:"sleepSeconds"`
		RemovalSeconds float64 `json:"removalSeconds"`
		Removals       int     `json:"removals"`
	} `json:"preStop"`
	Worst   []struct{ Namespace, Name string } `json:"worst"`
	NotSeen []string                           `json:"notSeen"`
}

// TestMeasureWithReadOnlyRights measures one incident with a ClusterRole that can read what is measured and little more,
// and at the same time with a Role in the one namespace. Both find lag, cause and flags, and ask for nothing but to read.
func TestMeasureWithReadOnlyRights(t *testing.T) {
	cluster := environment.Own(t)
	rig.New(t, environment, cluster, rig.Options{RealKCM: true})
	load := newLoad(t, cluster.Admin, measuredNamespace, measuredServices)
	truth, err := observer.Start(t.Context(), cluster.Admin, observer.Options{Namespace: measuredNamespace, ServiceLabel: workload.ServiceLabel})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(truth.Stop)

	everywhere := startMeasure(t, cluster, reader{"everywhere", slices.Concat(readWhatIsMeasured, readMore), bindCluster})
	inNamespace := startMeasure(t, cluster, reader{"in-namespace", readWhatIsMeasured, bindNamespace}, "--namespace="+measuredNamespace)
	everywhere.awaitMeasuring(t)
	inNamespace.awaitMeasuring(t)
	truth.Mark("incident")
	if _, err = load.Flip(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*measuring{everywhere, inNamespace} {
		got := m.result(t)
		want, err := truth.Result("incident")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(m.account, func(t *testing.T) {
			t.Logf("%s\n%s\nnot seen: %s", got.Bottleneck.Message, got.Recommendation.Message, strings.Join(got.NotSeen, "\n  "))
			requireLag(t, got, want)
			requireAdvice(t, got)
			written, requests := m.proxy.seen()
			t.Logf("%d requests in %v", requests, measuredFor)
			if len(written) > 0 || requests > maxRequests {
				t.Errorf("measure asked to write %q and for %d things in all, want nothing and at most %d", written, requests, maxRequests)
			}
		})
	}
	requireLimits(t, everywhere.result(t), "the command of Pod kube-system/kube-controller-manager-control-plane-1", nil)
	requireLimits(t, inNamespace.result(t), "upstream's defaults, assumed",
		[]string{"other namespaces than " + measuredNamespace, "who leads", "which Nodes exist"})
}

// requireLimits checks where the flags come from, and whether it is said what could not be seen.
func requireLimits(t *testing.T, got *measured, source string, unseen []string) {
	t.Helper()
	if !strings.Contains(got.Running.Source, source) {
		t.Errorf("flags from %q, want %q", got.Running.Source, source)
	}
	text := strings.Join(got.NotSeen, "\n")
	for _, what := range []string{"other namespaces than " + measuredNamespace, "who leads", "which Nodes exist"} {
		if strings.Contains(text, what) != slices.Contains(unseen, what) {
			t.Errorf("not seen says %q: %t, want the contrary, in\n%s", what, strings.Contains(text, what), text)
		}
	}
}

// requireLag holds the measurement against the observer's.
func requireLag(t *testing.T, got *measured, want observer.Result) {
	t.Helper()
	allowed := observerError.Seconds()
	if got.ErrorBoundSeconds != nil {
		allowed += *got.ErrorBoundSeconds
	}
	for _, row := range got.Lag {
		if row.Direction != "Any" {
			continue
		}
		truth := want.EndpointSlice.Summary
		if row.Resource == "Endpoints" {
			truth = want.Endpoints.Summary
		}
		if row.Closed+row.Open != truth.Changes || row.Open != truth.Pending || row.P99LowerBound {
			t.Errorf("%s: %+v, but the observer saw %+v", row.Resource, row, truth)
		}
		for what, both := range map[string][2]float64{
			"p50": {row.P50Seconds, truth.P50.Seconds()}, "p99": {row.P99Seconds, truth.P99.Seconds()}, "max": {row.MaxSeconds, truth.Max.Seconds()},
		} {
			t.Logf("%s %s: %.4f s, by the observer %.4f s, bound %v", row.Resource, what, both[0], both[1], allowed)
			if math.Abs(both[0]-both[1]) > allowed {
				t.Errorf("%s %s = %.4f s, but the observer saw %.4f s: more than %.3f s apart", row.Resource, what, both[0], both[1], allowed)
			}
		}
	}
}

// requireAdvice checks what measure concludes from an incident at the default flags.
func requireAdvice(t *testing.T, got *measured) {
	t.Helper()
	if got.Version != 1 || got.Verdict.Outcome != "Missed" || got.Bottleneck.Type != "ClientRateLimit" {
		t.Errorf("version %d, verdict %s, bottleneck %+v, want Missed for the rate limit", got.Version, got.Verdict.Outcome, got.Bottleneck)
	}
	if f := got.Recommendation.Flags; !got.Recommendation.Change || (f["kube-api-qps"] <= 20 && f["kube-api-burst"] <= 30) {
		t.Errorf("recommendation %+v, want a higher rate limit or a longer burst", got.Recommendation)
	}
	if !strings.Contains(got.Bottleneck.Message, "against 20 allowed (kube-api-qps)") {
		t.Errorf("bottleneck %q, want the rate at which was written", got.Bottleneck.Message)
	}
	if got.Running.Flags["kube-api-qps"] != 20 || got.Running.Flags["kube-api-burst"] != 30 {
		t.Errorf("running %+v, want the defaults", got.Running)
	}
	if got.Confidence.Level != "Low" || got.Confidence.Episodes != 1 {
		t.Errorf("confidence %+v in 200 removals of one episode, want Low", got.Confidence)
	}
	if p := got.PreStop; p.Removals != measuredServices || p.SleepSeconds != int(math.Ceil(1.25*p.RemovalSeconds))+5 || p.RemovalSeconds < 5 {
		t.Errorf("preStop %+v, want one that covers half of %d changes in two APIs", p, measuredServices)
	}
	if len(got.Worst) != 10 || got.Worst[0].Namespace != measuredNamespace {
		t.Errorf("worst Services %+v, want ten", got.Worst)
	}
}

// reader is a ServiceAccount of measuredNamespace, and how it gets its rights.
type reader struct {
	account string
	rules   []rbacv1.PolicyRule
	bind    func(ctx context.Context, c *rig.Cluster, account string, rules []rbacv1.PolicyRule) error
}

// bindCluster gives an account its rights everywhere.
func bindCluster(ctx context.Context, c *rig.Cluster, account string, rules []rbacv1.PolicyRule) error {
	name, rbac := metav1.ObjectMeta{Name: account}, c.Client.RbacV1()
	_, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: name, Rules: rules}, metav1.CreateOptions{})
	_, bound := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: name, Subjects: subject(account),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: account},
	}, metav1.CreateOptions{})
	return errors.Join(err, bound)
}

// bindNamespace gives an account its rights in its own namespace.
func bindNamespace(ctx context.Context, c *rig.Cluster, account string, rules []rbacv1.PolicyRule) error {
	name, rbac := metav1.ObjectMeta{Name: account}, c.Client.RbacV1()
	_, err := rbac.Roles(measuredNamespace).Create(ctx, &rbacv1.Role{ObjectMeta: name, Rules: rules}, metav1.CreateOptions{})
	_, bound := rbac.RoleBindings(measuredNamespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: name, Subjects: subject(account),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
	}, metav1.CreateOptions{})
	return errors.Join(err, bound)
}

func subject(account string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: measuredNamespace, Name: account}}
}

// measuring is a measure command that runs with an account's rights.
type measuring struct {
	account  string
	proxy    *proxy
	out      bytes.Buffer
	progress safeBuffer
	ended    chan error

	once   sync.Once
	parsed measured
}

// startMeasure gives an account its rights and starts measure with them.
func startMeasure(t *testing.T, c *rig.Cluster, r reader, extra ...string) *measuring {
	t.Helper()
	accounts := c.Client.CoreV1().ServiceAccounts(measuredNamespace)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: r.account}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err = r.bind(t.Context(), c, r.account, r.rules); err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(t.Context(), r.account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := &measuring{account: r.account, proxy: startProxy(t, c.Admin), ended: make(chan error, 1)}
	args := append([]string{
		"measure", "--kubeconfig=" + m.proxy.kubeconfig(t, token.Status.Token), "--for=" + measuredFor.String(), "--output=json",
	}, extra...)
	cmd := exec.CommandContext(t.Context(), environment.Operator(t), args...)
	cmd.Stdout, cmd.Stderr = &m.out, &m.progress
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { m.ended <- cmd.Wait() }()
	return m
}

// awaitMeasuring returns when the first lists are in.
func (m *measuring) awaitMeasuring(t *testing.T) {
	t.Helper()
	rig.Await(t, time.Minute, func() string { return m.account + " to measure, which said " + m.progress.String() }, func(context.Context) bool {
		return strings.Contains(m.progress.String(), "Measuring: ")
	})
}

// result returns what the command printed; it must end with status 2, since the objective is missed.
func (m *measuring) result(t *testing.T) *measured {
	t.Helper()
	m.once.Do(func() {
		err := <-m.ended
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%s: measure ended with %v, want exit status 2", m.account, err)
		}
		if err := json.Unmarshal(m.out.Bytes(), &m.parsed); err != nil {
			t.Fatalf("%s: standard output is not JSON: %v\n%s\n%s", m.account, err, &m.out, m.progress.String())
		}
	})
	return &m.parsed
}

// safeBuffer may be read while it is written.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// proxy stands between a client and the API server and keeps what was asked for.
type proxy struct {
	server *httptest.Server

	mu    sync.Mutex
	all   int
	other []string // requests that do not read
}

// startProxy forwards to the API server, with the client's own credentials.
func startProxy(t *testing.T, admin *rest.Config) *proxy {
	t.Helper()
	transport, err := rest.TransportFor(&rest.Config{Host: admin.Host, TLSClientConfig: rest.TLSClientConfig{CAData: admin.CAData, CAFile: admin.CAFile}})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(admin.Host)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // Watches must not be held back.
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.all++
		if r.Method != http.MethodGet {
			p.other = append(p.other, r.Method+" "+r.URL.Path)
		}
		p.mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	p.server.EnableHTTP2 = true
	p.server.StartTLS()
	t.Cleanup(p.server.CloseClientConnections)
	return p
}

// seen returns the requests that were no reading, and how many there were in all.
func (p *proxy) seen() (other []string, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.other), p.all
}

// kubeconfig writes a kubeconfig that leads through the proxy.
func (p *proxy) kubeconfig(t *testing.T, token string) string {
	t.Helper()
	const name = "measure"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: p.server.URL, CertificateAuthorityData: certificate(p.server.Certificate())}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(fmt.Errorf("write a kubeconfig: %w", err))
	}
	return path
}

func certificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
