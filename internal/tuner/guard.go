package tuner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// guardWindow is how much of the newest time decides, if it has requests enough for a percentile; a limit that two
	// such windows in a row are beyond after a change undoes it.
	guardWindow = 30 * time.Second

	// guardChunk is the shortest time of which a p99 is taken to tell a server that is slow from one that stood still once,
	// or was swamped for a moment by what made the incident: a limit must be exceeded for half of a window. It is the pace
	// of the scrapes in an incident. etcd's alerts ask for persistence as well (for: 10m).
	guardChunk = 5 * time.Second

	// guardReach is how far back is looked for requests enough.
	guardReach = 10 * time.Minute

	// guardAge is how old the newest sample may be: three quiet scrapes.
	guardAge = 90 * time.Second

	// etcdPart is how much of the longest p99 of writes one write to etcd may take at p99: 150 ms of 1 s, as etcd's own
	// alerts and Kubernetes' objective for API calls have it (etcdGRPCRequestsSlow in etcd's contrib/mixin, v3.6;
	// api_call_latency.md of SIG Scalability).
	etcdPart = 0.15

	// comparable load is at most this many times that of the time after the change: at a load that is higher, a limit that
	// is breached says nothing about a lower one.
	comparableLoad = 1.25

	// ceilingLife is how long a setting that did harm keeps others below it.
	ceilingLife = 24 * time.Hour
)

// queuePart is how much of the longest p99 of writes requests may wait on average in the queues of workload-high: waits
// of a queue have an exponential tail, so that one in a hundred is ln 100 times the mean.
var queuePart = 1 / math.Log(100)

// Standing is how the API server stands against the guardrails.
type Standing struct {
	// Known says that enough was seen of it lately.
	Known bool
	// Now is the newest time that has requests enough for a percentile, and Busy that in which most endpoints were written.
	Now, Busy Load
	// Breached says that a limit is.
	Breached bool
	// Reason is one of v1alpha1's why nothing may be raised, and Message says so with figures; Reason is empty if nothing
	// stands in the way.
	Reason, Message string
}

// Guard says whether the API server bears a raise: what is refused, how long writes take, how long they wait in the queue
// of their priority level, and how long etcd takes for its part, lately and in the half minute of the last ten minutes in
// which most endpoints were written. What is exceeded for less than half of such a time is over, and stands in nobody's
// way. Where nothing is known, only guardrails that are required do.
func Guard(e Evidence, g Guardrails) Standing {
	intervals := serverIntervals(e.Server)
	s := Standing{}
	lately := newest(intervals, guardWindow)
	if len(lately) > 0 && e.Now.Sub(lately[0].to.Time) > guardAge {
		lately = nil
	}
	if len(lately) > 0 {
		s.Now = loadOf(lately)
		s.Known = s.Now.Writes >= enough && s.Now.Requests >= enough
	}
	busiest := whileWriting(slices.DeleteFunc(intervals, func(i serverInterval) bool { return e.Now.Sub(i.to.Time) > guardReach }))
	s.Busy = loadOf(busiest)
	for _, at := range []struct {
		when string
		seen []serverInterval
	}{{"", lately}, {" while endpoints were written", busiest}} {
		if breaches := g.lasting(at.seen); len(breaches) > 0 {
			s.Breached, s.Reason = true, v1alpha1.ReasonGuardrailBreached
			s.Message = "the API server would not bear more" + at.when + ": " + breaches[0].Message
			return s
		}
	}
	if !s.Known && g.Required {
		s.Reason = v1alpha1.ReasonNoSignals
		s.Message = "spec.guardrails is set, and too little is known of the API server's health: its /metrics could not be " +
			"read (get on nonResourceURLs /metrics), or not for long enough"
	}
	return s
}

// newest returns the intervals of the newest time, newest first, that is at least so long and has requests enough, as far
// as guardReach goes.
func newest(intervals []serverInterval, atLeast time.Duration) []serverInterval {
	var out []serverInterval
	var span time.Duration
	var writes int64
	for _, i := range slices.Backward(intervals) {
		if span >= atLeast && writes >= enough {
			break
		}
		if len(out) > 0 && out[0].to.Time.Sub(i.from.Time) > guardReach {
			break
		}
		out = append(out, i)
		span += i.span()
		writes += i.to.Writes - i.from.Writes
	}
	return out
}

// whileWriting returns the intervals in which most endpoints were written, newest first: those of the highest rates that
// make up a window, and of less than one a second none.
func whileWriting(intervals []serverInterval) []serverInterval {
	byRate := slices.SortedStableFunc(slices.Values(intervals), func(a, b serverInterval) int {
		return cmp.Compare(b.endpointRate(), a.endpointRate())
	})
	var span time.Duration
	n := 0
	for n < len(byRate) && span < guardWindow && byRate[n].endpointRate() >= 1 {
		span += byRate[n].span()
		n++
	}
	slices.SortStableFunc(byRate[:n], func(a, b serverInterval) int { return b.to.Time.Compare(a.to.Time) })
	return byRate[:n]
}

// lasting lists the limits that are exceeded in all of the intervals, newest first, and in parts of them that make up half
// of their time. Where they are too short to have parts, the whole speaks.
func (g Guardrails) lasting(intervals []serverInterval) []Breach {
	exceeded := make(map[Limit]time.Duration)
	var span time.Duration
	for parts := intervals; len(parts) > 0; {
		n, part := 0, Load{}
		for n < len(parts) && (part.Span < guardChunk-guardChunk/6 || part.Writes < enough) {
			part.add(parts[n])
			n++
		}
		if part.Writes < enough && span > 0 {
			break // The rest says nothing by itself.
		}
		span += part.Span
		for limit := range g.exceeded(loadOf(parts[:n])) {
			exceeded[limit] += part.Span
		}
		parts = parts[n:]
	}
	return slices.DeleteFunc(g.breaches(loadOf(intervals)), func(b Breach) bool { return 2*exceeded[b.Limit] < span })
}

// exceeded is the set of limits that a load is beyond.
func (g Guardrails) exceeded(l Load) map[Limit]bool {
	out := make(map[Limit]bool)
	for _, b := range g.breaches(l) {
		out[b.Limit] = true
	}
	return out
}

// Limit is one of the limits on the API server's health.
type Limit string

// The limits.
const (
	LimitWriteLatency Limit = "WriteLatency" // p99 of writes
	LimitRefused      Limit = "Refused"      // requests refused with 429, of all or of workload-high
	LimitQueue        Limit = "Queue"        // wait in the queues of workload-high
	LimitEtcd         Limit = "Etcd"         // p99 of writes to etcd
)

// Breach is a limit that the API server is beyond.
type Breach struct {
	Limit Limit
	// Message has the figures.
	Message string
}

// breaches lists the limits that a load is beyond, what users feel first. What is not known breaches nothing.
func (g Guardrails) breaches(l Load) []Breach {
	var out []Breach
	slow := func(limit Limit, what string, is time.Duration, part float64) {
		if most := time.Duration(part * float64(g.MaxWriteLatency)); most > 0 && is > most {
			out = append(out, Breach{limit, fmt.Sprintf("%s is %v, more than %v (%s)", what, rounded(is), rounded(most), l)})
		}
	}
	refused := func(what string, is float64) {
		if g.MaxRefused > 0 && is > g.MaxRefused {
			out = append(out, Breach{LimitRefused, fmt.Sprintf("%.1f %% of %s refused with 429, more than %.3g %% (%s)",
				100*is, what, 100*g.MaxRefused, l)})
		}
	}
	slow(LimitWriteLatency, "the p99 of writes", l.WriteLatency, 1)
	refused("all requests are", l.Refused)
	refused("the requests of workload-high are", l.QueueRefused)
	slow(LimitQueue, "the mean wait in the queues of workload-high", l.QueueWait, queuePart)
	slow(LimitEtcd, "the p99 of writes to etcd", l.EtcdLatency, etcdPart)
	return out
}

// Breached says whether a raise that was committed has brought the API server beyond a limit: one that it was beyond in
// each of two windows in a row up to now, and not before the change at a load that is comparable, or lower. before and
// after are the samples from before it was decided and since it was committed; others in them do not count. Where
// too little is known of either time nothing is breached: what is not known is not the change's fault.
func Breached(r Revision, before, after []ServerSample, g Guardrails) (Breach, bool) {
	if r.Committed.IsZero() {
		return Breach{}, false
	}
	since := slices.DeleteFunc(serverIntervals(after), func(i serverInterval) bool { return i.from.Time.Before(r.Committed) })
	until := slices.DeleteFunc(serverIntervals(before), func(i serverInterval) bool { return i.to.Time.After(r.Decided) })
	now := windows(since, 2)
	was := windows(until, math.MaxInt)
	if len(now) < 2 || len(was) == 0 || now[0].To.Sub(now[1].From) > 2*guardAge {
		return Breach{}, false
	}
	earlier := g.breaches(now[1])
	for _, b := range g.breaches(now[0]) {
		same := func(other Breach) bool { return other.Limit == b.Limit }
		if !slices.ContainsFunc(earlier, same) {
			continue
		}
		stood := slices.ContainsFunc(was, func(w Load) bool {
			return w.Rate() <= comparableLoad*max(now[0].Rate(), now[1].Rate()) && slices.ContainsFunc(g.breaches(w), same)
		})
		if !stood {
			b.Message = fmt.Sprintf("since revision %d: %s; before it, at up to %.3g writes/s, it was not", r.Number, b.Message, highestRate(was))
			return b, true
		}
	}
	return Breach{}, false
}

// windows cuts the newest time into at most n windows that are each long enough and have requests enough, newest first.
func windows(intervals []serverInterval, n int) []Load {
	var out []Load
	for len(out) < n {
		// Scrapes come a little early at times: that does not make the window longer by one.
		taken := newest(intervals, guardWindow-guardWindow/6)
		intervals = intervals[:len(intervals)-len(taken)]
		l := loadOf(taken)
		if l.Writes < enough || l.Span < guardWindow/2 {
			return out
		}
		out = append(out, l)
	}
	return out
}

func highestRate(all []Load) float64 {
	var highest float64
	for _, l := range all {
		highest = max(highest, l.Rate())
	}
	return highest
}

// Ceiling is the most that a raise may choose, flag by flag, learned from those that did harm within the last day: the
// geometric middle of what ran and what did harm, strictly below the latter and never below the former. Flags without
// such a limit are zero; ok says whether there is one at all.
func Ceiling(past []Revision, now time.Time) (ceiling v1alpha1.Flags, ok bool) {
	for _, r := range past {
		if r.Effect != EffectHarmed || now.Sub(judged(r)) >= ceilingLife {
			continue
		}
		from, limit := r.From.List(), ceiling.List()
		for i, to := range r.To.List() {
			if to.Value <= from[i].Value || to.Value < 2 {
				continue // It was not raised, or cannot be lower.
			}
			most := middle(from[i].Value, to.Value)
			if limit[i].Value > 0 {
				most = min(most, limit[i].Value)
			}
			ceiling.Set(to.Name, most)
			ok = true
		}
	}
	return ceiling, ok
}

// judged is when it became known that a revision did harm, as far as that was kept.
func judged(r Revision) time.Time {
	switch {
	case !r.Judged.IsZero():
		return r.Judged
	case !r.Committed.IsZero():
		return r.Committed
	}
	return r.Decided
}

// middle is the geometric middle of two values, the lower not known if it is 0; at least the lower, less than the higher.
func middle(low, high int32) int32 {
	m := int32(math.Sqrt(float64(max(low, 1)) * float64(high)))
	return min(max(m, low, 1), high-1)
}
