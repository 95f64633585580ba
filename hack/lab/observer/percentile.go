package observer

import (
	"math"
	"slices"
	"time"
)

// percentile is the nearest-rank percentile: the smallest value such that at least p percent of all are no larger. It is
// exact, one of the values, and 0 if there are none. The values must be sorted.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func summarise(changes []Change) Summary {
	lags := make([]time.Duration, 0, len(changes))
	out := Summary{Changes: len(changes)}
	for _, c := range changes {
		lags = append(lags, c.Lag)
		if c.Pending {
			out.Pending++
		}
	}
	slices.Sort(lags)
	out.P50, out.P99 = percentile(lags, 50), percentile(lags, 99)
	if len(lags) > 0 {
		out.Max = lags[len(lags)-1]
	}
	return out
}
