// Package play lets the operator's own code, and others, choose flags for simulated clusters, and measures what comes of
// it.
package play

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Scene is one cluster with its history, before anybody touches its flags.
type Scene struct {
	cluster.Truth

	// MaxLag is the objective, for 99 % of the changes of ten minutes.
	MaxLag time.Duration
	// OperatorRestarts are when the operator's process ends and starts anew, LeaderCrashes when kube-controller-manager's
	// does by itself. Seconds.
	OperatorRestarts, LeaderCrashes []float64
	// Senses are what becomes of metrics on the way to the operator.
	Senses Senses
}

// Senses are what the operator can read.
type Senses int

// The senses.
const (
	Honest       Senses = iota
	NoMetrics           // neither kube-controller-manager nor the API server can be scraped
	NoServer            // the API server cannot be scraped
	Frozen              // kube-controller-manager's counters stand still
	NoLimiter           // the wait for the rate limiter reads 0
	WildCounters        // counters jump
	sensesCount
)

// start is the time that a scene's second 0 has; any would do.
var start = time.Unix(1_800_000_000, 0).UTC()

// at turns a scene's seconds into a time.
func at(seconds float64) time.Time { return start.Add(duration(seconds)) }

// duration is to the microsecond.
func duration(seconds float64) time.Duration { return time.Duration(seconds*1e6) * time.Microsecond }

// Default are the flags that every scene starts with.
func Default() v1alpha1.Flags { return v1alpha1.DefaultFlags() }

// Flags returns all four flags, with as many workers for either controller.
func Flags(qps, burst, workers int32) v1alpha1.Flags {
	return v1alpha1.Flags{
		KubeAPIQPS: qps, KubeAPIBurst: burst,
		ConcurrentEndpointSyncs: workers, ConcurrentServiceEndpointSyncs: workers,
	}
}

// The bounds of all who choose flags.
const (
	minQPS, maxQPS         = 20, 500
	minBurst, maxBurst     = 30, 1000
	minWorkers, maxWorkers = 5, 50
)

func bounds() v1alpha1.Bounds {
	return v1alpha1.Bounds{
		KubeAPIQPS:                     v1alpha1.QPSBound{Min: minQPS, Max: maxQPS},
		KubeAPIBurst:                   v1alpha1.BurstBound{Min: minBurst, Max: maxBurst},
		ConcurrentEndpointSyncs:        v1alpha1.WorkersBound{Min: minWorkers, Max: maxWorkers},
		ConcurrentServiceEndpointSyncs: v1alpha1.WorkersBound{Min: minWorkers, Max: maxWorkers},
	}
}

// percentile of the objective, and the window and the least number of changes that it is judged by.
const (
	percentile    = 99
	windowSeconds = 600
	minSamples    = v1alpha1.DefaultMinSamples
)

func (s *Scene) objective() tuner.Objective {
	return tuner.Objective{Percentile: percentile / 100.0, MaxLag: s.MaxLag, MinSamples: minSamples}
}

// policy is what the operator is asked for.
func (s *Scene) policy() v1alpha1.EndpointSyncPolicy {
	var p v1alpha1.EndpointSyncPolicy
	p.Name, p.Generation = policyName, 1
	p.Spec = v1alpha1.EndpointSyncPolicySpec{
		Mode: v1alpha1.ModeEnforce, Bounds: bounds(),
		Objective: v1alpha1.Objective{MaxLag: v1alpha1.DurationOf(s.MaxLag)},
		Rollout:   v1alpha1.Rollout{Relax: v1alpha1.RelaxAfterQuiet},
	}.WithDefaults()
	return p
}

const policyName = "default"
