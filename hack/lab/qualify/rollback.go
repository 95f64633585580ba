package qualify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// rollBackLimit bounds a roll-back: the verdict falls within 45 s, and the old manifest's process comes within 15 s.
	rollBackLimit = 3 * time.Minute
	// swapLimit bounds the time until the first swap.
	swapLimit = time.Minute
	apiUp     = "up"
	apiGone   = "stopped"
)

// badValues gives a rollout values with which kube-controller-manager exits on the first node, with the API server up, or
// stopped from the swap until the old manifest's process is healthy.
func badValues(apiServer string) fault {
	return fault{
		name: "values that kube-controller-manager exits with, API server " + apiServer,
		ends: stopped,
		before: func(tr *trial) {
			tr.order[0].Misbehave(tr, fmt.Sprintf("exit --kube-api-qps=%d", tr.flags.KubeAPIQPS))
		},
		during: func(tr *trial) {
			victim := tr.order[0]
			watch := tr.watchers[victim.Node]
			rig.Await(tr, swapLimit, func() string { return "the swap on " + victim.Node }, func(context.Context) bool {
				return len(watch.Sightings()) >= 2
			})
			if apiServer == apiGone {
				if err := tr.cluster.StopAPIServer(); err != nil {
					tr.Fatal(err)
				}
				defer func() {
					if err := tr.cluster.StartAPIServer(tr.Context()); err != nil {
						tr.Fatal(err)
					}
				}()
			}
			rig.Await(tr, rollBackLimit, func() string { return "a healthy process of the old manifest on " + victim.Node },
				func(ctx context.Context) bool { return len(watch.Sightings()) >= 3 && tr.runsOld(ctx, victim) })
			tr.RollBackSeconds, tr.APIServer = seconds(time.Since(watch.Sightings()[1].At)), apiServer
		},
		after: func(tr *trial) {
			tr.order[0].Misbehave(tr, "")
			for _, n := range tr.order[1:] {
				if w := tr.watchers[n.Node]; w.Swaps() > 0 || len(w.Sightings()) != 1 {
					tr.Errorf("%s was changed, although the first node had failed", n.Node)
				}
			}
			if !strings.Contains(tr.Message, "spec.") {
				tr.Errorf("the policy does not say what to do: %s", tr.Message)
			}
		},
	}
}

// runsOld reports whether a node's kube-controller-manager runs without flags of ours, and is healthy.
func (tr *trial) runsOld(ctx context.Context, n *node) bool {
	args, running := n.KCMArgs()
	ours := slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--kube-api-qps") })
	return running && !ours && n.Healthy(ctx)
}
