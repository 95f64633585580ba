package trial

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
	"k8s.io/client-go/rest"
)

// apiServer reads the counters of kube-apiserver. It takes the few lines that matter from the text and parses no other:
// the whole is megabytes, read once a second next to what is measured.
type apiServer struct {
	url    string
	client *http.Client
}

func newAPIServer(config *rest.Config) (*apiServer, error) {
	config = rest.CopyConfig(config)
	config.DisableCompression = true // Compressing would cost the API server more than sending.
	config.UserAgent = "endpoint-sync-lab-scrape"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &apiServer{url: config.Host + "/metrics", client: client}, nil
}

// read returns the counters; the caller sets Time.
func (a *apiServer) read(ctx context.Context) (tuner.ServerSample, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, http.NoBody)
	if err != nil {
		return tuner.ServerSample{}, err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return tuner.ServerSample{}, fmt.Errorf("read kube-apiserver's metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // It was read to its end.
	if response.StatusCode != http.StatusOK {
		return tuner.ServerSample{}, fmt.Errorf("read kube-apiserver's metrics: %s answered %s", a.url, response.Status)
	}
	return parseServer(response.Body)
}

// parseServer reads the Prometheus text format.
func parseServer(text io.Reader) (tuner.ServerSample, error) {
	var p serverParser
	scanner := bufio.NewScanner(text)
	scanner.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for scanner.Scan() {
		p.line(scanner.Text())
	}
	if err := scanner.Err(); err != nil {
		return tuner.ServerSample{}, fmt.Errorf("read kube-apiserver's metrics: %w", err)
	}
	return p.out, nil
}

type serverParser struct{ out tuner.ServerSample }

// line adds one sample of the families that matter.
func (p *serverParser) line(line string) {
	if !strings.HasPrefix(line, "apiserver_") && !strings.HasPrefix(line, "etcd_request_duration") && !strings.HasPrefix(line, "process_start") {
		return
	}
	name, labels, text := split(line)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) {
		return
	}
	out := &p.out
	switch name {
	case "process_start_time_seconds":
		out.ProcessStart = time.UnixMicro(int64(value * 1e6)).UTC()
	case "apiserver_request_total":
		out.Requests += int64(value)
		if label(labels, "code") == "429" {
			out.Refused += int64(value)
		}
	case "apiserver_request_duration_seconds_bucket":
		if mutates(labels) {
			p.bucket(label(labels, "le"), int64(value))
		}
	case "apiserver_request_duration_seconds_count":
		p.writes(labels, int64(value), 0)
	case "apiserver_request_duration_seconds_sum":
		p.writes(labels, 0, seconds(value))
	case "etcd_request_duration_seconds_count":
		out.EtcdRequests += int64(value)
	case "etcd_request_duration_seconds_sum":
		out.EtcdTime += seconds(value)
	default:
		p.priority(name, labels, value)
	}
}

// priority adds what concerns the priority level of the endpoint controllers.
func (p *serverParser) priority(name, labels string, value float64) {
	if !strings.HasPrefix(name, "apiserver_flowcontrol_") || label(labels, "priority_level") != "workload-high" {
		return
	}
	switch name {
	case "apiserver_flowcontrol_current_inqueue_requests":
		p.out.Queued += int64(value)
	case "apiserver_flowcontrol_rejected_requests_total":
		p.out.Rejected += int64(value)
	case "apiserver_flowcontrol_request_wait_duration_seconds_sum":
		p.out.QueueWait += seconds(value)
	case "apiserver_flowcontrol_request_wait_duration_seconds_count":
		p.out.QueueWaits += int64(value)
	}
}

func (p *serverParser) writes(labels string, count int64, took time.Duration) {
	if !mutates(labels) {
		return
	}
	p.out.Writes += count
	p.out.WriteTime += took
	switch label(labels, "resource") {
	case "pods":
		p.out.PodWrites += count
		p.out.PodWriteTime += took
	case "endpoints", "endpointslices":
		p.out.EndpointWrites += count
		p.out.EndpointWriteTime += took
	}
}

// bucket adds to the bucket of a bound; they come in the same order for every set of labels.
func (p *serverParser) bucket(le string, count int64) {
	bound := time.Duration(math.MaxInt64)
	if le != "+Inf" {
		v, err := strconv.ParseFloat(le, 64)
		if err != nil {
			return
		}
		bound = seconds(v)
	}
	for i := range p.out.WriteBuckets {
		if p.out.WriteBuckets[i].Bound == bound {
			p.out.WriteBuckets[i].Count += count
			return
		}
	}
	p.out.WriteBuckets = append(p.out.WriteBuckets, tuner.Bucket{Bound: bound, Count: count})
}

func mutates(labels string) bool {
	switch label(labels, "verb") {
	case "POST", "PUT", "PATCH", "DELETE":
		return true
	}
	return false
}

// split takes a sample apart.
func split(line string) (name, labels, value string) {
	name, tail, labelled := strings.Cut(line, "{")
	if !labelled {
		name, value, _ = strings.Cut(line, " ")
		return name, "", value
	}
	end := strings.LastIndexByte(tail, '}')
	if end < 0 {
		return name, "", ""
	}
	return name, tail[:end], strings.TrimSpace(tail[end+1:])
}

// label returns the value of a label; none of those asked for needs unquoting.
func label(labels, name string) string {
	for from := 0; ; {
		i := strings.Index(labels[from:], name+`="`)
		if i < 0 {
			return ""
		}
		i += from
		if i == 0 || labels[i-1] == ',' {
			value, _, _ := strings.Cut(labels[i+len(name)+2:], `"`)
			return value
		}
		from = i + 1
	}
}

func seconds(v float64) time.Duration { return time.Duration(v * float64(time.Second)) }
