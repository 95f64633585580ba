package e2e

import (
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/intruder"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/story"
)

// Result is what a run measured, as out/e2e/result.json has it. A figure of a stage that was not run is absent.
type Result struct {
	KubernetesVersion string  `json:"kubernetesVersion"`
	Nodes             int     `json:"nodes"`
	UpSeconds         float64 `json:"upSeconds,omitempty"`
	TotalSeconds      float64 `json:"totalSeconds"`

	// Handovers are changes of kube-controller-manager's leader during the rollout at the default feature gates, and
	// LeaderlessSeconds the longest time from the old leader's last renewal, or its giving the Lease up, to the new one's first.
	Handovers         int     `json:"handovers"`
	LeaderlessSeconds float64 `json:"leaderlessSeconds"`
	// Order is in which the nodes were changed; the leader is the last.
	Order []string `json:"order,omitempty"`
	// LeaderlessSecondsReleasing is the same with ControllerManagerReleaseLeaderElectionLockOnExit on every node.
	HandoversReleasing         int     `json:"handoversReleasing,omitempty"`
	LeaderlessSecondsReleasing float64 `json:"leaderlessSecondsReleasing,omitempty"`

	Before *Incident `json:"before,omitempty"`
	After  *Incident `json:"after,omitempty"`
	// PredictedLag is what the operator expected of the flags that it rolled out.
	PredictedLag string `json:"predictedLag,omitempty"`
	Story        Story  `json:"story"`

	// RollbackSeconds are from a manifest with flags that kube-controller-manager refuses until the old one runs healthy.
	RollbackSeconds []float64 `json:"rollbackSeconds,omitempty"`
	ForbiddenCalls  *Calls    `json:"forbiddenCalls,omitempty"`
	// TwoControllers is in how many rollouts two controllers both acted, and how often two nodes were in flight then.
	TwoControllers *TwoControllers `json:"twoControllers,omitempty"`
	// ReapplySeconds is from kubeadm's rewriting a manifest until the node runs our flags again.
	ReapplySeconds float64 `json:"reapplySeconds,omitempty"`

	// Missed are the figures that are not as wanted. With any, the run fails after all its stages, unless they are only to
	// be reported.
	Missed []string `json:"missed,omitempty"`
}

// Incident is the lag of one incident in p99 seconds, as the observer saw it, with the flags that ran.
type Incident struct {
	Flags            string  `json:"flags"`
	Changes          int     `json:"changes"`
	EndpointSliceP99 float64 `json:"endpointSliceP99Seconds"`
	EndpointsP99     float64 `json:"endpointsP99Seconds"`
	ObjectiveMet     string  `json:"objectiveMet"`
	OperatorP99      string  `json:"operatorP99,omitempty"`
}

// Story is what users of a Service saw of a rollout of its Pods beside the incident.
type Story struct {
	Before           *Traffic `json:"before,omitempty"`
	After            *Traffic `json:"after,omitempty"`
	AfterWithPreStop *Traffic `json:"afterWithPreStop,omitempty"`
	// PreStopSeconds is the sleep that measure recommended.
	PreStopSeconds int `json:"preStopSeconds,omitempty"`
}

// Traffic is the part of a drive that is quoted.
type Traffic struct {
	Attempts            int     `json:"attempts"`
	FailedPercent       float64 `json:"failedPercent"`
	SecondsWithFailures int     `json:"secondsWithFailures"`
	Failed              int     `json:"failed"`
	Skipped             int     `json:"skipped"`
	// Failures counts those that failed by kind, and Examples has the first error of each.
	Failures map[story.Failure]int    `json:"failures,omitempty"`
	Examples map[story.Failure]string `json:"examples,omitempty"`
}

// Calls are those with a stolen token that had to be refused.
type Calls struct {
	Tried   int `json:"tried"`
	Allowed int `json:"allowed"`
}

// TwoControllers is what came of running two that both believe they lead.
type TwoControllers struct {
	Rollouts      int `json:"rollouts"`
	MostInFlight  int `json:"mostInFlight"`
	LeaderNotLast int `json:"leaderNotLast"`
}

func trafficOf(t story.Traffic) *Traffic {
	return &Traffic{
		Attempts: t.Attempts, FailedPercent: t.FailedPercent, SecondsWithFailures: t.SecondsWithFailures,
		Failed: t.Failed, Skipped: t.Skipped, Failures: t.Failures, Examples: t.Examples,
	}
}

func callsOf(r intruder.Result) *Calls { return &Calls{Tried: r.Tried, Allowed: len(r.Allowed)} }

func incidentOf(r observer.Result) *Incident {
	return &Incident{
		Changes: r.EndpointSlice.Changes, EndpointSliceP99: r.EndpointSlice.P99.Seconds(), EndpointsP99: r.Endpoints.P99.Seconds(),
	}
}
