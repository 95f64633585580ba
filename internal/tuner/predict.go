package tuner

import (
	"cmp"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Parameters are those of the model.
type Parameters = kcm.Parameters

// Spread is the lag of all changes in one API, both directions.
type Spread struct {
	P50, P90, P99, Max time.Duration
}

// Prediction is what the model gives for recorded demand.
type Prediction struct {
	EndpointSlices, Endpoints Spread
}

// Predict replays the demand under the flags, all four of which must be set, from full buckets until everything is
// published, and returns the lag that the model gives. Changes that overlap a hand-over or stood at the start of the
// recording are left out.
func Predict(d lag.Demand, f v1alpha1.Flags, p Parameters) Prediction {
	r := newReplay(d, p, d.Start)
	r.run(f)
	return Prediction{EndpointSlices: r.spread(kcm.EndpointSlices), Endpoints: r.spread(kcm.Endpoints)}
}

// Point is one point of the curve that trades QPS against lag.
type Point struct {
	// Flags, all four.
	Flags v1alpha1.Flags
	// Prediction under Flags.
	Prediction Prediction
	// Worst is the lag at the objective's percentile in the worst row.
	Worst time.Duration
	// Cost of Flags, and how much that is more than the running flags cost; see Cost.
	Cost, Added int64
	// Current marks the running flags.
	Current bool
	// Chosen marks the setting that the decision acts on, InView the one that it holds and would have acted on.
	Chosen, InView bool
	// Uncapped marks what the decision would be without the policy's bounds, where that is another setting.
	Uncapped bool
}

// Curve is what the recorded demand would have met under the cheapest setting for each QPS from 5 to its bound: the one
// with the least burst and the fewest workers that meets the objective with Decide's margins, or is as good as any at
// that QPS. Flags without a bound stay as they run. The running flags are in it, and those of the decision, which must
// be Decide's for the same inputs: in the place of the curve's own point at their QPS where they are of another setting.
// Points are in order of QPS, then of cost. Without all four running flags, and without changes, there is no curve.
func Curve(in Inputs, d Decision) []Point {
	e := in.Evidence
	if !complete(e.Flags) || len(e.Demand.Changes) == 0 {
		return nil
	}
	c := newCurve(in)
	within := spaceWithin(learned(in), e.Flags)
	for _, qps := range steps(min(5, within.high.KubeAPIQPS), within.high.KubeAPIQPS) {
		c.add(c.cheapest(within.at(qps, e.Flags)).flags)
	}
	c.current(e.Flags)
	c.decided(d, e.Flags)
	slices.SortStableFunc(c.points, func(a, b Point) int {
		return cmp.Or(cmp.Compare(a.Flags.KubeAPIQPS, b.Flags.KubeAPIQPS), cmp.Compare(a.Cost, b.Cost))
	})
	return c.points
}

// at is the space at one QPS: below the running one, burst may be lower than it runs, too. A burst that takes longer to
// come back than refillSeconds is left out, unless it runs or is asked for.
func (s space) at(qps int32, running v1alpha1.Flags) space {
	s.low.KubeAPIQPS, s.high.KubeAPIQPS = qps, qps
	if qps < running.KubeAPIQPS {
		s.low.KubeAPIBurst = min(s.low.KubeAPIBurst, max(v1alpha1.DefaultFlags().KubeAPIBurst, qps))
	}
	s.high.KubeAPIBurst = max(s.low.KubeAPIBurst, min(s.high.KubeAPIBurst, refillSeconds*qps))
	return s
}

// curve gathers points: one calibration and one replay for all of them.
type curve struct {
	sizing
	points  []Point
	running int64 // cost
}

// newCurve sizes as Decide does.
func newCurve(in Inputs) *curve {
	e := in.Evidence
	s := newSizing(e, Calibrate(e).Parameters, in.Objective)
	s = s.varied(s.chance())
	if fellShort(in) {
		s = s.varied(variation)
	}
	return &curve{sizing: s, running: Cost(e.Flags)}
}

// add appends the point of the run before, which must be one under these flags, and returns it.
func (c *curve) add(f v1alpha1.Flags) *Point {
	c.points = append(c.points, Point{
		Flags: f, Prediction: Prediction{EndpointSlices: c.all.spread(kcm.EndpointSlices), Endpoints: c.all.spread(kcm.Endpoints)},
		Worst: seconds(c.all.worst(c.percentile)), Cost: Cost(f), Added: Cost(f) - c.running,
	})
	return &c.points[len(c.points)-1]
}

// point is the one of these flags, which is added if it is not there.
func (c *curve) point(f v1alpha1.Flags) *Point {
	if i := slices.IndexFunc(c.points, func(p Point) bool { return p.Flags == f }); i >= 0 {
		return &c.points[i]
	}
	c.all.run(f)
	return c.add(f)
}

func (c *curve) current(running v1alpha1.Flags) { c.point(running).Current = true }

// decided marks the decision's setting, which takes the place of the curve's own at that QPS, and what it would be
// without bounds.
func (c *curve) decided(d Decision, running v1alpha1.Flags) {
	if d.Flags == (v1alpha1.Flags{}) {
		c.unbounded(d.Uncapped, v1alpha1.Flags{})
		return
	}
	chosen := d.Flags.Or(running)
	c.points = slices.DeleteFunc(c.points, func(p Point) bool {
		return p.Flags.KubeAPIQPS == chosen.KubeAPIQPS && p.Flags != chosen && !p.Current
	})
	p := c.point(chosen)
	p.Chosen, p.InView = d.Act, !d.Act
	c.unbounded(d.Uncapped, chosen)
}

func (c *curve) unbounded(uncapped, chosen v1alpha1.Flags) {
	if uncapped != (v1alpha1.Flags{}) && uncapped != chosen {
		c.point(uncapped).Uncapped = true
	}
}
