package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

// samplePeriod is how often counters are read.
const samplePeriod = time.Second

// sampler reads both processes' counters, each on its own, so that a slow answer of one delays no reading of the other.
type sampler struct {
	kcm    *scrape.KCM
	server *scrape.APIServer
	clock  clock.WithTicker

	mu      sync.Mutex
	signals []v1alpha1.KCMSignals
	samples []tuner.ServerSample
}

// run reads until ctx ends, and once more then. A reading that fails is left out: the evidence has a gap there, as it
// would have in a cluster.
func (s *sampler) run(ctx context.Context) {
	var running sync.WaitGroup
	for _, read := range []func(context.Context) error{s.readKCM, s.readServer} {
		running.Go(func() {
			ticker := s.clock.NewTicker(samplePeriod)
			defer ticker.Stop()
			for ctx.Err() == nil {
				_ = read(ctx) // A gap.
				select {
				case <-ctx.Done():
				case <-ticker.C():
				}
			}
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), samplePeriod)
			defer cancel()
			_ = read(last)
		})
	}
	running.Wait()
}

func (s *sampler) readKCM(ctx context.Context) error {
	signals, err := s.readSignals(ctx)
	if err != nil {
		return err
	}
	signals.Time = metav1.NewMicroTime(s.clock.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signals = append(s.signals, signals)
	return nil
}

// readSignals reads what kube-controller-manager tells of itself now; what makes no sense is left out.
func (s *sampler) readSignals(ctx context.Context) (v1alpha1.KCMSignals, error) {
	signals, err := s.kcm.Signals(ctx)
	if dropped := (*scrape.SampleError)(nil); err != nil && !errors.As(err, &dropped) {
		return v1alpha1.KCMSignals{}, fmt.Errorf("read kube-controller-manager's metrics: %w", err)
	}
	return signals.KCM, nil
}

func (s *sampler) readServer(ctx context.Context) error {
	sample, err := s.server.Sample(ctx)
	if err != nil {
		return err
	}
	sample.Time = s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, sample)
	return nil
}

// since returns what was read since a time.
func (s *sampler) since(from time.Time) ([]tuner.Sample, []tuner.ServerSample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	signals := slices.DeleteFunc(slices.Clone(s.signals), func(k v1alpha1.KCMSignals) bool { return k.Time.Time.Before(from) })
	samples := slices.DeleteFunc(slices.Clone(s.samples), func(k tuner.ServerSample) bool { return k.Time.Before(from) })
	out := make([]tuner.Sample, len(signals))
	for i := range signals {
		out[i] = sampleOf(signals[i])
	}
	return out, samples
}

// sampleOf is controllers.Samples for one scrape; importing that would bring the API server's libraries into the lab. This
// kube-controller-manager tells all of its counters.
func sampleOf(k v1alpha1.KCMSignals) tuner.Sample {
	milliseconds := func(v *int64) time.Duration { return time.Duration(ptr.Deref(v, 0)) * time.Millisecond }
	queue := func(q v1alpha1.QueueSignals) tuner.QueueSample {
		return tuner.QueueSample{
			Depth: ptr.Deref(q.Depth, 0), Syncs: ptr.Deref(q.Syncs, 0),
			Wait: milliseconds(q.WaitMilliseconds), Work: milliseconds(q.WorkMilliseconds),
		}
	}
	return tuner.Sample{
		Time: k.Time.Time, ProcessStart: k.ProcessStartTime.Time, Writes: ptr.Deref(k.Writes, 0),
		LimiterWait: milliseconds(k.LimiterWaitMilliseconds), RequestTime: milliseconds(k.RequestMilliseconds),
		StaleSyncs: ptr.Deref(k.StaleSyncs, 0), FailedSyncs: ptr.Deref(k.FailedSyncs, 0),
		Endpoints: queue(k.Endpoints), EndpointSlices: queue(k.EndpointSlices),
	}
}
