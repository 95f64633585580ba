package tuner

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// changed is the past of a world whose flags were just raised to those that run, after an incident at the defaults.
func changed(w world, incidentSize int) (Revision, Evidence) {
	before := w
	before.flags, before.demand, before.until = v1alpha1.DefaultFlags(), incident(incidentSize, 2200*time.Millisecond), 0
	was := before.evidence()
	e := w.evidence()
	return Revision{
		Number: 3, From: before.flags, To: w.flags, Decided: e.Demand.Start.Add(-3 * time.Minute), Committed: e.Demand.Start.Add(-time.Minute),
		Before: Before(Verdict(was.Lag, objectiveOf(time.Second)), objectiveOf(time.Second), 0), Workload: WorkloadOf(was.Demand),
	}, e
}

// delayed makes every lag of the evidence at least so long: a cause that no flag cures.
func delayed(e Evidence, least time.Duration) Evidence {
	for i := range e.Demand.Changes {
		c := &e.Demand.Changes[i]
		c.SliceLag, c.EndpointsLag = max(c.SliceLag, least), max(c.EndpointsLag, least)
	}
	e.Lag = summaryOf(e.Demand)
	return e
}

func raisedTo(f v1alpha1.Flags, after int) world {
	w := clusters()["a fast API server"]
	w.flags, w.demand = f, incident(after, 2200*time.Millisecond)
	return w
}

func TestJudge(t *testing.T) {
	generous := flagsOf(300, 600, 50, 50)
	tests := map[string]struct {
		flags  v1alpha1.Flags
		after  int
		maxLag time.Duration
		slow   time.Duration
		change func(*Revision)
		want   Effect
	}{
		"the objective is met at the same load":    {flags: generous, after: 1000, want: EffectHelped},
		"the lag fell and the objective is missed": {flags: flagsOf(60, 120, 10, 10), after: 1000, want: EffectHelped},
		"the lag did not fall":                     {flags: generous, after: 1000, slow: time.Minute, want: EffectNone},
		"the lag did not fall, but Pods were changing in the hand-over": {
			flags: generous, after: 1000, slow: time.Minute, want: EffectPending,
			change: func(r *Revision) { r.Committed = r.Committed.Add(time.Minute) },
		},
		"the objective is met at a fraction of the load": {flags: generous, after: 400, want: EffectPending},
		"too few changes":                                           {flags: generous, after: 200, want: EffectPending},
		"less demand, and no less lag":                              {flags: generous, after: 400, slow: time.Minute, want: EffectNone},
		"a relaxed setting that misses the objective":               {flags: flagsOf(60, 120, 10, 10), after: 1000, change: func(r *Revision) { r.Purpose = PurposeRelax }, want: EffectNone},
		"three times the load, late, but far less than it would be": {flags: flagsOf(60, 120, 10, 10), after: 3000, want: EffectHelped},
		"less load, late, but far less than it would be":            {flags: flagsOf(35, 60, 10, 10), after: 450, want: EffectHelped},
		"nothing is known of the time before":                       {flags: flagsOf(60, 120, 10, 10), after: 1000, change: func(r *Revision) { r.Before, r.Workload = 0, Workload{} }, want: EffectHelped},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, e := changed(raisedTo(tt.flags, tt.after), 1000)
			if tt.slow > 0 {
				e = delayed(e, tt.slow)
			}
			if tt.change != nil {
				tt.change(&r)
			}
			got, achieved := Judge(r, e, objectiveOf(2*time.Second))
			if got != tt.want {
				t.Errorf("Judge = %q (%v before, %v achieved), want %q", got, r.Before, achieved, tt.want)
			}
			if (got == EffectPending) != (achieved == 0) {
				t.Errorf("Judge = %q with an achieved lag of %v", got, achieved)
			}
		})
	}
}

func TestJudgeWaitsForOpenChanges(t *testing.T) {
	w := raisedTo(flagsOf(60, 120, 10, 10), 1000)
	w.until = 5 * time.Second
	r, e := changed(w, 1000)
	if got, _ := Judge(r, e, objectiveOf(2*time.Second)); got != EffectPending {
		t.Errorf("Judge in the middle of an incident = %q, want to wait", got)
	}
}

func TestBeforeIsNeverLessThanWhatWasMeasured(t *testing.T) {
	w := clusters()["a fast API server"]
	w.until = 10 * time.Second
	o := objectiveOf(2 * time.Second)
	verdict := Verdict(w.evidence().Lag, o)
	if got := Before(verdict, o, 40*time.Second); got != 40*time.Second {
		t.Errorf("Before = %v of open changes that drain in 40s, want that", got)
	}
	if got, want := Before(verdict, o, time.Second), atLeast(verdict.Row, 0.99).Value; got != want {
		t.Errorf("Before = %v, want what was measured, %v", got, want)
	}
}

// failedRaise is what Decide gets after a raise that did not help.
func failedRaise() Inputs {
	r, e := changed(raisedTo(flagsOf(100, 200, 10, 10), 1000), 1000)
	e = delayed(e, time.Minute)
	in := Inputs{Objective: objectiveOf(2 * time.Second), Bounds: boundsTo(300, 1000, 50), Evidence: e}
	in.Past = Settle([]Revision{r}, e, in.Objective, "")
	in.Bottleneck = Diagnose(e, in.Objective)
	return in
}

func TestUndo(t *testing.T) {
	tests := map[string]struct {
		change func(*Inputs)
		due    bool
		hold   string
		want   v1alpha1.Flags
	}{
		"a raise that did not help goes back": {func(*Inputs) {}, true, "", v1alpha1.DefaultFlags()},
		"one that did harm, too": {func(in *Inputs) {
			in.Past = Settle([]Revision{{Number: 3, From: v1alpha1.DefaultFlags(), To: in.Evidence.Flags, Committed: start}}, in.Evidence, in.Objective, "p99 is 3s")
		}, true, "", v1alpha1.DefaultFlags()},
		"an undoing is not undone":                    {func(in *Inputs) { in.Past[0].Purpose = PurposeUndo }, false, "", v1alpha1.Flags{}},
		"a relaxing is not undone":                    {func(in *Inputs) { in.Past[0].Purpose = PurposeRelax }, false, "", v1alpha1.Flags{}},
		"one that helped stays":                       {func(in *Inputs) { in.Past[0].Effect = EffectHelped }, false, "", v1alpha1.Flags{}},
		"one that somebody else replaced is not ours": {func(in *Inputs) { in.Evidence.Flags = flagsOf(50, 50, 5, 5) }, false, "", v1alpha1.Flags{}},
		"one that no node took is none":               {func(in *Inputs) { in.Past[0].Committed = time.Time{} }, false, "", v1alpha1.Flags{}},
		"nobody knows who leads":                      {func(in *Inputs) { in.Evidence.Leader = LeaderUnknown }, false, "", v1alpha1.Flags{}},
		"a flag without a bound stays": {func(in *Inputs) {
			in.Bounds.ConcurrentEndpointSyncs = v1alpha1.WorkersBound{}
		}, true, "", flagsOf(20, 30, 0, 5)},
		"a value below its bound is approached": {func(in *Inputs) { in.Bounds.KubeAPIQPS.Min = 50 }, true, "", flagsOf(50, 30, 5, 5)},
		"open changes are waited for": {func(in *Inputs) {
			in.Evidence.Lag.Stats[0].Open = 7
		}, true, v1alpha1.ReasonBacklogDraining, v1alpha1.DefaultFlags()},
		"but not after harm": {func(in *Inputs) {
			in.Evidence.Lag.Stats[0].Open, in.Past[0].Effect = 7, EffectHarmed
		}, true, "", v1alpha1.DefaultFlags()},
		"nor for ever": {func(in *Inputs) {
			in.Evidence.Lag.Stats[0].Open, in.Past[0].Judged = 7, in.Evidence.Now.Add(-time.Hour)
		}, true, "", v1alpha1.DefaultFlags()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := failedRaise()
			tt.change(&in)
			got, due := undo(in)
			if due != tt.due || got.Act != (tt.due && tt.hold == "") || got.Flags != tt.want {
				t.Fatalf("undo = %+v, %v; want flags %v, due %v", got, due, tt.want, tt.due)
			}
			if due && (got.Purpose != PurposeUndo || (tt.hold != "" && got.Reason != tt.hold)) {
				t.Errorf("undo = purpose %q, reason %q; want Undo, %q", got.Purpose, got.Reason, tt.hold)
			}
		})
	}
}

func TestAnUndoneSettingIsNotTriedAgain(t *testing.T) {
	w := clusters()["a fast API server"]
	in := w.inputs(objectiveOf(2*time.Second), boundsTo(300, 1000, 50))
	in.Evidence.Version = "v1.37.2"
	first := Decide(in)
	if !first.Act {
		t.Fatalf("Decide holds: %s: %s", first.Reason, first.Message)
	}
	failed := Revision{
		Number: 1, From: w.flags, To: first.Flags, Decided: start.Add(-2 * time.Hour), Committed: start.Add(-2 * time.Hour),
		Version: "v1.37.2", Effect: EffectNone, Judged: in.Evidence.Now.Add(-time.Hour),
	}
	undone := Revision{Number: 2, From: first.Flags, To: w.flags, Decided: start.Add(-time.Hour), Committed: start.Add(-time.Hour), Purpose: PurposeUndo}
	tests := map[string]struct {
		change func(in *Inputs, r *Revision)
		holds  bool
	}{
		"the same setting":                      {func(*Inputs, *Revision) {}, true},
		"one that is almost the same":           {func(_ *Inputs, r *Revision) { r.To.KubeAPIBurst = r.To.KubeAPIBurst * 9 / 10 }, true},
		"another setting":                       {func(_ *Inputs, r *Revision) { r.To = flagsOf(25, 30, 5, 5) }, false},
		"the same after a day":                  {func(in *Inputs, r *Revision) { r.Judged = in.Evidence.Now.Add(-25 * time.Hour) }, false},
		"the same under another spec":           {func(_ *Inputs, r *Revision) { r.SpecChanged = true }, false},
		"the same on another version":           {func(_ *Inputs, r *Revision) { r.Version = "v1.36.0" }, false},
		"the same that helped and was replaced": {func(_ *Inputs, r *Revision) { r.Effect = EffectHelped }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			changed, r := in, failed
			tt.change(&changed, &r)
			changed.Past = []Revision{undone, r}
			d := Decide(changed)
			if d.Act == tt.holds || (tt.holds && d.Reason != v1alpha1.ReasonSettingFailedBefore) {
				t.Errorf("Decide = act %v, %s (%s), want to hold: %v", d.Act, d.Reason, d.Message, tt.holds)
			}
			if tt.holds && !strings.Contains(d.Message, "revision 1") {
				t.Errorf("message %q does not name the revision", d.Message)
			}
		})
	}
}

func TestNextTurn(t *testing.T) {
	base := func() Inputs {
		r, e := changed(raisedTo(flagsOf(60, 120, 10, 10), 1000), 1000)
		r.Effect, r.Achieved, r.Judged = EffectHelped, 14*time.Second, e.Now
		return Inputs{Objective: objectiveOf(2 * time.Second), Evidence: e, Past: []Revision{r}}
	}
	tests := map[string]struct {
		change func(*Inputs)
		want   turn
	}{
		"nothing was changed yet":                      {func(in *Inputs) { in.Past = nil }, turn{purpose: PurposeRaise}},
		"a raise fell short":                           {func(*Inputs) {}, turn{purpose: PurposeCorrect}},
		"a raise was met since":                        {func(in *Inputs) { in.Past[0].Met = start }, turn{purpose: PurposeRaise}},
		"a raise is not judged yet":                    {func(in *Inputs) { in.Past[0].Effect = EffectPending }, turn{reason: v1alpha1.ReasonTooFewSamples}},
		"a correction fell short":                      {func(in *Inputs) { in.Past[0].Purpose = PurposeCorrect }, turn{reason: v1alpha1.ReasonBoundReached}},
		"a correction fell short, and the load grew":   {func(in *Inputs) { in.Past[0].Purpose, in.Past[0].Workload.Peak = PurposeCorrect, 500 }, turn{purpose: PurposeRaise}},
		"a correction was met since":                   {func(in *Inputs) { in.Past[0].Purpose, in.Past[0].Met = PurposeCorrect, start }, turn{purpose: PurposeRaise}},
		"the last change was an undoing":               {func(in *Inputs) { in.Past[0].Purpose = PurposeUndo }, turn{purpose: PurposeRaise}},
		"the last change was a relaxing":               {func(in *Inputs) { in.Past[0].Purpose = PurposeRelax }, turn{purpose: PurposeRaise}},
		"other flags run than those of the last":       {func(in *Inputs) { in.Evidence.Flags = flagsOf(30, 30, 5, 5) }, turn{purpose: PurposeRaise}},
		"a newer one was rolled back, an older stands": {func(in *Inputs) { in.Past = append([]Revision{{Number: 4}}, in.Past...) }, turn{purpose: PurposeCorrect}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := base()
			tt.change(&in)
			got := nextTurn(in)
			if (got.message == "") != (tt.want.reason == "") {
				t.Errorf("nextTurn holds with the message %q", got.message)
			}
			got.message = ""
			if got != tt.want {
				t.Errorf("nextTurn = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSettle(t *testing.T) {
	r, e := changed(raisedTo(flagsOf(300, 600, 50, 50), 1000), 1000)
	older := Revision{Number: 2, From: v1alpha1.DefaultFlags(), To: v1alpha1.DefaultFlags(), Committed: start.Add(-time.Hour)}
	o := objectiveOf(2 * time.Second)
	with := func(change func(*Revision)) []Revision {
		changed := r
		change(&changed)
		return []Revision{changed, older}
	}
	tests := map[string]struct {
		past []Revision
		harm string
		want []Effect
	}{
		"the newest is judged, a replaced one is not known": {with(func(*Revision) {}), "", []Effect{EffectHelped, EffectUnknown}},
		"what was undone had failed":                        {with(func(r *Revision) { r.Purpose = PurposeUndo }), "", []Effect{EffectPending, EffectNone}},
		"harm outweighs help":                               {with(func(r *Revision) { r.Effect = EffectHelped }), "p99 is 3s", []Effect{EffectHarmed, EffectUnknown}},
		"a failure stays one":                               {with(func(r *Revision) { r.Effect = EffectNone }), "p99 is 3s", []Effect{EffectNone, EffectUnknown}},
		"harm after an undoing is not its":                  {with(func(r *Revision) { r.Purpose = PurposeUndo }), "p99 is 3s", []Effect{EffectPending, EffectNone}},
		"one in flight is not judged, nor is the one that runs replaced": {
			[]Revision{{Number: 4, To: flagsOf(1, 1, 1, 1)}, r}, "", []Effect{EffectPending, EffectHelped},
		},
		"nothing": {nil, "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []Effect
			settled := Settle(tt.past, e, o, tt.harm)
			for _, r := range settled {
				got = append(got, r.Effect)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(settled, Settle(settled, e, o, tt.harm)); diff != "" {
				t.Errorf("Settle is not idempotent:\n%s", diff)
			}
		})
	}
}

func TestWorkloadOf(t *testing.T) {
	tests := map[string]struct {
		at   []time.Duration
		want Workload
	}{
		"nothing":                       {nil, Workload{}},
		"one":                           {[]time.Duration{0}, Workload{1, 1}},
		"two bursts, the first larger":  {[]time.Duration{0, 1, 2, time.Hour, time.Hour + 1}, Workload{5, 3}},
		"two bursts, the second larger": {[]time.Duration{0, time.Hour, time.Hour + 1}, Workload{3, 2}},
		"one every ten seconds":         {[]time.Duration{0, 10 * time.Second, 20 * time.Second}, Workload{3, 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var d lag.Demand
			for _, at := range tt.at {
				d.Changes = append(d.Changes, lag.Change{At: at}, lag.Change{At: at, HandOver: true}, lag.Change{At: at, Startup: true})
			}
			if got := WorkloadOf(d); got != tt.want {
				t.Errorf("WorkloadOf = %+v, want %+v", got, tt.want)
			}
		})
	}
}

// anyPast draws revisions, newest first, the newest of which may run.
func anyPast(rt *rapid.T, running v1alpha1.Flags, now time.Time) []Revision {
	var past []Revision
	at := now
	for i := range rapid.IntRange(0, 4).Draw(rt, "past") {
		at = at.Add(-time.Duration(rapid.IntRange(1, 100).Draw(rt, "hours before")) * time.Hour)
		r := Revision{
			Number: int64(9 - i), To: running, Decided: at, Committed: at, Judged: at,
			From: flagsOf(rapid.Int32Range(1, 1000).Draw(rt, "from qps"), rapid.Int32Range(1, 2000).Draw(rt, "from burst"),
				rapid.Int32Range(1, 50).Draw(rt, "from endpoints"), rapid.Int32Range(1, 50).Draw(rt, "from slices")),
			Purpose: rapid.SampledFrom([]Purpose{PurposeRaise, PurposeCorrect, PurposeUndo, PurposeRelax}).Draw(rt, "purpose"),
			Effect:  rapid.SampledFrom([]Effect{EffectPending, EffectHelped, EffectNone, EffectHarmed}).Draw(rt, "effect"),
			Before:  time.Duration(rapid.IntRange(0, 60).Draw(rt, "before")) * time.Second,
		}
		past, running = append(past, r), r.From
	}
	return past
}

func TestEveryDecisionAfterAPastLiesWithinBounds(t *testing.T) {
	acts := map[Purpose]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := anyWorld(rt)
		in := w.inputs(objectiveOf(time.Duration(rapid.IntRange(10, 20_000).Draw(rt, "maxLag"))*time.Millisecond), anyBounds(rt))
		in.Relax = true
		in.Past = Settle(anyPast(rt, w.flags, start), in.Evidence, in.Objective, rapid.SampledFrom([]string{"", "p99 is 3s"}).Draw(rt, "harm"))
		d := Decide(in)
		if !d.Act {
			return
		}
		acts[d.Purpose]++
		if got := nearest(d.Flags.Or(in.Evidence.Flags), in.Bounds); got != d.Flags {
			rt.Fatalf("%s writes %v, within the bounds that is %v", d.Purpose, d.Flags, got)
		}
		if d.Flags.Within(in.Evidence.Flags) {
			rt.Fatalf("%s writes %v, which runs", d.Purpose, d.Flags)
		}
		last, ours := running(in.Past, in.Evidence.Flags)
		if d.Purpose == PurposeUndo && (!ours || !last.failed()) {
			rt.Fatalf("undoes %+v", last)
		}
		if d.Purpose == PurposeCorrect && (!ours || last.Purpose != PurposeRaise || last.Effect != EffectHelped) {
			rt.Fatalf("corrects %+v", last)
		}
		if again := Decide(in); again != d {
			rt.Fatalf("Decide = %+v, then %+v", d, again)
		}
	})
	t.Logf("decisions to act: %v", acts)
}
