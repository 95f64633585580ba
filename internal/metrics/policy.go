package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Where a flag's value is from.
const (
	settingRunning     = "running"
	settingRecommended = "recommended"
)

// Policy is what is told of one policy. Only the leader of the operator's replicas knows it.
type Policy struct {
	// MaxLag is the objective; Outcome says whether it is met.
	MaxLag  time.Duration
	Outcome tuner.Outcome
	// Running are the flags of the kube-controller-manager that leads, and Recommended those that would have met the
	// objective. A zero field is not told.
	Running, Recommended v1alpha1.Flags
	// PredictedLag is the model's for the last change of flags, AchievedLag what was measured after it, each at the
	// objective's percentile. Zero is not told.
	PredictedLag, AchievedLag time.Duration
	// Standing is how the API server stands against the policy's guardrails.
	Standing tuner.Standing
}

// policies are the figures of each policy, by its name.
type policies struct {
	objective, met, flags, guardrail, predicted, achieved *prometheus.GaugeVec
}

func newPolicies() policies {
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	return policies{
		objective: gauges("policy_objective_seconds", helpObjective, labelPolicy),
		met:       gauges("policy_objective_met", helpMet, labelPolicy),
		flags:     gauges("policy_flag", helpFlag, labelPolicy, labelFlag, labelSetting),
		guardrail: gauges("policy_guardrail_breached", helpGuardrail, labelPolicy),
		predicted: gauges("predicted_lag_seconds", helpPredicted, labelPolicy),
		achieved:  gauges("achieved_lag_seconds", helpAchieved, labelPolicy),
	}
}

// SetPolicy tells how a policy stands now.
func (s *Set) SetPolicy(name string, p Policy) {
	s.policies.objective.WithLabelValues(name).Set(p.MaxLag.Seconds())
	switch p.Outcome {
	case tuner.Met:
		s.policies.met.WithLabelValues(name).Set(1)
	case tuner.Missed:
		s.policies.met.WithLabelValues(name).Set(0)
	case tuner.Inconclusive:
		s.policies.met.DeleteLabelValues(name)
	}
	switch {
	case p.Standing.Breached:
		s.policies.guardrail.WithLabelValues(name).Set(1)
	case p.Standing.Known:
		s.policies.guardrail.WithLabelValues(name).Set(0)
	default:
		s.policies.guardrail.DeleteLabelValues(name)
	}
	setLag(s.policies.predicted, name, p.PredictedLag)
	setLag(s.policies.achieved, name, p.AchievedLag)
	s.setFlags(name, settingRunning, p.Running)
	s.setFlags(name, settingRecommended, p.Recommended)
}

func setLag(gauge *prometheus.GaugeVec, policy string, lag time.Duration) {
	if lag <= 0 {
		gauge.DeleteLabelValues(policy)
		return
	}
	gauge.WithLabelValues(policy).Set(lag.Seconds())
}

func (s *Set) setFlags(policy, setting string, flags v1alpha1.Flags) {
	for _, f := range flags.List() {
		if f.Value == 0 {
			s.policies.flags.DeleteLabelValues(policy, f.Name, setting)
			continue
		}
		s.policies.flags.WithLabelValues(policy, f.Name, setting).Set(float64(f.Value))
	}
}

// DeletePolicy ends what is told of a policy.
func (s *Set) DeletePolicy(name string) {
	for _, v := range []*prometheus.GaugeVec{s.policies.objective, s.policies.met, s.policies.flags, s.policies.guardrail, s.policies.predicted, s.policies.achieved} {
		v.DeletePartialMatch(prometheus.Labels{labelPolicy: name})
	}
}
