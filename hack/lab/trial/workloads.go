// Package trial plays workloads under flags on a real control plane and records of each round what an independent
// observer saw and what the operator would have known: demand, and the counters of kube-controller-manager and of the API
// server. It predicts and judges nothing.
package trial

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

// Workload is one kind of incident, in a namespace of its own.
type Workload struct {
	Name string
	// Services and PodsPerService are its size; every Pod changes once in a round.
	Services, PodsPerService int
	Pace                     workload.Pace
}

// Pods is how many change in a round.
func (w Workload) Pods() int { return w.Services * w.PodsPerService }

// incidentRate is at how many Services per second an incident spreads: 1,000 within five seconds.
const incidentRate = 200

// Incident is a failure that reaches one Service after another, 200 a second: the pace does not depend on how fast the
// API server is.
func Incident(services int) Workload {
	return Workload{
		Name: "incident", Services: services, PodsPerService: 1,
		Pace: workload.Pace{Over: time.Duration(services) * time.Second / incidentRate},
	}
}

// Surge changes everything as fast as the API server takes it, as kubelets do that come back together: the writers wait
// for the API server, which the endpoint controllers load as well.
func Surge(services int) Workload {
	return Workload{Name: "surge", Services: services, PodsPerService: 1}
}

// Rolling is many rolling updates at once, which begin 25 ms apart: Pods of a Service come and go one after another, half
// a second apart, so that a controller that is behind takes several changes of a Service in one write.
func Rolling(services int) Workload {
	const pods, step = 4, 500 * time.Millisecond
	return Workload{
		Name: "rolling", Services: services, PodsPerService: pods,
		Pace: workload.Pace{Over: time.Duration(services) * 25 * time.Millisecond, Step: step},
	}
}
