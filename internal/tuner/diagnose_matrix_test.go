package tuner

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// dice draws the figures of a simulated case.
type dice struct{ *rand.Rand }

func (d dice) between(low, high int) int { return low + d.IntN(high-low+1) }

func (d dice) milliseconds(low, high int) time.Duration {
	return time.Duration(d.between(low, high)) * time.Millisecond
}

// quick is a cluster in which nothing is short.
func (d dice) quick() Parameters {
	return Parameters{Base: d.milliseconds(3, 20), Capacity: float64(d.between(1000, 2500))}
}

// generous are flags that never bind.
func generous() v1alpha1.Flags { return flagsOf(300, 1000, 50, 50) }

// simulated are the cases whose cause is known, each made from a seed.
func simulated() map[v1alpha1.BottleneckType]func(dice) Evidence {
	const scrape = 2 * time.Second
	return map[v1alpha1.BottleneckType]func(dice) Evidence{
		v1alpha1.BottleneckNoLeader: func(d dice) Evidence {
			return world{demand: incident(d.between(300, 600), 5*time.Second), flags: v1alpha1.DefaultFlags(), truth: d.quick(), scrape: scrape, leader: Leaderless}.evidence()
		},
		v1alpha1.BottleneckClientRateLimit: func(d dice) Evidence {
			f := flagsOf(int32(d.between(10, 40)), int32(d.between(20, 60)), int32(d.between(5, 50)), int32(d.between(5, 50)))
			return world{demand: incident(d.between(400, 900), d.milliseconds(2000, 8000)), flags: f, truth: d.quick(), scrape: scrape}.evidence()
		},
		v1alpha1.BottleneckWorkers: func(d dice) Evidence {
			truth, n := d.quick(), int32(d.between(1, 3))
			truth.Base = d.milliseconds(25, 60)
			return world{demand: incident(d.between(600, 900), 3*time.Second), flags: flagsOf(400, 1000, n, n), truth: truth, scrape: scrape}.evidence()
		},
		v1alpha1.BottleneckAPIServer: func(d dice) Evidence {
			truth, f := d.quick(), flagsOf(300, 1000, 5, 5)
			if d.IntN(2) == 0 {
				truth.Base = d.milliseconds(600, 1200)
			} else {
				truth.Capacity, f = float64(d.between(30, 80)), generous()
			}
			return world{demand: incident(d.between(300, 600), 5*time.Second), flags: f, truth: truth, scrape: scrape}.evidence()
		},
		v1alpha1.BottleneckStaleRetries: func(d dice) Evidence {
			truth := d.quick()
			truth.CacheDelay = d.milliseconds(400, 700)
			once := incident(d.between(150, 300), 60*time.Second)
			twice, gap := slices.Clone(once.Changes), d.milliseconds(150, 300)
			for i := range twice {
				twice[i].At += gap
			}
			once.Changes = append(once.Changes, twice...)
			slices.SortStableFunc(once.Changes, func(a, b lag.Change) int { return int(a.At - b.At) })
			return world{demand: once, flags: generous(), truth: truth, scrape: scrape}.evidence()
		},
		v1alpha1.BottleneckBatching: func(d dice) Evidence {
			truth, period := d.quick(), d.milliseconds(1100, 3000)
			truth.Batch = [kcm.APIs]time.Duration{period, period}
			return world{demand: incident(d.between(300, 600), d.milliseconds(5000, 60000)), flags: generous(), truth: truth, scrape: scrape}.evidence()
		},
		v1alpha1.BottleneckHotService: func(d dice) Evidence {
			e := world{demand: incident(d.between(300, 600), time.Minute), flags: generous(), truth: d.quick(), scrape: scrape}.evidence()
			takes := d.milliseconds(2000, 5000)
			for at := time.Second; at < 40*time.Second; at += 150 * time.Millisecond {
				late := 2*takes - at%takes // what the next sync but this takes
				e.Demand.Changes = append(e.Demand.Changes, lag.Change{
					At: at, Service: 100_000, Direction: lag.DirectionAddition,
					SliceClass: lag.Closed, SliceLag: late, EndpointsClass: lag.Closed, EndpointsLag: late,
				})
			}
			slices.SortStableFunc(e.Demand.Changes, func(a, b lag.Change) int { return int(a.At - b.At) })
			e.Lag = summaryOf(e.Demand)
			return e
		},
		v1alpha1.BottleneckDropped: func(d dice) Evidence {
			e := world{demand: incident(d.between(300, 600), time.Minute), flags: generous(), truth: d.quick(), scrape: scrape, until: 5 * time.Minute}.evidence()
			last := e.Signals[len(e.Signals)-1]
			last.Time = e.Now
			for i := 0; i < len(e.Demand.Changes)/2; i += d.between(5, 20) {
				c := &e.Demand.Changes[i]
				c.SliceClass, c.SliceLag = lag.Open, e.Now.Sub(start)-c.At
				last.FailedSyncs += 15
			}
			e.Signals = append(e.Signals, last)
			e.Lag = summaryOf(e.Demand)
			return e
		},
		v1alpha1.BottleneckUnknown: func(d dice) Evidence {
			e := world{demand: incident(d.between(300, 600), d.milliseconds(5000, 60000)), flags: generous(), truth: d.quick(), scrape: scrape}.evidence()
			for i := range e.Demand.Changes { // somebody else is slow: a watch, say
				c, more := &e.Demand.Changes[i], d.milliseconds(3000, 20000)
				c.SliceLag, c.EndpointsLag = c.SliceLag+more, c.EndpointsLag+more
			}
			e.Lag = summaryOf(e.Demand)
			e.Now = e.Now.Add(20 * time.Second)
			return e
		},
	}
}

// perCause is how many cases of each cause are simulated.
const perCause = 25

// TestDiagnoseConfusionMatrix tells how often which cause is taken for which. With metrics nine in ten are right; with
// metrics, without and with metrics that lie, no cause that flags do not cure is ever taken for one that they do.
func TestDiagnoseConfusionMatrix(t *testing.T) {
	spoil := map[string]func(*Evidence){
		"with metrics":    func(*Evidence) {},
		"without metrics": func(e *Evidence) { e.Signals = nil },
		"with metrics of a process that does nothing": func(e *Evidence) {
			for i := range e.Signals {
				e.Signals[i] = Sample{Time: e.Signals[i].Time, ProcessStart: start}
			}
		},
	}
	all := simulated()
	for name, change := range spoil {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			matrix := map[v1alpha1.BottleneckType]map[v1alpha1.BottleneckType]int{}
			for is, make1 := range all {
				matrix[is] = map[v1alpha1.BottleneckType]int{}
				for seed := range uint64(perCause) {
					e := make1(dice{rand.New(rand.NewPCG(seed, 5))})
					change(&e)
					said := Diagnose(e, objectiveOf(time.Second))
					matrix[is][said.Type]++
					if ours(said.Type) && !ours(is) {
						t.Errorf("seed %d of %s: Diagnose = %s: %s", seed, is, said.Type, said.Message)
					}
				}
				if right := matrix[is][is]; name == "with metrics" && right < perCause*9/10 {
					t.Errorf("%d of %d cases of %s are told, want nine in ten", right, perCause, is)
				}
			}
			t.Log("\n" + table(matrix))
		})
	}
}

// ours says that flags of ours cure a cause.
func ours(c v1alpha1.BottleneckType) bool {
	return c == v1alpha1.BottleneckClientRateLimit || c == v1alpha1.BottleneckWorkers
}
