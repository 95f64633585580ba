package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestALinkThatIsCutHoldsWhatWasSent(t *testing.T) {
	echo, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, refused := echo.Accept()
			if refused != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	link, err := NewLink(t.Context(), echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	before := dial(t, link)
	say(t, before, "one")
	hear(t, before, "one")
	link.Cut()
	link.Cut()
	during := dial(t, link)
	for _, c := range []net.Conn{before, during} {
		say(t, c, "two")
		if err = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, timeout := c.Read(make([]byte, 1)); n > 0 || timeout == nil {
			t.Error("something came through a cut link")
		}
	}
	link.Heal()
	link.Heal()
	for _, c := range []net.Conn{before, during} {
		if err = c.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		hear(t, c, "two")
	}
	if err = link.Close(); err != nil {
		t.Error(err)
	}
	if _, err = before.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlives the link")
	}
}

func dial(t *testing.T, l *Link) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", l.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func say(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(c, line); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("heard %q (%v), want %q", got, err, want)
	}
}

// served is what an API server has seen, in order.
type served struct {
	mu   sync.Mutex
	seen []string
}

func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, body, r.Header.Get("Authorization")))
	io.WriteString(w, "done")
}

func (s *served) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.seen...)
}

// startGate returns a gate in front of an API server, and a client of it that speaks HTTP/2.
func startGate(t *testing.T, upstream http.Handler) (*Gate, *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(upstream)
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	g, err := newGate(t.Context(), target, server.TLS.Certificates[0], roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
}

func send(t *testing.T, g *Gate, client *http.Client, method, path string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+g.Address+path, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer mine")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.ReadAll(res.Body)
	return err
}

func TestAGateShowsEachWriteBeforeAndAfter(t *testing.T) {
	api := &served{}
	g, client := startGate(t, api)
	var seen []string
	g.Use(Hooks{
		Before: func(w Write) bool {
			seen = append(seen, fmt.Sprintf("before %d, served %d", w.Number, len(api.all())))
			return w.Number != 2
		},
		After: func(w Write) { seen = append(seen, fmt.Sprintf("after %d, served %d", w.Number, len(api.all()))) },
	})
	const node = "/apis/endpointsync.io/v1alpha1/endpointsyncnodes/a"
	for _, r := range []struct {
		method, path string
		fails        bool
	}{
		{http.MethodGet, node, false},
		{http.MethodPatch, node, false},
		{http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/ns/leases/claim", true},
		{http.MethodPost, "/api/v1/namespaces/ns/configmaps", false},
	} {
		if err := send(t, g, client, r.method, r.path); (err != nil) != r.fails {
			t.Errorf("%s %s: %v, want a failure: %v", r.method, r.path, err, r.fails)
		}
	}
	want := []string{
		"GET " + node + " body Bearer mine", "PATCH " + node + " body Bearer mine",
		"POST /api/v1/namespaces/ns/configmaps body Bearer mine",
	}
	if diff := cmp.Diff(want, api.all()); diff != "" {
		t.Errorf("what the API server saw (-want +got):\n%s", diff)
	}
	want = []string{
		"before 1, served 1", "after 1, served 2", "before 2, served 2", "before 3, served 2", "after 3, served 3",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
	var writes []string
	for _, w := range g.Writes() {
		writes = append(writes, w.String())
	}
	if diff := cmp.Diff([]string{"PATCH endpointsyncnodes/a", "PUT leases/claim", "POST configmaps"}, writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestAGateLetsAWatchThroughAsItComes(t *testing.T) {
	more := make(chan struct{})
	g, client := startGate(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-more
		fmt.Fprintln(w, "second")
	}))
	res, err := client.Get("https://" + g.Address + "/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || lines.Text() != "first" {
		t.Fatalf("got %q (%v), want the first event", lines.Text(), lines.Err())
	}
	close(more)
	if !lines.Scan() || lines.Text() != "second" {
		t.Errorf("got %q (%v), want the second event", lines.Text(), lines.Err())
	}
}

func TestAKubeconfigGoesThroughTheProxy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.conf")
	const text = "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: x, cluster: {server: 'https://127.0.0.1:1'}}]\n" +
		"users: [{name: x, user: {token: mine}}]\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	through, err := Kubeconfig(path, "127.0.0.1:4321")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(through)
	if err != nil {
		t.Fatal(err)
	}
	if through != strings.TrimSuffix(path, ".conf")+"-4321.conf" || !strings.Contains(string(copied), "https://127.0.0.1:4321") ||
		!strings.Contains(string(copied), "token: mine") {
		t.Errorf("%s holds\n%s\nwant the same credentials and the other address", through, copied)
	}
}
