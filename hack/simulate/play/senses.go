package play

import (
	"math"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// scrapes are what reached the operator of the metrics.
type scrapes struct {
	senses Senses
	kcm    []tuner.Sample
	server []tuner.ServerSample
}

// mostScrapes is how many the operator keeps.
const mostScrapes = 1024

func (c *scrapes) take(s *stage) {
	now, seen := at(s.cluster.Now()), s.cluster.Counters()
	if c.senses == NoMetrics {
		return
	}
	if *s.fleet.node.Status.Healthy && s.fleet.led {
		c.kcm = last(append(c.kcm, c.distort(sampleOf(seen, now), len(c.kcm))))
	}
	if c.senses != NoServer {
		c.server = last(append(c.server, serverSampleOf(seen.Server, now)))
	}
}

func last[T any](all []T) []T { return all[max(0, len(all)-mostScrapes):] }

// since returns what was scraped since then.
func since[T any](all []T, then time.Time, when func(T) time.Time) []T {
	for i := range all {
		if !when(all[i]).Before(then) {
			return all[i:]
		}
	}
	return nil
}

// distort does to a scrape what the scene asks for.
func (c *scrapes) distort(s tuner.Sample, n int) tuner.Sample {
	switch c.senses {
	case Frozen:
		if n > 0 {
			frozen := c.kcm[0]
			frozen.Time = s.Time
			return frozen
		}
	case NoLimiter:
		s.LimiterWait = 0
	case WildCounters:
		if n%7 == 3 {
			s.LimiterWait, s.RequestTime = s.RequestTime, s.LimiterWait/3
			s.EndpointSlices.Wait, s.Writes = 0, s.Writes*2
		}
	case Honest, NoMetrics, NoServer, sensesCount:
	}
	return s
}

func sampleOf(c cluster.Counters, now time.Time) tuner.Sample {
	queue := func(q cluster.QueueCounters) tuner.QueueSample {
		return tuner.QueueSample{
			Depth: int64(q.Depth), Syncs: q.Syncs, Wait: duration(q.Wait).Truncate(time.Millisecond),
			Work: duration(q.Work).Truncate(time.Millisecond),
		}
	}
	return tuner.Sample{
		Time: now, ProcessStart: at(c.ProcessStart), Writes: c.Writes,
		LimiterWait: duration(c.LimiterWait).Truncate(time.Millisecond),
		RequestTime: duration(c.RequestTime).Truncate(time.Millisecond), StaleSyncs: c.StaleSyncs,
		EndpointSlices: queue(c.Queues[cluster.Slices]), Endpoints: queue(c.Queues[cluster.Endpoints]),
	}
}

func serverSampleOf(c cluster.ServerCounters, now time.Time) tuner.ServerSample {
	out := tuner.ServerSample{
		Time: now, ProcessStart: start.Add(-time.Hour),
		Writes: int64(c.Writes), WriteTime: duration(c.WriteTime),
		PodWrites: c.PodWrites, PodWriteTime: duration(c.PodWriteTime),
		EndpointWrites: c.EndpointWrites, EndpointWriteTime: duration(c.EndpointWriteTime),
		Requests: int64(c.Writes), QueueWaits: c.QueueWaits, QueueWait: duration(c.QueueWait), Queued: int64(c.Queued),
		EtcdWrites: int64(c.Writes), EtcdTime: duration(c.WriteTime * etcdShare),
	}
	for i, bound := range cluster.Bounds {
		b := tuner.Bucket{Bound: math.MaxInt64, Count: int64(c.Buckets[i])}
		if bound < math.MaxFloat64 {
			b.Bound = duration(bound)
		}
		out.WriteBuckets = append(out.WriteBuckets, b)
	}
	return out
}

// etcdShare is the part of a write's time that the store takes.
const etcdShare = 0.7
