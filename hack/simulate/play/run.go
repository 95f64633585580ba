package play

import (
	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Action is a change of flags that somebody began.
type Action struct {
	// At is when, Since when what it rests on began. Seconds.
	At, Since float64
	From, To  v1alpha1.Flags
	Cause     v1alpha1.BottleneckType
}

// raises says whether some flag goes up.
func (a Action) raises() bool {
	from, to := a.From.List(), a.To.List()
	for i := range to {
		if to[i].Value > from[i].Value {
			return true
		}
	}
	return false
}

// Result is what came of one scene under one pilot.
type Result struct {
	Actions []Action
	// Restarts of kube-controller-manager that they caused.
	Restarts int
	// Lags of all changes, in seconds: the longer of both APIs.
	Lags []float64
	// MeanCost is the cost of the flags over time, LastCost that of the last.
	MeanCost, LastCost float64
	// Last are the flags in the end.
	Last v1alpha1.Flags
	// Broken lists promises that the pilot broke.
	Broken []string
}

// pilot chooses flags.
type pilot interface {
	// look is asked at the times that it returned before, and whenever a node changes. It returns in how many seconds
	// to ask again.
	look(s *stage) (again float64)
}

// stage is a scene being played with a pilot.
type stage struct {
	scene   *Scene
	cluster *cluster.Cluster
	fleet   *fleet
	eyes    *eyes
	samples scrapes
	actions []Action
	broken  []string
}

// quiet is how soon a burst is looked at that ends a quiet time, the operator's own interval in seconds, and burst how much
// must have been seen since the last look to be one.
const quiet, burst = 15, 40

// play plays a scene from the default flags under a pilot.
func play(scene *Scene, p pilot) Result {
	s := &stage{scene: scene, eyes: newEyes(scene)}
	s.cluster = cluster.New(&scene.Truth, Default(), s.eyes)
	s.eyes.cluster = s.cluster
	s.eyes.open()
	s.fleet = newFleet(s.cluster, scene.Seed, Default())
	s.fleet.cost = tuner.Cost
	s.samples = scrapes{senses: scene.Senses}
	for _, crash := range scene.LeaderCrashes {
		s.fleet.plan(crash, s.fleet.crash)
	}
	s.run(p)
	s.fleet.account(scene.End)
	return Result{
		Actions: s.actions, Restarts: s.fleet.restarts, Lags: lags(s.cluster, scene), MeanCost: s.fleet.spent / scene.End,
		LastCost: float64(tuner.Cost(s.fleet.flags)), Last: s.fleet.flags, Broken: s.broken,
	}
}

func (s *stage) run(p pilot) {
	nextLook, nextScrape, seen := 0.0, 0.0, 0
	restarts := s.scene.OperatorRestarts
	for {
		now := min(nextLook, nextScrape)
		event, some := s.fleet.next()
		if some {
			now = min(now, event)
		}
		if len(restarts) > 0 {
			now = min(now, restarts[0])
		}
		if now >= s.scene.End {
			break
		}
		s.cluster.Advance(now)
		if some && event <= now {
			s.fleet.happen(now)
			s.eyes.tracker.SetLeader(*s.fleet.node.Status.Leader, at(now))
			nextLook = now
		}
		if len(restarts) > 0 && restarts[0] <= now {
			restarts = restarts[1:]
			s.forget()
			nextLook = now + operatorAbsence
		}
		if nextScrape <= now {
			s.samples.take(s)
			nextScrape = now + s.scrapeAgain()
			if s.eyes.seen-seen > burst { // What ends a quiet time is looked at as soon as the operator would.
				nextLook = min(nextLook, now+quiet)
			}
		}
		if nextLook <= now {
			seen = s.eyes.seen
			nextLook = now + max(p.look(s), 1)
		}
	}
	s.cluster.Advance(s.scene.End)
}

// operatorAbsence is how long a restarted operator does not look: another replica takes its Lease over.
const operatorAbsence = 15

// forget is a restart of the operator: what is left is what stands in objects.
func (s *stage) forget() {
	s.eyes.open()
	s.eyes.tracker.SetLeader(*s.fleet.node.Status.Leader, at(s.cluster.Now()))
	s.samples = scrapes{senses: s.scene.Senses}
}

// Agents scrape every 2 s while there is work and every 30 s otherwise.
const busyScrape, quietScrape = 2, 30

func (s *stage) scrapeAgain() float64 {
	if s.cluster.Busy() {
		return busyScrape
	}
	return min(quietScrape, max(busyScrape, s.cluster.NextChange()-s.cluster.Now()))
}

// act hands the node new flags.
func (s *stage) act(spec v1alpha1.EndpointSyncNodeSpec, a Action) {
	a.At, a.From = s.cluster.Now(), s.fleet.flags
	a.To = spec.Flags.Or(a.From)
	s.check(a)
	s.actions = append(s.actions, a)
	s.fleet.tell(spec, a.At)
}

// lags are those of all changes at the end.
func lags(c *cluster.Cluster, s *Scene) []float64 {
	out := make([]float64, len(s.Changes))
	for i := range out {
		out[i] = max(c.Lag(cluster.Slices, i), c.Lag(cluster.Endpoints, i))
	}
	return out
}

// blind watches nothing.
type blind struct{}

func (blind) Changed(int32)                  {}
func (blind) Published(cluster.API, []int32) {}

// still plays a scene whose flags never change.
func still(scene *Scene, flags v1alpha1.Flags) Result {
	c := cluster.New(&scene.Truth, flags, blind{})
	crashes := newFleet(c, scene.Seed, flags)
	for _, crash := range scene.LeaderCrashes {
		crashes.plan(crash, crashes.crash)
	}
	for then, some := crashes.next(); some && then < scene.End; then, some = crashes.next() {
		c.Advance(then)
		crashes.happen(then)
	}
	c.Advance(scene.End)
	cost := float64(tuner.Cost(flags))
	return Result{Lags: lags(c, scene), MeanCost: cost, LastCost: cost, Last: flags}
}
