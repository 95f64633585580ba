package trace

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// maxSpan is how far a change may lie from the start of its demand, and how long it may take: no recording is longer.
const maxSpan = 366 * 24 * time.Hour

// maxFlag is the largest value of a flag that makes sense to replay; kube-controller-manager's own may be anything.
const maxFlag = 1_000_000

// check says what a replay could not cope with.
func (t Trace) check() error {
	if o := t.Objective; o.Percentile < 0 || o.Percentile >= 1 || o.MaxLag < 0 || o.MinSamples < 0 {
		return fmt.Errorf("the objective %+v is not possible", o)
	}
	for _, f := range []v1alpha1.Flags{t.Evidence.Flags, t.FlagsBefore} {
		for _, v := range f.List() {
			if v.Value < 0 || v.Value > maxFlag {
				return fmt.Errorf("the flag --%s=%d is not possible", v.Name, v.Value)
			}
		}
	}
	s := t.Evidence.Settings
	if h := t.Evidence.HandOver; h < 0 || h > maxSpan {
		return fmt.Errorf("a hand-over of %v is not possible", h)
	}
	if min(s.SliceBatch, s.EndpointsBatch) < 0 || max(s.SliceBatch, s.EndpointsBatch) > maxSpan {
		return fmt.Errorf("the batch periods %v and %v are not possible", s.SliceBatch, s.EndpointsBatch)
	}
	return checkDemand(t.Evidence.Demand.Changes)
}

func checkDemand(changes []lag.Change) error {
	if len(changes) > lag.MaxDemand {
		return fmt.Errorf("the demand has %d changes, and %d at most are recorded", len(changes), lag.MaxDemand)
	}
	if !slices.IsSortedFunc(changes, func(a, b lag.Change) int { return cmp.Compare(a.At, b.At) }) {
		return errors.New("the changes are not in order of time")
	}
	for i, c := range changes {
		switch {
		case c.Service < 0 || int(c.Service) >= len(changes):
			return fmt.Errorf("change %d is of Service %d, and there are at most %d", i, c.Service, len(changes))
		case c.Direction != lag.DirectionAddition && c.Direction != lag.DirectionRemoval:
			return fmt.Errorf("change %d is %q, neither addition nor removal", i, c.Direction)
		case c.At < -maxSpan || max(c.At, c.SliceLag, c.EndpointsLag) > maxSpan || min(c.SliceLag, c.EndpointsLag) < 0:
			return fmt.Errorf("change %d at %v with the lags %v and %v is not possible", i, c.At, c.SliceLag, c.EndpointsLag)
		}
	}
	return nil
}
