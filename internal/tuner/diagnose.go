package tuner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Diagnose says what limits the endpoint controllers, on what evidence, and what a person can do where our levers are no
// cure. Causes are asked in the order of how much harm a wrong lever would do (named): those that no flag of ours cures
// come first, and each must explain the late changes by itself; a lever is named only when none of them does, when what
// was measured shows its mark, and when the model does not contradict it. What cannot be told apart is Unknown.
//
// Nothing needs metrics of kube-controller-manager or of the API server; without them, or where they contradict what was
// published, the changes alone are judged.
func Diagnose(e Evidence, o Objective) Bottleneck {
	if e.Leader == Leaderless {
		return concluded(&situation{e: e, o: o}, noLeader(), "")
	}
	verdict := Verdict(e.Lag, o)
	context, older := verdict.Message, oldestStartup(e.Lag)
	quiet := verdict.Row.Max.Value <= o.MaxLag
	if verdict.Outcome == Met || (quiet && older <= o.MaxLag) {
		return Bottleneck{Type: v1alpha1.BottleneckNone, Message: context}
	}
	s := newSituation(e, o)
	if quiet {
		if len(s.paces) == 0 {
			return Bottleneck{Type: v1alpha1.BottleneckNone, Message: context}
		}
		context = fmt.Sprintf("what was wrong when the measurement began stayed so for at least %v", rounded(older))
	}
	if s.doubted != "" {
		context += "; kube-controller-manager's metrics are left aside: " + s.doubted
	}
	return s.conclude(context)
}

// named is from which weight on a cause is named.
const named = 0.5

// conclude weighs all causes and names the first that claims the case.
func (s *situation) conclude(context string) Bottleneck {
	if complete(s.e.Flags) {
		s.levers = leversOf(s.e, s.o)
	}
	others := []Finding{s.dropped(), s.hotService(), s.batching(), s.staleRetries(), s.apiServer()}
	lever := s.lever()
	findings := slices.Concat(others, lever)
	for _, f := range findings {
		if f.Weight >= named {
			return concluded(s, f, context, findings...)
		}
	}
	return concluded(s, s.unknown(), context, findings...)
}

// concluded makes the result of the finding that is named.
func concluded(s *situation, f Finding, context string, others ...Finding) Bottleneck {
	parts := append([]string{context}, f.For...)
	parts = slices.DeleteFunc(parts, func(text string) bool { return text == "" })
	b := Bottleneck{Type: f.Cause, Message: strings.Join(parts, "; "), Advice: s.advice(f.Cause), Findings: []Finding{f}}
	slices.SortStableFunc(others, func(a, b Finding) int { return cmp.Compare(b.Weight, a.Weight) })
	for _, other := range others {
		if other.Cause != f.Cause && len(other.For)+len(other.Against) > 0 {
			b.Findings = append(b.Findings, other)
		}
	}
	return b
}

// noLeader is the finding where nobody acts.
func noLeader() Finding {
	return Finding{
		Cause: v1alpha1.BottleneckNoLeader, Weight: 1,
		For: []string{"no kube-controller-manager is acting: changes wait for a leader"},
	}
}

// unknown is the finding where nothing explains the lag: it says what was looked at.
func (s *situation) unknown() Finding {
	f := Finding{Cause: v1alpha1.BottleneckUnknown, Weight: named}
	if !complete(s.e.Flags) {
		f.For = append(f.For, "the running flags are not known")
	}
	if len(s.paces) > 0 {
		f.For = append(f.For, s.paces.String())
	}
	switch {
	case s.use.syncs == 0:
		f.For = append(f.For, "no metrics for that time, judged by what was published")
	case s.use.writes == 0:
		f.For = append(f.For, "kube-controller-manager's queues were short all the time: the lag is not theirs")
	}
	f.For = append(f.For, s.why...)
	if len(f.For) == 0 {
		f.For = []string{"nothing that was seen explains it"}
	}
	return f
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

// situation is what the causes are weighed on.
type situation struct {
	e Evidence
	o Objective
	// use is what kube-controller-manager's metrics say, empty where there are none; doubted is why they are left aside.
	use     usage
	doubted string
	server  pressure
	late    [kcm.APIs]lateness
	paces   paces
	// levers are asked for when causes are weighed: they take several replays.
	levers levers
	// why is what keeps the levers from being named.
	why []string
}

func newSituation(e Evidence, o Objective) *situation {
	s := &situation{e: e, o: o, paces: pacesOf(e), server: pressureOf(e.Server)}
	s.use, s.doubted = usageOf(e)
	for in := range kcm.APIs {
		s.late[in] = latenessOf(e, in, o)
	}
	return s
}

// isLate reports whether the changes of an API miss the objective by themselves.
func (s *situation) isLate(in kcm.API) bool { return s.late[in].misses(s.o) }
