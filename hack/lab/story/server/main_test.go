package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// asServer makes this test binary the server.
const asServer = "STORY_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// process is a running server.
type process struct {
	cmd     *exec.Cmd
	output  *bufio.Reader
	address string
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, os.Args[0], append([]string{"-address=127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), asServer+"=yes")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // The test says how it should end.
	})
	p := &process{cmd: cmd, output: bufio.NewReader(out)}
	p.address = p.await(t, "serving at ")
	return p
}

// await returns the rest of the line that begins so.
func (p *process) await(t *testing.T, prefix string) string {
	t.Helper()
	for {
		line, err := p.output.ReadString('\n')
		if err != nil {
			t.Fatalf("wait for %q: %v", prefix, err)
		}
		if rest, found := strings.CutPrefix(line, prefix); found {
			return strings.TrimSpace(rest)
		}
	}
}

func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.await(t, "terminated")
}

func (p *process) mustAnswer(t *testing.T, path string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || string(body) != answer || !response.Close {
		t.Errorf("GET %s = %s %q, closed %v; want 200 %q and closed", path, response.Status, body, response.Close, answer)
	}
}

func TestItStopsAtOnce(t *testing.T) {
	p := start(t)
	p.mustAnswer(t, "/")
	p.mustAnswer(t, "/healthz")
	// Half a request would hold back a server that stops gracefully.
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err = io.WriteString(conn, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	p.terminate(t)
	if err = p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v, want success", err)
	}
	if content, _ := io.ReadAll(conn); len(content) > 0 {
		t.Errorf("half a request was answered with %q", content)
	}
	if _, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", p.address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after its end: %v, want refused", err)
	}
}

func TestItGoesOnWhileItLingers(t *testing.T) {
	p := start(t, "-linger=1h")
	p.terminate(t)
	p.mustAnswer(t, "/")
	p.mustAnswer(t, "/healthz")
}

func TestItStopsAfterLingering(t *testing.T) {
	p := start(t, "-linger=1ms")
	p.terminate(t)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v, want success", err)
	}
}
