package cluster

import "math"

// Counters are what kube-controller-manager's metrics would show of the leader, in seconds.
type Counters struct {
	ProcessStart             float64
	Writes                   int64
	LimiterWait, RequestTime float64
	StaleSyncs               int64
	Queues                   [APIs]QueueCounters
	Server                   ServerCounters
}

// QueueCounters are those of one work queue.
type QueueCounters struct {
	Depth      int
	Syncs      int64
	Wait, Work float64
}

// Bounds are those of apiserver_request_duration_seconds' buckets, the last but one: the last is without bound
// (staging/src/k8s.io/apiserver/pkg/endpoints/metrics/metrics.go, Kubernetes v1.37.2, every third or so left out).
var Bounds = [...]float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 8, 10, 15, 20, 30, 45, 60, math.MaxFloat64}

// ServerCounters are what the API server's metrics would show, in seconds.
type ServerCounters struct {
	Writes                          float64
	WriteTime                       float64
	Buckets                         [len(Bounds)]float64 // cumulative
	PodWrites, EndpointWrites       int64
	PodWriteTime, EndpointWriteTime float64
	QueueWaits                      int64
	QueueWait                       float64
	Refused                         float64
	Queued                          float64
}

// seats is how many requests of the priority level workload-high the API server works on at once, borrowed ones
// included; what goes beyond waits.
const seats = 120

func (s *ServerCounters) add(n, latency float64) {
	s.Writes += n
	s.WriteTime += n * latency
	for i, bound := range Bounds {
		if latency <= bound {
			s.Buckets[i] += n
		}
	}
}

// Counters returns what a scrape would show now.
func (c *Cluster) Counters() Counters {
	c.countOthers()
	out := c.counts
	for in := range c.kcm {
		out.Queues[in].Depth = len(c.kcm[in].queue)
	}
	out.Server = c.server.totals
	out.Server.Queued = max(0, float64(c.server.jobs.len())+c.server.storm.share-seats)
	return out
}

// countOthers counts the writes of other controllers since the last time: they go at the pace of a quiet server.
func (c *Cluster) countOthers() {
	if !c.led {
		return
	}
	n := int64((c.now - c.others) * c.truth.Others)
	if n <= 0 {
		return
	}
	latency := 1 / c.server.rate()
	c.others += float64(n) / c.truth.Others
	c.counts.Writes += n
	c.counts.RequestTime += float64(n) * latency
	c.server.totals.add(float64(n), latency)
}

// count counts a write that has ended.
func (c *Cluster) count(j *job) {
	latency, t := c.now-j.sent, &c.server.totals
	t.add(1, latency)
	if j.pod {
		t.PodWrites++
		t.PodWriteTime += latency
		return
	}
	t.EndpointWrites++
	t.EndpointWriteTime += latency
	t.QueueWaits++
	if inFlight := float64(c.server.jobs.len()+1) + c.server.storm.share; inFlight > seats {
		t.QueueWait += latency * (1 - seats/inFlight)
	}
}
