package watch

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// run is a server, a feed from it and the tracker that it feeds.
type run struct {
	*server
	feed    *Feed
	tracker *lag.Tracker

	mu      sync.Mutex
	watched []bool // of Pods: whether it was a relist
}

// inBubble runs a test in virtual time, after the first lists unless the server is changed so that there are none.
func inBubble(t *testing.T, change func(*server), test func(*run)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &run{server: newServer(t), tracker: lag.NewTracker(lag.Options{})}
		if change != nil {
			change(c.server)
		}
		c.feed = c.start(c.tracker, Options{Watched: func(k lag.Kind, relist bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if k == lag.KindPod {
				c.watched = append(c.watched, relist)
			}
		}})
		synctest.Wait()
		test(c)
	})
}

func (c *run) stat(r lag.Resource, d lag.Direction) lag.Stat {
	return c.summary().Stat(r, d)
}

func (c *run) summary() lag.Summary { return c.tracker.Summary(lag.Query{Now: time.Now()}) }

func (c *run) wantSynced(t *testing.T) {
	t.Helper()
	if !c.feed.Synced() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		t.Fatal(c.feed.WaitSynced(ctx))
	}
}

func TestFeedMeasuresWhatTheWatchesSay(t *testing.T) {
	inBubble(t, nil, func(c *run) {
		t := c.t
		c.wantSynced(t)
		c.set("pods", pod("new", true))
		time.Sleep(2 * time.Second)
		c.set("endpointslices", slice("old", "new"))
		time.Sleep(time.Second)
		c.set("endpoints", endpoints("old", "new"))
		synctest.Wait()
		c.set("pods", pod("old", false))
		time.Sleep(5 * time.Second)
		c.remove("endpointslices", "shop/web-1")
		synctest.Wait()
		for _, want := range []struct {
			resource  lag.Resource
			direction lag.Direction
			p99       lag.Quantile
		}{
			{lag.ResourceEndpointSlice, lag.DirectionAddition, lag.Quantile{Value: 2 * time.Second}},
			{lag.ResourceEndpoints, lag.DirectionAddition, lag.Quantile{Value: 3 * time.Second}},
			{lag.ResourceEndpointSlice, lag.DirectionRemoval, lag.Quantile{Value: 5 * time.Second}},
			{lag.ResourceEndpoints, lag.DirectionRemoval, lag.Quantile{Value: 5 * time.Second, LowerBound: true}},
		} {
			if got := c.stat(want.resource, want.direction); got.P99 != want.p99 || got.Samples() != 1 {
				t.Errorf("%s %s: p99 %v of %d, want %v of 1", want.resource, want.direction, got.P99, got.Samples(), want.p99)
			}
		}
		gold := lag.Query{Now: time.Now(), Measured: func(s lag.Service) bool { return s.NamespaceLabels.Get("tier") == "gold" }}
		if n := c.tracker.Summary(gold).Stat(lag.ResourceEndpointSlice, lag.DirectionAny).Changes; n != 2 {
			t.Errorf("changes in gold namespaces = %d, want 2", n)
		}
		time.Sleep(2 * time.Second) // Until the last second is told.
		if got := c.summary(); !got.BoundKnown || got.ErrorBound != unseenDelay || len(got.Blind) > 0 {
			t.Errorf("error bound %v (known: %v), gaps %v, want %v (known: true) and none",
				got.ErrorBound, got.BoundKnown, got.Blind, unseenDelay)
		}
	})
}

func TestFeedResumesAfterABreakInTheMiddleOfAFrame(t *testing.T) {
	inBubble(t, nil, func(c *run) {
		t := c.t
		c.wantSynced(t)
		time.Sleep(time.Second)
		c.do(func() { c.half["pods"] = true })
		c.set("pods", pod("new", true))
		time.Sleep(10 * time.Second)
		c.set("endpointslices", slice("old", "new"))
		synctest.Wait()
		if n := c.stat(lag.ResourceEndpointSlice, lag.DirectionAddition); n.Changes != 1 || n.Gap != 1 {
			t.Errorf("additions = %d, of which in a gap %d, want 1 of 1: its beginning was received late", n.Changes, n.Gap)
		}
		if want := []bool{true, false}; !slices.Equal(c.watched, want) {
			t.Errorf("watches of pods, relist = %v, want %v", c.watched, want)
		}
		gaps := c.summary().Blind
		if len(gaps) != 1 || gaps[0].Kind != lag.KindPod || gaps[0].To.IsZero() || gaps[0].To.Sub(gaps[0].From) > 10*time.Second {
			t.Errorf("gaps = %+v, want one of pods that is over", gaps)
		}
		c.set("pods", pod("later", true))
		time.Sleep(3 * time.Second)
		c.set("endpointslices", slice("old", "new", "later"))
		synctest.Wait()
		if got := c.stat(lag.ResourceEndpointSlice, lag.DirectionAddition); got.Max.Value != 3*time.Second || got.Samples() != 1 {
			t.Errorf("additions after the gap: max %v of %d, want 3s of 1", got.Max, got.Samples())
		}
	})
}

func TestGapsBeginWhenAWatchWasLastKnownToBeGood(t *testing.T) {
	tests := map[string]struct {
		end func(*server)
		// from is how long before the end the gap begins, and longest how long it may last.
		from, longest time.Duration
	}{
		"the server ends it":                    {func(s *server) { s.broken++ }, 0, 100 * time.Millisecond},
		"the connection breaks after a silence": {func(s *server) { s.dead = true }, 45 * time.Second, time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(c *run) {
				t := c.t
				c.wantSynced(t)
				time.Sleep(time.Second)
				for _, k := range c.feed.all {
					c.set(k.name, c.any(k.name)) // The last that comes.
				}
				time.Sleep(45 * time.Second)
				ended := time.Now()
				c.do(func() { test.end(c.server) })
				synctest.Wait()
				c.do(func() { c.dead = false })
				time.Sleep(10 * time.Second)
				blind := c.summary().Blind
				if len(blind) != 6 {
					t.Errorf("gaps = %v, want one of each kind", blind)
				}
				for _, g := range blind {
					if g.From.Sub(ended) != -test.from || g.To.Before(ended) || g.To.Sub(g.From) > test.longest {
						t.Errorf("gap of %s from %v to %v after the end, want from -%v for at most %v",
							g.Kind, g.From.Sub(ended), g.To.Sub(ended), test.from, test.longest)
					}
				}
			})
		})
	}
}

// vanish takes the Pod away while nobody watches, in a way that a watch cannot make up for.
func vanish(c *run, gone func()) {
	time.Sleep(time.Second)
	gone()
	time.Sleep(time.Minute)
}

func TestFeedNoticesWhatVanishedWhileTheWatchWasDown(t *testing.T) {
	tests := map[string]struct {
		change func(*server)
		gone   func(*run)
	}{
		"the resumption is too old": {nil, func(c *run) {
			c.remove("pods", "shop/old")
			c.do(func() { c.broken++; c.oldest = c.version + 1; c.history = nil })
		}},
		"the watch becomes too old": {nil, func(c *run) {
			c.do(func() { delete(c.objects["pods"], "shop/old") })
			c.expire("pods")
		}},
		"the server cannot stream the first state": {func(s *server) { s.noStream = true }, func(c *run) {
			c.do(func() { delete(c.objects["pods"], "shop/old") })
			c.expire("pods")
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, test.change, func(c *run) {
				t := c.t
				time.Sleep(time.Second)
				c.wantSynced(t)
				vanish(c, func() { test.gone(c) })
				got := c.stat(lag.ResourceEndpointSlice, lag.DirectionRemoval)
				if got.Changes != 1 || got.Gap != 1 {
					t.Errorf("removals = %d, of which in a gap %d, want 1 of 1", got.Changes, got.Gap)
				}
				if !slices.Equal(c.watched, []bool{true, true}) {
					t.Errorf("watches of pods, relist = %v, want two relists", c.watched)
				}
				for _, g := range c.summary().Blind {
					if g.To.IsZero() {
						t.Errorf("the gap of %s that began at %v lasts", g.Kind, g.From)
					}
				}
			})
		})
	}
}

func TestFeedNeedsNoRightToNamespacesAndNodes(t *testing.T) {
	deny := func(s *server) {
		s.refused["namespaces"], s.refused["nodes"] = http.StatusForbidden, http.StatusForbidden
	}
	inBubble(t, deny, func(c *run) {
		t := c.t
		c.wantSynced(t)
		time.Sleep(time.Hour)
		if n := c.asked("nodes", ""); n > 400 {
			t.Errorf("%d requests for nodes in an hour, want at most ten a minute", n)
		}
	})
}

func TestWaitSyncedSaysWhatIsMissingAndWhy(t *testing.T) {
	deny := func(s *server) { s.refused["pods"] = http.StatusForbidden }
	inBubble(t, deny, func(c *run) {
		t := c.t
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := c.feed.WaitSynced(ctx)
		status, _ := errors.AsType[*apierrors.StatusError](err)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "list pods: ") ||
			!apierrors.IsForbidden(status) || strings.Contains(err.Error(), "services") {
			t.Errorf("WaitSynced() = %v, want that pods alone are forbidden", err)
		}
		if c.feed.Synced() {
			t.Error("Synced() = true, want false")
		}
	})
}

func TestSteadyStateAsksForNothingButWatches(t *testing.T) {
	inBubble(t, nil, func(c *run) {
		t := c.t
		c.wantSynced(t)
		for range 60 {
			time.Sleep(time.Minute)
			c.set("pods", pod("new", true))
		}
		for _, k := range c.feed.all {
			if n := c.asked(k.name, ""); n != 1 || c.asked(k.name, "watch=true") != n {
				t.Errorf("%d requests for %s, of which watches %d, want one watch", n, k.name, c.asked(k.name, "watch=true"))
			}
		}
	})
}

func TestStampsDoNotWaitForTheTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		tracker, hold := lag.NewTracker(lag.Options{}), make(chan struct{})
		var once sync.Once
		var delays []time.Duration
		f := s.start(tracker, Options{Processed: func(_ lag.Kind, d time.Duration) {
			delays = append(delays, d)
			once.Do(func() { <-hold }) // As a tracker would that takes its time.
		}})
		synctest.Wait()
		if !f.Synced() {
			t.Fatal("Synced() = false, want true")
		}
		s.set("pods", pod("first", true))
		s.set("endpointslices", slice("old", "first"))
		synctest.Wait()
		s.set("pods", pod("second", true))
		time.Sleep(200 * time.Millisecond)
		s.set("endpointslices", slice("old", "first", "second"))
		time.Sleep(700 * time.Millisecond)
		close(hold)
		synctest.Wait()
		got := tracker.Summary(lag.Query{Now: time.Now()}).Stat(lag.ResourceEndpointSlice, lag.DirectionAddition)
		if got.Max.Value != 200*time.Millisecond || got.Samples() != 2 {
			t.Errorf("additions: max %v of %d, want 200ms of 2", got.Max, got.Samples())
		}
		if worst := slices.Max(delays); worst != 900*time.Millisecond {
			t.Errorf("longest way to the tracker = %v, want 900ms", worst)
		}
	})
}

func TestFeedListsAgainAfterAnObjectThatItCannotRead(t *testing.T) {
	inBubble(t, nil, func(c *run) {
		t := c.t
		c.wantSynced(t)
		time.Sleep(2 * time.Second)
		c.do(func() {
			c.version++
			c.history = append(c.history, change{c.version, "pods", "MODIFIED", []byte{0xff}})
		})
		synctest.Wait()
		k := c.feed.all[0]
		k.mu.Lock()
		err := k.err
		k.mu.Unlock()
		if err == nil || !c.feed.Synced() {
			t.Errorf("error of pods = %v, want one, and that the first list is in nevertheless", err)
		}
		time.Sleep(time.Minute)
		c.set("pods", pod("new", true))
		synctest.Wait()
		if n := c.stat(lag.ResourceEndpointSlice, lag.DirectionAddition).Open; n != 1 || !slices.Equal(c.watched, []bool{true, true}) {
			t.Errorf("open additions = %d, watches of pods, relist = %v, want 1 after two relists", n, c.watched)
		}
	})
}

func TestStartEndsAtOnceWhileTheServerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		f, err := NewFeed(&rest.Config{Host: "http://server", Dial: down}, lag.NewTracker(lag.Options{}), Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Start(ctx) }()
		time.Sleep(5 * time.Minute)
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Start() = %v, want nil", err)
			}
		default:
			t.Error("Start() goes on after its context ended")
		}
		if err := f.WaitSynced(ctx); !strings.Contains(err.Error(), "list pods: ") || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("WaitSynced() = %v, want that the connection is refused", err)
		}
	})
}
