package balancer

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// longest is how long anything may take; nothing takes a tenth of it on an idle machine.
const longest = time.Minute

// server is an API server as far as a balancer can tell.
type server struct {
	*httptest.Server

	ready   atomic.Bool
	arrived chan struct{} // receives when "/wait" is asked
	silent  chan struct{} // "/wait" answers when it is closed
	speak   func()        // closes silent, once; at the end at the latest
}

func startServer(t *testing.T, name string) *server {
	t.Helper()
	s := &server{arrived: make(chan struct{}, 1), silent: make(chan struct{})}
	s.speak = sync.OnceFunc(func() { close(s.silent) })
	s.ready.Store(true)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/wait":
			s.arrived <- struct{}{}
			<-s.silent
			_, _ = io.WriteString(w, name)
		case r.URL.Path == "/readyz" && !s.ready.Load():
			w.WriteHeader(http.StatusInternalServerError)
		default:
			_, _ = io.WriteString(w, name)
		}
	}))
	t.Cleanup(func() {
		s.speak()
		s.Close()
	})
	return s
}

func (s *server) address() string { return strings.TrimPrefix(s.URL, "https://") }

// balance runs a balancer and returns where it listens.
func balance(t *testing.T, backends ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, backends, io.Discard) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return listener.Addr().String()
}

// ask asks over a new connection and returns who answered, "" if nobody did.
func ask(ctx context.Context, address, path string) string {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+path, http.NoBody)
	if err != nil {
		return ""
	}
	response, err := client.Do(request)
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return string(body)
}

// answers are who answers in a few turns, without repetition.
func answers(ctx context.Context, address string) string {
	var seen []string
	for range 6 {
		if a := ask(ctx, address, "/"); !strings.Contains(strings.Join(seen, " "), a) {
			seen = append(seen, a)
		}
	}
	if len(seen) == 2 && seen[0] > seen[1] {
		seen[0], seen[1] = seen[1], seen[0]
	}
	return strings.Join(seen, " ")
}

func untilAnswers(t *testing.T, address, want string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, longest, true,
		func(ctx context.Context) (bool, error) { return answers(ctx, address) == want, nil })
	if err != nil {
		t.Fatalf("wait until answers come from %q: %v; now from %q", want, err, answers(t.Context(), address))
	}
}

func TestConnectionsGoToBackendsThatAreReady(t *testing.T) {
	one, two := startServer(t, "one"), startServer(t, "two")
	address := balance(t, one.address(), two.address())
	untilAnswers(t, address, "one two")
	one.ready.Store(false)
	untilAnswers(t, address, "two")
	one.ready.Store(true)
	untilAnswers(t, address, "one two")
}

func TestABackendThatRefusesConnectionsIsPassedOver(t *testing.T) {
	one := startServer(t, "one")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := balance(t, gone.Addr().String(), one.address())
	if err = gone.Close(); err != nil {
		t.Fatal(err)
	}
	if got := answers(t.Context(), address); got != "one" {
		t.Errorf("answers come from %q, want from one alone", got)
	}
}

func TestWithoutAnyReadyBackendEachIsTried(t *testing.T) {
	one := startServer(t, "one")
	one.ready.Store(false)
	if got := answers(t.Context(), balance(t, one.address())); got != "one" {
		t.Errorf("answers come from %q, want from one", got)
	}
}

// waits begins a request to one that is not answered, and returns what ends it. No connection but this goes to one
// afterwards.
func waits(t *testing.T, address string, one, two *server) (ended <-chan string) {
	t.Helper()
	untilAnswers(t, address, "one")
	answer := make(chan string, 1)
	go func() { answer <- ask(t.Context(), address, "/wait") }()
	<-one.arrived
	two.ready.Store(true)
	return answer
}

func TestAClientDoesNotWaitForABackendThatWentDown(t *testing.T) {
	one, two := startServer(t, "one"), startServer(t, "two")
	two.ready.Store(false)
	address := balance(t, one.address(), two.address())
	ended := waits(t, address, one, two)
	if err := one.Listener.Close(); err != nil { // The request that it has begun goes on.
		t.Fatal(err)
	}
	select {
	case got := <-ended:
		if got != "" {
			t.Errorf("the request was answered by %q", got)
		}
	case <-time.After(longest):
		t.Error("the connection stayed open")
	}
	untilAnswers(t, address, "two")
}

func TestABackendThatIsNotReadyKeepsItsConnections(t *testing.T) {
	one, two := startServer(t, "one"), startServer(t, "two")
	two.ready.Store(false)
	address := balance(t, one.address(), two.address())
	ended := waits(t, address, one, two)
	one.ready.Store(false)
	untilAnswers(t, address, "two")
	one.speak()
	if got := <-ended; got != "one" {
		t.Errorf("the request that had begun was answered by %q, want one", got)
	}
}
