package kcm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func flagsOf(qps, burst, endpointSyncs, sliceSyncs int32) v1alpha1.Flags {
	return v1alpha1.Flags{
		KubeAPIQPS: qps, KubeAPIBurst: burst,
		ConcurrentEndpointSyncs: endpointSyncs, ConcurrentServiceEndpointSyncs: sliceSyncs,
	}
}

// incident is n Services with one Pod each, all of which change over the given seconds.
func incident(n int, over float64) *Trace {
	t := &Trace{Services: n}
	for i := range n {
		t.Arrivals = append(t.Arrivals, Arrival{At: over * float64(i) / float64(n), Service: int32(i), In: [APIs]bool{true, true}})
	}
	return t
}

// scattered is n changes of so many Services at random times.
func scattered(seed uint64, n, services int, over float64) *Trace {
	random := rand.New(rand.NewPCG(seed, 0))
	t := incident(n, over)
	t.Services = services
	for i := range t.Arrivals {
		t.Arrivals[i].At, t.Arrivals[i].Service = over*random.Float64(), int32(random.IntN(services))
	}
	slices.SortFunc(t.Arrivals, func(a, b Arrival) int {
		if a.At < b.At {
			return -1
		}
		return 1
	})
	return t
}

func run(t *Trace, f v1alpha1.Flags, p Parameters) *Simulation {
	var s Simulation
	s.Start(t, f, p)
	s.Run()
	return &s
}

func percentile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(math.Ceil(p*float64(len(sorted))-1e-9))-1]
}

// facts.md §4: lag(u) = (u·N - b)/qps - u·T for N changes spread over T.
func TestTheModelGivesTheFormulaOfALimitedBacklog(t *testing.T) {
	s := run(incident(1000, 5), v1alpha1.DefaultFlags(), Parameters{Base: 5 * time.Millisecond})
	for in := range APIs {
		for p, want := range map[float64]float64{0.50: 21.1, 0.99: 43.1} {
			if got := percentile(s.Lags(in), p); math.Abs(got-want) > want/100 {
				t.Errorf("API %d: p%g = %.2f s, want %.2f s within 1 %%", in, 100*p, got, want)
			}
		}
	}
}

func TestTheModelGivesTheFormulaOfBusyWorkers(t *testing.T) {
	// Five workers at 40 ms a write serve 125 Services a second.
	s := run(incident(1000, 0.001), flagsOf(1000, 2000, 5, 5), Parameters{Base: 40 * time.Millisecond})
	if got, want := percentile(s.Lags(EndpointSlices), 0.99), 990.0/125; math.Abs(got-want) > want/100 {
		t.Errorf("p99 = %.2f s, want %.2f s within 1 %%", got, want)
	}
}

func TestASaturatedServerTakesItsCapacity(t *testing.T) {
	s := run(incident(1000, 0.001), flagsOf(1000, 2000, 50, 50), Parameters{Base: time.Millisecond, Capacity: 400})
	// 1,000 Pods at half a write, and a write in either API.
	if want := 2500.0 / 400; math.Abs(s.Now()-want) > want/10 {
		t.Errorf("all is published after %.2f s, want %.2f s within 10 %%", s.Now(), want)
	}
}

func TestWhoWaitsForTheServerIsSlowedDownByIt(t *testing.T) {
	model := Parameters{Base: 5 * time.Millisecond, Capacity: 450, PodLatency: 60 * time.Millisecond}
	paced := run(incident(1000, 2), flagsOf(300, 325, 50, 50), model)
	model.Writers = 32
	waiting := run(incident(1000, 2), flagsOf(300, 325, 50, 50), model)
	if slow, fast := waiting.Changed()[999], paced.Changed()[999]; slow <= fast {
		t.Errorf("the last Pod changes after %.2f s where its writer waits for the server, %.2f s where it does not", slow, fast)
	}
	if w, p := percentile(waiting.Lags(EndpointSlices), 0.99), percentile(paced.Lags(EndpointSlices), 0.99); w >= p {
		t.Errorf("p99 = %.2f s where writers wait, %.2f s where they do not, want less", w, p)
	}
}

func TestAServiceIsNeverInTwoHands(t *testing.T) {
	trace := incident(100, 0.1)
	for i := range trace.Arrivals {
		trace.Arrivals[i].Service = 0
	}
	// One Service, 100 changes, 50 ms a write: the first write shows one change, the next all that came meanwhile.
	s := run(trace, flagsOf(1000, 1000, 50, 50), Parameters{Base: 50 * time.Millisecond})
	if got := s.Totals(EndpointSlices).Syncs; got > 4 {
		t.Errorf("%d syncs of one Service within 150 ms at 50 ms each, want at most 4", got)
	}
	for i, late := range s.Lags(EndpointSlices) {
		if late > 0.101 {
			t.Errorf("lag of change %d = %.3f s, want at most two writes", i, late)
		}
	}
}

func TestASyncWithTwoWritesTakesTwoTokens(t *testing.T) {
	s := run(incident(200, 0.001), flagsOf(20, 20, 50, 50),
		Parameters{Base: time.Millisecond, Writes: [APIs]float64{EndpointSlices: 2, Endpoints: 1}})
	if got, want := percentile(s.Lags(EndpointSlices), 1), (400.0-20)/20; math.Abs(got-want) > want/50 {
		t.Errorf("the last change in EndpointSlices takes %.2f s, want %.2f s", got, want)
	}
	if got, want := percentile(s.Lags(Endpoints), 1), (200.0-20)/20; math.Abs(got-want) > want/50 {
		t.Errorf("the last change in Endpoints takes %.2f s, want %.2f s", got, want)
	}
}

func TestABatchPeriodIsAFloorAndSavesWrites(t *testing.T) {
	trace := incident(50, 0.4)
	for i := range trace.Arrivals {
		trace.Arrivals[i].Service = int32(i % 5)
	}
	trace.Services = 5
	f := flagsOf(1000, 1000, 50, 50)
	plain := run(trace, f, Parameters{Base: 5 * time.Millisecond})
	batched := run(trace, f, Parameters{Base: 5 * time.Millisecond, Batch: [APIs]time.Duration{EndpointSlices: 500 * time.Millisecond}})
	if first := batched.Lags(EndpointSlices)[0]; math.Abs(first-0.505) > 0.001 {
		t.Errorf("the first change takes %.3f s under a batch period of 500 ms, want 0.505 s", first)
	}
	if a, b := plain.Totals(EndpointSlices).Writes, batched.Totals(EndpointSlices).Writes; b != 5 || a <= b {
		t.Errorf("%d writes with batching and %d without, want 5 and more", b, a)
	}
	if a, b := plain.Totals(Endpoints), batched.Totals(Endpoints); a != b {
		t.Errorf("the other controller changed with the batch period: %+v, %+v", a, b)
	}
}

func TestAStaleSyncWaitsASecondAndThenTwo(t *testing.T) {
	trace := &Trace{Services: 1}
	for _, at := range []float64{0, 0.02} { // The second comes before the cache shows the first one's write.
		trace.Arrivals = append(trace.Arrivals, Arrival{At: at, In: [APIs]bool{true, false}})
	}
	s := run(trace, flagsOf(100, 100, 5, 5), Parameters{Base: 10 * time.Millisecond, CacheDelay: 100 * time.Millisecond})
	if got := s.Lags(EndpointSlices)[1]; math.Abs(got-1.01) > 0.001 {
		t.Errorf("the stale change takes %.3f s, want 1.010 s", got)
	}
	slow := run(trace, flagsOf(100, 100, 5, 5), Parameters{Base: 10 * time.Millisecond, CacheDelay: 1500 * time.Millisecond})
	if got := slow.Lags(EndpointSlices)[1]; math.Abs(got-3.01) > 0.001 {
		t.Errorf("the change that is stale twice takes %.3f s, want 3.010 s", got)
	}
	if got := slow.Totals(EndpointSlices).Stale; got != 2 {
		t.Errorf("%d stale syncs, want 2", got)
	}
}

func TestAKeyThatStaysStaleIsDropped(t *testing.T) {
	trace := &Trace{Services: 1}
	for _, at := range []float64{0, 0.02} {
		trace.Arrivals = append(trace.Arrivals, Arrival{At: at, In: [APIs]bool{true, false}})
	}
	s := run(trace, flagsOf(100, 100, 5, 5), Parameters{Base: 10 * time.Millisecond, CacheDelay: 30 * time.Hour})
	if got := s.Totals(EndpointSlices); got.Dropped != 1 || s.Lags(EndpointSlices)[1] != Unresolved {
		t.Errorf("%+v, lag %g; want one Service dropped, and its change never published", got, s.Lags(EndpointSlices)[1])
	}
}

// TestARestartFillsTheBuckets: what waits when a process ends is published by the next one, from full buckets.
func TestARestartFillsTheBuckets(t *testing.T) {
	trace := incident(500, 0.001)
	var s Simulation
	s.Start(trace, v1alpha1.DefaultFlags(), Parameters{Base: time.Millisecond})
	s.Until(5)
	before := 0
	for _, late := range s.Lags(EndpointSlices) {
		if late != Unresolved {
			before++
		}
	}
	if want := 30 + 5*20; before < want-2 || before > want+2 {
		t.Errorf("%d changes published after 5 s at 20/s and 30 at once, want %d", before, want)
	}
	s.Restart(flagsOf(100, 200, 50, 50), 16)
	if s.Leading() {
		t.Error("the process that was just started leads at once")
	}
	s.Run()
	if !s.Leading() {
		t.Error("nobody leads in the end")
	}
	last := percentile(s.Lags(EndpointSlices), 1)
	if want := 5 + 16 + float64(500-before-200)/100; math.Abs(last-want) > 0.1 {
		t.Errorf("the last change takes %.2f s, want %.2f s", last, want)
	}
}

// TestEveryChangeIsPublishedOnce holds whatever happens in between: restarts, stale caches, several writes.
func TestEveryChangeIsPublishedOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(rt, "changes")
		trace := scattered(rapid.Uint64().Draw(rt, "seed"), n, rapid.IntRange(1, n).Draw(rt, "services"), 10)
		flags := flagsOf(rapid.Int32Range(1, 200).Draw(rt, "qps"), rapid.Int32Range(1, 200).Draw(rt, "burst"),
			rapid.Int32Range(1, 50).Draw(rt, "workers"), rapid.Int32Range(1, 50).Draw(rt, "workers"))
		model := Parameters{
			Base: time.Duration(rapid.IntRange(1, 100).Draw(rt, "ms")) * time.Millisecond, Capacity: float64(rapid.IntRange(0, 500).Draw(rt, "capacity")),
			Writes:     [APIs]float64{rapid.Float64Range(1, 3).Draw(rt, "writes"), 1},
			CacheDelay: time.Duration(rapid.IntRange(0, 300).Draw(rt, "cache")) * time.Millisecond,
			PodQueue:   time.Duration(rapid.IntRange(0, 2).Draw(rt, "pod queue")) * time.Millisecond,
			Writers:    rapid.IntRange(0, 20).Draw(rt, "writers"),
		}
		var s Simulation
		s.Start(trace, flags, model)
		for range rapid.IntRange(0, 3).Draw(rt, "restarts") {
			s.Until(s.Now() + rapid.Float64Range(0, 5).Draw(rt, "then"))
			s.Restart(flags, rapid.Float64Range(0, 20).Draw(rt, "down"))
		}
		s.Run()
		for in := range APIs {
			for i, late := range s.Lags(in) {
				if late < 0 || late == Unresolved {
					rt.Fatalf("change %d in API %d: lag %g, want it published", i, in, late)
				}
			}
			if s.Depth(in) != 0 || s.InFlight() != 0 {
				rt.Fatalf("%d Services wait and %d writes are under way in the end", s.Depth(in), s.InFlight())
			}
		}
	})
}

func TestAChangeThatIsTakenBackBeforeItIsWrittenNeedsNoWrite(t *testing.T) {
	// The first Service holds the only worker for a second. A Pod of the second fails and recovers meanwhile, and one of the
	// third fails.
	both := [APIs]bool{true, true}
	trace := Trace{Services: 3, Arrivals: []Arrival{
		{At: 0, Service: 0, In: both},
		{At: 0.1, Service: 1, In: both},
		{At: 0.2, Service: 1, In: both, Reverts: [APIs]int32{2, 2}},
		{At: 0.3, Service: 2, In: both},
		{At: 5, Service: 1, In: both},
		{At: 7, Service: 1, In: both, Reverts: [APIs]int32{5, 5}}, // too late: the other is published
	}}
	var s Simulation
	s.Start(&trace, flagsOf(1000, 1000, 1, 1), Parameters{Base: time.Second, PodLatency: time.Second})
	s.Run()
	for in := range APIs {
		if got := s.Totals(in).Writes; got != 4 {
			t.Errorf("%d writes, want 4: a failure, another one, and a failure and its end that were both published", got)
		}
		if s.Lags(in)[1] == Unresolved || s.Lags(in)[2] == Unresolved {
			t.Error("changes that were taken back stay unresolved, want them settled with the sync that finds nothing to do")
		}
	}
}
