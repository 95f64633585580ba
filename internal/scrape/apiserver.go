package scrape

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

const (
	// maxServerBody is the longest answer of an API server that is read, in bytes. An idle v1.37.2 gives 2.5 MiB; each
	// custom resource that is used adds some 20 KiB, each verb of it 6.
	maxServerBody = 64 << 20

	// maxServerKept is the most of it that is parsed: of an idle one, 0.4 MiB are.
	maxServerKept = 8 << 20
)

// APIServer reads the metrics of the API server that a configuration leads to. Where that is a load balancer or the
// Service default/kubernetes, it is one of several API servers, and not always the same one: a sample's ProcessStart
// tells which.
type APIServer struct {
	url    string
	client *http.Client
}

// NewAPIServer returns a reader with the credentials of config, which needs get on nonResourceURLs /metrics. Nothing is
// sent before the first read.
func NewAPIServer(config *rest.Config) (*APIServer, error) {
	config = rest.CopyConfig(config)
	config.Timeout = timeout
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the address of the API server: %w", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("build a client for the API server's metrics: %w", err)
	}
	return &APIServer{url: server.JoinPath("metrics").String(), client: client}, nil
}

// Sample reads the counters once. Its Time is the caller's to set. One that makes no sense makes the sample unusable, and
// the error a *SampleError: a difference between samples of which one has a hole would be a lie.
func (a *APIServer) Sample(ctx context.Context) (sample tuner.ServerSample, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, http.NoBody)
	if err != nil {
		return sample, fmt.Errorf("ask the API server for /metrics: %w", err)
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	response, err := a.client.Do(request)
	if err != nil {
		return sample, fmt.Errorf("get the API server's /metrics: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	switch response.StatusCode {
	case http.StatusOK:
		return ParseServer(response.Body)
	case http.StatusForbidden:
		return sample, errors.New("get the API server's /metrics: 403 Forbidden: grant get on nonResourceURLs /metrics")
	}
	return sample, fmt.Errorf("get the API server's /metrics: status %d", response.StatusCode)
}

// The families that are read, with the labels that a line must have to be looked at: of several megabytes.
const (
	serverWrites   = "apiserver_request_duration_seconds"
	serverSLI      = "apiserver_request_sli_duration_seconds"
	serverRequests = "apiserver_request_total"
	serverQueued   = "apiserver_flowcontrol_current_inqueue_requests"
	serverRejected = "apiserver_flowcontrol_rejected_requests_total"
	serverWaits    = "apiserver_flowcontrol_request_wait_duration_seconds"
	serverEtcd     = "etcd_request_duration_seconds"
	serverStart    = "process_start_time_seconds"

	// ours is the priority level of kube-controller-manager's service accounts (FlowSchema kube-system-service-accounts).
	ours = "workload-high"
)

// ParseServer reads what an API server of Kubernetes 1.29 or later tells in the Prometheus text format. Lines that are
// not needed are dropped before they are parsed.
func ParseServer(text io.Reader) (tuner.ServerSample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&sieve{from: bufio.NewReaderSize(text, 64<<10)})
	if err != nil {
		return tuner.ServerSample{}, fmt.Errorf("parse the API server's /metrics: %w", err)
	}
	r := server{reader: reader{families: families}}
	s := r.sample()
	if s.ProcessStart.IsZero() {
		r.drop(serverStart, errors.New("absent"))
	}
	if len(r.dropped) > 0 {
		return tuner.ServerSample{}, &SampleError{Dropped: r.dropped}
	}
	return s, nil
}

// sieve passes on the lines that may matter.
type sieve struct {
	from       *bufio.Reader
	line       []byte // what of the present one was not passed on yet
	read, kept int
}

// Read yields the next lines that may matter.
func (s *sieve) Read(p []byte) (int, error) {
	for len(s.line) == 0 {
		line, err := s.from.ReadSlice('\n')
		switch s.read += len(line); {
		case errors.Is(err, bufio.ErrBufferFull):
			return 0, fmt.Errorf("a line is longer than %d bytes", s.from.Size())
		case s.read > maxServerBody:
			return 0, fmt.Errorf("the answer is longer than %d bytes", maxServerBody)
		case err != nil && !errors.Is(err, io.EOF):
			return 0, err
		case err != nil && len(line) == 0:
			return 0, io.EOF
		case matters(line):
			s.line, s.kept = line, s.kept+len(line)
		}
		if s.kept > maxServerKept {
			return 0, fmt.Errorf("what is of use in the answer is longer than %d bytes", maxServerKept)
		}
	}
	n := copy(p, s.line)
	s.line = s.line[n:]
	return n, nil
}

// matters says whether a line may be one of those that are read. It may say so of too many.
func matters(line []byte) bool {
	name := line
	if header, described := bytes.CutPrefix(line, []byte("# TYPE ")); described {
		name = header
	} else if line[0] == '#' {
		return false
	}
	for _, family := range []struct {
		name string
		any  []string // empty: all lines
	}{
		{serverWrites, writeVerbs()},
		{serverSLI, writeVerbs()},
		{serverRequests, nil},
		{serverQueued, []string{ours}},
		{serverRejected, []string{ours}},
		{serverWaits, []string{ours}},
		{serverEtcd, etcdWrites()},
		{serverStart, nil},
	} {
		if !bytes.HasPrefix(name, []byte(family.name)) {
			continue
		}
		return len(name) != len(line) || len(family.any) == 0 ||
			slices.ContainsFunc(family.any, func(v string) bool { return bytes.Contains(line, []byte(`="`+v+`"`)) })
	}
	return false
}

// writeVerbs are those of requests that change one object, as the API server names them (k8s.io/apiserver
// pkg/endpoints/metrics, v1.37). DELETECOLLECTION takes as long as there are objects, and is left out as Kubernetes' own
// objective does.
func writeVerbs() []string { return []string{"POST", "PUT", "PATCH", "APPLY", "DELETE"} }

// etcdWrites are the operations that change one object (k8s.io/apiserver pkg/storage/etcd3, v1.37).
func etcdWrites() []string { return []string{"create", "update", "delete"} }
