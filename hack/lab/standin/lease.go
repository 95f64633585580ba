package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	leases    = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
	leaseName = "kube-controller-manager"

	// leaseDuration, renewDeadline and retryPeriod are kube-controller-manager's defaults (component-base/config,
	// LeaderElection) of --leader-elect-lease-duration, --leader-elect-renew-deadline and --leader-elect-retry-period.
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// microTime is how the API writes a metav1.MicroTime.
	microTime = "2006-01-02T15:04:05.000000Z07:00"
)

// errLeaseLost ends the process, as it ends kube-controller-manager.
var errLeaseLost = errors.New("leader election lost")

// lease takes kube-controller-manager's Lease and renews it. A nil lease always leads.
type lease struct {
	api      *api
	clock    clock.Clock
	identity string
	// polite says that another's Lease is taken only when it has not been renewed for its duration.
	polite                    bool
	duration, deadline, every time.Duration

	seen   string    // holder and renewal of the Lease, as it was last seen to change
	seenAt time.Time // on this process's own clock

	mu      sync.Mutex
	renewed time.Time
	writes  int
}

func newLease(a *api, c clock.Clock, flags map[string]string) *lease {
	host, err := os.Hostname()
	if err != nil {
		host = "standin"
	}
	return &lease{
		api: a, clock: c, identity: cmp.Or(flags[flagHost], host) + "_" + rand.Text(), polite: flags[flagLease] == "elect",
		duration: durationOf(flags["leader-elect-lease-duration"], leaseDuration),
		deadline: durationOf(flags["leader-elect-renew-deadline"], renewDeadline),
		every:    durationOf(flags["leader-elect-retry-period"], retryPeriod),
	}
}

func durationOf(text string, usual time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return usual
	}
	return d
}

// state returns 1 while the Lease is held and 0 otherwise, and how many times it was written.
func (l *lease) state() (leads, writes int) {
	if l == nil {
		return 1, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.renewed.IsZero() && l.clock.Since(l.renewed) < l.deadline {
		leads = 1
	}
	return leads, l.writes
}

// keep takes and renews the Lease until ctx ends. It returns early if the Lease was held and could not be renewed in time,
// and whoever shares the Lease politely must end then.
func (l *lease) keep(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.renew(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "renew lease:", err)
		}
		if l.lost() {
			return errLeaseLost
		}
		t := l.clock.NewTimer(l.every)
		select {
		case <-ctx.Done():
		case <-t.C():
		}
		t.Stop()
	}
	return nil
}

func (l *lease) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.polite && !l.renewed.IsZero() && l.clock.Since(l.renewed) >= l.deadline
}

func (l *lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	var current map[string]any
	err := l.api.do(ctx, http.MethodGet, leases+"/"+leaseName, nil, &current)
	now := l.clock.Now()
	stamp, seconds := now.UTC().Format(microTime), max(int(l.duration/time.Second), 1)
	var status statusError
	if errors.As(err, &status) && int(status) == http.StatusNotFound {
		fresh := map[string]any{
			keyVersion: "coordination.k8s.io/v1", keyKind: "Lease",
			"metadata": map[string]any{"name": leaseName, "namespace": "kube-system"},
			keySpec: map[string]any{
				keyHolder: l.identity, "leaseDurationSeconds": seconds,
				"acquireTime": stamp, "renewTime": stamp, "leaseTransitions": 0,
			},
		}
		return l.write(now, l.api.do(ctx, http.MethodPost, leases, fresh, &current))
	}
	if err != nil {
		return err
	}
	spec, ok := current[keySpec].(map[string]any)
	if !ok {
		spec = map[string]any{}
		current[keySpec] = spec
	}
	if l.polite && l.taken(spec, now) {
		return nil
	}
	if spec[keyHolder] != l.identity {
		transitions, _ := spec["leaseTransitions"].(float64)
		spec[keyHolder], spec["acquireTime"], spec["leaseTransitions"] = l.identity, stamp, int(transitions)+1
	}
	spec["renewTime"], spec["leaseDurationSeconds"] = stamp, seconds
	return l.write(now, l.api.do(ctx, http.MethodPut, leases+"/"+leaseName, current, &current))
}

// taken reports whether somebody else holds the Lease. As client-go does, it compares no two clocks: a Lease has run out
// when this process has not seen it change for its duration.
func (l *lease) taken(spec map[string]any, now time.Time) bool {
	holder, _ := spec[keyHolder].(string)
	if seen := fmt.Sprint(holder, spec["renewTime"]); seen != l.seen {
		l.seen, l.seenAt = seen, now
	}
	return holder != "" && holder != l.identity && now.Sub(l.seenAt) < l.duration
}

// write records a write that was tried.
func (l *lease) write(now time.Time, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes++
	if err == nil {
		l.renewed = now
	}
	return err
}
