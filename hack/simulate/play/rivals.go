package play

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// rule is a way to choose flags that people use: it looks at the lag alone, and keeps the same cooldown.
type rule struct {
	// missed returns the flags to run after an objective that is missed, met those after an hour in which it was met.
	missed, met func(v1alpha1.Flags) v1alpha1.Flags
	last        float64 // change, or step down
	metSince    float64
}

// quietHour is how long the objective must have been met for a step down.
const quietHour = 3600

func (r *rule) look(s *stage) float64 {
	now := s.cluster.Now()
	if s.fleet.node.Status.Phase != v1alpha1.PhaseIdle || !s.fleet.led {
		r.metSince = now
		return rolling
	}
	begin := max(now-windowSeconds, r.last)
	summary := s.eyes.tracker.Summary(lag.Query{Now: at(now), Since: at(begin)})
	to := s.fleet.flags
	switch outcome := tuner.Verdict(summary, s.scene.objective()).Outcome; {
	case outcome == tuner.Missed && summary.Stat(lag.ResourceEndpointSlice, lag.DirectionAny).Samples() >= minSamples:
		to, r.metSince = r.missed(to), now
	case outcome == tuner.Missed:
		r.metSince = now
	case r.met != nil && now-r.metSince >= quietHour:
		to, r.metSince = r.met(to), now
	}
	if to == s.fleet.flags || (r.last > 0 && now-r.last < cooldown) {
		return quiet
	}
	r.last = now
	spec := s.fleet.node.Spec
	spec.Action, spec.Flags, spec.Revision = v1alpha1.ActionApply, to, new(*spec.Revision+1)
	s.act(spec, Action{Since: begin})
	return quiet
}

// doubling doubles everything on a miss.
func doubling() *rule {
	return &rule{missed: func(f v1alpha1.Flags) v1alpha1.Flags {
		return capped(v1alpha1.Flags{
			KubeAPIQPS: 2 * f.KubeAPIQPS, KubeAPIBurst: 2 * f.KubeAPIBurst,
			ConcurrentEndpointSyncs:        2 * f.ConcurrentEndpointSyncs,
			ConcurrentServiceEndpointSyncs: 2 * f.ConcurrentServiceEndpointSyncs,
		})
	}}
}

// aimd adds on a miss, and takes a fifth away after an hour without one.
func aimd() *rule {
	return &rule{
		missed: func(f v1alpha1.Flags) v1alpha1.Flags {
			return capped(v1alpha1.Flags{
				KubeAPIQPS: f.KubeAPIQPS + 50, KubeAPIBurst: f.KubeAPIBurst + 75,
				ConcurrentEndpointSyncs:        f.ConcurrentEndpointSyncs + 5,
				ConcurrentServiceEndpointSyncs: f.ConcurrentServiceEndpointSyncs + 5,
			})
		},
		met: func(f v1alpha1.Flags) v1alpha1.Flags {
			return capped(v1alpha1.Flags{
				KubeAPIQPS: f.KubeAPIQPS * 4 / 5, KubeAPIBurst: f.KubeAPIBurst * 4 / 5,
				ConcurrentEndpointSyncs:        f.ConcurrentEndpointSyncs * 4 / 5,
				ConcurrentServiceEndpointSyncs: f.ConcurrentServiceEndpointSyncs * 4 / 5,
			})
		},
	}
}

func capped(f v1alpha1.Flags) v1alpha1.Flags {
	clamp := func(v, low, high int32) int32 { return min(max(v, low), high) }
	return v1alpha1.Flags{
		KubeAPIQPS:                     clamp(f.KubeAPIQPS, minQPS, maxQPS),
		KubeAPIBurst:                   clamp(f.KubeAPIBurst, minBurst, maxBurst),
		ConcurrentEndpointSyncs:        clamp(f.ConcurrentEndpointSyncs, minWorkers, maxWorkers),
		ConcurrentServiceEndpointSyncs: clamp(f.ConcurrentServiceEndpointSyncs, minWorkers, maxWorkers),
	}
}

// batching500 is what kOps' scale jobs run besides 500/500.
const batching500 = 500 * time.Millisecond

// Static is a setting that people run, with the batch period that goes with it.
type Static struct {
	Name  string
	Flags v1alpha1.Flags
	Batch time.Duration
}

// Statics are the settings that people run. 20/30 comes first: it is what every scene starts with.
func Statics() []Static {
	return []Static{
		{Name: "20/30", Flags: Default()},
		{Name: "100/100", Flags: Flags(100, 100, 5)},
		{Name: "150/300", Flags: Flags(150, 300, 5)},
		{Name: "300/325", Flags: Flags(300, 325, 5)},
		{Name: "300/325 w50", Flags: Flags(300, 325, 50)},
		{Name: "500/500 b500ms", Flags: Flags(500, 500, 50), Batch: batching500},
	}
}

// under is the scene as it is with the batch period of a setting.
func (s Static) under(scene *Scene) *Scene {
	if s.Batch == 0 {
		return scene
	}
	other := *scene
	other.SliceBatch = max(other.SliceBatch, s.Batch.Seconds())
	other.EndpointsBatch = max(other.EndpointsBatch, s.Batch.Seconds())
	return &other
}
