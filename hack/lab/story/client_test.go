package story

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"
)

func TestRun(t *testing.T) {
	const rate, length, timeout = 40, 6 * time.Second, time.Second
	broken := errors.New("broken")
	tests := map[string]struct {
		attempt   func(ctx context.Context, since time.Duration) error
		interrupt time.Duration // 0: never
		stall     time.Duration // how long the machine stands still, after two seconds
		want      Traffic       // without what is compared in all of them
	}{
		"all goes well": {
			attempt: func(context.Context, time.Duration) error { return nil },
			want:    Traffic{Attempts: 240, AchievedRate: rate},
		},
		"failures count in the seconds in which their attempts began": {
			attempt: func(_ context.Context, since time.Duration) error {
				if since >= 2*time.Second && since < 3*time.Second+500*time.Millisecond {
					return broken
				}
				return nil
			},
			want: Traffic{Attempts: 240, AchievedRate: rate, Failed: 60, FailedPercent: 25, SecondsWithFailures: 2},
		},
		"attempts that hang hold no other back": {
			attempt: func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return broken },
			want:    Traffic{Attempts: 240, AchievedRate: rate, Failed: 240, FailedPercent: 100, SecondsWithFailures: 6},
		},
		"an interrupt ends it, and fails nothing": {
			attempt: func(ctx context.Context, _ time.Duration) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(timeout / 2):
					return nil
				}
			},
			interrupt: 2*time.Second + time.Millisecond,
			want:      Traffic{Attempts: 81, AchievedRate: 81 / 2.001},
		},
		"what is late is made up for": {
			attempt: func(context.Context, time.Duration) error { return nil },
			stall:   maxLate,
			want:    Traffic{Attempts: 240, AchievedRate: rate, LatestMilliseconds: 500},
		},
		"what is too late is skipped and told": {
			attempt: func(context.Context, time.Duration) error { return nil },
			stall:   2 * time.Second,
			want:    Traffic{Attempts: 180, Skipped: 60, AchievedRate: 30, LatestMilliseconds: 500},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.interrupt > 0 {
					time.AfterFunc(tt.interrupt, cancel)
				}
				start := time.Now()
				machine := &stalling{at: start.Add(2 * time.Second), stall: tt.stall}
				got := Drive{Rate: rate, For: length, Timeout: timeout}.run(ctx, machine, func(ctx context.Context) error {
					return tt.attempt(ctx, time.Since(start))
				})
				var attempts, failed, seconds int
				for _, s := range got.PerSecond {
					attempts, failed = attempts+s.Attempts, failed+s.Failed
					if s.Failed > 0 {
						seconds++
					}
				}
				if attempts != got.Attempts || failed != got.Failed || seconds != got.SecondsWithFailures {
					t.Errorf("the seconds do not add up: %+v", got)
				}
				got.Start, got.PerSecond, got.Failures, got.Examples = time.Time{}, nil, nil, nil
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("run (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// stalling is the clock of a machine that once wakes nobody for a while.
type stalling struct {
	clock.RealClock

	at    time.Time
	stall time.Duration
}

func (s *stalling) After(d time.Duration) <-chan time.Time {
	if s.stall > 0 && !s.Now().Add(d).Before(s.at) {
		d, s.stall = d+s.stall, 0
	}
	return s.RealClock.After(d)
}

func TestSecondsOfADriveAreAllThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := Drive{Rate: 2, For: 2500 * time.Millisecond, Timeout: time.Second}.run(t.Context(), clock.RealClock{}, func(context.Context) error { return nil })
		want := []Second{{Second: 0, Attempts: 2}, {Second: 1, Attempts: 2}, {Second: 2, Attempts: 1}}
		if diff := cmp.Diff(want, got.PerSecond); diff != "" {
			t.Errorf("PerSecond (-want +got):\n%s", diff)
		}
	})
}

// TestFailuresAreToldApart goes by the number of connections and not by time: each kind of failure meets a server that
// behaves so.
func TestFailuresAreToldApart(t *testing.T) {
	const each = 10
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch i := n.Add(1); {
		case i <= each:
			_, _ = w.Write([]byte("ok\n"))
		case i <= 2*each: // Hang up, and not in order.
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		case i <= 3*each:
			<-r.Context().Done()
		case i <= 4*each:
			w.WriteHeader(http.StatusBadGateway)
		default:
			enough()
		}
	}))
	defer server.Close()
	drive := Drive{Address: server.Listener.Addr().String(), Rate: 100, For: time.Minute, Timeout: 3 * time.Second}
	got, err := drive.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Failure]int{FailureRefused: 0, FailureReset: each, FailureTimeout: each, FailureOther: each}
	if diff := cmp.Diff(want, got.Failures); diff != "" {
		t.Errorf("Failures (-want +got):\n%s\nfor example %v", diff, got.Examples)
	}
	if got.Failed != 3*each || got.Attempts < 4*each || got.SecondsWithFailures == 0 {
		t.Errorf("Run = %+v, want %d failed of at least %d", got, 3*each, 4*each)
	}
}

func TestNobodyListens(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err = listener.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Drive{Address: listener.Addr().String(), Rate: 100, For: 100 * time.Millisecond, Timeout: time.Second}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Attempts == 0 || got.Failures[FailureRefused] != got.Attempts || got.FailedPercent != 100 {
		t.Errorf("Run = %+v, want all refused", got)
	}
}

func TestDriveIsChecked(t *testing.T) {
	good := Drive{Address: "10.96.0.10:80", Rate: 40, For: time.Second, Timeout: time.Second}
	tests := map[string]struct {
		change func(*Drive)
		fine   bool
	}{
		"good":        {func(*Drive) {}, true},
		"no address":  {func(d *Drive) { d.Address = "" }, false},
		"a name":      {func(d *Drive) { d.Address = "web:80" }, false},
		"no rate":     {func(d *Drive) { d.Rate = 0 }, false},
		"no length":   {func(d *Drive) { d.For = 0 }, false},
		"no time-out": {func(d *Drive) { d.Timeout = 0 }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := good
			tt.change(&d)
			if err := d.validate(); (err == nil) != tt.fine {
				t.Errorf("validate() = %v, want fine %v", err, tt.fine)
			}
		})
	}
}
