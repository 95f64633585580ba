package lag

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

func web(name string, change ...func(*Pod)) Pod {
	p := Pod{
		Namespace: "shop", Name: name, UID: ParseUID(name + "-uid"), Labels: appIs("web"),
		IPs: [maxIPs]IP{ParseIP("10.0.0.1")}, Node: "n", Ready: true, Included: true,
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func notReady(p *Pod) { p.Ready = false }

func terminating(p *Pod) { p.Terminating = true }

func ips(ips ...string) func(*Pod) {
	return func(p *Pod) {
		p.IPs = [maxIPs]IP{}
		for i, ip := range ips {
			p.IPs[i] = ParseIP(ip)
		}
	}
}

func app(value string) func(*Pod) { return func(p *Pod) { p.Labels = appIs(value) } }

func appIs(value string) Labels { return LabelsOf(map[string]string{"app": value}) }

func address(uid, ip string) Address { return Address{ParseUID(uid), ParseIP(ip)} }

func shop(change ...func(*Service)) Service {
	s := Service{Namespace: "shop", Name: "web", Selector: appIs("web")}
	for _, c := range change {
		c(&s)
	}
	return s
}

func webSlice(name string, ready ...Address) Slice {
	return Slice{Namespace: "shop", Name: name, Service: "web", Ready: ready}
}

func webEndpoints(ready ...Address) Endpoints {
	return Endpoints{Namespace: "shop", Name: "web", Ready: ready}
}

func shown(pod string) Address { return address(pod+"-uid", "10.0.0.1") }

// counts is the part of a Stat that says how changes ended.
type counts struct {
	Closed, Open, Superseded, NotNeeded, Startup, HandOver, OverCapacity, Unacted, Drift int
}

func countsOf(s Stat) counts {
	return counts{s.Closed, s.Open, s.Superseded, s.NotNeeded, s.Startup, s.HandOver, s.OverCapacity, s.Unacted, s.Drift}
}

// TestSliceChanges drives one Service through histories and looks at the EndpointSlice rows 100 seconds in. At Synced
// (second 0) the Pod "old" is ready and shown.
func TestSliceChanges(t *testing.T) {
	type want struct {
		additions, removals counts
		max                 Quantile // over both directions
	}
	tests := map[string]struct {
		history func(*Tracker)
		want    want
	}{
		"nothing happens": {func(*Tracker) {}, want{}},
		"an addition closes when a slice shows it": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetSlice(webSlice("a", shown("old"), shown("new")), at(3))
		}, want{additions: counts{Closed: 1}, max: Quantile{Value: 2 * time.Second}}},
		"an addition stays open until then": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
		}, want{additions: counts{Open: 1}, max: Quantile{99 * time.Second, true}}},
		"a Pod that becomes ready opens when it does": {func(tr *Tracker) {
			tr.SetPod(web("new", notReady), at(1))
			tr.SetPod(web("new"), at(5))
			tr.SetSlice(webSlice("b", shown("new")), at(6))
		}, want{additions: counts{Closed: 1}, max: Quantile{Value: time.Second}}},
		"a removal closes when no slice shows it": {func(tr *Tracker) {
			tr.SetPod(web("old", terminating), at(1))
			tr.SetSlice(webSlice("a"), at(1.5))
		}, want{removals: counts{Closed: 1}, max: Quantile{Value: 500 * time.Millisecond}}},
		"a removal stays open while a second slice shows it": {func(tr *Tracker) {
			tr.SetSlice(webSlice("b", shown("old")), at(1))
			tr.SetPod(web("old", notReady), at(2))
			tr.SetSlice(webSlice("a"), at(3))
		}, want{removals: counts{Open: 1}, max: Quantile{98 * time.Second, true}}},
		"a deleted slice shows nothing": {func(tr *Tracker) {
			tr.DeletePod("shop", "old", at(1))
			tr.DeleteSlice("shop", "a", at(2))
		}, want{removals: counts{Closed: 1}, max: Quantile{Value: time.Second}}},
		"the deletion after termination is no second removal": {func(tr *Tracker) {
			tr.SetPod(web("old", terminating), at(1))
			tr.DeletePod("shop", "old", at(2))
			tr.SetSlice(webSlice("a"), at(4))
		}, want{removals: counts{Closed: 1}, max: Quantile{Value: 3 * time.Second}}},
		"a slice that overtakes the Pod is a lag of zero": {func(tr *Tracker) {
			tr.SetSlice(webSlice("a", shown("old"), shown("new")), at(1))
			tr.SetPod(web("new"), at(1.2))
		}, want{additions: counts{Closed: 1}}},
		"a slice that overtakes a deletion is a lag of zero": {func(tr *Tracker) {
			tr.SetSlice(webSlice("a"), at(1))
			tr.DeletePod("shop", "old", at(1.2))
		}, want{removals: counts{Closed: 1}}},
		"a change reversed before it was published": {func(tr *Tracker) {
			tr.SetPod(web("old", notReady), at(1))
			tr.SetPod(web("old"), at(2))
		}, want{removals: counts{Superseded: 1}, additions: counts{NotNeeded: 1}}},
		"the late publication of what was reversed invents no sample": {func(tr *Tracker) {
			tr.SetPod(web("old", notReady), at(1))
			tr.SetPod(web("old"), at(2))
			tr.SetSlice(webSlice("a"), at(3))
			tr.SetSlice(webSlice("a", shown("old")), at(4))
		}, want{removals: counts{Superseded: 1}, additions: counts{NotNeeded: 1, Drift: 1}}},
		"both slices overtake both changes": {func(tr *Tracker) {
			tr.SetPod(web("old", notReady), at(1))
			tr.SetSlice(webSlice("a"), at(2))
			tr.SetSlice(webSlice("a", shown("old")), at(3))
			tr.SetPod(web("old"), at(3.1))
		}, want{removals: counts{Closed: 1}, additions: counts{Closed: 1}, max: Quantile{Value: time.Second}}},
		"a Pod deleted before it was added": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.DeletePod("shop", "new", at(2))
		}, want{additions: counts{Superseded: 1}, removals: counts{NotNeeded: 1}}},
		"a Pod replaced under its name is a removal and an addition": {func(tr *Tracker) {
			tr.SetPod(web("old", func(p *Pod) { p.UID = ParseUID("next") }), at(1))
			tr.SetSlice(webSlice("a", address("next", "10.0.0.1")), at(3))
		}, want{additions: counts{Closed: 1}, removals: counts{Closed: 1}, max: Quantile{Value: 2 * time.Second}}},
		"another address is an addition that ends when the old one is gone": {func(tr *Tracker) {
			tr.SetPod(web("old", ips("10.0.0.9")), at(1))
			tr.SetSlice(webSlice("b", address("old-uid", "10.0.0.9")), at(2))
			tr.SetSlice(webSlice("a"), at(3))
		}, want{additions: counts{Closed: 1}, max: Quantile{Value: 2 * time.Second}}},
		"labels that no longer match": {func(tr *Tracker) {
			tr.SetPod(web("old", app("other")), at(1))
			tr.SetSlice(webSlice("a"), at(2))
		}, want{removals: counts{Closed: 1}, max: Quantile{Value: time.Second}}},
		"a selector that no longer matches": {func(tr *Tracker) {
			tr.SetService(shop(func(s *Service) { s.Selector = appIs("other") }), at(1))
			tr.SetSlice(webSlice("a"), at(2))
		}, want{removals: counts{Closed: 1}, max: Quantile{Value: time.Second}}},
		"publishNotReadyAddresses wants Pods that are not ready": {func(tr *Tracker) {
			tr.SetPod(web("new", notReady), at(1))
			tr.SetService(shop(func(s *Service) { s.PublishNotReady = true }), at(2))
			tr.SetSlice(webSlice("b", shown("new")), at(5))
		}, want{additions: counts{Closed: 1}, max: Quantile{Value: 3 * time.Second}}},
		"a Pod without an address is not wanted": {func(tr *Tracker) {
			tr.SetPod(web("new", ips(), func(p *Pod) { p.Included = false }), at(1))
		}, want{}},
		"a Pod without an address of the Service's families is not wanted": {func(tr *Tracker) {
			tr.SetService(shop(func(s *Service) { s.Families = []Family{FamilyIPv4} }), at(1))
			tr.SetPod(web("new", ips("fd00::1")), at(2))
		}, want{}},
		"either family of a dual-stack Pod will do": {func(tr *Tracker) {
			tr.SetService(shop(func(s *Service) { s.Families = []Family{FamilyIPv4, FamilyIPv6} }), at(1))
			tr.SetPod(web("new", ips("10.0.0.2", "fd00::2")), at(2))
			tr.SetSlice(webSlice("six", address("new-uid", "fd00::2")), at(3))
			tr.SetSlice(webSlice("four", address("new-uid", "10.0.0.2")), at(4))
		}, want{additions: counts{Closed: 1}, max: Quantile{Value: time.Second}}},
		"a Service without a selector is not measured": {func(tr *Tracker) {
			tr.SetService(shop(func(s *Service) { s.Selector = Labels{} }), at(1))
			tr.SetPod(web("old", notReady), at(2))
			tr.SetPod(web("new"), at(3))
			tr.SetSlice(webSlice("a"), at(4))
		}, want{}},
		"a deleted Service ends what was open": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.DeleteService("shop", "web", at(2))
			tr.DeleteSlice("shop", "a", at(3))
		}, want{additions: counts{Superseded: 1}}},
		"a Service created again starts afresh": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.DeleteService("shop", "web", at(2))
			tr.SetService(shop(), at(3)) // "old" is still shown, "new" is not
			tr.SetSlice(webSlice("c", shown("new")), at(5))
		}, want{additions: counts{Superseded: 1, NotNeeded: 1, Closed: 1}, max: Quantile{Value: 2 * time.Second}}},
		"an address that moves between slices was never wanted anew": {func(tr *Tracker) {
			tr.SetSlice(webSlice("b", shown("old")), at(1))
			tr.SetSlice(webSlice("a"), at(2))
			tr.SetPod(web("old"), at(3))
		}, want{}},
		"somebody else's edit is drift, not a change": {func(tr *Tracker) {
			tr.SetSlice(webSlice("a"), at(1))
			tr.SetSlice(webSlice("a", shown("old")), at(2))
		}, want{additions: counts{Drift: 1}}},
		"a change while nobody leads": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetLeader(false, at(2))
			tr.SetLeader(true, at(20))
			tr.SetSlice(webSlice("b", shown("new")), at(21))
		}, want{additions: counts{HandOver: 1}}},
		"a change closed before the leader left": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetSlice(webSlice("b", shown("new")), at(2))
			tr.SetLeader(false, at(3))
		}, want{additions: counts{Closed: 1}, max: Quantile{Value: time.Second}}},
		"a hand-over learned of later": {func(tr *Tracker) {
			tr.SetPod(web("new"), at(1))
			tr.SetSlice(webSlice("b", shown("new")), at(5))
			tr.SetLeader(false, at(2))
			tr.SetLeader(true, at(3))
		}, want{additions: counts{HandOver: 1}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tr := NewTracker(Options{})
			tr.SetService(shop(), at(-1))
			tr.SetPod(web("old"), at(-1))
			tr.SetSlice(webSlice("a", shown("old")), at(-1))
			tr.SetEndpoints(webEndpoints(shown("old")), at(-1))
			tr.Synced(at(0))
			test.history(tr)
			got := tr.Summary(Query{Now: at(100), Since: at(0)})
			if diff := cmp.Diff(test.want, want{
				additions: countsOf(got.Stat(ResourceEndpointSlice, DirectionAddition)),
				removals:  countsOf(got.Stat(ResourceEndpointSlice, DirectionRemoval)),
				max:       got.Stat(ResourceEndpointSlice, DirectionAny).Max,
			}, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("Summary() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndpointsAndSlicesAreMeasuredApart(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), at(-1))
	tr.Synced(at(0))
	tr.SetPod(web("a"), at(1))
	tr.SetEndpoints(webEndpoints(shown("a")), at(2))
	tr.SetPod(web("a", notReady), at(3)) // the slice never showed it
	tr.SetEndpoints(webEndpoints(), at(7))
	got := tr.Summary(Query{Now: at(10), Since: at(0)})
	slice, endpoints := got.Stat(ResourceEndpointSlice, DirectionAny), got.Stat(ResourceEndpoints, DirectionAny)
	if diff := cmp.Diff(counts{Superseded: 1, NotNeeded: 1}, countsOf(slice)); diff != "" {
		t.Errorf("EndpointSlice (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(counts{Closed: 2}, countsOf(endpoints)); diff != "" {
		t.Errorf("Endpoints (-want +got):\n%s", diff)
	}
	if want := (Quantile{Value: 4 * time.Second}); endpoints.P99 != want {
		t.Errorf("Endpoints p99 = %v, want %v", endpoints.P99, want)
	}
	if slice.WrongEndpointSeconds != 2 || endpoints.WrongEndpointSeconds != 5 {
		t.Errorf("wrong endpoint seconds = %v and %v, want 2 and 5", slice.WrongEndpointSeconds, endpoints.WrongEndpointSeconds)
	}
	if len(got.Stats) != 6 {
		t.Errorf("len(Stats) = %d, want 6", len(got.Stats))
	}
}

func TestEndpointsNeedANamedPort(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(func(s *Service) { s.NeedsPort = NewPortNames("TCP/http") }), at(-1))
	tr.Synced(at(0))
	tr.SetPod(web("without"), at(1))
	tr.SetPod(web("with", func(p *Pod) { p.Ports = NewPortNames("TCP/http") }), at(1))
	got := tr.Summary(Query{Now: at(2)})
	if n := got.Stat(ResourceEndpointSlice, DirectionAddition).Open; n != 2 {
		t.Errorf("open in EndpointSlices = %d, want 2", n)
	}
	if n := got.Stat(ResourceEndpoints, DirectionAddition).Open; n != 1 {
		t.Errorf("open in Endpoints = %d, want 1", n)
	}
}

func TestDifferencesAtTheStartAreNotSamples(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetSlice(webSlice("a", shown("gone")), at(-3)) // before its Service, as watches may have it
	tr.SetPod(web("missing"), at(-2))
	tr.SetService(shop(), at(-1))
	tr.Synced(at(0))
	tr.SetSlice(webSlice("a", shown("missing")), at(5))
	tr.SetPod(web("missing", notReady), at(6))
	tr.SetSlice(webSlice("a"), at(7))
	got := tr.Summary(Query{Now: at(10)})
	if diff := cmp.Diff(counts{Startup: 1}, countsOf(got.Stat(ResourceEndpointSlice, DirectionAddition))); diff != "" {
		t.Errorf("additions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(counts{Startup: 1, Closed: 1}, countsOf(got.Stat(ResourceEndpointSlice, DirectionRemoval))); diff != "" {
		t.Errorf("removals (-want +got):\n%s", diff)
	}
	if longest := got.Stat(ResourceEndpointSlice, DirectionAny).Max; longest.Value != time.Second {
		t.Errorf("max = %v, want 1s: differences at the start are no samples", longest)
	}
}

func TestMoreMembersThanEndpointsCanShowAreCountedApart(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), at(-1))
	tr.Synced(at(0))
	for i := range endpointsCapacity {
		tr.SetPod(web(fmt.Sprint("p", i)), at(1))
	}
	tr.SetPod(web("one-too-many"), at(2))
	cut := webEndpoints(shown("p1"))
	cut.OverCapacity = true
	tr.SetEndpoints(cut, at(3))
	tr.SetPod(web("p1", notReady), at(4))
	got := tr.Summary(Query{Now: at(10)})
	if diff := cmp.Diff(counts{OverCapacity: endpointsCapacity + 2}, countsOf(got.Stat(ResourceEndpoints, DirectionAny))); diff != "" {
		t.Errorf("Endpoints (-want +got):\n%s", diff)
	}
	if n := got.Stat(ResourceEndpointSlice, DirectionAny).Open; n != endpointsCapacity {
		t.Errorf("open in EndpointSlices = %d, want %d", n, endpointsCapacity)
	}
}

func TestPercentilesAreNearestRank(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), at(-1))
	tr.Synced(at(0))
	for i := range 100 {
		name := fmt.Sprint("p", i)
		tr.SetPod(web(name), at(1))
		if i < 95 { // lags of 1 to 95 seconds, the other five open since 199 seconds
			tr.SetSlice(webSlice(name, shown(name)), at(float64(1+i+1)))
		}
	}
	got := tr.Summary(Query{Now: at(200)}).Stat(ResourceEndpointSlice, DirectionAny)
	want := []Quantile{{50 * time.Second, false}, {90 * time.Second, false}, {199 * time.Second, true}, {199 * time.Second, true}}
	if diff := cmp.Diff(want, []Quantile{got.P50, got.P90, got.P99, got.Max}); diff != "" {
		t.Errorf("percentiles (-want +got):\n%s", diff)
	}
	if got.OldestOpen != 199*time.Second || got.Samples() != 100 {
		t.Errorf("oldest open = %v of %d, want 199s of 100", got.OldestOpen, got.Samples())
	}
	p := tr.Summary(Query{Now: at(11.5)}).Stat(ResourceEndpointSlice, DirectionAny)
	if p.Closed != 10 || p.Open != 90 || p.P50 != (Quantile{10500 * time.Millisecond, true}) {
		t.Errorf("as of 11.5s: closed %d open %d p50 %v, want 10, 90 and at least 10.5s", p.Closed, p.Open, p.P50)
	}
}

func TestAWindowCountsWhatOpenedInIt(t *testing.T) {
	tr := NewTracker(Options{Capacity: 4})
	tr.SetService(shop(), at(-1))
	tr.Synced(at(0))
	for i := range 6 {
		tr.SetPod(web(fmt.Sprint("p", i)), at(float64(i+1)))
	}
	tr.SetSlice(webSlice("a", shown("p0")), at(8)) // pushed out, and remembered until now
	whole := tr.Summary(Query{Now: at(10), Since: at(0)})
	if n := whole.Stat(ResourceEndpointSlice, DirectionAny).Open; n != 5 || !whole.From.Equal(at(3)) {
		t.Errorf("open = %d from %v, want the newest 4 from %v and the one before that is open still", n, whole.From, at(3))
	}
	half := tr.Summary(Query{Now: at(5.5), Since: at(4)})
	if n := half.Stat(ResourceEndpointSlice, DirectionAny).Open; n != 2 || !half.From.Equal(at(4)) {
		t.Errorf("open = %d from %v, want 2 from %v", n, half.From, at(4))
	}
}

func TestMeasuredChoosesServices(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetNamespace("shop", LabelsOf(map[string]string{"tier": "gold"}))
	tr.SetService(shop(), at(-1))
	tr.SetService(shop(func(s *Service) { s.Name = "all" }), at(-1))
	tr.Synced(at(0))
	tr.SetPod(web("a"), at(1))
	open := func(measured func(Service) bool) int {
		return tr.Summary(Query{Now: at(2), Measured: measured}).Stat(ResourceEndpointSlice, DirectionAny).Open
	}
	if n := open(nil); n != 2 {
		t.Errorf("all = %d, want 2", n)
	}
	if n := open(func(s Service) bool { return s.Name == "all" }); n != 1 {
		t.Errorf("one = %d, want 1", n)
	}
	if n := open(func(s Service) bool { return s.NamespaceLabels.Get("tier") == "gold" }); n != 2 {
		t.Errorf("by namespace = %d, want 2", n)
	}
}

func TestDemandIsWhatModelsReplay(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), at(-1))
	tr.SetService(shop(func(s *Service) { s.Name, s.Selector = "db", appIs("db") }), at(-1))
	tr.Synced(at(0))
	tr.SetPod(web("a"), at(11))
	tr.SetPod(web("b", app("db")), at(12))
	tr.SetSlice(webSlice("s", shown("a")), at(13))
	tr.SetPod(web("a", notReady), at(14))
	got := tr.Demand(at(10), at(20))
	want := Demand{Start: at(10), Changes: []Change{
		{
			At: time.Second, Service: 0, Direction: DirectionAddition, SliceClass: Closed, SliceLag: 2 * time.Second,
			EndpointsClass: Superseded, EndpointsLag: 3 * time.Second,
		},
		{
			At: 2 * time.Second, Service: 1, Direction: DirectionAddition, SliceClass: Open, EndpointsClass: Open,
			SliceLag: 8 * time.Second, EndpointsLag: 8 * time.Second, SliceOpen: true, EndpointsOpen: true,
		},
		{
			At: 4 * time.Second, Service: 0, Direction: DirectionRemoval, SliceClass: Open, SliceLag: 6 * time.Second,
			SliceOpen: true, EndpointsClass: NotNeeded,
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Demand() (-want +got):\n%s", diff)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetNamespace("shop", LabelsOf(map[string]string{"a": "b"}))
	tr.SetSlice(webSlice("a", shown("x")), at(-2))
	tr.SetService(shop(), at(-1))
	tr.SetPod(web("x"), at(-1))
	tr.Synced(at(0))
	tr.SetPod(web("y"), at(1))
	tr.SetEndpoints(webEndpoints(shown("y")), at(2))
	tr.SetService(shop(func(s *Service) { s.Selector = Labels{} }), at(3))
	tr.SetService(shop(), at(4))
	tr.DeletePod("shop", "x", at(5))
	tr.DeletePod("shop", "y", at(5))
	tr.DeleteService("shop", "web", at(6))
	tr.DeleteEndpoints("shop", "web", at(7))
	tr.DeleteSlice("shop", "a", at(7))
	tr.DeleteNamespace("shop")
	if len(tr.namespaces) != 0 {
		t.Errorf("%d namespaces left, want 0", len(tr.namespaces))
	}
}

func TestTheOldestOpenChangeIsFoundAtOrAfterTheFloor(t *testing.T) {
	tr := NewTracker(Options{})
	tr.SetService(shop(), at(-1))
	tr.Synced(at(0))
	if _, open := tr.OldestOpen(at(0), at(1)); open {
		t.Error("a change is open before any was made")
	}
	p := web("a")
	tr.SetPod(p, at(2))
	if got, open := tr.OldestOpen(at(0), at(100)); !open || !got.Equal(at(2)) {
		t.Errorf("OldestOpen() = %v, %t; want %v", got, open, at(2))
	}
	if _, open := tr.OldestOpen(at(3), at(100)); open {
		t.Error("a change from before the floor was found")
	}
}
