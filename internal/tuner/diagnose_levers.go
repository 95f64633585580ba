package tuner

import (
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// throttledShare is the part of a write's time from which on waiting for tokens, not the API server, makes it long.
	throttledShare = 0.5

	// ownShare is the least part of their own workers' time that the endpoint controllers spend waiting for tokens where
	// tokens are what they lack. kube-controller-manager's limiter metric does not say which controller waited, and a
	// namespace that is deleted waits a lot.
	ownShare = 0.3

	// worthwhile is the least part of the lag that a lever must take away in the model to count as one.
	worthwhile = 0.2

	// clearly is the same where neither metrics nor the pace of a backlog back the model.
	clearly = 0.5

	// busyWorkers is from which part of the time on workers that work count as all at work, where the model cannot tell.
	busyWorkers = 0.5
)

// lever weighs the two causes that our flags cure.
func (s *situation) lever() []Finding {
	tokens := Finding{Cause: v1alpha1.BottleneckClientRateLimit}
	workers := Finding{Cause: v1alpha1.BottleneckWorkers}
	switch {
	case !complete(s.e.Flags):
		s.blind(&tokens, &workers)
	case s.use.syncs > 0:
		s.metered(&tokens, &workers)
	case s.paces.limited():
		tokens.For = append(tokens.For, "no metrics for that time, judged by what was published", s.paces.String())
		tokens.Weight = 0.8
	case s.paces.beyond():
		s.why = append(s.why, "kube-controller-manager runs with a higher rate limit than is known here")
	default:
		s.modelled(&tokens, &workers)
	}
	s.contradict(&tokens)
	s.contradict(&workers)
	return []Finding{tokens, workers}
}

// blind is what metrics alone say, where the running flags are not known.
func (s *situation) blind(tokens, workers *Finding) {
	if s.use.writes == 0 {
		return
	}
	if s.use.tokenShare() >= throttledShare && s.use.ownTokenShare() >= ownShare {
		tokens.For, tokens.Weight = append(tokens.For, "the running flags are not known", s.use.String()), 0.6
		return
	}
	workers.For, workers.Weight = append(workers.For, "the running flags are not known", s.use.String()), 0.6
}

// metered decides by metrics. Services wait in the queue only while every worker is busy; what keeps the workers busy,
// tokens or the API server, is the cause.
func (s *situation) metered(tokens, workers *Finding) {
	if s.use.writes == 0 {
		tokens.Against = append(tokens.Against, "Services did not queue for longer than workers worked on them")
		return
	}
	share, own := s.use.tokenShare(), s.use.ownTokenShare()
	switch {
	case share < throttledShare && s.paces.limited() && s.contested(s.use.latency()):
		tokens.For = append(tokens.For, s.paces.String(), fmt.Sprintf("kube-controller-manager's metrics count no wait for tokens "+
			"and %v for a write, of which the API server's show %v at most", rounded(s.use.latency()), rounded(s.server.write)))
		tokens.Weight = 0.6
		return
	case share >= throttledShare && own >= ownShare:
		tokens.For, tokens.Weight = append(tokens.For, s.use.String()), 0.8
		if len(s.paces) > 0 {
			tokens.For = append(tokens.For, s.paces.String())
		}
		return
	case share < throttledShare && s.tokensAlone(share):
		tokens.For = append(tokens.For, s.use.String(), "in the model "+s.levers.String())
		tokens.Weight = 0.6
		return
	case share >= throttledShare:
		tokens.Against = append(tokens.Against, fmt.Sprintf("the writes that waited for tokens are those of other controllers: "+
			"the endpoint controllers' own workers spent %.0f %% of their time so", 100*own))
	default:
		tokens.Against = append(tokens.Against, fmt.Sprintf("%.0f %% of the time of a write went into waiting for tokens", 100*share))
	}
	workers.For = append(workers.For, s.use.String())
	switch {
	case s.levers.trusted || s.use.busy() >= busyWorkers || (len(s.paces) > 0 && s.paces.worked()):
		workers.Weight = 0.8
	default:
		workers.Weight = 0.3
		s.why = append(s.why, fmt.Sprintf("workers were at work for only %.0f %% of the time", 100*s.use.busy()))
	}
}

// tokensAlone says that writes wait for tokens for a good part of their time, and that a model that reproduces what was
// measured has tokens alone to blame. Five workers whose writes take 0.13 s by themselves are held to 20 a second with less
// than half of their time spent on tokens.
func (s *situation) tokensAlone(share float64) bool {
	return s.levers.trusted && share >= ownShare && s.levers.part(s.levers.tokens) >= worthwhile &&
		s.levers.part(s.levers.workers) < worthwhile
}

// modelled decides by the model alone. Workers are named only if the pace of a backlog shows them: without metrics, a
// write that takes long by itself looks like a lag from elsewhere.
func (s *situation) modelled(tokens, workers *Finding) {
	l := s.levers
	basis := []string{"no metrics for that time, judged by what was published"}
	if len(s.paces) > 0 {
		basis = append(basis, s.paces.String())
	}
	basis = append(basis, "in the model "+l.String())
	byTokens, byWorkers := l.gain(v1alpha1.BottleneckClientRateLimit), l.gain(v1alpha1.BottleneckWorkers)
	switch {
	case !l.trusted:
		s.why = append(s.why, "in the model "+l.String()+"; it does not reproduce what was measured"+s.paces.doubt())
	case byTokens >= worthwhile && byTokens >= byWorkers:
		tokens.For, tokens.Weight = basis, 0.6
	case byWorkers < worthwhile: // contradict says so
	case !s.paces.worked() || (len(s.paces) == 0 && byWorkers < clearly):
		s.why = append(s.why, "in the model "+l.String()+"; but nothing shows that a write takes so long by itself"+s.paces.doubt())
	default:
		workers.For, workers.Weight = basis, 0.6
	}
}

// contradict takes back a lever that brings nothing in a model that reproduces what was measured.
func (s *situation) contradict(f *Finding) {
	if !s.levers.trusted || s.levers.gain(f.Cause) >= worthwhile {
		return
	}
	f.Against = append(f.Against, "in the model "+s.levers.String())
	if f.Weight >= named {
		s.why = append(s.why, f.For...)
		f.Weight = 0.4
	}
	if s.levers.gainOfBoth() < worthwhile && len(s.why) == 0 {
		s.why = append(s.why, "in the model "+s.levers.String()+", so no flag is to blame")
	}
}

// levers is what the model says that each lever would bring, as lag in seconds at the percentile in the worst row.
type levers struct {
	current, tokens, workers, both float64
	// server is the lag under the running flags with an API server that never binds.
	server float64
	// write is the latency of a quiet one.
	write time.Duration
	// trusted says that the model reproduces what was measured.
	trusted bool
}

// endless is a rate, a burst and a number of workers that never bind.
const endless = 1_000_000

// leversOf replays the demand with each lever pulled to its end. This is the only place where the diagnosis asks the
// model.
func leversOf(e Evidence, o Objective) levers {
	r := newReplay(e.Demand, Calibrate(e).Parameters, e.Now)
	lagUnder := func(change func(*v1alpha1.Flags)) float64 {
		f := e.Flags
		change(&f)
		r.run(f)
		return r.worst(o.Percentile)
	}
	tokens := func(f *v1alpha1.Flags) { f.KubeAPIQPS, f.KubeAPIBurst = endless, endless }
	workers := func(f *v1alpha1.Flags) {
		f.ConcurrentEndpointSyncs, f.ConcurrentServiceEndpointSyncs = endless, endless
	}
	l := levers{write: r.model.Base}
	l.current = lagUnder(func(*v1alpha1.Flags) {})
	l.trusted = r.residual(o).trusted()
	l.tokens, l.workers = lagUnder(tokens), lagUnder(workers)
	l.both = lagUnder(func(f *v1alpha1.Flags) { tokens(f); workers(f) })
	r.runUnder(e.Flags, unbound(r.model))
	l.server = r.worst(o.Percentile)
	return l
}

// gain is the part of the lag that the lever for a cause takes away. Where neither does anything alone and both together
// do, each counts.
func (l levers) gain(cause v1alpha1.BottleneckType) float64 {
	without := l.server
	if cause == v1alpha1.BottleneckClientRateLimit {
		without = l.tokens
	}
	if cause == v1alpha1.BottleneckWorkers {
		without = l.workers
	}
	if gain := l.part(without); gain >= worthwhile || cause == v1alpha1.BottleneckAPIServer {
		return gain
	}
	if max(l.part(l.tokens), l.part(l.workers)) < worthwhile {
		return l.gainOfBoth()
	}
	return l.part(without)
}

func (l levers) gainOfBoth() float64 { return l.part(l.both) }

func (l levers) part(without float64) float64 { return 1 - without/max(l.current, 1e-9) }

// String says what each lever would bring.
func (l levers) String() string {
	return fmt.Sprintf("the running flags give %v, tokens without end %v, workers without end %v, an API server without end %v",
		rounded(seconds(l.current)), rounded(seconds(l.tokens)), rounded(seconds(l.workers)), rounded(seconds(l.server)))
}
