package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/accuracy"
)

const (
	// incidentServices change at once: kube-controller-manager's default flags (20 writes a second, 30 at once) publish
	// them over 9 s.
	incidentServices = 200
	// gapServices change while the measurement cannot see.
	gapServices = 40
	// intoIncident is when a fault is injected: some changes are published by then and most are not.
	intoIncident = 2 * time.Second
	// outageLength is longer than what a broken watch needs to be resumed, and far longer than what is tolerated.
	outageLength = 4 * time.Second
	// onTheWay is how long something that was written before a fault may take to arrive: it may be seen or not.
	onTheWay = time.Second
	// tolerated is how wrong an unmarked sample may be on a test machine whose CPUs are taken: far less than any fault here
	// would make it.
	tolerated = 500 * time.Millisecond
)

// outage is when the measurement could not see, at least. If unnoticed, nothing told it so, and its bound alone has to
// cover what it got wrong.
type outage struct {
	from, to  time.Time
	unnoticed bool
}

func (o outage) holds(t time.Time) bool { return t.After(o.from) && t.Before(o.to) }

// verify holds everything that the measurement told since then against the truth, and returns how many of each class,
// and of the samples how many are marked.
func (f *faultStage) verify(t *testing.T, m *measurement, from time.Time, gaps ...outage) (classes map[string]int, marked int) {
	t.Helper()
	truth := f.truth(t, from)
	summary := m.tracker.Summary(lag.Query{Since: from, Now: f.clock.Now()})
	checkSums(t, summary)
	classes = map[string]int{}
	told := map[membership]bool{}
	var faults []string
	for _, c := range m.log.Changes() {
		if c.From.Before(from) {
			continue // Before this incident.
		}
		classes[c.Class]++
		key := membership{c.Resource, c.Pod}
		actual, ok := truth[key]
		if !ok || told[key] {
			faults = append(faults, fmt.Sprintf("%+v: no such change", c))
			continue
		}
		told[key] = true
		if c.Class == lag.Closed.String() && c.Marked {
			marked++
		}
		if fault := judge(c, actual, summary, gaps); fault != "" {
			faults = append(faults, fmt.Sprintf("%s of %s: %s (told %+v, true %+v)", c.Class, c.Resource, fault, c, actual))
		}
	}
	for key, actual := range truth {
		if !told[key] && actual.Until().After(m.synced) {
			faults = append(faults, fmt.Sprintf("never told: %+v", actual))
		}
	}
	for i, fault := range faults {
		if i == 5 {
			t.Errorf("and %d more", len(faults)-i)
			break
		}
		t.Error(fault)
	}
	t.Logf("classes %v, %d samples marked, error bound %s, blind %v", classes, marked, summary.ErrorBound, summary.Blind)
	return classes, marked
}

// judge says what is wrong with one change; nothing if it is right.
func judge(told, actual accuracy.Change, summary lag.Summary, gaps []outage) string {
	unseen, unnoticed := false, false
	for _, g := range gaps {
		unseen = unseen || !g.unnoticed && g.holds(actual.From)
		unnoticed = unnoticed || g.unnoticed
	}
	p := accuracy.Pair{Subject: told, Truth: actual}
	isSample := told.Class == lag.Closed.String()
	switch {
	case unseen && told.Class != lag.Gap.String():
		return "it happened while nobody could see, so its lag is unknown"
	case !isSample:
		return ""
	case told.Added != actual.Added:
		return "it went the other way"
	case !summary.BoundKnown:
		return "a sample without a bound"
	case p.LagError().Abs() > summary.ErrorBound+actual.Spread+tolerated:
		return fmt.Sprintf("a sample wrong by %s, more than the bound %s", p.LagError(), summary.ErrorBound)
	case !told.Marked && !unnoticed && p.LagError().Abs() > tolerated+actual.Spread:
		return fmt.Sprintf("a sample wrong by %s without a mark", p.LagError())
	}
	for _, g := range gaps {
		if !told.Marked && !g.unnoticed && g.holds(actual.Until()) && actual.Until().Sub(g.from) > onTheWay {
			return "a sample without a mark that was published while nobody could see"
		}
	}
	return ""
}

func checkSums(t *testing.T, summary lag.Summary) {
	t.Helper()
	for _, s := range summary.Stats {
		sum := s.Closed + s.Open + s.Superseded + s.NotNeeded + s.Startup + s.Gap + s.HandOver + s.OverCapacity + s.Unacted
		if sum != s.Changes {
			t.Errorf("%s %s: the classes add up to %d of %d changes: %+v", s.Resource, s.Direction, sum, s.Changes, s)
		}
	}
}

func TestMeasurementThroughFaults(t *testing.T) {
	f := newFaultStage(t)
	t.Run("without a fault every change is a sample", f.testNoFault)
	t.Run("connections that break and are resumed", f.testDrops)
	t.Run("a watch that cannot be resumed (410 Gone)", f.testGone)
	t.Run("a restart of the API server", f.testAPIServerRestart)
	t.Run("a connection that is held up without breaking", f.testHeldUp)
	t.Run("a restart of the operator in the middle of an incident", f.testOperatorRestart)
}

// all is how many changes an incident makes in both APIs.
const all = 2 * incidentServices

func (f *faultStage) testNoFault(t *testing.T) {
	m := f.measure(t)
	from := f.play(t, func() {}, func() *measurement { return m })
	classes, marked := f.verify(t, m, from)
	if classes[lag.Closed.String()] != all || len(classes) != 1 || marked != 0 {
		t.Errorf("classes %v, %d marked, want %d closed and none marked", classes, marked, all)
	}
}

func (f *faultStage) testDrops(t *testing.T) {
	m := f.measure(t)
	var gap outage
	from := f.play(t, func() {
		gap = f.blind(t, func() { f.sleep(t, outageLength) })
		f.sleep(t, intoIncident)
		f.line.drop() // A second, short one.
	}, func() *measurement { return m })
	classes, marked := f.verify(t, m, from, gap)
	if marked == 0 || classes[lag.Gap.String()] < 2*gapServices {
		t.Errorf("%d samples marked, classes %v, want some marked and at least %d in the gap", marked, classes, 2*gapServices)
	}
}

func (f *faultStage) testGone(t *testing.T) {
	m := f.measure(t)
	before := m.relistsOf(lag.KindPod)
	var gap outage
	from := f.play(t, func() {
		// A restarted API server remembers nothing from before: a watch that lags behind cannot be resumed.
		gap = f.blind(t, func() { f.restartAPIServer(t) })
	}, func() *measurement { return m })
	classes, marked := f.verify(t, m, from, gap)
	if m.relistsOf(lag.KindPod) == before {
		t.Error("the watch of Pods was resumed: 410 Gone was not tested")
	}
	if marked == 0 || classes[lag.Gap.String()] < 2*gapServices {
		t.Errorf("%d samples marked, classes %v, want some marked and at least %d in the gap", marked, classes, 2*gapServices)
	}
}

func (f *faultStage) restartAPIServer(t *testing.T) {
	t.Helper()
	if err := f.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := f.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *faultStage) testAPIServerRestart(t *testing.T) {
	m := f.measure(t)
	from := f.play(t, func() {
		f.restartAPIServer(t)
		f.flip(t, f.other) // Watches may be back by now, or not.
	}, func() *measurement { return m })
	f.verify(t, m, from)
	if len(m.tracker.Summary(lag.Query{Since: from, Now: f.clock.Now()}).Blind) == 0 {
		t.Error("the measurement does not know that it could not see")
	}
}

func (f *faultStage) testHeldUp(t *testing.T) {
	m := f.measure(t)
	held := outage{unnoticed: true}
	from := f.play(t, func() {
		held.from = f.clock.Now()
		f.line.hold()
		f.flip(t, f.other)
		f.sleep(t, outageLength)
		f.line.flow()
		held.to = f.clock.Now()
	}, func() *measurement { return m })
	f.verify(t, m, from, held)
}

func (f *faultStage) testOperatorRestart(t *testing.T) {
	first := f.measure(t)
	var second *measurement
	var asked time.Time
	var oldest time.Duration
	from := f.play(t, func() {
		first.stop()
		second = f.measure(t)
		f.sleep(t, time.Second)
		asked = f.clock.Now()
		oldest = oldestStartup(t, second, asked)
	}, func() *measurement { return second })
	classes, _ := f.verify(t, second, from)
	open := func(at time.Time) (n int, since time.Time) {
		since = at
		for _, c := range f.truth(t, from) {
			if c.From.Before(at) && c.Until().After(at) {
				n++
				if c.From.Before(since) {
					since = c.From
				}
			}
		}
		return n, since
	}
	most, since := open(second.asked)
	least, _ := open(second.synced)
	if got := classes[lag.Startup.String()]; got > most || got < least || least == 0 {
		t.Errorf("%d changes from before the start, want %d to %d, and more than none", got, least, most)
	}
	if n := classes[lag.Closed.String()]; n != 0 {
		t.Errorf("%d samples of changes that nobody saw begin", n)
	}
	if low, high := asked.Sub(second.synced), asked.Sub(since); oldest < low || oldest > high {
		t.Errorf("the oldest change from before the start stood for %s at least, want %s to %s", oldest, low, high)
	}
}

// oldestStartup returns for how long something from before the start stood at least, in the middle of an incident.
func oldestStartup(t *testing.T, m *measurement, now time.Time) time.Duration {
	t.Helper()
	var oldest time.Duration
	for _, s := range m.tracker.Summary(lag.Query{Now: now}).Stats {
		oldest = max(oldest, s.OldestStartup)
		if s.StartupOpen == 0 {
			t.Errorf("%s %s: nothing open from before the start, in the middle of an incident", s.Resource, s.Direction)
		}
	}
	return oldest
}
