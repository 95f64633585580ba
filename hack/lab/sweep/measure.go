package sweep

import (
	"context"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// measured is what one setting did to one incident.
type measured struct{ rounds []trial.Round }

// median is the p99 of the round in the middle, of the two in the middle the larger, in seconds.
func (m measured) median() float64 {
	all := m.seconds()
	slices.Sort(all)
	return all[len(all)/2]
}

func (m measured) seconds() []float64 {
	var all []float64
	for _, r := range m.rounds {
		all = append(all, r.P99())
	}
	return all
}

// decisive is how far from the objective one round must be to need no other.
const decisive = 1.25

// settles says whether the rounds so far show on which side of an objective the setting is.
func (m measured) settles(maxLag time.Duration, most int) bool {
	switch {
	case len(m.rounds) == 0:
		return false
	case len(m.rounds) >= most:
		return true
	}
	v := m.median() / maxLag.Seconds()
	return v > decisive || v < 1/decisive
}

// measure makes the incident under a setting until there are so many rounds of it.
func (r *run) measure(ctx context.Context, w trial.Workload, f v1alpha1.Flags, rounds int) (measured, error) {
	m := r.known[f]
	for len(m.rounds) < rounds {
		if r.set != f {
			if err := r.bench.Set(ctx, f); err != nil {
				return m, err
			}
			r.set = f
		}
		round, err := r.bench.Play(ctx, w.Name)
		if err != nil {
			return m, err
		}
		m.rounds = append(m.rounds, round)
		r.known[f] = m
		r.bench.Sayf("  %-14s p99 %.2f s", trial.SettingName(f), round.P99())
	}
	return m, nil
}

// judge measures as often as it takes to say on which side of an objective a setting is.
func (r *run) judge(ctx context.Context, w trial.Workload, f v1alpha1.Flags, maxLag time.Duration) (measured, error) {
	m := r.known[f]
	var err error
	for err == nil && !m.settles(maxLag, r.Rounds) {
		m, err = r.measure(ctx, w, f, len(m.rounds)+1)
	}
	return m, err
}
