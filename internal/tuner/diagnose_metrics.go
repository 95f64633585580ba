package tuner

import (
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// usage is what kube-controller-manager's metrics say about the time in which there was work.
type usage struct {
	// syncs of both endpoint controllers; sliceSyncs, stale and failed are of EndpointSlices alone.
	syncs, sliceSyncs, stale, failed int64
	// all is every write in the time that was scraped.
	all spent
	// The rest counts only intervals in which Services queued for longer than workers worked: those bear on lag.
	spent
	queued time.Duration // in the work queues, in all
	worked time.Duration // by workers, in all
	worker time.Duration // that workers could have worked
	done   int64         // syncs
	// from and to are the time that was scraped; since is how long both queues have been empty at its end.
	from, to time.Time
	empty    time.Duration
	scraped  bool
}

// spent is what writes took.
type spent struct {
	writes   int64
	waited   time.Duration // for tokens, in all
	requests time.Duration // tokens included, in all
}

func (s *spent) add(a, b Sample) {
	s.writes += b.Writes - a.Writes
	s.waited += b.LimiterWait - a.LimiterWait
	s.requests += b.RequestTime - a.RequestTime
}

// tokenShare is the part of their time that writes waited for tokens.
func (s spent) tokenShare() float64 { return s.waited.Seconds() / max(s.requests.Seconds(), 1e-9) }

// latency is what a write took without that.
func (s spent) latency() time.Duration {
	return max(0, s.requests-s.waited) / time.Duration(max(s.writes, 1))
}

// ownTokenShare is the part of their time that the endpoint controllers' workers waited for tokens, taking each sync for
// one write of the usual latency and the rest for the wait.
func (u usage) ownTokenShare() float64 {
	return 1 - u.latency().Seconds()*float64(u.done)/max(u.worked.Seconds(), 1e-9)
}

// busy is the part of the time in which workers worked.
func (u usage) busy() float64 { return u.worked.Seconds() / max(u.worker.Seconds(), 1e-9) }

// String says what was measured of writes while Services queued.
func (u usage) String() string {
	return fmt.Sprintf("of %d writes, %.0f %% of the time went into waiting for tokens, %v per write into the API server; "+
		"Services queued %.1f times as long as workers worked",
		u.writes, 100*u.tokenShare(), rounded(u.latency()), u.queued.Seconds()/max(u.worked.Seconds(), 1e-9))
}

// unseenWrites is the least part of the publications that were seen that the metrics must count as writes.
const unseenWrites = 0.5

// usageOf reads the metrics; it returns why they are not to be believed, and then nothing else, where they contradict
// themselves or what was published.
func usageOf(e Evidence) (u usage, doubted string) {
	workers := int64(e.Flags.ConcurrentEndpointSyncs) + int64(e.Flags.ConcurrentServiceEndpointSyncs)
	for i := 1; i < len(e.Signals); i++ {
		a, b := e.Signals[i-1], e.Signals[i]
		if !sameProcess(a, b) {
			u.empty, u.from = 0, time.Time{}
			continue
		}
		if !plausible(a, b) {
			return usage{}, "counters went back, or writes waited for longer than they took"
		}
		u.add(a, b, workers)
	}
	if seen := publications(e, u.from, u.to); float64(u.all.writes) < unseenWrites*float64(seen) {
		return usage{}, fmt.Sprintf("they count %d writes where %d were seen", u.all.writes, seen)
	}
	return u, ""
}

// add takes in what happened between two scrapes.
func (u *usage) add(a, b Sample, workers int64) {
	u.scraped, u.to = true, b.Time
	if u.from.IsZero() {
		u.from = a.Time
	}
	u.all.add(a, b)
	done := b.Endpoints.Syncs + b.EndpointSlices.Syncs - a.Endpoints.Syncs - a.EndpointSlices.Syncs
	u.syncs += done
	u.sliceSyncs += b.EndpointSlices.Syncs - a.EndpointSlices.Syncs
	u.stale += b.StaleSyncs - a.StaleSyncs
	u.failed += b.FailedSyncs - a.FailedSyncs
	u.empty += b.Time.Sub(a.Time)
	if b.Endpoints.Depth+b.EndpointSlices.Depth > 0 {
		u.empty = 0
	}
	queued := b.Endpoints.Wait + b.EndpointSlices.Wait - a.Endpoints.Wait - a.EndpointSlices.Wait
	worked := b.Endpoints.Work + b.EndpointSlices.Work - a.Endpoints.Work - a.EndpointSlices.Work
	if queued <= worked || b.Writes == a.Writes {
		return
	}
	u.spent.add(a, b)
	u.done += done
	u.queued += queued
	u.worked += worked
	u.worker += time.Duration(workers) * b.Time.Sub(a.Time)
}

// plausible reports whether two scrapes of one process fit together.
func plausible(a, b Sample) bool {
	// Sums are rounded to milliseconds, and a wait is counted when it ends, but the request with its answer: those that are
	// under way at the later scrape have waited for longer than they took.
	const rounding, underWay = 50 * time.Millisecond, 0.25
	waited := b.LimiterWait - a.LimiterWait
	slack := rounding + time.Duration(underWay*float64(waited))
	grew := func(a, b QueueSample) bool {
		return b.Syncs >= a.Syncs && b.Wait >= a.Wait && b.Work >= a.Work && b.Depth >= 0
	}
	return grew(a.Endpoints, b.Endpoints) && grew(a.EndpointSlices, b.EndpointSlices) &&
		b.StaleSyncs >= a.StaleSyncs && b.FailedSyncs >= a.FailedSyncs &&
		waited >= 0 && b.RequestTime-a.RequestTime+slack >= waited
}

// publications is how many writes of the endpoint controllers were seen in a time: each Service, in each API, at most
// once at an instant.
func publications(e Evidence, from, to time.Time) int {
	type write struct {
		service int32
		in      kcm.API
		at      time.Duration
	}
	seen := map[write]bool{}
	first, last := from.Sub(e.Demand.Start), to.Sub(e.Demand.Start)
	for _, c := range e.Demand.Changes {
		for in := range kcm.APIs {
			class, late := outcomeIn(c, in)
			if at := c.At + late; class == lag.Closed && at > first && at < last {
				seen[write{c.Service, in, at.Round(oneWrite)}] = true
			}
		}
	}
	return len(seen)
}

// pressure is what the API server's metrics say, at its worst: in the interval in which endpoint writes took longest.
type pressure struct {
	scraped bool
	// write is what a write of an Endpoints or EndpointSlice took on average, in the worst interval with enough of them.
	write time.Duration
	// wait is how long requests of workload-high waited in the queue on average, in the worst interval.
	wait time.Duration
	// refused is the share of requests that were refused with 429, rejected how many workload-high turned away.
	refused  float64
	rejected int64
	queued   int64 // at most, at a scrape
	etcd     time.Duration
}

const (
	// minRequests is how many requests make a mean or a share worth using.
	minRequests = 20

	// minRefused is how many requests must have been refused between two scrapes for that to mean something: an API server
	// refuses a watch or two whose cache it is still filling (Kubernetes v1.37.2,
	// staging/src/k8s.io/apiserver/pkg/storage/cacher/cacher.go), and between scrapes of a quiet one that is a percent.
	minRefused = 5
)

func pressureOf(samples []ServerSample) pressure {
	var p pressure
	for i := 1; i < len(samples); i++ {
		a, b := samples[i-1], samples[i]
		if !a.ProcessStart.Equal(b.ProcessStart) || !b.Time.After(a.Time) {
			continue
		}
		p.scraped = true
		p.write = max(p.write, mean(b.EndpointWriteTime-a.EndpointWriteTime, b.EndpointWrites-a.EndpointWrites))
		p.wait = max(p.wait, mean(b.QueueWait-a.QueueWait, b.QueueWaits-a.QueueWaits))
		p.etcd = max(p.etcd, mean(b.EtcdTime-a.EtcdTime, b.EtcdWrites-a.EtcdWrites))
		if n, refused := b.Requests-a.Requests, b.Refused-a.Refused; n >= minRequests && refused >= minRefused {
			p.refused = max(p.refused, float64(refused)/float64(n))
		}
		p.rejected += max(0, b.Rejected-a.Rejected)
		p.queued = max(p.queued, b.Queued)
	}
	return p
}

// mean is of few requests, or of counters that went back, nothing.
func mean(total time.Duration, n int64) time.Duration {
	if n < minRequests || total < 0 {
		return 0
	}
	return total / time.Duration(n)
}
