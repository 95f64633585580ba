package play

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// shortened is a scene until a good hour after its first burst: long enough for a raise and its correction.
func shortened(f Family, seed uint64) *Scene {
	s := f.Scene(seed)
	s.End = min(s.End, s.firstBurst(&builder{raw: s.Changes})+cooldown+1200)
	n, _ := s.changesIn(s.End-60, s.End)
	s.Changes = s.Changes[:n]
	return s
}

func TestTheOperatorKeepsItsPromisesInEveryFamily(t *testing.T) {
	for _, f := range Families() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(1) {
				scene := shortened(f, 1000+seed)
				r := play(scene, newOperator(scene))
				if len(r.Broken) > 0 {
					t.Errorf("seed %d: broken promises: %q", seed, r.Broken)
				}
				for _, a := range r.Actions {
					if scene.Wrong(a) {
						t.Errorf("seed %d: at %.0f s %s -> %s for %s, which is not the cause", seed, a.At, a.From, a.To, a.Cause)
					}
				}
			}
		})
	}
}

func TestTheSameSeedGoesTheSameWay(t *testing.T) {
	for _, f := range Families() {
		if f.Name != "noisy-neighbour" && f.Name != "operator-restarts" {
			continue
		}
		first, second := shortened(f, 5), shortened(f, 5)
		if diff := cmp.Diff(play(first, newOperator(first)), play(second, newOperator(second))); diff != "" {
			t.Errorf("%s: the same seed went differently (-first +second):\n%s", f.Name, diff)
		}
	}
}

func TestEveryFamilyBringsWhatItsStorySays(t *testing.T) {
	quiet := []string{"rolling-update"}               // the defaults cope
	beyondFlags := []string{"slow-server", "not-kcm"} // no setting copes
	for _, f := range Families() {
		scene := f.Scene(3)
		missed, best := scene.missedWindows(still(scene, Default()).Lags), scene.missedWindows(still(scene, Flags(maxQPS, maxBurst, maxWorkers)).Lags)
		switch {
		case slices.Contains(quiet, f.Name) && missed > 0:
			t.Errorf("%s: %d windows miss the objective under the defaults, want none", f.Name, missed)
		case !slices.Contains(quiet, f.Name) && missed == 0:
			t.Errorf("%s: no window misses the objective under the defaults", f.Name)
		case slices.Contains(beyondFlags, f.Name) && best < missed:
			t.Errorf("%s: flags help: %d windows miss instead of %d, want no fewer", f.Name, best, missed)
		}
	}
}

func TestTheOracleIsNoDearerThanWhatMeetsTheObjective(t *testing.T) {
	f := Families()[slices.IndexFunc(Families(), func(f Family) bool { return f.Name == "cron-bursts" })]
	scene := f.Scene(2)
	oracle := Oracle(scene)
	if missed := scene.missedWindows(oracle.Lags); missed > 0 {
		t.Errorf("the oracle's %s misses %d windows", oracle.Last, missed)
	}
	for _, s := range Statics() {
		r := still(scene, s.Flags)
		if scene.missedWindows(r.Lags) == 0 && float64(tuner.Cost(s.Flags)) < oracle.LastCost {
			t.Errorf("%s meets the objective at less than the oracle's %s", s.Name, oracle.Last)
		}
	}
}

func TestWrongIsAnActionThatDoesNotHelp(t *testing.T) {
	scene := &Scene{Truth: cluster.Truth{Services: 300, Base: 0.002, Capacity: 5000, Watch: 0.001, End: 300}, MaxLag: 5e9}
	for i := range 300 {
		scene.ServiceOf = append(scene.ServiceOf, int32(i))
		scene.Changes = append(scene.Changes, cluster.Change{At: 10 + float64(i)/100, Pod: int32(i)})
	}
	tests := map[string]struct {
		action Action
		want   bool
	}{
		"tokens for want of tokens":    {Action{Since: 0, At: 60, From: Default(), To: Flags(200, 300, 5)}, false},
		"workers for want of tokens":   {Action{Since: 0, At: 60, From: Default(), To: Flags(20, 30, 50)}, true},
		"a raise that nobody asked":    {Action{Since: 100, At: 200, From: Default(), To: Flags(200, 300, 5)}, true},
		"a step down is never a raise": {Action{Since: 0, At: 60, From: Flags(200, 300, 5), To: Default()}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := scene.Wrong(tt.action); got != tt.want {
				t.Errorf("Wrong(%+v) = %v, want %v", tt.action, got, tt.want)
			}
		})
	}
}
