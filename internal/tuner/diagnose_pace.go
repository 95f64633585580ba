package tuner

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

const (
	// slotWrites is how many writes a slot is long under the rate limit, so that one write more or less is within slack;
	// a slot is a second at least.
	slotWrites = 20

	// paceSlack is how far from the limit a rate may be and still be that of the limit: tokens come at an even pace, and
	// what is received a little late falls into the next slot.
	paceSlack = 0.15

	// workerSlack is the same for the rate of workers, which depends on how evenly writes go.
	workerSlack = 0.4

	// standstill is how much of the time counts after which nothing changed or was written any more.
	standstill = time.Minute

	// sustained is how long a backlog must stand, the burst spent, for its pace to say anything.
	sustained = 5 * time.Second

	// mostly is the share of that time in which the pace must be that of the limit.
	mostly = 2.0 / 3
)

// pace is how fast one API was written while Services waited for it, after the burst was spent. That needs no metrics of
// kube-controller-manager: each publication that was seen is a write.
type pace struct {
	resource lag.Resource
	// rate is writes per second, allowed what the running flags allow; 0 if they are not known.
	rate, allowed float64
	lasted        time.Duration
	// changes is how many waited at most.
	changes int
	// atLimit and above are how much of the time the rate was that of the limit, or more.
	atLimit, above time.Duration
	// ofWorkers is the rate at which the workers write when each takes as long as for a change that found one idle; 0 if
	// there was none.
	ofWorkers float64
}

// seen says that a backlog stood long enough.
func (p pace) seen() bool { return p.lasted >= sustained && p.rate > 0 }

// limited says that writes came as fast as the rate limit lets them, and no faster.
func (p pace) limited() bool {
	return p.seen() && p.allowed > 0 && p.within(p.allowed) && p.atLimit.Seconds() >= mostly*p.lasted.Seconds()
}

// beyond says that writes came faster than the flags allow: they are not those that run.
func (p pace) beyond() bool {
	return p.seen() && p.allowed > 0 && p.rate > (1+paceSlack)*p.allowed && p.above.Seconds() >= mostly*p.lasted.Seconds()
}

// worked says that the rate is that of workers who are busy all the time, with writes as quick as ever.
func (p pace) worked() bool {
	return p.rate >= (1-workerSlack)*p.ofWorkers && p.rate <= (1+workerSlack)*p.ofWorkers
}

func (p pace) within(limit float64) bool {
	return p.rate >= (1-paceSlack)*limit && p.rate <= (1+paceSlack)*limit
}

// String is the pace for a person: "19.8 writes/s in EndpointSlice against 20 allowed while up to 640 changes waited".
func (p pace) String() string {
	allowed := ""
	if p.allowed > 0 {
		allowed = fmt.Sprintf(" against %.4g allowed (kube-api-qps)", p.allowed)
	}
	return fmt.Sprintf("%.1f writes/s in %s%s for %v while up to %s waited", p.rate, p.resource, allowed,
		p.lasted.Round(time.Second), counted(p.changes, "change"))
}

// paces is the pace of each API in which a backlog stood.
type paces []pace

func (p paces) limited() bool {
	return len(p) > 0 && !slices.ContainsFunc(p, func(one pace) bool { return !one.limited() })
}

func (p paces) beyond() bool { return slices.ContainsFunc(p, pace.beyond) }

func (p paces) worked() bool {
	return !slices.ContainsFunc(p, func(one pace) bool { return !one.worked() })
}

func (p paces) String() string {
	texts := make([]string, 0, len(p))
	for _, one := range p {
		texts = append(texts, one.String())
	}
	return strings.Join(texts, ", ")
}

// doubt says what a pace below the limit leaves open; nothing where no backlog stood.
func (p paces) doubt() string {
	if len(p) == 0 {
		return ""
	}
	return ", and at that pace workers, the API server and writes that change no membership cannot be told apart " +
		"without kube-controller-manager's metrics"
}

// pacesOf reads the pace off the changes. Those that stood when the recording began, or met a time without a leader,
// are as good as any: nobody knows since when they waited, but everybody saw them published. Writes that change no
// membership are not seen, and neither is that a Service of two address families takes two: a rate below the limit
// proves nothing, one at the limit does.
func pacesOf(e Evidence) paces {
	var out paces
	workers := [kcm.APIs]int32{kcm.Endpoints: e.Flags.ConcurrentEndpointSyncs, kcm.EndpointSlices: e.Flags.ConcurrentServiceEndpointSyncs}
	for in := range kcm.APIs {
		q := newQueue(e, in)
		// As many as there are workers are not waiting but being written.
		p := q.pace(max(int(workers[in]), int(v1alpha1.DefaultFlags().ConcurrentEndpointSyncs)), e.Flags)
		if p.resource = names[in]; !p.seen() {
			continue
		}
		if alone := q.alone(int(workers[in])); alone > 0 {
			p.ofWorkers = float64(workers[in]) / alone.Seconds()
		}
		out = append(out, p)
	}
	return out
}

// moment is when a Service begins to wait, or is written.
type moment struct {
	at      time.Duration
	service int32
	// by is 1 where a change begins to wait and -1 where it is published.
	by int
	// late is how long it waited, where it began to and nobody doubts since when.
	late time.Duration
}

// queue is what waited in one API, from the changes that were or will be published.
type queue struct {
	moments []moment
	// end of the recording.
	end time.Duration
}

func newQueue(e Evidence, in kcm.API) queue {
	q := queue{}
	if len(e.Demand.Changes) > 0 {
		q.end = e.Now.Sub(e.Demand.Start)
	}
	for _, c := range e.Demand.Changes {
		class, late := outcomeIn(c, in)
		switch class {
		case lag.Closed, lag.Open, lag.Startup, lag.HandOver, lag.Gap:
		case lag.Superseded, lag.NotNeeded, lag.OverCapacity, lag.Unacted, lag.Drift:
			continue
		default:
			continue
		}
		begins := moment{at: c.At, service: c.Service, by: 1}
		if class == lag.Closed {
			begins.late = late
		}
		q.moments = append(q.moments, begins)
		if done := c.At + late; class != lag.Open && done < q.end {
			q.moments = append(q.moments, moment{at: done, service: c.Service, by: -1})
		}
	}
	slices.SortStableFunc(q.moments, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	if n := len(q.moments); n > 0 {
		q.end = min(q.end, q.moments[n-1].at+standstill)
	}
	return q
}

// alone is the median lag of the changes that found a worker idle; 0 if there was none.
func (q queue) alone(workers int) time.Duration {
	var lags []time.Duration
	waiting := 0
	for _, m := range q.moments {
		if m.late > 0 && waiting < workers {
			lags = append(lags, m.late)
		}
		waiting += m.by
	}
	if len(lags) == 0 {
		return 0
	}
	slices.Sort(lags)
	return lags[len(lags)/2]
}

// slot is a short time of a backlog.
type slot struct {
	// writes that were seen in it.
	writes int
	// least is how many Services waited all the time, changes how many changes did at most.
	least, changes int
}

// pace cuts the recording into slots, takes those in which more Services than can be in work waited all the time, and
// leaves out of each run of them what the burst paid for.
func (q queue) pace(inWork int, flags v1alpha1.Flags) pace {
	p := pace{allowed: float64(flags.KubeAPIQPS)}
	width := time.Second
	if p.allowed > 0 {
		width = max(width, time.Duration(slotWrites/p.allowed*float64(time.Second)))
	}
	writes, b := 0, newBurst(flags)
	for s := range q.slots(width) {
		if s.least <= inWork {
			b = newBurst(flags) // By the next backlog the bucket may be full again.
			continue
		}
		if b.pays(float64(s.writes), width.Seconds()) {
			continue
		}
		writes += s.writes
		p.lasted += width
		p.changes = max(p.changes, s.changes)
		switch rate := float64(s.writes) / width.Seconds(); {
		case rate > (1+paceSlack)*p.allowed:
			p.above += width
		case rate >= (1-paceSlack)*p.allowed:
			p.atLimit += width
		}
	}
	if p.lasted > 0 {
		p.rate = float64(writes) / p.lasted.Seconds()
	}
	return p
}

// burst is what is left of it while a backlog stands.
type burst struct {
	rate, tokens, size float64
	// written is how much the backlog took so far.
	written float64
}

func newBurst(flags v1alpha1.Flags) burst {
	return burst{rate: float64(flags.KubeAPIQPS), tokens: float64(flags.KubeAPIBurst), size: float64(flags.KubeAPIBurst)}
}

// pays says whether the burst may have paid for some of these writes: those that it could pay for alone, and those that
// come faster than the rate while tokens are left.
func (b *burst) pays(writes, seconds float64) bool {
	tokens, written := b.tokens, b.written
	b.tokens = max(0, min(b.size, tokens+b.rate*seconds-writes))
	b.written += writes
	return written < b.size || (tokens > 0 && writes > (1+paceSlack)*b.rate*seconds)
}

// oneWrite is how close together the publications of one Service are that one write made.
const oneWrite = time.Millisecond

// slots counts writes, and how many Services and changes waited. Several changes of a Service published at one instant
// are one write. The last slot may not be over and is left out.
func (q queue) slots(width time.Duration) iter.Seq[slot] {
	return func(yield func(slot) bool) {
		waiting, changes := map[int32]int{}, 0
		written := map[int32]time.Duration{}
		left := q.moments
		for until := width; until <= q.end; until += width {
			s := slot{least: len(waiting), changes: changes}
			for ; len(left) > 0 && left[0].at < until; left = left[1:] {
				m := left[0]
				changes += m.by
				if waiting[m.service] += m.by; waiting[m.service] <= 0 {
					delete(waiting, m.service)
				}
				if at, before := written[m.service]; m.by < 0 && (!before || m.at-at >= oneWrite) {
					written[m.service] = m.at
					s.writes++
				}
				s.least, s.changes = min(s.least, len(waiting)), max(s.changes, changes)
			}
			if !yield(s) {
				return
			}
		}
	}
}
