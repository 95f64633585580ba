package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/utils/clock"
)

const (
	// maxLate is how late an attempt may begin; then its time is over and it is skipped. Half of the second to which its
	// failure would count.
	maxLate = 500 * time.Millisecond
	// answerLimit is how much of an answer is read, in bytes: the server's is shorter.
	answerLimit = 1 << 10
)

// Drive says which connections to open.
type Drive struct {
	// Address is that of the Service, IP:PORT.
	Address string

	// Rate is how many connections to open in a second, and For how long.
	Rate int
	For  time.Duration

	// Timeout bounds one attempt: connection, request and answer.
	Timeout time.Duration
}

func (d Drive) validate() error {
	if host, _, err := net.SplitHostPort(d.Address); err != nil || net.ParseIP(host) == nil {
		return fmt.Errorf("address %q must be IP:PORT", d.Address)
	}
	if d.Rate <= 0 || d.For <= 0 || d.Timeout <= 0 {
		return fmt.Errorf("rate %d, length %s and time-out %s must be positive", d.Rate, d.For, d.Timeout)
	}
	return nil
}

// Failure is why an attempt failed.
type Failure string

// The failures.
const (
	FailureRefused Failure = "refused" // nobody listens
	FailureTimeout Failure = "timeout" // no answer in time
	FailureReset   Failure = "reset"   // the connection broke
	FailureOther   Failure = "other"
)

// Second is what became of the attempts that began in one second of a drive.
type Second struct {
	Second   int `json:"second"`
	Attempts int `json:"attempts"`
	Failed   int `json:"failed"`
}

// Traffic is what became of a drive's connections.
type Traffic struct {
	Start time.Time `json:"start"`

	// Attempts is how many connections were opened, and Failed how many of them got no answer.
	Attempts      int     `json:"attempts"`
	Failed        int     `json:"failed"`
	FailedPercent float64 `json:"failedPercent"`

	// SecondsWithFailures is in how many seconds an attempt began that failed.
	SecondsWithFailures int `json:"secondsWithFailures"`

	// Failures counts them by kind, and Examples has the first error of each, with the time since Start and how far it got.
	Failures map[Failure]int    `json:"failures"`
	Examples map[Failure]string `json:"examples"`

	// PerSecond has every second of the drive.
	PerSecond []Second `json:"perSecond"`

	// Skipped is how many attempts were not made because this machine was too busy when their time had come, AchievedRate
	// how many a second were, and LatestMilliseconds how late the latest of those began.
	Skipped            int     `json:"skipped"`
	AchievedRate       float64 `json:"achievedRate"`
	LatestMilliseconds int64   `json:"latestMilliseconds"`
}

// Run opens new connections at a fixed rate, whatever becomes of earlier ones, and returns when the last one has ended.
// If ctx ends before, it opens no more and returns what it has.
func (d Drive) Run(ctx context.Context) (Traffic, error) {
	if err := d.validate(); err != nil {
		return Traffic{}, err
	}
	return d.run(ctx, clock.RealClock{}, newAttempt(d.Address)), nil
}

// run is Run with any attempt.
func (d Drive) run(ctx context.Context, c clock.Clock, attempt func(context.Context) error) Traffic {
	start := c.Now()
	t := newTally(start, d.For)
	var under sync.WaitGroup
	for i := range int(d.For.Seconds() * float64(d.Rate)) {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(d.Rate))
		if wait := due.Sub(c.Now()); wait > 0 {
			select {
			case <-ctx.Done():
			case <-c.After(wait):
			}
		}
		if ctx.Err() != nil {
			break
		}
		began := c.Now()
		if !t.begin(due, began) {
			continue
		}
		under.Go(func() {
			// An interrupt is no failure of what is under way.
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
			defer cancel()
			t.end(began, attempt(limited))
		})
	}
	length := d.For
	if ctx.Err() != nil {
		length = min(length, c.Since(start))
	}
	under.Wait()
	return t.traffic(length)
}

// tally collects what becomes of attempts.
type tally struct {
	mu      sync.Mutex
	so      Traffic
	latest  time.Duration
	seconds []Second
}

func newTally(start time.Time, length time.Duration) *tally {
	t := &tally{so: Traffic{
		Start: start, Examples: make(map[Failure]string),
		Failures: map[Failure]int{FailureRefused: 0, FailureTimeout: 0, FailureReset: 0, FailureOther: 0},
	}}
	for i := range int((length + time.Second - 1) / time.Second) {
		t.seconds = append(t.seconds, Second{Second: i})
	}
	return t
}

// begin says whether an attempt that was due can still be made, and counts it.
func (t *tally) begin(due, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	late := now.Sub(due)
	second := t.second(now)
	if late > maxLate || second == nil {
		t.so.Skipped++
		return false
	}
	t.latest = max(t.latest, late)
	t.so.Attempts++
	second.Attempts++
	return true
}

func (t *tally) second(at time.Time) *Second {
	i := int(at.Sub(t.so.Start) / time.Second)
	if i >= len(t.seconds) {
		return nil
	}
	return &t.seconds[i]
}

func (t *tally) end(began time.Time, err error) {
	if err == nil {
		return
	}
	kind := failureOf(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.so.Failed++
	t.second(began).Failed++
	t.so.Failures[kind]++
	if t.so.Examples[kind] == "" {
		t.so.Examples[kind] = fmt.Sprintf("at %s: %v", began.Sub(t.so.Start).Round(time.Millisecond), err)
	}
}

// traffic sums up a drive that lasted so long.
func (t *tally) traffic(length time.Duration) Traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.so
	out.PerSecond = slices.Clone(t.seconds[:min(len(t.seconds), int((length+time.Second-1)/time.Second))])
	for _, s := range out.PerSecond {
		if s.Failed > 0 {
			out.SecondsWithFailures++
		}
	}
	if out.Attempts > 0 {
		out.FailedPercent = 100 * float64(out.Failed) / float64(out.Attempts)
	}
	if length > 0 {
		out.AchievedRate = float64(out.Attempts) / length.Seconds()
	}
	out.LatestMilliseconds = t.latest.Milliseconds()
	return out
}

func failureOf(err error) Failure {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return FailureRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return FailureTimeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return FailureReset
	}
	return FailureOther
}

// newAttempt returns a function that opens a connection, asks, and reads the answer to its end. Its errors say whether
// there was a connection: a Pod that has gone opens none, and one that is slow does.
func newAttempt(address string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		var connected atomic.Bool
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			if connected.Load() {
				return fmt.Errorf("connected, but no answer: %w", err)
			}
			return fmt.Errorf("no connection: %w", err)
		}
		_, err = io.ReadAll(io.LimitReader(response.Body, answerLimit))
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("answered %s", response.Status)
		}
		return nil
	}
}
