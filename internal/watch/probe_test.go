package watch

import (
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func TestASlowAnswerIsInTheBoundOfItsSeconds(t *testing.T) {
	const slow = 70 * time.Millisecond
	inBubble(t, func(s *server) { s.probeTakes = slow }, func(c *run) {
		t := c.t
		c.wantSynced(t)
		time.Sleep(5*time.Second + 10*time.Millisecond) // A probe goes out every two seconds.
		c.set("pods", pod("new", true))
		time.Sleep(3 * time.Second)
		got := c.summary()
		if !got.BoundKnown || got.ErrorBound < slow || got.ErrorBound > 2*slow {
			t.Errorf("bound = %v, known %t; want %v and what nobody sees", got.ErrorBound, got.BoundKnown, slow)
		}
	})
}

func TestProbesComeOftenerWhileMuchHappens(t *testing.T) {
	inBubble(t, nil, func(c *run) {
		t := c.t
		c.wantSynced(t)
		during := func() int64 {
			before := c.probes.Load()
			time.Sleep(10 * time.Second)
			return c.probes.Load() - before
		}
		if n := during(); n < 4 || n > 6 {
			t.Errorf("%d probes in ten quiet seconds, want 5", n)
		}
		go func() {
			for i := range 4000 {
				c.set("pods", pod("new", i%2 == 0))
				time.Sleep(3 * time.Millisecond)
			}
		}()
		if n := during(); n < 40 || n > 51 {
			t.Errorf("%d probes in ten busy seconds, want 5 a second", n)
		}
		time.Sleep(5 * time.Second) // The changes end.
		if open := c.stat(lag.ResourceEndpointSlice, lag.DirectionAny).Open; open > 1 {
			t.Errorf("%d changes are open, want at most the last", open)
		}
	})
}
