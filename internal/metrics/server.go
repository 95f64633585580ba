package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// server is how the API server fares, as it was read last.
type server struct {
	mu   sync.Mutex
	load tuner.Load
}

func newServer() *server { return &server{} }

var (
	writeLatencyDesc = desc("apiserver_write_latency_seconds", helpWriteLatency)
	refusedDesc      = desc("apiserver_refused_ratio", helpRefused)
	etcdLatencyDesc  = desc("apiserver_etcd_write_latency_seconds", helpEtcdLatency)
	queueWaitDesc    = desc("apiserver_queue_wait_seconds", helpQueueWait)
)

// SetServer tells how the API server fares. The zero value, and any figure in it that too few requests speak for, tells
// nothing.
func (s *Set) SetServer(l tuner.Load) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.load = l
}

// Describe lists what Collect may send.
func (*server) Describe(all chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{writeLatencyDesc, refusedDesc, etcdLatencyDesc, queueWaitDesc} {
		all <- d
	}
}

// Collect tells what was read last.
func (s *server) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	l := s.load
	s.mu.Unlock()
	for _, figure := range []struct {
		desc  *prometheus.Desc
		known bool
		value float64
	}{
		{writeLatencyDesc, l.WriteLatency > 0, l.WriteLatency.Seconds()},
		{refusedDesc, l.Requests > 0, l.Refused},
		{etcdLatencyDesc, l.EtcdLatency > 0, l.EtcdLatency.Seconds()},
		{queueWaitDesc, l.Requests > 0, l.QueueWait.Seconds()},
	} {
		if figure.known {
			out <- prometheus.MustNewConstMetric(figure.desc, prometheus.GaugeValue, figure.value)
		}
	}
}
