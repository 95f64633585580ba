package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"
)

// Keys of every API object.
const (
	keyVersion = "apiVersion"
	keyKind    = "kind"
	keySpec    = "spec"
	keyHolder  = "holderIdentity" // of a Lease
)

// api is a client of the API server, made by hand: client-go alone would take longer to start than the stand-in may.
type api struct {
	server string
	token  string
	http   *http.Client
}

// kubeconfig is what is read of one: its only cluster and user.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server string `json:"server"`
			CAFile string `json:"certificate-authority"`
			CAData []byte `json:"certificate-authority-data"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		User struct {
			Token    string `json:"token"`
			CertFile string `json:"client-certificate"`
			CertData []byte `json:"client-certificate-data"`
			KeyFile  string `json:"client-key"`
			KeyData  []byte `json:"client-key-data"`
		} `json:"user"`
	} `json:"users"`
}

func newAPI(path string) (*api, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	var k kubeconfig
	if err = yaml.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("parse kubeconfig %s: %w", path, err)
	}
	if len(k.Clusters) != 1 || len(k.Users) != 1 {
		return nil, fmt.Errorf("kubeconfig %s: want one cluster and one user", path)
	}
	cluster, user := k.Clusters[0].Cluster, k.Users[0].User
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	ca, err := inline(cluster.CAData, cluster.CAFile)
	if err != nil {
		return nil, err
	}
	config.RootCAs.AppendCertsFromPEM(ca)
	cert, certErr := inline(user.CertData, user.CertFile)
	key, keyErr := inline(user.KeyData, user.KeyFile)
	if err = errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	if len(cert) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	return &api{
		server: strings.TrimSuffix(cluster.Server, "/"), token: user.Token,
		http: &http.Client{Transport: transport, Timeout: 5 * time.Second},
	}, nil
}

func inline(data []byte, file string) ([]byte, error) {
	if len(data) > 0 || file == "" {
		return data, nil
	}
	return os.ReadFile(file)
}

// statusError is an answer of the API server other than success.
type statusError int

func (e statusError) Error() string { return "answer " + http.StatusText(int(e)) }

// do sends in, if any, and decodes the answer into out.
func (a *api) do(ctx context.Context, method, path string, in, out any) (err error) {
	var body bytes.Buffer
	if in != nil {
		if err = json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.server+path, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %w", method, path, statusError(res.StatusCode))
	}
	return json.Unmarshal(answer, out)
}

// verdict is what the API server says of a caller.
type verdict int

const (
	callerUnknown verdict = iota
	callerForbidden
	callerAllowed
)

// cacheFor is how long kube-controller-manager remembers a verdict (authentication-token-webhook-cache-ttl and
// authorization-webhook-cache-*-ttl).
const cacheFor = 10 * time.Second

// callers asks the API server who calls and whether he may, as delegated authentication and authorization do.
type callers struct {
	api   *api
	clock clock.PassiveClock

	mu    sync.Mutex
	known map[[2]string]cached // by token and path
}

type cached struct {
	verdict verdict
	until   time.Time
}

// mayGet answers for a bearer token and a path. Without an API server the caller is unknown, and that is not remembered.
func (c *callers) mayGet(ctx context.Context, token, path string) verdict {
	key := [2]string{token, path}
	c.mu.Lock()
	known, ok := c.known[key]
	c.mu.Unlock()
	if ok && c.clock.Now().Before(known.until) {
		return known.verdict
	}
	v, err := c.ask(ctx, token, path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "unable to authenticate the request:", err)
		return callerUnknown
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[[2]string]cached{}
	}
	c.known[key] = cached{v, c.clock.Now().Add(cacheFor)}
	return v
}

type user struct {
	Username string              `json:"username"`
	UID      string              `json:"uid"`
	Groups   []string            `json:"groups"`
	Extra    map[string][]string `json:"extra"`
}

func (c *callers) ask(ctx context.Context, token, path string) (verdict, error) {
	var who struct {
		Status struct {
			Authenticated bool `json:"authenticated"`
			User          user `json:"user"`
		} `json:"status"`
	}
	err := c.api.do(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", map[string]any{
		keyVersion: "authentication.k8s.io/v1", keyKind: "TokenReview", keySpec: map[string]any{"token": token},
	}, &who)
	if err != nil || !who.Status.Authenticated {
		return callerUnknown, err
	}
	var may struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	u := who.Status.User
	err = c.api.do(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{
		keyVersion: "authorization.k8s.io/v1", keyKind: "SubjectAccessReview",
		keySpec: map[string]any{
			"user": u.Username, "uid": u.UID, "groups": u.Groups, "extra": u.Extra,
			"nonResourceAttributes": map[string]string{"path": path, "verb": "get"},
		},
	}, &may)
	if err != nil {
		return callerUnknown, err
	}
	if !may.Status.Allowed {
		return callerForbidden, nil
	}
	return callerAllowed, nil
}
