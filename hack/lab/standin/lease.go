package main

import (
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

	// leaseSeconds, renewDeadline and retryPeriod are kube-controller-manager's defaults (component-base/config,
	// LeaderElection); --leader-elect-retry-period sets the last.
	leaseSeconds  = 15
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// microTime is how the API writes a metav1.MicroTime.
	microTime = "2006-01-02T15:04:05.000000Z07:00"
)

// lease takes kube-controller-manager's Lease at once, whoever holds it, and renews it. A nil lease always leads.
type lease struct {
	api      *api
	clock    clock.Clock
	identity string
	every    time.Duration

	mu      sync.Mutex
	renewed time.Time
	writes  int
}

func newLease(a *api, c clock.Clock, every string) *lease {
	host, err := os.Hostname()
	if err != nil {
		host = "standin"
	}
	period, err := time.ParseDuration(every)
	if err != nil || period <= 0 {
		period = retryPeriod
	}
	return &lease{api: a, clock: c, identity: host + "_" + rand.Text(), every: period}
}

// state returns 1 while the Lease is held and 0 otherwise, and how many times it was written.
func (l *lease) state() (leads, writes int) {
	if l == nil {
		return 1, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.renewed.IsZero() && l.clock.Since(l.renewed) < renewDeadline {
		leads = 1
	}
	return leads, l.writes
}

func (l *lease) keep(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.renew(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "renew lease:", err)
		}
		t := l.clock.NewTimer(l.every)
		select {
		case <-ctx.Done():
		case <-t.C():
		}
		t.Stop()
	}
}

func (l *lease) renew(ctx context.Context) error {
	now := l.clock.Now()
	stamp := now.UTC().Format(microTime)
	var current map[string]any
	err := l.api.do(ctx, http.MethodGet, leases+"/"+leaseName, nil, &current)
	var status statusError
	if errors.As(err, &status) && int(status) == http.StatusNotFound {
		fresh := map[string]any{
			keyVersion: "coordination.k8s.io/v1", keyKind: "Lease",
			"metadata": map[string]any{"name": leaseName, "namespace": "kube-system"},
			keySpec: map[string]any{
				"holderIdentity": l.identity, "leaseDurationSeconds": leaseSeconds,
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
	if spec["holderIdentity"] != l.identity {
		transitions, _ := spec["leaseTransitions"].(float64)
		spec["holderIdentity"], spec["acquireTime"], spec["leaseTransitions"] = l.identity, stamp, int(transitions)+1
	}
	spec["renewTime"], spec["leaseDurationSeconds"] = stamp, leaseSeconds
	return l.write(now, l.api.do(ctx, http.MethodPut, leases+"/"+leaseName, current, &current))
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
