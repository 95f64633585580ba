package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/watch"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/accuracy"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

// faultStage is a control plane at default flags with an audit log, which is the truth: it has no gaps.
type faultStage struct {
	*controlplane.ControlPlane

	incident, other *workload.Workload
	line            *line
	clock           clock.Clock
}

func newFaultStage(t *testing.T) *faultStage {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.Options{
		UnsafeNoFsync: true, Progress: t.Output(), AuditPolicy: accuracy.AuditPolicy(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if stopped := cp.Stop(); stopped != nil {
			t.Error(stopped)
		}
	})
	nodes, err := controlplane.StartNodes(t.Context(), cp.Admin, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nodes.Stop)
	runPatientManager(t, cp, nodes.ControlPlane[0])
	f := &faultStage{ControlPlane: cp, clock: clock.RealClock{}, line: newLine(t, strings.TrimPrefix(cp.Admin.Host, "https://"))}
	f.incident = populate(t, cp.Admin, workload.Options{Namespace: "incident", Services: incidentServices, Nodes: nodes.Workers})
	f.other = populate(t, cp.Admin, workload.Options{Namespace: "other", Services: gapServices, Nodes: nodes.Workers})
	return f
}

// runPatientManager runs kube-controller-manager at its default flags, but for a Lease that outlives a restart of the API
// server: a hand-over is not what is tested here.
func runPatientManager(t *testing.T, cp *controlplane.ControlPlane, node string) {
	t.Helper()
	manifest, err := cp.KCMManifest()
	if err != nil {
		t.Fatal(err)
	}
	const anchor = "    - --leader-elect=true\n"
	manifest = bytes.Replace(manifest, []byte(anchor),
		[]byte(anchor+"    - --leader-elect-lease-duration=2m\n    - --leader-elect-renew-deadline=100s\n"), 1)
	dir := t.TempDir()
	if err = os.WriteFile(filepath.Join(dir, rig.ManifestName), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	runner, err := staticpod.Start(context.WithoutCancel(t.Context()), staticpod.Options{
		ManifestDir: dir, LogDir: cp.Logs, NodeName: node,
		Binaries: map[string]string{"kube-controller-manager": cp.Binaries.ControllerManager},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(runner.Stop)
}

// measurement is the operator's feed and tracker over the line.
type measurement struct {
	tracker *lag.Tracker
	log     accuracy.Log
	cancel  context.CancelFunc
	done    sync.WaitGroup
	// asked and synced are when it began to read and had read everything.
	asked, synced time.Time

	mu      sync.Mutex
	relists map[lag.Kind]int
}

// measure starts a measurement and returns when it records; it ends with the test, if not before.
func (f *faultStage) measure(t *testing.T) *measurement {
	t.Helper()
	config := rest.CopyConfig(f.Admin)
	config.Host = "https://" + f.line.address()
	m := &measurement{relists: map[lag.Kind]int{}, asked: f.clock.Now()}
	m.tracker = lag.NewTracker(lag.Options{Ended: m.log.Ended})
	feed, err := watch.NewFeed(config, m.tracker, watch.Options{Watched: m.watched})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	m.cancel = cancel
	m.done.Go(func() { _ = feed.Start(ctx) }) // It ends with its context only.
	t.Cleanup(m.stop)
	waiting, cancelWait := context.WithTimeout(t.Context(), time.Minute)
	defer cancelWait()
	if err = feed.WaitSynced(waiting); err != nil {
		t.Fatal(err)
	}
	m.synced = f.clock.Now()
	return m
}

func (m *measurement) stop() {
	m.cancel()
	m.done.Wait()
}

func (m *measurement) watched(kind lag.Kind, relist bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if relist {
		m.relists[kind]++
	}
}

func (m *measurement) relistsOf(kind lag.Kind) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.relists[kind]
}

// play makes an incident, injects a fault into it, and returns when all is published and the measurement knows.
func (f *faultStage) play(t *testing.T, fault func(), m func() *measurement) (from time.Time) {
	t.Helper()
	from = f.clock.Now()
	f.flip(t, f.incident)
	f.sleep(t, intoIncident)
	fault()
	for _, w := range []*workload.Workload{f.incident, f.other} {
		if err := w.WaitConverged(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var left string
	rig.Await(t, time.Minute, func() string { return "the measurement to have seen all of it: " + left }, func(context.Context) bool {
		summary := m().tracker.Summary(lag.Query{Since: from, Now: f.clock.Now()})
		left = ""
		if !summary.BoundKnown {
			left = "its error bound" // The last second's delays are told when it is over.
		}
		for _, b := range summary.Blind {
			if b.To.IsZero() { // Its reflector waits, up to half a minute, before it asks again.
				left = "the watch of " + b.Kind.String()
			}
		}
		for _, s := range summary.Stats {
			if s.Open+s.StartupOpen > 0 {
				left = fmt.Sprintf("%s %s: %d open, %d from before the start", s.Resource, s.Direction, s.Open, s.StartupOpen)
			}
		}
		return left == ""
	})
	return from
}

func (f *faultStage) flip(t *testing.T, w *workload.Workload) {
	t.Helper()
	if _, err := w.Flip(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// sleep lets the incident go on; a length of time is what is injected.
func (f *faultStage) sleep(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-f.clock.After(d):
	case <-t.Context().Done():
		t.Fatal(context.Cause(t.Context()))
	}
}

// blind flips other Pods while the measurement cannot see, and says for how long that was.
func (f *faultStage) blind(t *testing.T, meanwhile func()) outage {
	t.Helper()
	out := outage{from: f.clock.Now()}
	f.line.sever()
	f.flip(t, f.other)
	meanwhile()
	out.to = f.clock.Now()
	f.line.mend()
	return out
}

// membership is a Pod in one API. In one incident each changes once.
type membership struct{ resource, pod string }

// truth returns the changes since then by the audit log.
func (f *faultStage) truth(t *testing.T, from time.Time) map[membership]accuracy.Change {
	t.Helper()
	log, err := os.Open(f.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	changes, err := accuracy.AuditTruth(log, workload.ServiceLabel)
	if err = errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	out := map[membership]accuracy.Change{}
	for _, c := range changes {
		if !c.From.Before(from) {
			out[membership{c.Resource, c.Pod}] = c
		}
	}
	return out
}
