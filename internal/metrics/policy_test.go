package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

const (
	objectiveHead = "# HELP endpointsync_policy_objective_seconds " + helpObjective + `
# TYPE endpointsync_policy_objective_seconds gauge
endpointsync_policy_objective_seconds{policy="default"} 2.5
`
	metHead = "# HELP endpointsync_policy_objective_met " + helpMet + `
# TYPE endpointsync_policy_objective_met gauge
`
	flagHead = "# HELP endpointsync_policy_flag " + helpFlag + `
# TYPE endpointsync_policy_flag gauge
`
)

func TestPolicies(t *testing.T) {
	told := func(outcome tuner.Outcome) Policy {
		return Policy{MaxLag: 2500 * time.Millisecond, Outcome: outcome, Running: v1alpha1.Flags{KubeAPIQPS: 20}}
	}
	const running = flagHead + `endpointsync_policy_flag{flag="kube-api-qps",policy="default",setting="running"} 20
`
	tests := map[string]struct {
		play func(*Set)
		want string
	}{
		"a met objective": {
			func(s *Set) { s.SetPolicy("default", told(tuner.Met)) },
			objectiveHead + metHead + "endpointsync_policy_objective_met{policy=\"default\"} 1\n" + running,
		},
		"a missed objective": {
			func(s *Set) { s.SetPolicy("default", told(tuner.Missed)) },
			objectiveHead + metHead + "endpointsync_policy_objective_met{policy=\"default\"} 0\n" + running,
		},
		"too few changes to tell any more": {
			func(s *Set) {
				s.SetPolicy("default", told(tuner.Missed))
				s.SetPolicy("default", told(tuner.Inconclusive))
			},
			objectiveHead + running,
		},
		"flags that are not known any more, and a recommendation": {
			func(s *Set) {
				s.SetPolicy("default", told(tuner.Inconclusive))
				p := told(tuner.Inconclusive)
				p.Running, p.Recommended = v1alpha1.Flags{}, v1alpha1.Flags{KubeAPIBurst: 700, ConcurrentEndpointSyncs: 9}
				s.SetPolicy("default", p)
			},
			objectiveHead + flagHead + `endpointsync_policy_flag{flag="concurrent-endpoint-syncs",policy="default",setting="recommended"} 9
endpointsync_policy_flag{flag="kube-api-burst",policy="default",setting="recommended"} 700
`,
		},
		"one of two that is deleted": {
			func(s *Set) {
				s.SetPolicy("other", told(tuner.Met))
				s.SetPolicy("default", told(tuner.Inconclusive))
				s.DeletePolicy("other")
			},
			objectiveHead + running,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			test.play(s.set)
			err := testutil.GatherAndCompare(s.registry, strings.NewReader(test.want),
				"endpointsync_policy_objective_seconds", "endpointsync_policy_objective_met", "endpointsync_policy_flag")
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatAChangeWasToBringAndBrought(t *testing.T) {
	const predicted = "# HELP endpointsync_predicted_lag_seconds " + helpPredicted + `
# TYPE endpointsync_predicted_lag_seconds gauge
endpointsync_predicted_lag_seconds{policy="default"} 1.5
`
	const achieved = "# HELP endpointsync_achieved_lag_seconds " + helpAchieved + `
# TYPE endpointsync_achieved_lag_seconds gauge
endpointsync_achieved_lag_seconds{policy="default"} 1.25
`
	s := newStage(t)
	for _, step := range []struct {
		told Policy
		want string
	}{
		{Policy{PredictedLag: 1500 * time.Millisecond, AchievedLag: 1250 * time.Millisecond}, achieved + predicted},
		{Policy{PredictedLag: 1500 * time.Millisecond}, predicted},
		{Policy{}, ""},
	} {
		s.set.SetPolicy("default", step.told)
		err := testutil.GatherAndCompare(s.registry, strings.NewReader(step.want),
			"endpointsync_predicted_lag_seconds", "endpointsync_achieved_lag_seconds")
		if err != nil {
			t.Error(err)
		}
	}
}
