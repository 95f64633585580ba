package lag

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newShop returns a tracker at second 0 with one Service, whose one Pod "old" is ready and shown in both APIs.
func newShop(o Options) *Tracker {
	tr := NewTracker(o)
	tr.SetNode("n", at(-1))
	tr.SetService(shop(), at(-1))
	tr.SetPod(web("old"), at(-1))
	tr.SetSlice(webSlice("a", shown("old")), at(-1))
	tr.SetEndpoints(webEndpoints(shown("old")), at(-1))
	tr.Synced(at(0))
	return tr
}

// TestGaps drives a Service through broken watches and looks at the EndpointSlice rows 100 seconds in.
func TestGaps(t *testing.T) {
	type want struct {
		gap, closed, open, marked int
		max                       Quantile
		bound                     time.Duration
	}
	tests := map[string]struct {
		history func(*Tracker)
		want    want
	}{
		"a change noticed while the Pods' watch catches up is no sample": {func(tr *Tracker) {
			tr.SetReceiving(KindPod, false, at(1))
			tr.SetPod(web("new"), at(9))
			tr.SetReceiving(KindPod, true, at(9.5))
			tr.SetSlice(webSlice("b", shown("new")), at(10))
		}, want{gap: 1}},
		"a change after the watch caught up is one": {func(tr *Tracker) {
			tr.SetReceiving(KindPod, false, at(1))
			tr.SetReceiving(KindPod, true, at(9.5))
			tr.SetPod(web("new"), at(10))
			tr.SetSlice(webSlice("b", shown("new")), at(11))
		}, want{closed: 1, max: Quantile{Value: time.Second}}},
		"a change by a Service's watch that catches up is no sample": {func(tr *Tracker) {
			tr.SetReceiving(KindService, false, at(1))
			tr.SetService(shop(func(s *Service) { s.Selector = appIs("other") }), at(4))
			tr.SetReceiving(KindService, true, at(5))
			tr.SetSlice(webSlice("a"), at(6))
		}, want{gap: 1}},
		"one published while the slices' watch was broken is a marked sample": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetReceiving(KindSlice, false, at(4))
			tr.SetSlice(webSlice("b", shown("new")), at(10))
			tr.SetReceiving(KindSlice, true, at(10))
		}, want{closed: 1, marked: 1, max: Quantile{Value: 9 * time.Second}, bound: 6 * time.Second}},
		"one made and published while it was broken may have had any lag up to that": {func(tr *Tracker) {
			tr.SetReceiving(KindSlice, false, at(1))
			tr.SetPod(web("new"), at(7))
			tr.SetSlice(webSlice("b", shown("new")), at(10))
			tr.SetReceiving(KindSlice, true, at(10.5))
		}, want{closed: 1, marked: 1, max: Quantile{Value: 3 * time.Second}, bound: 3 * time.Second}},
		"one published after it caught up is not marked": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetReceiving(KindSlice, false, at(4))
			tr.SetReceiving(KindSlice, true, at(10))
			tr.SetSlice(webSlice("b", shown("new")), at(11))
		}, want{closed: 1, max: Quantile{Value: 10 * time.Second}}},
		"an open change does not age while nobody sees what is published": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetReceiving(KindSlice, false, at(4))
		}, want{open: 1, marked: 1, max: Quantile{3 * time.Second, true}}},
		"the Endpoints' watch says nothing about slices": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetReceiving(KindEndpoints, false, at(2))
			tr.SetSlice(webSlice("b", shown("new")), at(3))
		}, want{closed: 1, max: Quantile{Value: 2 * time.Second}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tr := newShop(Options{})
			test.history(tr)
			got := tr.Summary(Query{Now: at(100), Since: at(0)})
			s := got.Stat(ResourceEndpointSlice, DirectionAny)
			slices := want{gap: s.Gap, closed: s.Closed, open: s.Open, marked: s.Marked, max: s.Max, bound: got.ErrorBound}
			if diff := cmp.Diff(test.want, slices, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("Summary() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBlindTimesAreListed(t *testing.T) {
	tr := newShop(Options{})
	tr.SetReceiving(KindPod, false, at(1))
	tr.SetReceiving(KindPod, true, at(2))
	tr.SetReceiving(KindSlice, false, at(5))
	got := tr.Summary(Query{Now: at(10), Since: at(0)}).Blind
	want := []Blindness{{Kind: KindPod, From: at(1), To: at(2)}, {Kind: KindSlice, From: at(5)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Blind (-want +got):\n%s", diff)
	}
	if later := tr.Summary(Query{Now: at(10), Since: at(3)}).Blind; len(later) != 1 {
		t.Errorf("from second 3 on %v are listed, want the one that lasts", later)
	}
}

func TestTheErrorBoundIsThatOfTheSecondsASampleRestsOn(t *testing.T) {
	tr := newShop(Options{})
	for second, late := range []float64{1: 1, 2: 20, 3: 1, 4: 7, 5: 90} {
		tr.SetDelay(at(float64(second)+0.5), at(late/1000).Sub(at(0)))
	}
	tr.SetDelay(at(4.2), time.Millisecond) // the larger one of a second counts
	tr.SetPod(web("new"), at(3.1))
	tr.SetSlice(webSlice("b", shown("new")), at(4.9))
	tr.SetEndpoints(webEndpoints(shown("old"), shown("new")), at(4.9))
	got := tr.Summary(Query{Now: at(5), Since: at(0)})
	if got.ErrorBound != 7*time.Millisecond || !got.BoundKnown {
		t.Errorf("bound = %v, known %t; want 7ms of seconds 3 and 4", got.ErrorBound, got.BoundKnown)
	}
	tr.SetPod(web("old", notReady), at(50))
	if got := tr.Summary(Query{Now: at(51), Since: at(0)}); got.BoundKnown {
		t.Error("the bound is known although nothing was told of second 50")
	}
	if early := at(0.5).Add(-2 * keptDelays * time.Second); !tr.Summary(Query{Now: at(5), Since: at(0)}).BoundKnown {
		t.Error("what was known is forgotten")
	} else {
		tr.SetDelay(early, time.Second) // before the tracker's time: ignored, and no panic
	}
	tr.SetDelay(at(3.5+keptDelays), time.Millisecond)
	if got := tr.Summary(Query{Now: at(5), Since: at(0)}); got.BoundKnown {
		t.Error("the bound of a second six hours ago is known")
	}
}

func TestWhatKubeControllerManagerDoesNotActOn(t *testing.T) {
	ended := func(p *Pod) { p.Included = false }
	tests := map[string]struct {
		history func(*Tracker)
		want    map[Class]int
	}{
		"a Pod whose phase alone ends it": {func(tr *Tracker) {
			tr.SetPod(web("old", ended), at(1))
			tr.SetSlice(webSlice("a"), at(50))
		}, map[Class]int{Unacted: 1}},
		"a Pod that ends and ceases to be ready at once": {func(tr *Tracker) {
			tr.SetPod(web("old", ended, notReady), at(1))
			tr.SetSlice(webSlice("a"), at(2))
		}, map[Class]int{Closed: 1}},
		"a Node that goes": {func(tr *Tracker) {
			tr.SetPod(web("new", onNode("n")), at(1))
			tr.SetSlice(webSlice("b", shown("new")), at(2))
			tr.DeleteNode("n", at(3))
		}, map[Class]int{Closed: 1, Unacted: 2}},
		"a Pod on a Node that does not exist is in no slice": {func(tr *Tracker) {
			tr.SetPod(web("new", onNode("nowhere")), at(1))
		}, nil},
		"until the Node comes": {func(tr *Tracker) {
			tr.SetPod(web("new", onNode("later")), at(1))
			tr.SetNode("later", at(2))
			tr.SetNode("later", at(3))
		}, map[Class]int{Unacted: 1}},
		"but in one of a Service that publishes all": {func(tr *Tracker) {
			tr.SetService(shop(func(s *Service) { s.PublishNotReady = true }), at(1))
			tr.SetPod(web("new", onNode("nowhere")), at(2))
		}, map[Class]int{Open: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tr := newShop(Options{})
			test.history(tr)
			got := tr.Summary(Query{Now: at(100), Since: at(0.5)}).Stat(ResourceEndpointSlice, DirectionAny)
			want := Stat{}
			for class, n := range test.want {
				for range n {
					want.count(class)
				}
			}
			if diff := cmp.Diff(countsOf(want), countsOf(got)); diff != "" {
				t.Errorf("classes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodesDoNotMatterUntilOneIsKnown(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), at(-1))
	tr.Synced(at(0))
	tr.SetPod(web("a", onNode("x")), at(1))
	open := func() int {
		return tr.Summary(Query{Now: at(10)}).Stat(ResourceEndpointSlice, DirectionAddition).Open
	}
	if n := open(); n != 1 {
		t.Errorf("open without Nodes = %d, want 1", n)
	}
	tr.SetNode("y", at(2))
	if n := open(); n != 0 {
		t.Errorf("open after another Node was told = %d, want 0: its Node does not exist", n)
	}
}

func TestRetainForgetsWhatAListLacks(t *testing.T) {
	tr := newShop(Options{})
	tr.SetPod(web("new"), at(1))
	keepNew := func(_, name string) bool { return name == "new" }
	tr.Retain(KindPod, keepNew, at(2))
	removed := tr.Summary(Query{Now: at(3), Since: at(0)}).Stat(ResourceEndpointSlice, DirectionRemoval)
	if removed.Open != 1 {
		t.Errorf("open removals = %d, want the Pod that the list lacks", removed.Open)
	}
	for _, k := range []Kind{KindSlice, KindEndpoints, KindService, KindNode, KindNamespace} {
		tr.Retain(k, func(_, name string) bool { return k == KindNamespace }, at(4))
	}
	tr.Retain(KindPod, func(string, string) bool { return false }, at(5))
	if len(tr.namespaces)+len(tr.nodes) != 0 {
		t.Errorf("%d namespaces and %d Nodes are left, want none", len(tr.namespaces), len(tr.nodes))
	}
}

func TestStrata(t *testing.T) {
	tr := newShop(Options{})
	for i, second := range []float64{1, 9, 21, 75, 90} { // nobody leads from 10 to 20
		name := fmt.Sprint("p", i)
		tr.SetPod(web(name), at(second))
		if i == 1 {
			tr.SetLeader(false, at(10))
			tr.SetLeader(true, at(20))
		}
		tr.SetSlice(webSlice(name, shown(name)), at(second+2+map[bool]float64{true: 20}[i == 1]))
	}
	got := tr.Summary(Query{Now: at(100), Since: at(0)})
	s := got.Stat(ResourceEndpointSlice, DirectionAny)
	if s.Closed != 4 || s.HandOver != 1 || s.AfterRestart != 2 || s.Episodes != 2 {
		t.Errorf("closed %d, hand-over %d, after restart %d, episodes %d; want 4, 1, 2, 2",
			s.Closed, s.HandOver, s.AfterRestart, s.Episodes)
	}
	if h := got.HandOver[0]; h.Closed != 1 || h.P99.Value != 22*time.Second {
		t.Errorf("hand-over: %d with p99 %v, want 1 with 22s", h.Closed, h.P99)
	}
	if a := got.AfterRestart[0]; a.Closed != 2 || a.P99.Value != 2*time.Second {
		t.Errorf("after the restart: %d with p99 %v, want 2 with 2s", a.Closed, a.P99)
	}
}

func TestRemovalsOfBothAPIsMakeTheFarewell(t *testing.T) {
	tr := newShop(Options{})
	tr.SetPod(web("old", terminating), at(1))
	tr.SetSlice(webSlice("a"), at(3))
	got := tr.Summary(Query{Now: at(5), Since: at(0)})
	if got.Removals != 2 || got.Removal != (Quantile{4 * time.Second, true}) {
		t.Errorf("removal = %v of %d, want at least 4s of 2: Endpoints still show it", got.Removal, got.Removals)
	}
	tr.SetEndpoints(webEndpoints(), at(6))
	if got := tr.Summary(Query{Now: at(9), Since: at(0)}); got.Removal != (Quantile{5 * time.Second, false}) {
		t.Errorf("removal = %v, want 5s", got.Removal)
	}
}

func TestTheWorstServicesComeFirst(t *testing.T) {
	tr := NewTracker(Options{})
	for i := range 4 {
		value := fmt.Sprint("s", i)
		tr.SetService(Service{Namespace: "shop", Name: value, Selector: appIs(value)}, at(-1))
	}
	tr.Synced(at(0))
	for i := range 3 {
		tr.SetPod(web(fmt.Sprint("p", i), app(fmt.Sprint("s", i))), at(float64(i+1)))
	}
	got := tr.Summary(Query{Now: at(10), Since: at(0), Worst: 2}).Worst
	want := []ServiceStat{
		{Namespace: "shop", Name: "s0", Changes: 2, Open: 2, Max: Quantile{9 * time.Second, true}, WrongEndpointSeconds: 18},
		{Namespace: "shop", Name: "s1", Changes: 2, Open: 2, Max: Quantile{8 * time.Second, true}, WrongEndpointSeconds: 16},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Worst (-want +got):\n%s", diff)
	}
}

func TestPercentilesSayWhenWhatStillGrowsCouldLiftThem(t *testing.T) {
	grown, growing := func(s int) sample { return newSample(time.Duration(s)*time.Second, Closed) },
		func(s int) sample { return newSample(time.Duration(s)*time.Second, Open) }
	tests := map[string]struct {
		samples []sample
		want    Quantile // the median
	}{
		"none":            {nil, Quantile{}},
		"all ended":       {[]sample{grown(1), grown(2), grown(3)}, Quantile{2 * time.Second, false}},
		"it grows itself": {[]sample{grown(1), growing(2), grown(3)}, Quantile{2 * time.Second, true}},
		"one below grows, and the next is much longer": {[]sample{growing(1), grown(2), grown(3)}, Quantile{2 * time.Second, true}},
		"one below grows, and the next is as long":     {[]sample{growing(1), grown(2), grown(2)}, Quantile{2 * time.Second, false}},
		"more grow than there are above":               {[]sample{growing(1), growing(1), grown(2), grown(2)}, Quantile{time.Second, true}},
		"what grows above it does not matter":          {[]sample{grown(1), grown(2), growing(3)}, Quantile{2 * time.Second, false}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := quantile(test.samples, 0.5); got != test.want {
				t.Errorf("quantile(%v) = %v, want %v", test.samples, got, test.want)
			}
		})
	}
}

func TestMemoryIsBoundedUnderChurn(t *testing.T) {
	tr := newShop(Options{Capacity: 100})
	tr.SetPod(web("forgotten"), at(1)) // never published
	for i := range 10_000 {
		name := fmt.Sprint("p", i%7)
		tr.SetPod(web(name, func(p *Pod) { p.UID = ParseUID(strconv.Itoa(i)) }), at(float64(i)))
		tr.SetSlice(webSlice("c", address(strconv.Itoa(i), "10.0.0.1")), at(float64(i)+0.1))
	}
	if n := len(tr.records.older); n > 10 {
		t.Errorf("%d older records are kept, want no more than the members that are wrong", n)
	}
	service := tr.namespaces["shop"].services["web"]
	if n := len(service.members); n > 20 {
		t.Errorf("%d members are kept of 9 Pods", n)
	}
	total := tr.Totals(at(10_000))
	if open := total[1]; open.Direction != DirectionAddition || open.OldestOpen != 9_999*time.Second {
		t.Errorf("oldest open addition = %v, want the forgotten one of second 1", open)
	}
}

func onNode(name string) func(*Pod) { return func(p *Pod) { p.Node = name } }

func TestTheFirstSecondHasABoundAsWell(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), at(0.8))
	tr.Synced(at(0.8)) // late in its second
	tr.SetPod(web("a"), at(0.9))
	tr.SetDelay(at(0.5), time.Millisecond) // told of the second as a whole
	if got := tr.Summary(Query{Now: at(0.95)}); !got.BoundKnown || got.ErrorBound != time.Millisecond {
		t.Errorf("bound = %v, known %t; want 1ms", got.ErrorBound, got.BoundKnown)
	}
}
