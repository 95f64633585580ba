package watch

import (
	"context"
	"errors"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// probePeriod is how often the API server is asked while much happens. Bursts of some seconds get a dozen probes.
	probePeriod = 200 * time.Millisecond
	// quietPeriods lie between two probes otherwise: half a request a second.
	quietPeriods = 10
	// busyEvents in a period mean that much happens: five times what kube-controller-manager writes at its default flags.
	busyEvents = 40
	// busyWay is how many times as long as an answer an event may take while much happens: an event waits in the API
	// server's watch cache and again for its connection, an answer only once.
	busyWay = 2
	// probeTimeout ends a probe that is not answered. The watches notice a dead connection themselves.
	probeTimeout = 10 * time.Second
)

// probed is asked for because everybody may ask, there is one wherever lag is measured, and an answer comes from etcd:
// kube-controller-manager's Lease. A refusal is an answer too, of an API server that is just as busy.
func probed() *kind {
	return &kind{
		name: "leases",
		path: resource("/apis/coordination.k8s.io/v1", metav1.NamespaceSystem, "leases/kube-controller-manager"),
	}
}

// probe asks the API server for something small, over the connection of the watches, and keeps how long the answer took:
// so late may what it sent since the probe before have been. It ends with ctx.
func (f *Feed) probe(ctx context.Context) {
	ticker := f.clock.NewTicker(probePeriod)
	defer ticker.Stop()
	last := f.clock.Now()
	for n := 0; ; n++ {
		busy := f.delays.count() >= busyEvents
		if busy || n%quietPeriods == 0 {
			began := f.clock.Now()
			if took, answered := f.ask(ctx); answered {
				p := answer{since: last, ended: began.Add(took), took: took, busy: busy}
				f.delays.path(p.since, p.ended, p.late())
			}
			last = began
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// ask probes once, and returns how long the answer took, if one came.
func (f *Feed) ask(ctx context.Context) (took time.Duration, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := f.clock.Now()
	body, err := f.get(ctx, probed(), metav1.ListOptions{})
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(body, errorBytes))
		err = errors.Join(err, body.Close())
	}
	if refused := apierrors.APIStatus(nil); err != nil && !errors.As(err, &refused) {
		return 0, false // The watches have broken too, or will.
	}
	return f.clock.Since(began), true
}

// answer is what a probe came to. The probe before began at since.
type answer struct {
	since, ended time.Time
	took         time.Duration
	busy         bool
}

// late is by how much what the API server sent meanwhile may be late.
func (a answer) late() time.Duration {
	late := a.took
	if a.busy {
		late *= busyWay
	}
	if a.took > probePeriod { // The way was held up, and nobody knows since when.
		late = max(late, a.ended.Sub(a.since))
	}
	return late
}
