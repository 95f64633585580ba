// Package model holds the operator's model of kube-controller-manager against a real one: it predicts each workload under
// each setting from one recorded run at the default flags, and compares with what an independent observer saw.
package model

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// plan is what is measured. It was fixed before anything was: no setting and no workload was chosen by how well it is
// predicted.
type plan struct {
	settings  []v1alpha1.Flags
	workloads []trial.Workload
	rounds    int
}

// fullPlan is twelve settings by three workloads.
//
// The settings cover where each limit binds: tokens alone (20/30, 50/100), bursts that hide a low rate (50/400, 100/400),
// rates near what five workers do (100/100, 200/200), workers alone (300/325 with 5, 20 and 50), and between them.
// The workloads are those that people ask for: a failure that spreads, everything at once, and rolling updates.
func fullPlan(rounds int) plan {
	return plan{
		settings: []v1alpha1.Flags{
			v1alpha1.DefaultFlags(),
			stage.Flags(20, 30, 50),
			stage.Flags(50, 100, 5),
			stage.Flags(50, 100, 20),
			stage.Flags(50, 400, 50),
			stage.Flags(100, 100, 10),
			stage.Flags(100, 200, 50),
			stage.Flags(100, 400, 50),
			stage.Flags(200, 200, 20),
			stage.Flags(300, 325, 5),
			stage.Flags(300, 325, 20),
			stage.Flags(300, 325, 50),
		},
		workloads: []trial.Workload{trial.Incident(1000), trial.Surge(400), trial.Rolling(400)},
		rounds:    rounds,
	}
}

// quickPlan is a quarter of the Services under four settings: it shows that the benchmark works, and proves nothing.
func quickPlan() plan {
	return plan{
		settings: []v1alpha1.Flags{
			v1alpha1.DefaultFlags(), stage.Flags(100, 200, 50), stage.Flags(300, 325, 5), stage.Flags(300, 325, 50),
		},
		workloads: []trial.Workload{trial.Incident(250), trial.Surge(100), trial.Rolling(100)},
		rounds:    1,
	}
}

// restartTime is how long a change of the setting takes, and overhead what a round takes besides: until the end of it
// has been noticed.
const (
	restartTime = 8 * time.Second
	overhead    = time.Second
)

// estimate is how long a round takes: as long as the Pods take to change, or as the bucket takes to pay for it.
func estimate(w trial.Workload, f v1alpha1.Flags) time.Duration {
	const fastest = 150 // changes per second, writes and all, on two cores
	qps := float64(min(f.KubeAPIQPS, fastest))
	writes := float64(w.Pods())
	if w.PodsPerService > 1 {
		writes *= coalesced
	}
	tokens := trial.Span(max(0, writes-float64(f.KubeAPIBurst)) / qps)
	changing := w.Pace.Over + time.Duration(w.PodsPerService-1)*w.Pace.Step
	return trial.Refill(f) + max(changing, tokens, trial.Span(writes/fastest)) + overhead
}

// coalesced is the share of its changes that a rolling workload writes one by one when tokens are short.
const coalesced = 0.8

// total is how long the whole plan takes, the calibration included.
func (p plan) total() time.Duration {
	sum := p.roundsOf(v1alpha1.DefaultFlags())
	for _, f := range p.settings {
		sum += restartTime + time.Duration(p.rounds)*p.roundsOf(f)
	}
	return sum
}

// roundsOf is how long one round of each workload takes.
func (p plan) roundsOf(f v1alpha1.Flags) time.Duration {
	var sum time.Duration
	for _, w := range p.workloads {
		sum += estimate(w, f)
	}
	return sum
}
