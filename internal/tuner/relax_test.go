package tuner

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// remembered is an episode of n changes so long before now.
func remembered(n int, ago time.Duration) Episode {
	model := clusters()["a fast API server"].truth
	d := incident(n, 2200*time.Millisecond)
	d.Start = start.Add(-ago)
	return Episode{Start: d.Start, Flags: flagsOf(300, 600, 20, 20), Lag: time.Second, Model: model, Demand: d}
}

// quiet is what Decide gets two days after the last raise, when small episodes are all that came since.
func quiet() Inputs {
	return Inputs{
		Objective: objectiveOf(2 * time.Second), Bounds: boundsTo(400, 1000, 50), Relax: true,
		Evidence: Evidence{Now: start, Leader: Led, Flags: flagsOf(300, 600, 20, 20)},
		Past: []Revision{{
			Number: 1, From: v1alpha1.DefaultFlags(), To: flagsOf(300, 600, 20, 20), Effect: EffectHelped,
			Decided: start.Add(-8 * day), Committed: start.Add(-8 * day),
		}},
		Episodes: []Episode{remembered(100, 12*time.Hour), remembered(120, 36*time.Hour), remembered(80, 5*day)},
	}
}

func TestRelax(t *testing.T) {
	tests := map[string]struct {
		change func(*Inputs)
		lowers bool
	}{
		"small episodes in a week":       {func(*Inputs) {}, true},
		"the policy does not ask for it": {func(in *Inputs) { in.Relax = false }, false},
		"an episode needs what runs":     {func(in *Inputs) { in.Episodes = append(in.Episodes, remembered(2000, 6*day)) }, false},
		"that episode was longer ago":    {func(in *Inputs) { in.Episodes = append(in.Episodes, remembered(2000, 8*day)) }, true},
		"nothing is remembered":          {func(in *Inputs) { in.Episodes = nil }, false},
		"nothing of the day before":      {func(in *Inputs) { in.Episodes = in.Episodes[:1] }, false},
		"nothing of the last day":        {func(in *Inputs) { in.Episodes = in.Episodes[1:] }, false},
		"flags were raised yesterday":    {func(in *Inputs) { in.Past[0].Decided = start.Add(-day) }, false},
		"flags were lowered today": {func(in *Inputs) {
			in.Past[0].Purpose, in.Past[0].Decided = PurposeRelax, start.Add(-time.Hour)
		}, false},
		"flags were lowered yesterday": {func(in *Inputs) {
			in.Past[0].Purpose, in.Past[0].Decided = PurposeRelax, start.Add(-25*time.Hour)
		}, true},
		"flags were lowered too far this week": {func(in *Inputs) {
			in.Past[0].Decided = start.Add(-3 * day)
			in.Past = append(in.Past, Revision{Purpose: PurposeRelax, Decided: start.Add(-4 * day), Committed: start.Add(-4 * day)})
		}, false},
		"changes are open": {func(in *Inputs) {
			in.Evidence.Lag = lag.Summary{Stats: []lag.Stat{{Resource: lag.ResourceEndpoints, Direction: lag.DirectionAny, Open: 1}}}
		}, false},
		"nobody knows who leads": {func(in *Inputs) { in.Evidence.Leader = LeaderUnknown }, false},
		"no rate has a bound": {func(in *Inputs) {
			in.Bounds.KubeAPIQPS, in.Bounds.KubeAPIBurst = v1alpha1.QPSBound{}, v1alpha1.BurstBound{}
		}, false},
		"the bounds leave no room": {func(in *Inputs) { in.Bounds.KubeAPIQPS.Min, in.Bounds.KubeAPIBurst.Min = 290, 590 }, false},
		"the defaults run":         {func(in *Inputs) { in.Evidence.Flags = v1alpha1.DefaultFlags() }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := quiet()
			tt.change(&in)
			d, lowers := relax(in)
			if lowers != tt.lowers {
				t.Fatalf("relax = %+v, %v; want %v", d, lowers, tt.lowers)
			}
			if !lowers {
				return
			}
			if d.Purpose != PurposeRelax || !d.Act || float64(d.Flags.KubeAPIQPS) > relaxShare*300 || d.Flags.ConcurrentEndpointSyncs != 20 {
				t.Errorf("relax = %+v, want at most 0.7 of the rate and the workers as they are", d)
			}
			if recent, _ := memory(in.Episodes, start); !meetsEpisodes(recent, d.Flags, in.Objective) {
				t.Errorf("%v does not meet what is remembered", d.Flags)
			}
		})
	}
}

// TestADailyPatternIsNotFollowed plays weeks of a daily peak with random small episodes between: flags are not lowered
// below what the peak needs, and at most once a day at all.
func TestADailyPatternIsNotFollowed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		peak := rapid.IntRange(200, 900).Draw(rt, "peak")
		in, truth := quiet(), clusters()["a fast API server"].truth
		in.Past = nil
		var book []Episode
		var lowered []time.Time
		for hour := 0; hour < 14*24; hour += 2 {
			at := start.Add(time.Duration(hour) * time.Hour)
			n := rapid.IntRange(0, peak/4).Draw(rt, "small")
			if hour%24 == 14 {
				n = peak
			}
			in.Evidence.Now = at.Add(time.Minute)
			if n > 0 {
				in.Evidence.Demand = incident(n, 2200*time.Millisecond)
				in.Evidence.Demand.Start = at
			} else {
				in.Evidence.Demand = lag.Demand{Start: at}
			}
			book = Remember(book, in.Evidence, in.Objective)
			for i := range book {
				book[i].Model = truth
			}
			in.Episodes = book
			d, lowers := relax(in)
			if !lowers {
				continue
			}
			if len(lowered) > 0 && in.Evidence.Now.Sub(lowered[len(lowered)-1]) < day {
				rt.Fatalf("lowered %v after the last time", in.Evidence.Now.Sub(lowered[len(lowered)-1]))
			}
			lowered = append(lowered, in.Evidence.Now)
			in.Past = append([]Revision{{Purpose: PurposeRelax, From: in.Evidence.Flags, To: d.Flags, Decided: in.Evidence.Now, Committed: in.Evidence.Now}}, in.Past...)
			in.Evidence.Flags = d.Flags.Or(in.Evidence.Flags)
			if p := Predict(incident(peak, 2200*time.Millisecond), in.Evidence.Flags, truth); worstOf(p) > in.Objective.MaxLag {
				rt.Fatalf("%v gives %v at the daily peak of %d", in.Evidence.Flags, worstOf(p), peak)
			}
		}
	})
}
