package tuner

import (
	"fmt"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// names of the APIs for people.
var names = [kcm.APIs]lag.Resource{kcm.Endpoints: lag.ResourceEndpoints, kcm.EndpointSlices: lag.ResourceEndpointSlice}

const (
	// abandoned is how old an open change must be to count as one that nobody works on: longer than the first retries of a
	// Service, which wait 1, 2, 4, 8 and 16 s.
	abandoned = time.Minute

	// overtakers is how many later changes must have been published meanwhile. The queue is first in, first out.
	overtakers = 3

	// mostOf is the share of the late changes that a cause must explain.
	mostOf = 0.8
)

// dropped weighs that Services are in no queue any more: their changes stay open while those that came later were
// published. After 15 failed retries kube-controller-manager forgets a Service until its next event; before that it
// waits for minutes (Kubernetes v1.37.2, pkg/controller/endpointslice/endpointslice_controller.go, handleErr).
func (s *situation) dropped() Finding {
	f := Finding{Cause: v1alpha1.BottleneckDropped}
	explained := true
	for in := range kcm.APIs {
		l := s.late[in]
		if !s.isLate(in) {
			continue
		}
		overtaken, oldest := s.overtaken(in)
		if overtaken == 0 || float64(overtaken) < mostOf*float64(l.open) || l.late-overtaken > allowed(s.o, l.changes) {
			explained = false
			continue
		}
		f.For = append(f.For, fmt.Sprintf("%s of %s open for up to %v although those that came later were published",
			counted(overtaken, "change"), names[in], rounded(oldest)))
	}
	if len(f.For) == 0 || !explained {
		f.For = nil
		return f
	}
	f.Weight = 0.7
	switch u := s.use; {
	case !u.scraped:
	case u.empty < abandoned/2:
		f.Weight = 0.3
		f.Against = append(f.Against, "kube-controller-manager's queues were not empty")
	case s.isLate(kcm.EndpointSlices) && u.failed+u.stale == 0 && s.coversOpen(kcm.EndpointSlices):
		f.Weight = 0.3
		f.Against = append(f.Against, "no sync failed, so nothing was given up")
		s.why = append(s.why, "changes stay open that kube-controller-manager does not act on, and no sync failed")
	default:
		f.For = append(f.For, fmt.Sprintf("its queues have been empty for %v; %d syncs failed", rounded(u.empty), u.failed))
	}
	return f
}

// overtaken counts late open changes after which later ones of other Services were published, and the age of the oldest.
func (s *situation) overtaken(in kcm.API) (n int, oldest time.Duration) {
	later := 0
	for _, c := range slices.Backward(s.late[in].all) {
		switch class, age := outcomeIn(c, in); {
		case class == lag.Closed:
			later++
		case later >= overtakers && age >= max(abandoned, s.o.MaxLag):
			n++
			oldest = max(oldest, age)
		}
	}
	return n, oldest
}

// coversOpen reports whether metrics were scraped since before the first open change.
func (s *situation) coversOpen(in kcm.API) bool {
	for _, c := range s.late[in].all {
		if class, _ := outcomeIn(c, in); class == lag.Open {
			return !s.use.from.After(s.e.Demand.Start.Add(c.At))
		}
	}
	return false
}

const (
	// fewServices is the largest share of the Services that changed that may be hot; one always may.
	fewServices = 0.02

	// hotChanges is how many late changes make a Service hot: that of a Service that changed once is no heat.
	hotChanges = 5

	// othersSeen is how many changes of other Services must have been on time for that to mean something.
	othersSeen = 50
)

// hotService weighs that few Services are late and all others are not. One worker has a Service at a time, so that
// neither more workers nor other Services' tokens help it.
func (s *situation) hotService() Finding {
	f := Finding{Cause: v1alpha1.BottleneckHotService}
	for in := range kcm.APIs {
		l := s.late[in]
		if !s.isLate(in) {
			continue
		}
		hot, others := l.culprits(s.o)
		few := len(hot) <= max(1, int(fewServices*float64(l.changed)))
		if !few || (others < othersSeen && l.changed > len(hot)) || hot[len(hot)-1].late < hotChanges {
			f.For = nil
			f.Against = append(f.Against, fmt.Sprintf("%s of %d were late in %s",
				counted(len(l.services), "Service"), l.changed, names[in]))
			f.Weight = 0
			return f
		}
		f.For = append(f.For, fmt.Sprintf("in %s %s had %d of %d late changes, up to %v; the other %d changes were on time",
			names[in], counted(len(hot), "Service"), lateOf(hot), l.late, rounded(hot[0].worst), others))
		f.Weight = 0.7
	}
	if f.Weight == 0 {
		return f
	}
	if s.use.scraped && s.use.all.tokenShare() >= throttledShare && s.use.ownTokenShare() >= ownShare && s.use.writes > 0 {
		f.Weight = 0.4
		f.Against = append(f.Against, fmt.Sprintf("%.0f %% of the time of its writes went into waiting for tokens", 100*s.use.all.tokenShare()))
	}
	return f
}

func lateOf(services []serviceLateness) int {
	n := 0
	for _, s := range services {
		n += s.late
	}
	return n
}

// batchShare is the part of the lag from which on the batch period is the matter, whatever the rest is.
const batchShare = 0.5

// batching weighs that changes wait for a batch period and for little else: without it, the objective would be met, or
// at least half of the lag would be gone.
func (s *situation) batching() Finding {
	f := Finding{Cause: v1alpha1.BottleneckBatching}
	periods := [kcm.APIs]time.Duration{kcm.EndpointSlices: s.e.Settings.SliceBatch, kcm.Endpoints: s.e.Settings.EndpointsBatch}
	for in := range kcm.APIs {
		l, period := s.late[in], periods[in]
		if !s.isLate(in) {
			continue
		}
		lagThere := l.at(s.o.Percentile)
		met := l.above(s.o.MaxLag+period) <= allowed(s.o, l.changes)
		switch {
		case period == 0:
			f.Against = append(f.Against, fmt.Sprintf("no batch period for %s is known, and it is late", names[in]))
		case !met && period.Seconds() < batchShare*lagThere.Seconds():
			f.Against = append(f.Against, fmt.Sprintf("%s would be late by %v without its batch period of %v too",
				names[in], rounded(lagThere-period), period))
		default:
			f.For = append(f.For, fmt.Sprintf("each change of %s waits %v for its batch; the lag is %v", names[in], period, rounded(lagThere)))
		}
	}
	if len(f.For) > 0 && len(f.Against) == 0 {
		f.Weight = 0.7
	}
	return f
}

const (
	// staleExplains is the share of the late changes that there must be stale syncs for. One stale sync delays every
	// change that its Service has then.
	staleExplains = 0.5

	// oneAPI is how much more often EndpointSlices must be late than Endpoints: the Endpoints controller tries a stale
	// sync again after 5 ms, that of EndpointSlices after a second.
	oneAPI = 3
)

// staleRetries weighs that syncs of EndpointSlices gave up because the cache did not show their own last write, and
// wait a second and more for the next try, on which flags have no hold.
func (s *situation) staleRetries() Finding {
	f := Finding{Cause: v1alpha1.BottleneckStaleRetries}
	l, other := s.late[kcm.EndpointSlices], s.late[kcm.Endpoints]
	if s.use.stale == 0 || !s.isLate(kcm.EndpointSlices) {
		return f
	}
	f.For = append(f.For, fmt.Sprintf("%d of %d syncs of EndpointSlices found a stale cache and waited for another try; %s late",
		s.use.stale, s.use.sliceSyncs, counted(l.late, "change")+" of EndpointSlices"))
	f.Weight = 0.7
	if float64(s.use.stale) < staleExplains*float64(l.late) {
		f.Weight = 0.3
		f.Against = append(f.Against, "there are more late changes than that")
	}
	if other.changes > 0 && other.late*oneAPI*l.changes > l.late*other.changes {
		f.Weight = 0.3
		f.Against = append(f.Against, fmt.Sprintf("%d of %d changes of Endpoints were late too, which do not wait for this",
			other.late, other.changes))
	}
	if s.paces.limited() {
		f.Weight = 0.3
		f.Against = append(f.Against, s.paces.String())
	}
	return f
}

const (
	// slowWrite is the latency of a write, tokens aside, from which on the API server is the matter: more workers would
	// only press it harder, and more tokens as well.
	slowWrite = 500 * time.Millisecond

	// strainedWrite is the same where it is also strain times what a write takes when the server is quiet, and tokens are
	// not short: then the server, not its distance, makes it long.
	strainedWrite = 150 * time.Millisecond
	strain        = 4.0

	// queueWait is the mean wait in the queue of a priority level from which on API Priority and Fairness is the matter.
	queueWait = 200 * time.Millisecond

	// refusedShare is the part of the requests refused with 429 from which on that is the matter: a client waits a second
	// before it tries again.
	refusedShare = 0.01
)

// apiServer weighs that writes wait for the API server: because it or etcd is slow, because API Priority and Fairness
// queues them, or because it refuses them.
func (s *situation) apiServer() Finding {
	f := Finding{Cause: v1alpha1.BottleneckAPIServer}
	claim := func(weight float64, text string) {
		f.For = append(f.For, text)
		f.Weight = max(f.Weight, weight)
	}
	s.byKCM(claim)
	s.byServer(claim)
	if s.server.scraped && f.Weight == 0 {
		f.Against = append(f.Against, fmt.Sprintf("the API server took %v for a write of an endpoint object, and %.1f %% of the "+
			"requests were refused", rounded(s.server.write), 100*s.server.refused))
	}
	if f.Weight < named && s.levers.trusted {
		s.byModel(claim)
	}
	return f
}

// byServer is what the API server's own metrics say of it; nothing where they were not read.
func (s *situation) byServer(claim func(float64, string)) {
	p := s.server
	if !p.scraped {
		return
	}
	if p.write >= slowWrite {
		claim(0.8, fmt.Sprintf("the API server took %v for a write of an endpoint object", rounded(p.write)))
	}
	if p.wait >= queueWait {
		claim(0.8, fmt.Sprintf("requests of workload-high waited %v in their queue, up to %d at a time", rounded(p.wait), p.queued))
	}
	if p.refused >= refusedShare {
		claim(0.7, fmt.Sprintf("%.1f %% of the requests were refused with 429; workload-high rejected %d", 100*p.refused, p.rejected))
	}
}

// byModel is what a model that reproduces what was measured says of the API server: only one without end would help, or
// Services queue for workers while each write takes long by itself.
func (s *situation) byModel(claim func(float64, string)) {
	l := s.levers
	tokens, workers := l.gain(v1alpha1.BottleneckClientRateLimit), l.gain(v1alpha1.BottleneckWorkers)
	switch {
	case l.gain(v1alpha1.BottleneckAPIServer) >= worthwhile && max(tokens, workers) < worthwhile:
		claim(0.6, "in the model "+l.String())
	case l.write >= slowWrite && workers >= clearly && workers > tokens:
		claim(0.6, fmt.Sprintf("in the model %v; a write takes %v", l, rounded(l.write)))
	}
}

// contested says that the API server's own metrics have no write of an endpoint object that took half as long as those
// of kube-controller-manager say: then the time went elsewhere, and not into the API server.
func (s *situation) contested(latency time.Duration) bool {
	return s.server.write > 0 && s.server.write < latency/2
}

// byKCM is what kube-controller-manager's own metrics say of the API server.
func (s *situation) byKCM(claim func(float64, string)) {
	u := s.use.spent
	if u.writes == 0 {
		u = s.use.all
	}
	if u.writes < minWrites {
		return
	}
	latency, quiet := u.latency(), quietest(s.e.Signals).latency
	switch {
	case s.contested(latency): // The API server knows better; byServer asks it.
	case latency >= slowWrite:
		claim(0.8, fmt.Sprintf("a write took %v in the API server", rounded(latency)))
	case latency >= strainedWrite && quiet > 0 && latency.Seconds() >= strain*quiet.Seconds() &&
		u.tokenShare() < throttledShare && !s.tokensAlone(u.tokenShare()):
		claim(0.6, fmt.Sprintf("a write took %v in the API server, and %v when it was quiet", rounded(latency), rounded(quiet)))
	}
}
