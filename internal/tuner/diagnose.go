package tuner

import (
	"fmt"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

const (
	// throttledShare is the part of a write's time from which on waiting for tokens, not the API server, makes it long.
	throttledShare = 0.5

	// slowWrite is the latency of a write, tokens aside, from which on the API server is the matter: more workers would
	// only press it harder.
	slowWrite = 500 * time.Millisecond

	// worthwhile is the least part of the lag that a lever must take away in the model to count as one.
	worthwhile = 0.2
)

// Diagnose says what limits the endpoint controllers, and on what evidence. Metrics decide where they saw the episode;
// without them the pace does at which a backlog was written, where it is that of the rate limit; else the model does: it
// replays the demand with tokens without end, and with workers without end, and the lever that takes more of the lag
// away names the cause, provided that the model reproduces what was measured.
func Diagnose(e Evidence, o Objective) Bottleneck {
	if e.Leader == Leaderless {
		return Bottleneck{v1alpha1.BottleneckNoLeader, "no kube-controller-manager is acting: changes wait for a leader"}
	}
	verdict := Verdict(e.Lag, o)
	context, older := verdict.Message, oldestStartup(e.Lag)
	quiet := verdict.Row.Max.Value <= o.MaxLag
	if verdict.Outcome == Met || (quiet && older <= o.MaxLag) {
		return Bottleneck{v1alpha1.BottleneckNone, context}
	}
	u, seen := usageOf(e), pacesOf(e)
	if quiet {
		if len(seen) == 0 {
			return Bottleneck{v1alpha1.BottleneckNone, context}
		}
		context = fmt.Sprintf("what was wrong when the measurement began stayed so for at least %v", rounded(older))
	}
	if !complete(e.Flags) {
		return u.blame(context+"; the running flags are not known", seen)
	}
	levers := pull(newReplay(e.Demand, Calibrate(e).Parameters, e.Now), e.Flags, o)
	b := u.blame(context, seen)
	if u.syncs == 0 {
		context += "; no metrics for that time, judged by what was published"
		if !seen.limited() && !seen.beyond() {
			return levers.blame(context, seen)
		}
		b = seen.blame(context)
	}
	if levers.trusted && levers.gain(b.Type) < worthwhile {
		return Bottleneck{
			v1alpha1.BottleneckUnknown,
			b.Message + "; but in the model " + levers.String() + ", so no flag is to blame",
		}
	}
	return b
}

// oldestStartup is for how long the oldest difference was seen that stood when the measurement began.
func oldestStartup(s lag.Summary) time.Duration {
	var oldest time.Duration
	for _, row := range s.Stats {
		oldest = max(oldest, row.OldestStartup)
	}
	return oldest
}

// complete reports whether all four flags are known.
func complete(f v1alpha1.Flags) bool {
	return !slices.ContainsFunc(f.List(), func(v v1alpha1.FlagValue) bool { return v.Value <= 0 })
}

// usage is what the metrics say about the time in which there was work.
type usage struct {
	syncs int64
	// The rest counts only intervals in which Services queued for longer than workers worked: those bear on lag.
	writes   int64
	waited   time.Duration // for tokens, in all
	requests time.Duration // tokens included, in all
	queued   time.Duration // in the work queues, in all
	worked   time.Duration // by workers, in all
}

func usageOf(e Evidence) usage {
	var u usage
	for i := 1; i < len(e.Signals); i++ {
		a, b := e.Signals[i-1], e.Signals[i]
		if !sameProcess(a, b) {
			continue
		}
		u.syncs += b.Endpoints.Syncs + b.EndpointSlices.Syncs - a.Endpoints.Syncs - a.EndpointSlices.Syncs
		queued := b.Endpoints.Wait + b.EndpointSlices.Wait - a.Endpoints.Wait - a.EndpointSlices.Wait
		worked := b.Endpoints.Work + b.EndpointSlices.Work - a.Endpoints.Work - a.EndpointSlices.Work
		if queued <= worked || b.Writes == a.Writes {
			continue
		}
		u.writes += b.Writes - a.Writes
		u.waited += b.LimiterWait - a.LimiterWait
		u.requests += b.RequestTime - a.RequestTime
		u.queued += queued
		u.worked += worked
	}
	return u
}

// blame names the cause by the metrics alone. Services wait in the queue only while every worker is busy; what keeps the
// workers busy, tokens or the API server, is the cause. A slow API server comes before workers, because more of them
// would only press it harder.
func (u usage) blame(context string, seen paces) Bottleneck {
	if u.syncs == 0 {
		return Bottleneck{v1alpha1.BottleneckUnknown, seen.after(context)}
	}
	if u.writes == 0 {
		return Bottleneck{
			v1alpha1.BottleneckUnknown,
			context + "; kube-controller-manager's queues were short all the time: the lag is not theirs",
		}
	}
	share := float64(u.waited) / float64(max(u.requests, 1))
	latency := (u.requests - u.waited) / time.Duration(u.writes)
	message := fmt.Sprintf("%s; of %d writes, %.0f %% of the time went into waiting for tokens, %v per write into the "+
		"API server; Services queued %.1f times as long as workers worked",
		context, u.writes, 100*share, rounded(latency), float64(u.queued)/float64(max(u.worked, 1)))
	switch {
	case share >= throttledShare:
		return Bottleneck{v1alpha1.BottleneckClientRateLimit, message}
	case latency >= slowWrite:
		return Bottleneck{v1alpha1.BottleneckUnknown, message + "; the API server is slow, which no flag cures"}
	}
	return Bottleneck{v1alpha1.BottleneckWorkers, message}
}

// levers is what the model says that each lever would bring, as lag in seconds at the percentile in the worst row.
type levers struct {
	current, tokens, workers float64
	// write is the latency of a quiet one.
	write time.Duration
	// trusted says that the model reproduces what was measured.
	trusted bool
}

// endless is a rate, a burst and a number of workers that never bind.
const endless = 1_000_000

// pull replays the demand with each lever pulled to its end.
func pull(r *replay, running v1alpha1.Flags, o Objective) levers {
	l := levers{write: r.model.Base}
	r.run(running)
	l.current, l.trusted = r.worst(o.Percentile), r.residual(o).trusted()
	f := running
	f.KubeAPIQPS, f.KubeAPIBurst = endless, endless
	r.run(f)
	l.tokens = r.worst(o.Percentile)
	f = running
	f.ConcurrentEndpointSyncs, f.ConcurrentServiceEndpointSyncs = endless, endless
	r.run(f)
	l.workers = r.worst(o.Percentile)
	return l
}

// gain is the part of the lag that the lever for a cause takes away.
func (l levers) gain(cause v1alpha1.BottleneckType) float64 {
	switch cause {
	case v1alpha1.BottleneckClientRateLimit:
		return 1 - l.tokens/max(l.current, 1e-9)
	case v1alpha1.BottleneckWorkers:
		return 1 - l.workers/max(l.current, 1e-9)
	case v1alpha1.BottleneckNone, v1alpha1.BottleneckNoLeader, v1alpha1.BottleneckUnknown:
	}
	return 1 // nothing is claimed, so nothing contradicts it
}

// blame names the cause by the model alone. Where it cannot, what was seen of the pace is said: a backlog that was written
// more slowly than the rate limit allows waits for workers, for the API server, or for writes that change no membership.
func (l levers) blame(context string, seen paces) Bottleneck {
	message := seen.after(context) + "; in the model " + l.String()
	tokens, workers := l.gain(v1alpha1.BottleneckClientRateLimit), l.gain(v1alpha1.BottleneckWorkers)
	switch {
	case !l.trusted:
		return Bottleneck{v1alpha1.BottleneckUnknown, message + "; it does not reproduce what was measured" +
			seen.doubt()}
	case max(tokens, workers) < worthwhile:
		return Bottleneck{v1alpha1.BottleneckUnknown, message + ", so no flag is to blame"}
	case tokens >= workers:
		return Bottleneck{v1alpha1.BottleneckClientRateLimit, message}
	case !seen.worked():
		return Bottleneck{v1alpha1.BottleneckUnknown, message + "; but nothing shows that a write takes so long by itself" + seen.doubt()}
	case l.write >= slowWrite:
		return Bottleneck{v1alpha1.BottleneckUnknown, message + fmt.Sprintf("; a write takes %v: the API server is slow, "+
			"which no flag cures", rounded(l.write))}
	}
	return Bottleneck{v1alpha1.BottleneckWorkers, message}
}

// String says what each lever would bring.
func (l levers) String() string {
	return fmt.Sprintf("the running flags give %v, tokens without end %v, workers without end %v",
		rounded(seconds(l.current)), rounded(seconds(l.tokens)), rounded(seconds(l.workers)))
}
