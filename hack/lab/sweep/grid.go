// Package sweep holds the operator's choice against what was cheapest: for incidents of several sizes and several
// objectives it lets the operator's code decide after one incident at the default flags, and then looks through a grid
// of settings, cheapest first, for the first one that meets the objective on the same incident.
package sweep

import (
	"cmp"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/trial"
)

// costCap is how much more than the operator's choice a setting of the grid may cost and still be looked at.
const costCap = 2

// grid is every setting of the sweep, cheapest first. It was fixed before anything was measured: QPS from the default to
// the best known cure, bursts from the default to more than most incidents write, and workers from the default to
// the most that kube-controller-manager takes.
func grid() []v1alpha1.Flags {
	var out []v1alpha1.Flags
	for _, qps := range []int32{20, 50, 100, 200, 300} {
		for _, burst := range []int32{30, 100, 200, 400, 800, 1600} {
			for _, workers := range []int32{5, 20, 50} {
				out = append(out, stage.Flags(qps, burst, workers))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b v1alpha1.Flags) int { return cmp.Compare(tuner.Cost(a), tuner.Cost(b)) })
	return out
}

const (
	percentile = 0.99
	// stretch is how much longer than planned the Pods may take to change, in the bound below.
	stretch = 1.1
	// boundSlack is what the bound may be off by: watches, and where in a second the last token comes.
	boundSlack = 250 * time.Millisecond
)

// tokenBound is a lag that no kube-controller-manager can stay below at the percentile under these flags, however many
// workers and however fast the API server: that many writes need that many tokens. It needs no model.
func tokenBound(w trial.Workload, f v1alpha1.Flags) time.Duration {
	writes := percentile * float64(w.Pods())
	tokens := (writes - float64(f.KubeAPIBurst)) / float64(f.KubeAPIQPS)
	return trial.Span(tokens-stretch*percentile*w.Pace.Over.Seconds()) - boundSlack
}
