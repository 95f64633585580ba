package show

import (
	"context"
	"errors"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Choice is what the operator made of one incident.
type Choice struct {
	Flags v1alpha1.Flags
	// Restarts of kube-controller-manager that it took.
	Restarts int
	// PredictedP99Seconds is what it said that Flags would do, and AchievedP99Seconds the observer's p99 in the worse API
	// when the incident came again.
	PredictedP99Seconds, AchievedP99Seconds float64
	// Message is what it said about its change.
	Message string
}

// Choose shows the installed operator one incident at the default flags, lets it roll out what it makes of it for an
// objective, and makes the incident again.
func Choose(ctx context.Context, o Options, maxLag time.Duration) (out Choice, err error) {
	s, err := newScene(ctx, o)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err = s.startOperator(ctx); err != nil {
		return out, err
	}
	if _, _, err = s.incident(ctx, "operator-learns"); err != nil {
		return out, err
	}
	policy, err := s.rollOut(ctx, demoPolicy(maxLag))
	if err != nil {
		return out, err
	}
	entry := policy.Status.History[0]
	out = Choice{Flags: policy.Status.Nodes[0].Running, Message: entry.Message}
	if err = seconds(string(entry.PredictedLag), &out.PredictedP99Seconds); err != nil {
		return out, err
	}
	if err = s.pause(ctx, refill(out.Flags)); err != nil {
		return out, err
	}
	_, seen, err := s.incident(ctx, "again")
	out.AchievedP99Seconds = max(seen.EndpointSlice.P99, seen.Endpoints.P99).Seconds()
	out.Restarts = s.Restarts()
	return out, err
}
