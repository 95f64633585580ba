package tuner

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// health is how an API server fares: rates per second, and one duration for all requests of a kind.
type health struct {
	writes, endpointWrites int64
	write, etcd, queue     time.Duration
	refused, rejected      float64 // of all requests, and of workload-high
}

// fine is an API server with some load.
func fine() health {
	return health{writes: 40, endpointWrites: 20, write: 8 * time.Millisecond, etcd: 3 * time.Millisecond}
}

// apiServer makes samples of an API server.
type apiServer struct {
	now     ServerSample
	samples []ServerSample
}

var guardStart = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

func newAPIServer() *apiServer {
	s := &apiServer{now: ServerSample{Time: guardStart, ProcessStart: guardStart.Add(-time.Hour)}}
	for _, ms := range []int64{5, 25, 50, 100, 200, 400, 600, 800, 1000, 1250, 1500, 2000, 5000, math.MaxInt64} {
		bound := time.Duration(math.MaxInt64)
		if ms < math.MaxInt64 {
			bound = time.Duration(ms) * time.Millisecond
		}
		s.now.WriteBuckets = append(s.now.WriteBuckets, Bucket{Bound: bound, Count: 1000})
		s.now.EtcdBuckets = append(s.now.EtcdBuckets, Bucket{Bound: bound, Count: 1000})
	}
	s.now.Writes, s.now.EtcdWrites, s.now.Requests = 1000, 1000, 5000
	s.samples = append(s.samples, s.now)
	return s
}

// run lets it go on, with a sample every five seconds.
func (s *apiServer) run(length time.Duration, h health) *apiServer {
	const every = 5 * time.Second
	for range length / every {
		s.now.Time = s.now.Time.Add(every)
		n := h.writes * 5
		s.now.Writes += n
		s.now.WriteTime += time.Duration(n) * h.write
		s.now.EndpointWrites += h.endpointWrites * 5
		s.now.EtcdWrites += n
		s.now.EtcdTime += time.Duration(n) * h.etcd
		s.now.WriteBuckets = grown(s.now.WriteBuckets, n, h.write)
		s.now.EtcdBuckets = grown(s.now.EtcdBuckets, n, h.etcd)
		s.now.Requests += 2 * n
		s.now.Refused += int64(float64(2*n) * h.refused)
		s.now.QueueWaits += n
		s.now.Rejected += int64(float64(n) * h.rejected)
		s.now.QueueWait += time.Duration(n) * h.queue
		s.samples = append(s.samples, s.now)
	}
	return s
}

func (s *apiServer) evidence() Evidence { return Evidence{Now: s.now.Time, Server: s.samples} }

func grown(buckets []Bucket, n int64, took time.Duration) []Bucket {
	out := make([]Bucket, len(buckets))
	for i, b := range buckets {
		if out[i] = b; took <= b.Bound {
			out[i].Count += n
		}
	}
	return out
}

func defaultGuardrails() Guardrails {
	return Guardrails{MaxWriteLatency: time.Second, MaxRefused: 0.01}
}

func TestGuard(t *testing.T) {
	with := func(change func(*health)) health {
		h := fine()
		change(&h)
		return h
	}
	required := func(g *Guardrails) { g.Required = true }
	tests := map[string]struct {
		samples *apiServer
		g       func(*Guardrails)
		want    string
		known   bool
	}{
		"a healthy one bears a raise":              {newAPIServer().run(time.Minute, fine()), nil, "", true},
		"writes that take too long stop one":       {newAPIServer().run(time.Minute, with(func(h *health) { h.write = 1100 * time.Millisecond })), nil, v1alpha1.ReasonGuardrailBreached, true},
		"a higher limit lets it pass":              {newAPIServer().run(time.Minute, with(func(h *health) { h.write = 1100 * time.Millisecond })), func(g *Guardrails) { g.MaxWriteLatency = 2 * time.Second }, "", true},
		"refused requests stop one":                {newAPIServer().run(time.Minute, with(func(h *health) { h.refused = 0.02 })), nil, v1alpha1.ReasonGuardrailBreached, true},
		"rejected requests of workload-high do":    {newAPIServer().run(time.Minute, with(func(h *health) { h.rejected = 0.02 })), nil, v1alpha1.ReasonGuardrailBreached, true},
		"waiting in its queues does":               {newAPIServer().run(time.Minute, with(func(h *health) { h.queue = 300 * time.Millisecond })), nil, v1alpha1.ReasonGuardrailBreached, true},
		"a slow etcd does":                         {newAPIServer().run(time.Minute, with(func(h *health) { h.etcd = 190 * time.Millisecond })), nil, v1alpha1.ReasonGuardrailBreached, true},
		"no limit stops nothing":                   {newAPIServer().run(time.Minute, with(func(h *health) { h.write, h.refused = time.Minute, 1 })), func(g *Guardrails) { *g = Guardrails{} }, "", true},
		"what is over is over in quiet":            {newAPIServer().run(time.Minute, with(func(h *health) { h.write, h.endpointWrites = time.Minute, 0 })).run(time.Minute, fine()), nil, "", true},
		"but not while endpoints were written":     {newAPIServer().run(time.Minute, with(func(h *health) { h.write = time.Minute })).run(time.Minute, with(func(h *health) { h.endpointWrites = 1 })), nil, v1alpha1.ReasonGuardrailBreached, true},
		"no samples stop nothing by themselves":    {&apiServer{}, nil, "", false},
		"no samples stop what was asked for":       {&apiServer{}, required, v1alpha1.ReasonNoSignals, false},
		"one sample says nothing":                  {newAPIServer(), required, v1alpha1.ReasonNoSignals, false},
		"few requests say nothing":                 {newAPIServer().run(time.Minute, health{writes: 1, write: time.Minute}), required, v1alpha1.ReasonNoSignals, false},
		"a healthy one bears what was asked for":   {newAPIServer().run(time.Minute, fine()), required, "", true},
		"few requests are looked for further back": {newAPIServer().run(4*time.Minute, health{writes: 1, write: 2 * time.Second}), nil, v1alpha1.ReasonGuardrailBreached, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := defaultGuardrails()
			if tt.g != nil {
				tt.g(&g)
			}
			got := Guard(tt.samples.evidence(), g)
			if got.Reason != tt.want || got.Known != tt.known || got.Breached != (tt.want == v1alpha1.ReasonGuardrailBreached) {
				t.Errorf("Guard() = reason %q (%s), known %t, breached %t, want reason %q, known %t",
					got.Reason, got.Message, got.Known, got.Breached, tt.want, tt.known)
			}
			if (got.Reason == "") != (got.Message == "") {
				t.Errorf("Guard() has reason %q and message %q", got.Reason, got.Message)
			}
		})
	}
}

func TestWhatIsSlowOnlyForAMomentStopsNothing(t *testing.T) {
	storm, stalled := fine(), fine()
	storm.writes, storm.write, storm.etcd = 320, 1500*time.Millisecond, 190*time.Millisecond
	stalled.etcd = 190 * time.Millisecond
	tests := map[string]struct {
		samples *apiServer
		want    bool
	}{
		"the writes that make an incident": {newAPIServer().run(time.Minute, health{}).run(5*time.Second, storm).run(25*time.Second, fine()), false},
		"the same, seen at once":           {newAPIServer().run(time.Minute, health{}).run(5*time.Second, storm), true},
		"the same, and no end":             {newAPIServer().run(time.Minute, health{}).run(30*time.Second, storm), true},
		"a moment in the middle":           {newAPIServer().run(15*time.Second, fine()).run(10*time.Second, stalled).run(15*time.Second, fine()), false},
		"since the incident began":         {newAPIServer().run(time.Minute, health{writes: 20}).run(10*time.Second, stalled), true},
		"half of the time":                 {newAPIServer().run(15*time.Second, fine()).run(15*time.Second, stalled), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Guard(tt.samples.evidence(), defaultGuardrails()); got.Breached != tt.want {
				t.Errorf("Guard() = breached %t (%s), want %t", got.Breached, got.Message, tt.want)
			}
		})
	}
}

func TestGuardDoesNotRestOnOldSamples(t *testing.T) {
	s := newAPIServer().run(time.Minute, fine())
	e := s.evidence()
	e.Now = e.Now.Add(guardAge + time.Second)
	if got := Guard(e, defaultGuardrails()); got.Known {
		t.Errorf("Guard() of samples %v old is known: %+v", guardAge, got)
	}
}

func TestSamplesOfSeveralAPIServersAreToldApart(t *testing.T) {
	a, b := newAPIServer().run(time.Minute, fine()), newAPIServer()
	b.now.ProcessStart = b.now.ProcessStart.Add(time.Minute)
	b.now.Writes += 1_000_000
	b.samples = b.samples[:0]
	b.run(time.Minute, fine())
	e := a.evidence()
	e.Server = append(e.Server, b.samples...)
	got := Guard(e, defaultGuardrails())
	if rate := got.Now.Rate(); !got.Known || rate < 39 || rate > 41 {
		t.Errorf("Guard() sees %v writes/s of two API servers with 40 each, known %t", rate, got.Known)
	}
}

func TestBreached(t *testing.T) {
	slow := fine()
	slow.write = 1400 * time.Millisecond
	busy := fine()
	busy.writes = 160
	busySlow := busy
	busySlow.write = 1400 * time.Millisecond
	refusing, slowEtcd := fine(), fine()
	refusing.refused, slowEtcd.etcd = 0.05, 300*time.Millisecond
	tests := map[string]struct {
		before, after []health // a minute each
		want          bool
	}{
		"slow since the change":                            {[]health{fine()}, []health{slow, slow}, true},
		"slow under the load that came with it":            {[]health{fine()}, []health{busySlow, busySlow}, true},
		"healthy since":                                    {[]health{fine()}, []health{fine(), busy}, false},
		"slow before as well":                              {[]health{fine(), slow, fine()}, []health{slow, slow}, false},
		"slow before at less load":                         {[]health{slow}, []health{busySlow, busySlow}, false},
		"slow before only at more load":                    {[]health{fine(), busySlow}, []health{slow, slow}, true},
		"slow for a while only":                            {[]health{fine()}, []health{slow, fine()}, false},
		"nothing known of the time before":                 {nil, []health{slow, slow}, false},
		"nothing known of the time since":                  {[]health{fine()}, nil, false},
		"too few requests since":                           {[]health{fine()}, []health{{writes: 1, write: time.Minute}}, false},
		"refused since the change":                         {[]health{fine()}, []health{refusing, refusing}, true},
		"a slow etcd since the change":                     {[]health{fine()}, []health{slowEtcd, slowEtcd}, true},
		"beyond another limit before":                      {[]health{refusing}, []health{slowEtcd, slowEtcd}, true},
		"quiet for long after two slow windows":            {[]health{fine()}, []health{slow, {}, {}, {}, {}}, false},
		"slow for one window, too short to be sure of yet": {[]health{fine()}, []health{fine(), {}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := newAPIServer()
			for _, h := range tt.before {
				before.run(time.Minute, h)
			}
			after := &apiServer{now: before.now, samples: []ServerSample{before.now}}
			r := Revision{Number: 7, Decided: before.now.Time, Committed: before.now.Time}
			for _, h := range tt.after {
				after.run(time.Minute, h)
			}
			got, breached := Breached(r, before.samples, after.samples, defaultGuardrails())
			if breached != tt.want || breached != (got.Message != "") {
				t.Errorf("Breached() = %+v, %t, want %t", got, breached, tt.want)
			}
		})
	}
}

func TestAnEtcdThatStandsStillAtTimesStopsARaise(t *testing.T) {
	const stall, period = 200 * time.Millisecond, time.Second
	tests := map[string]struct {
		rate int64 // writes per second
		want bool
	}{
		"at kube-controller-manager's default rate": {20, true},
		"at ten times that":                         {200, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer()
			for range 12 {
				s.now.Time = s.now.Time.Add(5 * time.Second)
				s.now.Writes += 5 * tt.rate
				s.now.Requests += 5 * tt.rate
				s.now.EtcdWrites += 5 * tt.rate
				for n := range 5 * tt.rate {
					at := time.Duration(n) * time.Second / time.Duration(tt.rate) % period
					took := 2*time.Millisecond + max(0, stall-at)
					s.now.EtcdBuckets = grown(s.now.EtcdBuckets, 1, took)
					s.now.WriteBuckets = grown(s.now.WriteBuckets, 1, took)
				}
				s.samples = append(s.samples, s.now)
			}
			if got := Guard(s.evidence(), defaultGuardrails()); got.Breached != tt.want {
				t.Errorf("Guard() = breached %t (%s; %s), want %t", got.Breached, got.Message, got.Now, tt.want)
			}
		})
	}
}

func TestABreachNeedsTheSameLimitTwice(t *testing.T) {
	const window = guardWindow - guardWindow/6
	refusing, slowEtcd := fine(), fine()
	refusing.refused, slowEtcd.etcd = 0.05, 300*time.Millisecond
	before := newAPIServer().run(time.Minute, fine())
	r := Revision{Number: 1, Decided: before.now.Time, Committed: before.now.Time}
	for name, tt := range map[string]struct {
		first, second health
		want          bool
	}{
		"the same":    {slowEtcd, slowEtcd, true},
		"another one": {refusing, slowEtcd, false},
		"none then":   {slowEtcd, fine(), false},
	} {
		t.Run(name, func(t *testing.T) {
			after := &apiServer{now: before.now, samples: []ServerSample{before.now}}
			after.run(window, tt.first).run(window, tt.second)
			if b, got := Breached(r, before.samples, after.samples, defaultGuardrails()); got != tt.want {
				t.Errorf("Breached() = %+v, %t, want %t", b, got, tt.want)
			}
		})
	}
}

func TestABreachNeedsOneProcess(t *testing.T) {
	slow := fine()
	slow.write = 3 * time.Second
	before := newAPIServer().run(time.Minute, fine())
	after := &apiServer{now: before.now, samples: []ServerSample{before.now}}
	after.run(25*time.Second, slow)
	for range 12 { // It is restarted again and again: no two samples of one process.
		after.now.ProcessStart = after.now.ProcessStart.Add(time.Minute)
		after.run(5*time.Second, slow)
	}
	r := Revision{Number: 1, Decided: before.now.Time, Committed: before.now.Time}
	if b, breached := Breached(r, before.samples, after.samples, defaultGuardrails()); breached {
		t.Errorf("breached by samples of different processes: %s", b.Message)
	}
}

func TestBreachedWithinAMinute(t *testing.T) {
	before := newAPIServer().run(time.Minute, fine())
	slow := fine()
	slow.write = 3 * time.Second
	after := &apiServer{now: before.now, samples: []ServerSample{before.now}}
	r := Revision{Number: 1, Decided: before.now.Time, Committed: before.now.Time}
	for at := time.Duration(0); ; at += 5 * time.Second {
		if _, breached := Breached(r, before.samples, after.samples, defaultGuardrails()); breached {
			if at < 40*time.Second || at > time.Minute {
				t.Errorf("breached %v after the change, want it after two windows", at)
			}
			return
		}
		if at > 2*time.Minute {
			t.Fatal("not breached within two minutes")
		}
		after.run(5*time.Second, slow)
	}
}

// anyHealth draws one.
func anyHealth(t *rapid.T) health {
	return health{
		writes:         rapid.Int64Range(0, 300).Draw(t, "writes"),
		endpointWrites: rapid.Int64Range(0, 300).Draw(t, "endpoint writes"),
		write:          time.Duration(rapid.Int64Range(0, 5e9).Draw(t, "write")),
		etcd:           time.Duration(rapid.Int64Range(0, 2e9).Draw(t, "etcd")),
		queue:          time.Duration(rapid.Int64Range(0, 2e9).Draw(t, "queue")),
		refused:        rapid.Float64Range(0, 0.1).Draw(t, "refused"),
		rejected:       rapid.Float64Range(0, 0.1).Draw(t, "rejected"),
	}
}

func anyServer(t *rapid.T) *apiServer {
	s := newAPIServer()
	for range rapid.IntRange(0, 5).Draw(t, "phases") {
		s.run(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds"))*time.Second, anyHealth(t))
	}
	return s
}

func TestGuardIsMonotoneInItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyServer(t).evidence()
		strict := Guardrails{
			MaxWriteLatency: time.Duration(rapid.Int64Range(1e7, 6e10).Draw(t, "latency")),
			MaxRefused:      rapid.Float64Range(0.01, 1).Draw(t, "refused"),
		}
		lax := strict
		lax.MaxWriteLatency *= 2
		lax.MaxRefused *= 2
		if a, b := Guard(e, strict), Guard(e, lax); b.Breached && !a.Breached {
			t.Fatalf("the stricter limits let pass what the laxer ones stop: %s", b.Message)
		}
	})
}

func TestNothingKnownIsNeverABreach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, g := anyServer(t), defaultGuardrails()
		r := Revision{Decided: guardStart.Add(-time.Hour), Committed: guardStart.Add(-time.Minute)}
		if b, breached := Breached(r, nil, s.samples, g); breached {
			t.Fatalf("breached without a time before: %s", b.Message)
		}
		if b, breached := Breached(r, s.samples, nil, g); breached {
			t.Fatalf("breached without a time since: %s", b.Message)
		}
		if b, breached := Breached(r, s.samples, s.samples, g); breached {
			t.Fatalf("breached with samples of the time since as those of before: %s", b.Message)
		}
		if got := Guard(Evidence{Now: s.now.Time}, g); got.Reason != "" || got.Known || got.Breached {
			t.Fatalf("without samples the guard says %+v", got)
		}
	})
}

func TestCeiling(t *testing.T) {
	raised := Revision{
		From:   v1alpha1.DefaultFlags(),
		To:     v1alpha1.Flags{KubeAPIQPS: 320, KubeAPIBurst: 480, ConcurrentEndpointSyncs: 6, ConcurrentServiceEndpointSyncs: 5},
		Effect: EffectHarmed, Judged: guardStart,
	}
	with := func(change func(*Revision)) Revision {
		r := raised
		change(&r)
		return r
	}
	want := v1alpha1.Flags{KubeAPIQPS: 80, KubeAPIBurst: 120, ConcurrentEndpointSyncs: 5}
	tests := map[string]struct {
		past []Revision
		at   time.Duration
		want v1alpha1.Flags
	}{
		"none without harm":               {[]Revision{with(func(r *Revision) { r.Effect = EffectHelped })}, time.Hour, v1alpha1.Flags{}},
		"the middle of what ran and harm": {[]Revision{raised}, time.Hour, want},
		"a day later none":                {[]Revision{raised}, ceilingLife, v1alpha1.Flags{}},
		"the lowest of several": {
			[]Revision{raised, with(func(r *Revision) { r.To.KubeAPIQPS = 80 })},
			time.Hour,
			v1alpha1.Flags{KubeAPIQPS: 40, KubeAPIBurst: 120, ConcurrentEndpointSyncs: 5},
		},
		"judged is when it was decided, where nothing else is known": {
			[]Revision{with(func(r *Revision) { r.Judged, r.Decided = time.Time{}, guardStart })}, time.Hour, want,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := Ceiling(tt.past, guardStart.Add(tt.at))
			if diff := cmp.Diff(tt.want, got); diff != "" || ok != (tt.want != v1alpha1.Flags{}) {
				t.Errorf("Ceiling() = %v, %t (-want +got):\n%s", got, ok, diff)
			}
		})
	}
}

func TestTheCeilingIsBelowWhatHarmedAndNotBelowWhatRan(t *testing.T) {
	flags := func(t *rapid.T, name string) v1alpha1.Flags {
		v := func(most int32) int32 { return rapid.Int32Range(1, most).Draw(t, name) }
		return v1alpha1.Flags{
			KubeAPIQPS: v(1000), KubeAPIBurst: v(2000), ConcurrentEndpointSyncs: v(50), ConcurrentServiceEndpointSyncs: v(50),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := Revision{From: flags(t, "from"), To: flags(t, "to"), Effect: EffectHarmed, Judged: guardStart}
		got, _ := Ceiling([]Revision{r}, guardStart.Add(time.Minute))
		from, to := r.From.List(), r.To.List()
		for i, c := range got.List() {
			switch raised := to[i].Value > from[i].Value; {
			case raised && (c.Value < from[i].Value || c.Value >= to[i].Value):
				t.Fatalf("ceiling of %s is %d with %d before and harm at %d", c.Name, c.Value, from[i].Value, to[i].Value)
			case !raised && c.Value != 0:
				t.Fatalf("ceiling of %s is %d although it was not raised", c.Name, c.Value)
			}
		}
	})
}
