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
	// Server are consecutive scrapes of the API server's counters over the window, oldest first. None is fine: then
	// nothing is known of its health, and what depends on it says so.
	Server []ServerSample
	// ServerBefore are those of the ten minutes before the last change of flags, oldest first: what Breached compares
	// with. None without a change, and after a restart of the operator.
	ServerBefore []ServerSample
	// HandOver is how long a change of flags leaves the cluster without a leader. 0: not known, taken for the longest.
	HandOver time.Duration
	// Settings are what else the leader runs with that bears on lag.
	Settings Settings
	// Version of the leader, such as v1.37.2; empty if it is not known.
	Version string
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
	// StaleSyncs is how many syncs of the EndpointSlice controller gave up because its cache did not show its own last
	// write yet (endpoint_slice_controller_syncs{result="stale"}). Each is tried again after 1 s·2ⁿ.
	StaleSyncs int64
	// FailedSyncs is how many of its syncs ended in an error (result="error"). After 15 retries in a row the Service is
	// dropped from the queue.
	FailedSyncs int64
	// Endpoints and EndpointSlices are the work queues of the two controllers.
	Endpoints, EndpointSlices QueueSample
}

// Settings are flags of kube-controller-manager that bear on lag and that the operator never writes.
type Settings struct {
	// SliceBatch and EndpointsBatch are --endpointslice-updates-batch-period and --endpoint-updates-batch-period: how
	// long a change of a Pod waits for others of its Service before a sync.
	SliceBatch, EndpointsBatch time.Duration
	// EndpointsOff says that the Endpoints controller does not run (--controllers=-endpoints-controller).
	EndpointsOff bool
	// ReleaseOnExit says that a kube-controller-manager that ends gives up its leadership at once
	// (ControllerManagerReleaseLeaderElectionLockOnExit).
	ReleaseOnExit bool
}

// ServerSample is one scrape of one API server's counters: totals since ProcessStart. Where there are several API servers,
// samples of different ones may follow each other; ProcessStart tells them apart, and only samples of the same process have
// a meaningful difference. A counter of a kind that the API server does not have is 0 in every sample.
type ServerSample struct {
	Time         time.Time
	ProcessStart time.Time
	// Writes is how many requests it has answered that change one object, and WriteTime how long those took, in all
	// (apiserver_request_duration_seconds over POST, PUT, PATCH, APPLY and DELETE; those that only pretend, dryRun, and
	// CONNECT, which is long-running, are left out).
	Writes    int64
	WriteTime time.Duration
	// WriteBuckets say how many of them took at most Bound, without the time in admission webhooks and in the queues of
	// priority and fairness (apiserver_request_sli_duration_seconds, what Kubernetes' own objective for API calls is held
	// against); with those where an API server does not tell them apart.
	WriteBuckets []Bucket
	// PodWrites and PodWriteTime are the part of Writes that changed Pods, their status included.
	PodWrites    int64
	PodWriteTime time.Duration
	// EndpointWrites and EndpointWriteTime are the part of Writes on Endpoints and EndpointSlices.
	EndpointWrites    int64
	EndpointWriteTime time.Duration
	// Requests is how many requests it has answered, of any kind; Refused how many of those with 429.
	Requests, Refused int64
	// Queued is how many requests of the priority level workload-high wait now, Rejected how many it has rejected, and
	// QueueWait how long those that it has started had waited, in all; QueueWaits is how many that were. It is the level of
	// kube-controller-manager's service accounts.
	Queued, Rejected, QueueWaits int64
	QueueWait                    time.Duration
	// EtcdWrites is how many writes to etcd have ended, and EtcdTime how long they took, in all
	// (etcd_request_duration_seconds over create, update and delete); EtcdBuckets are their histogram.
	EtcdWrites  int64
	EtcdTime    time.Duration
	EtcdBuckets []Bucket
}

// Bucket is one bucket of a cumulative histogram; they are kept by rising Bound.
type Bucket struct {
	// Bound is the longest that counts; the last bucket's is the largest duration there is.
	Bound time.Duration
	Count int64
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
	// Advice is what a person can do and what that would bring; empty where the operator's levers are the cure, and
	// where nothing is wrong.
	Advice string
	// Findings are the causes that were weighed, the one that was named first and the others by weight.
	Findings []Finding
}

// Finding is what speaks for and against one cause.
type Finding struct {
	Cause        v1alpha1.BottleneckType
	For, Against []string
	// Weight from 0 to 1 orders findings. A cause is named only from half on.
	Weight float64
}
