package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/survey"
)

const (
	// surveyPace is how often it is looked at who renders the control plane: that does not change, but what was forbidden
	// may be granted.
	surveyPace = 10 * time.Minute

	// surveyRetry is after how long it is looked at again when it could not be told, the first time; each time after that
	// takes twice as long, up to surveyPace. A mirror Pod that is missed at the start shows within seconds.
	surveyRetry = 5 * time.Second

	// surveyTimeout ends a look that hangs.
	surveyTimeout = 30 * time.Second
)

// platformWatch keeps what is known of who renders the control plane. Before the first look that is nothing.
type platformWatch struct {
	look  func(ctx context.Context) (platform.Facts, error)
	clock clock.WithTicker

	retry time.Duration // what the last look that could not tell asked for; 0: it told

	mu    sync.Mutex
	found platform.Finding
}

// addPlatformWatch returns a watch that the manager runs.
func addPlatformWatch(cfg *rest.Config, mgr ctrl.Manager, clk clock.PassiveClock) (*platformWatch, error) {
	reader, err := survey.NewReader(cfg, mgr.GetAPIReader())
	if err != nil {
		return nil, fmt.Errorf("set up the look at the platform: %w", err)
	}
	w := &platformWatch{look: reader.Facts, clock: ticking(clk)}
	if err := mgr.Add(w); err != nil {
		return nil, fmt.Errorf("add the look at the platform: %w", err)
	}
	return w, nil
}

// NeedLeaderElection is false: a new leader knows at once.
func (*platformWatch) NeedLeaderElection() bool { return false }

// Start looks until ctx ends.
func (w *platformWatch) Start(ctx context.Context) error {
	for {
		timer := w.clock.NewTimer(w.update(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
}

// update looks once and returns when to look again. That no Pod is visible takes nothing back: while an edit of ours is
// swapped in, none is.
func (w *platformWatch) update(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	log := ctrl.LoggerFrom(ctx).WithName("platform")
	facts, err := w.look(ctx)
	if err != nil {
		log.V(1).Info("Cannot look at the platform; trying again", "error", err.Error())
		return w.soon()
	}
	found, before := platform.Detect(facts), w.finding()
	if before.Patchable && len(facts.Pods) == 0 {
		return w.soon()
	}
	if found != before {
		log.Info("Found the platform", "platform", found.Platform, "patchable", found.Patchable, "reason", found.Reason)
	}
	w.mu.Lock()
	w.found = found
	w.mu.Unlock()
	if found.Platform == platform.Unknown {
		return w.soon()
	}
	w.retry = 0
	return surveyPace
}

// soon is when to look again after a look that could not tell.
func (w *platformWatch) soon() time.Duration {
	w.retry = min(max(2*w.retry, surveyRetry), surveyPace)
	return w.retry
}

func (w *platformWatch) finding() platform.Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.found
}

// refusePlatform starts nothing where the manifest is not ours to patch, or where that is not known yet. A node in flight
// ends by itself.
func (c Conclusion) refusePlatform(s Situation) Conclusion {
	if s.Platform.Platform == "" {
		c.Step = idle(c.Plan, s.Now, v1alpha1.ReasonPlatformNotKnown, "it was not looked at yet who renders the control plane")
		return c
	}
	c.Stalled = v1alpha1.ReasonUnsupportedPlatform
	c.Message = "kube-controller-manager's manifest is not ours to patch: platform " + string(s.Platform.Platform) + ": " +
		s.Platform.Reason + "; use spec.mode Recommend and apply status.recommended.snippet yourself"
	c.Step = idle(c.Plan, s.Now, c.Stalled, c.Message)
	return c
}

// snippet is the flags as the platform takes them; none before it is known, rather than another platform's.
func (p pass) snippet(flags v1alpha1.Flags) string {
	if p.Platform.Platform == "" {
		return ""
	}
	return p.Platform.Snippet(flags)
}
