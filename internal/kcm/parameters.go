package kcm

import "time"

// API indexes what is kept per controller.
type API int

// The APIs, each with a controller of its own.
const (
	EndpointSlices API = iota
	Endpoints
	APIs
)

// Parameters are what the model must know of the cluster, besides its demand and its flags. The zero value is a cluster
// in which a write takes no time.
type Parameters struct {
	// Base is how long one write takes when the API server has nothing else to do.
	Base time.Duration
	// Capacity is how many writes of endpoint controllers per second the API server takes at most; a change of a Pod counts
	// PodWork. 0 means that it never binds.
	Capacity float64
	// PodWork is the work of a write that changes a Pod, relative to one of an endpoint controller; 0 means DefaultPodWork.
	PodWork float64
	// Delay is what every change takes besides its write: watches on the way in and on the way out, and the sync itself.
	Delay time.Duration
	// PodLatency is how long the write took that changed a Pod, in the recording.
	PodLatency time.Duration
	// Writers is how many clients changed Pods in the recording, if they were waiting for the API server: then they will
	// be slowed down by what else it has to do. 0 means that Pods change at their own pace.
	Writers int
	// Writes is how many requests a sync sends that has something to publish, on average: one after the other, each with
	// a token of its own. 0 means 1. An EndpointSlice sync of a dual-stack Service sends 2.
	Writes [APIs]float64
	// Batch is how long a change of a Pod waits for others of its Service (--endpointslice-updates-batch-period,
	// --endpoint-updates-batch-period).
	Batch [APIs]time.Duration
	// PodQueue is how long a worker of the Pod queue takes to find a Pod's Services. There are as many as of the work queue.
	PodQueue time.Duration
	// CacheDelay is how long after a write the controller's own cache shows it. A sync of the same Service that starts
	// sooner fails as stale and is tried again later. 0 means that no sync is stale.
	CacheDelay time.Duration
	// EndpointsOff says that the Endpoints controller does not run.
	EndpointsOff bool
}

// DefaultPodWork is the work of a write that changes a Pod's status where it was not measured, relative to one of an
// endpoint controller, which is of a whole object and has to be built first. The value fits runs of the incident on a
// real control plane with 5, 20 and 50 workers.
const DefaultPodWork = 0.5

func (p Parameters) podWork() float64 {
	if p.PodWork > 0 {
		return p.PodWork
	}
	return DefaultPodWork
}

func (p Parameters) writes(in API) float64 {
	if p.Writes[in] > 0 {
		return p.Writes[in]
	}
	return 1
}
