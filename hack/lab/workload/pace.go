package workload

import (
	"cmp"
	"slices"
	"time"
)

// Pace says when the Pods of a flip change. The zero value is as fast as the API server takes it, Service by Service.
type Pace struct {
	// Over is the time over which the Services begin to change, one after another at equal distances.
	Over time.Duration

	// Step is the time between two Pods of one Service, which change one after another.
	Step time.Duration
}

// turn is when a Pod changes, after the flip began.
type turn struct {
	pod   int
	after time.Duration
}

// turns are in the order of their time.
func (p Pace) turns(services, podsPerService int) []turn {
	out := make([]turn, 0, services*podsPerService)
	for i := range services {
		begin := p.Over * time.Duration(i) / time.Duration(services)
		for j := range podsPerService {
			out = append(out, turn{pod: i*podsPerService + j, after: begin + time.Duration(j)*p.Step})
		}
	}
	slices.SortStableFunc(out, func(a, b turn) int { return cmp.Compare(a.after, b.after) })
	return out
}
