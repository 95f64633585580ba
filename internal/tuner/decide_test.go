package tuner

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// inputs are what Decide gets from a world.
func (w world) inputs(o Objective, b v1alpha1.Bounds) Inputs {
	e := w.evidence()
	return Inputs{Objective: o, Bounds: b, Evidence: e, Bottleneck: Diagnose(e, o)}
}

// clusters are simulated ones of different make, each with an incident of 1,000 Services at the default flags.
func clusters() map[string]world {
	all := map[string]world{
		"a slow quorum, Pods at their own pace": {
			demand: incident(1000, 5*time.Second),
			truth:  Parameters{Base: 35 * time.Millisecond, Capacity: 450, PodLatency: 20 * time.Millisecond},
		},
		"a small machine, Pods as fast as it can": {
			demand: incident(1000, 2200*time.Millisecond),
			truth:  Parameters{Base: 5 * time.Millisecond, Capacity: 460, PodLatency: 45 * time.Millisecond, Writers: 32},
		},
		"a fast API server": {
			demand: incident(1000, 2200*time.Millisecond),
			truth:  Parameters{Base: 5 * time.Millisecond, Capacity: 2000, PodLatency: 3 * time.Millisecond},
		},
	}
	for name, w := range all {
		w.flags, w.scrape = v1alpha1.DefaultFlags(), 5*time.Second
		all[name] = w
	}
	return all
}

func worstOf(p Prediction) time.Duration { return max(p.EndpointSlices.P99, p.Endpoints.P99) }

// TestTheChoiceHoldsWhatTheBenchAsks is the acceptance of the bench on simulated clusters: from one run at the default
// flags, a setting that really meets 1.25 times the lag at 300/325 with 50/50, at no higher cost, and better than 5/5.
func TestTheChoiceHoldsWhatTheBenchAsks(t *testing.T) {
	classic, generous := flagsOf(300, 325, 5, 5), flagsOf(300, 325, 50, 50)
	for name, w := range clusters() {
		t.Run(name, func(t *testing.T) {
			o := objectiveOf(worstOf(Predict(w.demand, generous, w.truth)) * 5 / 4)
			d := Decide(w.inputs(o, boundsTo(300, 1000, 50)))
			if !d.Act {
				t.Fatalf("Decide holds: %s: %s", d.Reason, d.Message)
			}
			got := worstOf(Predict(w.demand, d.Flags, w.truth))
			t.Logf("%v: %v for %d, objective %v", d.Flags, got, d.Cost, o.MaxLag)
			if got > o.MaxLag {
				t.Errorf("%v gives %v, want at most %v; %s", d.Flags, got, o.MaxLag, d.Message)
			}
			if d.Cost > Cost(generous) {
				t.Errorf("%v costs %d, want at most %d", d.Flags, d.Cost, Cost(generous))
			}
			if bad := worstOf(Predict(w.demand, classic, w.truth)); got >= bad {
				t.Errorf("%v gives %v, want less than %v", d.Flags, got, bad)
			}
		})
	}
}

func TestDecideHolds(t *testing.T) {
	base := clusters()["a small machine, Pods as fast as it can"]
	tests := map[string]struct {
		world   func(*world)
		inputs  func(*Inputs)
		maxLag  time.Duration
		bounds  v1alpha1.Bounds
		want    string
		wantNow bool
	}{
		"nothing is wrong": {
			world: func(w *world) { w.flags = flagsOf(1000, 2000, 50, 50) }, maxLag: time.Minute, want: v1alpha1.ReasonObjectiveMet,
		},
		"few changes were seen": {
			world: func(w *world) { w.demand = incident(250, time.Second) }, want: v1alpha1.ReasonTooFewSamples,
		},
		"nobody leads": {
			inputs: func(in *Inputs) {
				in.Evidence.Leader = Leaderless
				in.Bottleneck = Diagnose(in.Evidence, in.Objective)
			},
			want: v1alpha1.ReasonNotTheFlags,
		},
		"it is not known who leads":   {inputs: func(in *Inputs) { in.Evidence.Leader = LeaderUnknown }, want: v1alpha1.ReasonNoSignals},
		"the flags are not known":     {inputs: func(in *Inputs) { in.Evidence.Flags = v1alpha1.Flags{} }, want: v1alpha1.ReasonNoSignals},
		"one of the flags is unknown": {inputs: func(in *Inputs) { in.Evidence.Flags.KubeAPIQPS = 0 }, want: v1alpha1.ReasonNoSignals},
		"the cause is another one": {
			inputs: func(in *Inputs) { in.Bottleneck.Type = v1alpha1.BottleneckUnknown }, want: v1alpha1.ReasonNotTheFlags,
		},
		"other flags run than those that are reported": {
			inputs: func(in *Inputs) { in.Evidence.Flags = flagsOf(100, 100, 5, 5) }, want: v1alpha1.ReasonModelNotTrusted,
		},
		"the episode is still going on": {world: func(w *world) { w.until = 3 * time.Second }, want: v1alpha1.ReasonBacklogDraining},
		"the backlog drains sooner than a restart": {
			world: func(w *world) { w.until = 30 * time.Second }, want: v1alpha1.ReasonBacklogDraining,
		},
		"the same setting failed": {
			inputs: func(in *Inputs) { in.Failed = []v1alpha1.Flags{Decide(*in).Flags} }, want: v1alpha1.ReasonSettingFailedBefore,
		},
		"no flag has a bound":       {bounds: v1alpha1.Bounds{}, want: v1alpha1.ReasonNoCheaperSetting},
		"the bounds leave no room":  {bounds: boundsTo(20, 30, 5), want: v1alpha1.ReasonNoCheaperSetting},
		"workers alone do not help": {bounds: v1alpha1.Bounds{ConcurrentEndpointSyncs: v1alpha1.WorkersBound{Min: 5, Max: 50}}, want: v1alpha1.ReasonNoCheaperSetting},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, b := base, tt.bounds
			if tt.world != nil {
				tt.world(&w)
			}
			if b == (v1alpha1.Bounds{}) && name != "no flag has a bound" {
				b = boundsTo(300, 1000, 50)
			}
			in := w.inputs(objectiveOf(max(tt.maxLag, 2*time.Second)), b)
			if tt.inputs != nil {
				tt.inputs(&in)
			}
			if d := Decide(in); d.Act || d.Reason != tt.want {
				t.Errorf("Decide = act %v, %s (%s), want to hold for %s", d.Act, d.Reason, d.Message, tt.want)
			}
		})
	}
}

func TestDecideActsInABacklogThatOutlastsARestart(t *testing.T) {
	w := clusters()["a small machine, Pods as fast as it can"]
	w.until = 10 * time.Second
	if d := Decide(w.inputs(objectiveOf(2*time.Second), boundsTo(300, 1000, 50))); !d.Act {
		t.Errorf("Decide holds: %s (%s), want to act", d.Reason, d.Message)
	}
}

func TestWhereOnlyWorkersBindOnlyWorkersRise(t *testing.T) {
	w := clusters()["a slow quorum, Pods at their own pace"]
	w.flags = flagsOf(300, 325, 5, 5)
	in := w.inputs(objectiveOf(2*time.Second), boundsTo(300, 1000, 50))
	d := Decide(in)
	if in.Bottleneck.Type != v1alpha1.BottleneckWorkers || !d.Act {
		t.Fatalf("%s; Decide = act %v, %s (%s), want Workers and to act", in.Bottleneck.Type, d.Act, d.Reason, d.Message)
	}
	if d.Flags.KubeAPIQPS != 300 || d.Flags.KubeAPIBurst != 325 || d.Flags.ConcurrentEndpointSyncs <= 5 {
		t.Errorf("Decide = %v, want 300/325 with more workers", d.Flags)
	}
}

func TestAfterItsOwnChoiceDecideHolds(t *testing.T) {
	for name, w := range clusters() {
		for _, maxLag := range []time.Duration{50 * time.Millisecond, 2 * time.Second, 10 * time.Second} {
			b := boundsTo(300, 1000, 50)
			w.flags = v1alpha1.DefaultFlags()
			first := Decide(w.inputs(objectiveOf(maxLag), b))
			if !first.Act {
				t.Errorf("%s, %v: Decide holds: %s (%s)", name, maxLag, first.Reason, first.Message)
				continue
			}
			w.flags = first.Flags
			if d := Decide(w.inputs(objectiveOf(maxLag), b)); d.Act {
				t.Errorf("%s, %v: after %v, Decide wants %v: %s (%s)", name, maxLag, first.Flags, d.Flags, d.Reason, d.Message)
			}
		}
	}
}

// anyWorld draws a cluster with its demand and flags.
func anyWorld(rt *rapid.T) world {
	n := rapid.IntRange(1, 900).Draw(rt, "changes")
	milliseconds := func(name string, low, high int) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(rt, name)) * time.Millisecond
	}
	return world{
		demand: scattered(rapid.Uint64().Draw(rt, "seed"), n, rapid.IntRange(1, n).Draw(rt, "services"), milliseconds("over", 1, 20_000)),
		flags: flagsOf(rapid.Int32Range(1, 400).Draw(rt, "qps"), rapid.Int32Range(1, 400).Draw(rt, "burst"),
			rapid.Int32Range(1, 50).Draw(rt, "endpointWorkers"), rapid.Int32Range(1, 50).Draw(rt, "sliceWorkers")),
		truth: Parameters{
			Base: milliseconds("base", 1, 100), Capacity: rapid.Float64Range(100, 2000).Draw(rt, "capacity"),
		},
		until:  rapid.SampledFrom([]time.Duration{0, time.Second, 20 * time.Second, time.Minute}).Draw(rt, "until"),
		scrape: milliseconds("scrape", 0, 1) * 5000,
	}
}

// anyBounds draws bounds of any kind, with flags that have none.
func anyBounds(rt *rapid.T) v1alpha1.Bounds {
	between := func(name string, most int32) (low, high int32) {
		if rapid.Bool().Draw(rt, name+" is free") {
			return 0, 0
		}
		low = rapid.Int32Range(1, most).Draw(rt, name+" min")
		return low, rapid.Int32Range(low, most).Draw(rt, name+" max")
	}
	var b v1alpha1.Bounds
	b.KubeAPIQPS.Min, b.KubeAPIQPS.Max = between("qps", v1alpha1.MaxKubeAPIQPS)
	if b.KubeAPIQPS.Max > 0 {
		b.KubeAPIBurst.Min, b.KubeAPIBurst.Max = between("burst", v1alpha1.MaxKubeAPIBurst)
	}
	b.ConcurrentEndpointSyncs.Min, b.ConcurrentEndpointSyncs.Max = between("endpoints", v1alpha1.MaxWorkers)
	b.ConcurrentServiceEndpointSyncs.Min, b.ConcurrentServiceEndpointSyncs.Max = between("slices", v1alpha1.MaxWorkers)
	return b
}

func TestEveryDecisionLiesWithinBoundsAndLimits(t *testing.T) {
	acts := 0
	rapid.Check(t, func(rt *rapid.T) {
		in := anyWorld(rt).inputs(objectiveOf(time.Duration(rapid.IntRange(10, 20_000).Draw(rt, "maxLag"))*time.Millisecond), anyBounds(rt))
		d := Decide(in)
		if d.Act {
			acts++
		}
		if d.Flags == (v1alpha1.Flags{}) { // it held before it searched; what it would have found must fit all the same
			e := in.Evidence
			found := newSizing(e, Calibrate(e).Parameters, objectiveOf(time.Second)).cheapest(spaceWithin(in.Bounds, e.Flags))
			d.Flags = bounded(found.flags, in.Bounds)
		}
		b := in.Bounds
		bounds := [][2]int32{
			{b.KubeAPIQPS.Min, b.KubeAPIQPS.Max},
			{b.KubeAPIBurst.Min, b.KubeAPIBurst.Max},
			{b.ConcurrentEndpointSyncs.Min, b.ConcurrentEndpointSyncs.Max},
			{b.ConcurrentServiceEndpointSyncs.Min, b.ConcurrentServiceEndpointSyncs.Max},
		}
		for i, v := range d.Flags.List() {
			if v.Value != 0 && (v.Value < bounds[i][0] || v.Value > bounds[i][1] || v.Value > v.Max) {
				rt.Fatalf("%s = %d, want %v", v.Name, v.Value, bounds[i])
			}
			if d.Act && v.Value == 0 && bounds[i][1] != 0 {
				rt.Fatalf("%s is absent, want a value within %v", v.Name, bounds[i])
			}
		}
		for _, v := range d.Uncapped.List() {
			if v.Value > v.Max && v.Value > in.Evidence.Flags.List()[slices.IndexFunc(d.Uncapped.List(), func(o v1alpha1.FlagValue) bool { return o.Name == v.Name })].Value {
				rt.Fatalf("uncapped %s = %d, want at most %d", v.Name, v.Value, v.Max)
			}
		}
		if d.Act && d.PredictedLag > d.CurrentLag {
			rt.Fatalf("acts for a lag of %v instead of %v", d.PredictedLag, d.CurrentLag)
		}
		if d.Act && changes(in.Evidence.Lag) < in.Objective.MinSamples {
			rt.Fatalf("acts on %d changes", changes(in.Evidence.Lag))
		}
		if first, again := Decide(in), Decide(in); again != first {
			rt.Fatalf("Decide = %+v, then %+v", first, again)
		}
	})
	t.Logf("%d decisions were to act", acts)
}

func TestALooserObjectiveNeverCostsMore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := anyWorld(rt)
		e := w.evidence()
		s := spaceWithin(anyBounds(rt), e.Flags)
		tight := rapid.Float64Range(0.01, 20).Draw(rt, "tight")
		loose := tight * rapid.Float64Range(1, 10).Draw(rt, "looser")
		r := newReplay(e.Demand, Calibrate(e).Parameters, e.Now)
		a, b := r.search(s, 0.99, tight), r.search(s, 0.99, loose)
		if Cost(b.flags) > Cost(a.flags) {
			rt.Fatalf("%v for %.3f s costs %d, %v for %.3f s costs %d", a.flags, tight, Cost(a.flags), b.flags, loose, Cost(b.flags))
		}
	})
}

func TestFewChangesDecideNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in := anyWorld(rt).inputs(objectiveOf(time.Second), boundsTo(300, 1000, 50))
		in.Evidence.Demand.Changes = in.Evidence.Demand.Changes[:min(len(in.Evidence.Demand.Changes), 299)]
		in.Evidence.Lag = summaryOf(in.Evidence.Demand)
		if d := Decide(in); d.Act {
			rt.Fatalf("acts on %d changes", len(in.Evidence.Demand.Changes))
		}
	})
}

func TestCost(t *testing.T) {
	tests := map[string]struct {
		flags v1alpha1.Flags
		want  int64
	}{
		"nothing":         {v1alpha1.Flags{}, 0},
		"the defaults":    {v1alpha1.DefaultFlags(), 174*20*10 + 650*30 + 50},
		"the famous cure": {flagsOf(300, 325, 50, 50), 174*300*10 + 650*325 + 500},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Cost(tt.flags); got != tt.want {
				t.Errorf("Cost(%v) = %d, want %d", tt.flags, got, tt.want)
			}
		})
	}
}
