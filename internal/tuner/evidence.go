package tuner

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// LeaderState says whether a kube-controller-manager was acting.
type LeaderState int

// The leader states. LeaderUnknown is the zero value: what was not resolved is not assumed.
const (
	LeaderUnknown LeaderState = iota
	Led
	Leaderless
)

// Evidence is what Diagnose and Decide rest on.
type Evidence struct {
	// Now is the instant at which the evidence was taken. Open changes are as old as that.
	Now time.Time
	// Flags of the running leader. The zero value means that they could not be read.
	Flags v1alpha1.Flags
	// Leader says whether one was acting.
	Leader LeaderState
	// Signals are consecutive scrapes of the leader's counters over the window, oldest first. None is fine: the
	// demand alone is enough for most verdicts, and Diagnose says when it had to do without.
	Signals []Sample
	// Lag is what the objective is held against.
	Lag lag.Summary
	// Demand is what the model replays.
	Demand lag.Demand
}

// Sample is one scrape of the leader's counters: totals since ProcessStart, so that two samples of the same process
// have a meaningful difference and two of different processes have none.
type Sample struct {
	Time         time.Time
	ProcessStart time.Time
	// Writes is how many mutating requests the process has sent, over all its controllers.
	Writes int64
	// LimiterWait is how long those writes waited for client-side rate limiters, in all.
	LimiterWait time.Duration
	// RequestTime is how long those writes took, in all. It includes LimiterWait.
	RequestTime time.Duration
	// Endpoints and EndpointSlices are the work queues of the two controllers.
	Endpoints, EndpointSlices QueueSample
}

// QueueSample is one work queue's counters at a scrape.
type QueueSample struct {
	// Depth is how many keys wait now.
	Depth int64
	// Syncs is how many keys were worked off.
	Syncs int64
	// Wait is how long keys waited in the queue, in all.
	Wait time.Duration
	// Work is how long workers were busy, in all. It includes waits for the limiter.
	Work time.Duration
}

// Objective is what the lag is held against.
type Objective struct {
	// Percentile of the changes that must be visible within MaxLag, as a fraction: 0.99.
	Percentile float64
	// MaxLag is the longest lag allowed at that percentile.
	MaxLag time.Duration
	// MinSamples is how many changes must have been seen before anything is decided.
	MinSamples int
}

// Bottleneck is what limits the endpoint controllers, with the evidence for a person.
type Bottleneck struct {
	Type    v1alpha1.BottleneckType
	Message string
}
