package v1alpha1

import "time"

// What an omitted field means. The schema sets no defaults, so that what people wrote in Git stays what is stored.
const (
	DefaultPercentile    = 99
	DefaultMaxLag        = Duration("2s")
	DefaultWindow        = Duration("10m")
	DefaultCooldown      = Duration("30m")
	DefaultHealthTimeout = Duration("2m")
	DefaultMinReady      = Duration("30s")
	DefaultMaxRestarts   = 6
	DefaultBudgetPeriod  = Duration("24h")

	// DefaultMaxMutatingLatency is Kubernetes' own objective for calls that change one object (SIG Scalability,
	// slos/api_call_latency.md): the p99 within a second. DefaultMaxRejectedPercent leaves one in a hundred.
	DefaultMaxMutatingLatency = Duration("1s")
	DefaultMaxRejectedPercent = 1

	// DefaultMinSamples is 299 rounded up: so many changes without a violation show "99 % within the objective" at
	// 95 % confidence (ln 0.05 / ln 0.99).
	DefaultMinSamples = 300
)

// WithDefaults returns the spec with every omitted field that has a meaning filled in. Bounds, service scope and windows
// have none: omitted means none. Guardrails omitted altogether mean the same limits, with one difference that the result
// does not show: they stand in the way only where the API server's health can be read. An unknown mode becomes Observe.
func (s EndpointSyncPolicySpec) WithDefaults() EndpointSyncPolicySpec {
	if s.Mode != ModeRecommend && s.Mode != ModeEnforce {
		s.Mode = ModeObserve
	}
	s.Persistence = or(s.Persistence, PersistenceNone)
	s.DeletionPolicy = or(s.DeletionPolicy, DeletionRetain)
	s.Objective.Percentile = or(s.Objective.Percentile, DefaultPercentile)
	s.Objective.MaxLag = or(s.Objective.MaxLag, DefaultMaxLag)
	s.Objective.Window = or(s.Objective.Window, DefaultWindow)
	s.Objective.MinSamples = or(s.Objective.MinSamples, DefaultMinSamples)
	s.Guardrails.MaxMutatingLatency = or(s.Guardrails.MaxMutatingLatency, DefaultMaxMutatingLatency)
	s.Guardrails.MaxRejectedPercent = or(s.Guardrails.MaxRejectedPercent, DefaultMaxRejectedPercent)
	s.Rollout.Cooldown = or(s.Rollout.Cooldown, DefaultCooldown)
	s.Rollout.HealthTimeout = or(s.Rollout.HealthTimeout, DefaultHealthTimeout)
	s.Rollout.MinReady = or(s.Rollout.MinReady, DefaultMinReady)
	s.Rollout.RestartBudget.MaxRestarts = or(s.Rollout.RestartBudget.MaxRestarts, DefaultMaxRestarts)
	s.Rollout.RestartBudget.Period = or(s.Rollout.RestartBudget.Period, DefaultBudgetPeriod)
	s.Rollout.Relax = or(s.Rollout.Relax, RelaxNever)
	return s
}

// Value returns the duration, and false if it is empty, malformed or not positive: the schema refuses such values, so
// that only an object written around it can hold one.
func (d Duration) Value() (time.Duration, bool) {
	v, err := time.ParseDuration(string(d))
	return v, err == nil && v > 0
}

// DurationOf returns v as a Duration, rounded to milliseconds and never shorter than one.
func DurationOf(v time.Duration) Duration {
	return Duration(max(v.Round(time.Millisecond), time.Millisecond).String())
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
