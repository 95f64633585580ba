package tuner

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

var start = time.Unix(1_700_000_000, 0)

func flagsOf(qps, burst, endpointSyncs, sliceSyncs int32) v1alpha1.Flags {
	return v1alpha1.Flags{
		KubeAPIQPS: qps, KubeAPIBurst: burst,
		ConcurrentEndpointSyncs: endpointSyncs, ConcurrentServiceEndpointSyncs: sliceSyncs,
	}
}

func boundsTo(qps, burst, workers int32) v1alpha1.Bounds {
	return v1alpha1.Bounds{
		KubeAPIQPS:                     v1alpha1.QPSBound{Min: 5, Max: qps},
		KubeAPIBurst:                   v1alpha1.BurstBound{Min: 10, Max: burst},
		ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: 1, Max: workers},
		ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: 1, Max: workers},
	}
}

// incident is n Services with one Pod each, all of which change over the given time.
func incident(n int, over time.Duration) lag.Demand {
	d := lag.Demand{Start: start}
	for i := range n {
		d.Changes = append(d.Changes, lag.Change{
			At: over * time.Duration(i) / time.Duration(n), Service: int32(i), Direction: lag.DirectionRemoval,
			SliceClass: lag.Closed, EndpointsClass: lag.Closed,
		})
	}
	return d
}

// scattered is n changes of so many Services at random times.
func scattered(seed uint64, n, services int, over time.Duration) lag.Demand {
	random := rand.New(rand.NewPCG(seed, 0))
	d := incident(n, over)
	for i := range d.Changes {
		d.Changes[i].At = time.Duration(random.Int64N(int64(over)))
		d.Changes[i].Service = int32(random.IntN(services))
		if random.IntN(2) == 0 {
			d.Changes[i].Direction = lag.DirectionAddition
		}
	}
	slices.SortFunc(d.Changes, func(a, b lag.Change) int { return int(a.At - b.At) })
	return d
}

// world is a simulated cluster: what is true of it, and what it is asked.
type world struct {
	demand lag.Demand
	flags  v1alpha1.Flags
	truth  Parameters
	// until is when the evidence is taken; zero means when everything is published.
	until time.Duration
	// scrape is the period of the signals; zero means none.
	scrape time.Duration
	// leader is Led unless said otherwise.
	leader LeaderState
}

// evidence runs the world and returns what the operator would see.
func (w world) evidence() Evidence {
	r := newReplay(w.demand, w.truth, start)
	e := Evidence{Flags: w.flags, Leader: cmp.Or(w.leader, Led)}
	e.Settings.SliceBatch, e.Settings.EndpointsBatch = w.truth.Batch[kcm.EndpointSlices], w.truth.Batch[kcm.Endpoints]
	r.run(w.flags)
	end := r.sim.Now()
	r.sim.Start(&r.trace, w.flags, w.truth)
	for at := -1.0; w.scrape > 0 && at < end; at += w.scrape.Seconds() {
		r.sim.Until(at)
		e.Signals = append(e.Signals, sampleOf(&r.sim))
	}
	r.sim.Run()
	if w.until == 0 {
		w.until = seconds(r.sim.Now()) + time.Second
	}
	e.Signals = append(e.Signals, sampleOf(&r.sim))
	e.Signals = slices.DeleteFunc(e.Signals, func(s Sample) bool { return w.scrape == 0 || s.Time.After(start.Add(w.until)) })
	e.Now = start.Add(w.until)
	e.Demand = lag.Demand{Start: start}
	for i, c := range w.demand.Changes {
		if c.At = seconds(r.sim.Changed()[i]); c.At > w.until {
			continue
		}
		c.SliceClass, c.SliceLag = w.outcome(c.At, r.sim.Lags(kcm.EndpointSlices)[i])
		c.EndpointsClass, c.EndpointsLag = w.outcome(c.At, r.sim.Lags(kcm.Endpoints)[i])
		e.Demand.Changes = append(e.Demand.Changes, c)
	}
	e.Lag = summaryOf(e.Demand)
	return e
}

// sampleOf is what a scrape of kube-controller-manager's metrics would show now.
func sampleOf(s *kcm.Simulation) Sample {
	out := Sample{Time: start.Add(seconds(s.Now())), ProcessStart: start}
	for in, q := range [kcm.APIs]*QueueSample{kcm.EndpointSlices: &out.EndpointSlices, kcm.Endpoints: &out.Endpoints} {
		t := s.Totals(kcm.API(in))
		*q = QueueSample{Depth: int64(s.Depth(kcm.API(in))), Syncs: t.Syncs, Wait: seconds(t.Waited), Work: seconds(t.Worked)}
		if kcm.API(in) == kcm.EndpointSlices {
			out.StaleSyncs = t.Stale
		}
		out.Writes += t.Writes
		out.LimiterWait += seconds(t.Limited)
		out.RequestTime += seconds(t.Limited + t.Wrote)
	}
	return out
}

func (w world) outcome(at time.Duration, late float64) (lag.Class, time.Duration) {
	if age := w.until - at; seconds(late) > age {
		return lag.Open, age
	}
	return lag.Closed, seconds(late)
}

// summaryOf counts demand as package lag does.
func summaryOf(d lag.Demand) lag.Summary {
	var out lag.Summary
	for _, in := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		for _, direction := range []lag.Direction{lag.DirectionAny, lag.DirectionAddition, lag.DirectionRemoval} {
			out.Stats = append(out.Stats, statOf(d, in, direction))
		}
	}
	return out
}

func statOf(d lag.Demand, in lag.Resource, direction lag.Direction) lag.Stat {
	stat := lag.Stat{Resource: in, Direction: direction}
	var quantiles []lag.Quantile
	for _, c := range d.Changes {
		class, late := c.SliceClass, c.SliceLag
		if in == lag.ResourceEndpoints {
			class, late = c.EndpointsClass, c.EndpointsLag
		}
		if direction != lag.DirectionAny && direction != c.Direction {
			continue
		}
		stat.Changes++
		if class == lag.Open {
			stat.Open++
			stat.OldestOpen = max(stat.OldestOpen, late)
		} else {
			stat.Closed++
		}
		quantiles = append(quantiles, lag.Quantile{Value: late, LowerBound: class == lag.Open})
	}
	if len(quantiles) == 0 {
		return stat
	}
	slices.SortFunc(quantiles, func(a, b lag.Quantile) int { return int(a.Value - b.Value) })
	at := func(p float64) lag.Quantile { return quantiles[max(1, rank(p, len(quantiles)))-1] }
	stat.P50, stat.P90, stat.P99, stat.Max = at(0.5), at(0.9), at(0.99), at(1)
	return stat
}

func objectiveOf(maxLag time.Duration) Objective {
	return Objective{Percentile: 0.99, MaxLag: maxLag, MinSamples: 300}
}
