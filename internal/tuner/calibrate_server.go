package tuner

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

const (
	// minContention is how many requests on Pods and endpoints an interval must have for a capacity to be read off it.
	minContention = 60

	// minInFlight is how many requests it must have in hand on average for their latency to tell a capacity: with one or
	// two it is hardly longer than that of a quiet write, and what the difference is made of cannot be told.
	minInFlight = 3

	// activeSlot is the raster by which the part of an interval in which something happened is measured.
	activeSlot = 100 * time.Millisecond
)

// contention is how the API server fared in the time in which it had most in hand.
type contention struct {
	// inFlight is how many requests it had in hand on average, while there were any.
	inFlight float64
	// latency of a write of an endpoint object then, and podWork that of a Pod relative to it.
	latency time.Duration
	podWork float64
}

// capacity is what the server of the model must have to take as long, with so many in hand: base + n/capacity.
func (c contention) capacity(base time.Duration) float64 {
	return c.inFlight / (c.latency - base).Seconds()
}

// busiest finds the interval of the API server's own counters in which it had most requests on Pods and endpoints in
// hand: by Little's law, their latency in all over the time in which they came. Zero if none has enough of both.
func busiestServer(e Evidence) contention {
	var most contention
	for _, i := range serverIntervals(e.Server) {
		a, b := i.from, i.to
		pods, endpoints := b.PodWrites-a.PodWrites, b.EndpointWrites-a.EndpointWrites
		active := activeWithin(e.Demand, a.Time.Sub(e.Demand.Start), b.Time.Sub(e.Demand.Start))
		if pods < minWrites || endpoints < minWrites || pods+endpoints < minContention || active <= 0 {
			continue
		}
		podTime, endpointTime := b.PodWriteTime-a.PodWriteTime, b.EndpointWriteTime-a.EndpointWriteTime
		c := contention{
			inFlight: float64(podTime+endpointTime) / float64(active),
			latency:  endpointTime / time.Duration(endpoints),
		}
		if c.inFlight < minInFlight {
			continue
		}
		c.podWork = float64(podTime/time.Duration(pods)) / float64(max(c.latency, 1))
		if c.inFlight > most.inFlight {
			most = c
		}
	}
	return most
}

// activeWithin is for how long, between two times, changes came about or were published.
func activeWithin(d lag.Demand, from, to time.Duration) time.Duration {
	slots := map[int64]bool{}
	note := func(at time.Duration) {
		if at >= from && at < to {
			slots[int64(at/activeSlot)] = true
		}
	}
	for _, c := range d.Changes {
		note(c.At)
		if c.SliceClass == lag.Closed {
			note(c.At + c.SliceLag)
		}
		if c.EndpointsClass == lag.Closed {
			note(c.At + c.EndpointsLag)
		}
	}
	return min(time.Duration(len(slots))*activeSlot, to-from)
}
