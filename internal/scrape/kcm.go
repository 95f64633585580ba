// Package scrape reads one kube-controller-manager's own endpoints: /healthz, /metrics and /flagz or /configz.
// It returns plain values and decides nothing: what a number means is internal/tuner's to say, and whether a change is
// proven is internal/agent's.
package scrape

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	neturl "net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

const (
	// timeout of one request. A kube-controller-manager that cannot answer within it is as good as silent.
	timeout = 5 * time.Second

	// maxBody is the longest answer that is read, in bytes. The metrics of v1.37.2 are 0.4 MiB when idle.
	maxBody = 8 << 20

	// flagzJSON asks for the JSON form: the delimiter of the text form changes from process to process.
	flagzJSON = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz"
)

// StatusError is an answer other than 200.
type StatusError struct {
	Path string // asked for
	Code int    // answered
}

// Error names the path, the code and, for the two codes that a person can act on, what to do.
func (e *StatusError) Error() string {
	switch e.Code {
	case http.StatusUnauthorized:
		return fmt.Sprintf("get %s: 401 Unauthorized: kube-controller-manager could not check the token; is the API server up?", e.Path)
	case http.StatusForbidden:
		return fmt.Sprintf("get %s: 403 Forbidden: grant get on nonResourceURLs %s", e.Path, e.Path)
	default:
		return fmt.Sprintf("get %s: status %d", e.Path, e.Code)
	}
}

// KCM reads one kube-controller-manager's endpoints. Every request is made on a connection of its own, so that it
// reaches the process that listens now and not one that is going away.
type KCM struct {
	url    string
	client *http.Client
}

// NewKCM returns a reader for the kube-controller-manager at url, such as https://127.0.0.1:10257, with the
// credentials of config: bearer token, token file or client certificate; config's Dial is used if it has one. The
// serving certificate is verified against the file caFile; without one it is not verified, because
// kube-controller-manager signs its own unless told otherwise. Whoever answers is given the token, so without one url
// must be a loopback address, written as a number. Redirects are not followed. Nothing is sent before the first read.
func NewKCM(url string, config *rest.Config, caFile string) (*KCM, error) {
	if err := checkTarget(url, caFile); err != nil {
		return nil, err
	}
	credentials := rest.AnonymousClientConfig(config)
	credentials.TLSClientConfig = rest.TLSClientConfig{
		CertFile: config.CertFile, KeyFile: config.KeyFile,
		CertData: config.CertData, KeyData: config.KeyData,
		CAFile: caFile, Insecure: caFile == "",
	}
	credentials.BearerToken, credentials.BearerTokenFile = config.BearerToken, config.BearerTokenFile
	settings, err := credentials.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("read the credentials for %s: %w", url, err)
	}
	tlsConfig, err := transport.TLSConfigFor(settings)
	if err != nil {
		return nil, fmt.Errorf("read the certificates for %s: %w", url, err)
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	base := &http.Transport{
		TLSClientConfig: tlsConfig, DisableKeepAlives: true, TLSHandshakeTimeout: timeout, DialContext: config.Dial,
	}
	wrapped, err := transport.HTTPWrappersForConfig(settings, base)
	if err != nil {
		return nil, fmt.Errorf("use the credentials for %s: %w", url, err)
	}
	client := &http.Client{
		Transport: wrapped, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &KCM{url: strings.TrimSuffix(url, "/"), client: client}, nil
}

// checkTarget refuses an address to which a token could be lost: one beyond this machine whose server is not verified.
// A name is not taken for this machine, because what it stands for is somebody else's to say.
func checkTarget(address, caFile string) error {
	target, err := neturl.Parse(address)
	switch {
	case err != nil:
		return fmt.Errorf("parse kube-controller-manager's address: %w", err)
	case target.Scheme != "https" && target.Scheme != "http" || target.Host == "":
		return fmt.Errorf("kube-controller-manager's address is %q, want one such as https://127.0.0.1:10257", address)
	case target.Scheme == "https" && caFile != "":
		return nil
	}
	if ip, err := netip.ParseAddr(target.Hostname()); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s is not known to be this machine, and its server is not verified, so a token sent there could be stolen: "+
		"use a loopback address such as https://127.0.0.1:10257, or https with the certificates to verify it", address)
}

// Healthy returns nil if /healthz answers 200 "ok". It needs no permission and no API server.
func (k *KCM) Healthy(ctx context.Context) error {
	_, err := k.Probe(ctx)
	return err
}

// Probe is Healthy and also returns the sha256 of the serving certificate, in hex, whenever something answered. A
// self-signed certificate is fresh for each process, so another fingerprint means another process; the same one means
// nothing, because it may come from a file.
func (k *KCM) Probe(ctx context.Context) (fingerprint string, err error) {
	answer, err := k.get(ctx, "/healthz", "")
	if err == nil && strings.TrimSpace(string(answer.body)) != "ok" {
		err = errors.New(`get /healthz: the answer is 200 but not "ok"`)
	}
	return answer.fingerprint, err
}

// Configuration returns what the running process runs with, from /flagz, or from /configz on versions that have no
// /flagz. A flag whose value is no positive whole number is absent, and so is a setting that the answer does not tell.
func (k *KCM) Configuration(ctx context.Context) (Configuration, error) {
	answer, err := k.get(ctx, "/flagz", flagzJSON)
	var status *StatusError
	switch {
	case err == nil:
		return parseFlagz(answer.body)
	case errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusNotAcceptable):
	default:
		return Configuration{}, err
	}
	if answer, err = k.get(ctx, "/configz", "application/json"); err != nil {
		return Configuration{}, err
	}
	return parseConfigz(answer.body)
}

// Signals returns what /metrics says about the running process. On an error that is a *SampleError the other signals
// are valid; a signal that could not be read is absent, never 0.
func (k *KCM) Signals(ctx context.Context) (Signals, error) {
	answer, err := k.get(ctx, "/metrics", "text/plain;version=0.0.4")
	if err != nil {
		return Signals{}, err
	}
	signals, err := ParseSignals(answer.body)
	signals.Fingerprint = answer.fingerprint
	return signals, err
}

// answer is a complete answer and the fingerprint of the certificate that it came with.
type answer struct {
	body        []byte
	fingerprint string
}

func (k *KCM) get(ctx context.Context, path, accept string) (a answer, err error) {
	response, err := k.do(ctx, path, accept)
	if err != nil {
		return answer{}, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		sum := sha256.Sum256(response.TLS.PeerCertificates[0].Raw)
		a.fingerprint = hex.EncodeToString(sum[:])
	}
	a.body, err = readBody(response, path)
	return a, err
}

func (k *KCM) do(ctx context.Context, path, accept string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", k.url, path, err)
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := k.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	return response, nil
}

func readBody(response *http.Response, path string) ([]byte, error) {
	if response.StatusCode != http.StatusOK {
		return nil, &StatusError{Path: path, Code: response.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer to %s: %w", path, err)
	case len(body) > maxBody:
		return nil, fmt.Errorf("read the answer to %s: more than %d bytes", path, maxBody)
	}
	return body, nil
}
