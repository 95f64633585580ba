package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// remote is a server in a process of its own.
type remote struct {
	*process
	kubeconfig string
	client     *http.Client
	url        string
}

// startLimit is how long the server may take to listen.
const startLimit = time.Minute

func startServer(ctx context.Context, o Options, shape Shape, logs string) (*remote, error) {
	r := &remote{kubeconfig: filepath.Join(logs, "kubeconfig")}
	if err := os.RemoveAll(r.kubeconfig); err != nil {
		return nil, err
	}
	var err error
	r.process, err = start(ctx, "server", filepath.Join(logs, "server.log"), o.Lab,
		"scale", "serve", "--pods", strconv.Itoa(shape.Pods), "--kubeconfig", r.kubeconfig)
	if err != nil {
		return nil, err
	}
	if err = r.connect(ctx); err != nil {
		_ = r.Stop() // The first error says why.
		return nil, err
	}
	return r, nil
}

// connect waits for the kubeconfig, which the server writes when it listens.
func (r *remote) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if _, err := os.Stat(r.kubeconfig); err == nil {
			break
		}
		if _, err := r.usage(); err != nil {
			return err
		}
		if err := sleep(ctx, poll); err != nil {
			return fmt.Errorf("wait for %s: %w", r.kubeconfig, err)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", r.kubeconfig)
	if err != nil {
		return fmt.Errorf("read the server's kubeconfig: %w", err)
	}
	r.url = config.Host
	if r.client, err = rest.HTTPClientFor(config); err != nil {
		return fmt.Errorf("make a client for the server: %w", err)
	}
	return nil
}

func (r *remote) stats(ctx context.Context) (ServerStats, error) { return r.ask(ctx, "stats", nil) }

// reset begins to count requests anew.
func (r *remote) reset(ctx context.Context) error {
	_, err := r.ask(ctx, "reset", nil)
	return err
}

// churn begins a churn.
func (r *remote) churn(ctx context.Context, how Churn, duration time.Duration) error {
	body, err := json.Marshal(churnRequest{Rate: how.Rate, LagMS: how.Lag.Milliseconds(), Seconds: duration.Seconds()})
	if err != nil {
		return err
	}
	_, err = r.ask(ctx, "churn", body)
	return err
}

func (r *remote) ask(ctx context.Context, what string, body []byte) (stats ServerStats, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+controlPrefix+what, bytes.NewReader(body))
	if err != nil {
		return stats, err
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return stats, fmt.Errorf("ask the server for %s (its log is %s): %w", what, r.log, err)
	}
	defer func() { _ = answer.Body.Close() }() // It was read to its end.
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &stats)
	}
	if err != nil {
		return stats, fmt.Errorf("ask the server for %s: %w", what, err)
	}
	return stats, nil
}
