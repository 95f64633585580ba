package metrics

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// BenchmarkEnded is what the tracker spends on metrics for each outcome that ends, under its lock.
func BenchmarkEnded(b *testing.B) {
	s := New()
	e := lag.Ended{Resource: lag.ResourceEndpoints, Direction: lag.DirectionRemoval, Class: lag.Closed}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.Lag = time.Duration(i%30_000) * time.Millisecond
		s.Ended(e)
	}
}

// BenchmarkProcessed is what a watch spends on metrics for each event.
func BenchmarkProcessed(b *testing.B) {
	s := New()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Processed(lag.KindPod, time.Duration(i%10_000)*time.Microsecond)
	}
}

// BenchmarkScrape is what a scrape costs with a full tracker: 200,000 changes kept, a tenth of them open.
func BenchmarkScrape(b *testing.B) {
	s := newStage(b)
	s.tracker.SetService(lag.Service{
		Namespace: "default", Name: "web", Selector: lag.LabelsOf(map[string]string{"app": "web"}),
	}, start)
	s.tracker.Synced(start)
	const pods = 20_000
	for round := range 10 {
		for i := range pods {
			p := pod()
			p.Name, p.UID = strconv.Itoa(i), lag.ParseUID(strconv.Itoa(i))
			p.Ready = round%2 == 0
			s.tracker.SetPod(p, start.Add(time.Duration(round)*time.Second))
		}
	}
	s.tracker.SetDelay(start, time.Millisecond)
	s.clock.SetTime(start.Add(15 * time.Second))
	out := make(chan prometheus.Metric, 64)
	c := newState(s.tracker, s.clock, s.set)
	b.ReportAllocs()
	for b.Loop() {
		c.Collect(out)
		for len(out) > 0 {
			<-out
		}
	}
}
