package accuracy

import (
	"context"
	"errors"
	"time"

	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	// burstNamespace is where many Services change at once, and steadyNamespace where a few do all the time.
	burstNamespace, steadyNamespace = "burst", "steady"
	poll                            = 200 * time.Millisecond
)

// ground is a control plane that writes an audit log, its kube-controller-manager, and the workload.
type ground struct {
	*stage.Stage

	bursts  *crowd
	trickle *steady
}

// newGround brings all of it up, with every endpoint in place and kube-controller-manager at the set-up's flags.
func newGround(ctx context.Context, o Options) (_ *ground, err error) {
	g := &ground{}
	if g.Stage, err = stage.New(ctx, controlplane.Options{Progress: o.Progress, AuditPolicy: AuditPolicy()}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if err = g.RunWith(ctx, stage.SetupFlags()); err != nil {
		return nil, err
	}
	if g.bursts, err = g.populate(ctx, burstNamespace, o.Services); err != nil {
		return nil, err
	}
	calm, err := g.populate(ctx, steadyNamespace, o.SteadyServices)
	g.trickle = &steady{crowd: calm, clock: clock.RealClock{}}
	return g, err
}

// populate makes Services with one Pod each, and returns when their endpoints are published.
func (g *ground) populate(ctx context.Context, namespace string, services int) (*crowd, error) {
	if _, err := g.Populate(ctx, workload.Options{Namespace: namespace, Services: services}); err != nil {
		return nil, err
	}
	return newCrowd(ctx, g.CP.Admin, namespace)
}
