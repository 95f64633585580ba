package agent

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
)

const (
	steadyEvery = 10 * time.Second // how often /healthz is asked when nothing happens

	// detailsSteady is how often signals and flags are read when nothing happens: each reading costs the API server a
	// TokenReview and two SubjectAccessReviews, which kube-controller-manager keeps for ten seconds.
	detailsSteady = 30 * time.Second

	activeEvery = 2 * time.Second // how often while there is write activity
	activeFor   = 2 * time.Minute // how long activity is followed after it was seen

	// activeWrites between two readings, per activeEvery, are activity: more than leases, events and resyncs make.
	activeWrites = 50

	// silentProbes is how many probes in a row have to stay without an answer before a process counts as unhealthy: one
	// says no more than that the machine was busy.
	silentProbes = 2

	probeEvery   = 250 * time.Millisecond // how often /healthz is asked while a process is being proven
	probeTimeout = time.Second            // how long it may take then
	detailsEvery = 500 * time.Millisecond // how often metrics and flags are read then
	leaseEvery   = 2 * time.Second        // how often the Lease is read then: as often as it is renewed

	// handOverEvery is how often the Lease is read while its hand-over is timed, and handOverFor how long that lasts: a
	// process that gives the Lease up is succeeded within a second, one that does not after 15 to 17 s.
	handOverEvery = 500 * time.Millisecond
	handOverFor   = 30 * time.Second
)

// probe asks /healthz once.
func (a *Agent) probe(ctx context.Context) (answer, string) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	fingerprint, err := a.kcm.Probe(ctx)
	switch {
	case err == nil:
		return answerGood, fingerprint
	case errors.Is(err, syscall.ECONNREFUSED):
		return answerRefused, ""
	case fingerprint != "":
		return answerBad, fingerprint
	}
	if _, ok := errors.AsType[*scrape.StatusError](err); ok {
		return answerBad, fingerprint
	}
	return answerSilent, ""
}

// details is what a process says about itself to those whom it can authenticate.
type details struct {
	asked      time.Duration // on the boot clock
	process    process
	signals    scrape.Signals
	flags      v1alpha1.Flags
	settings   v1alpha1.KCMSettings
	known      bool // signals and process
	flagsKnown bool // flags and settings
}

// readDetails reads the metrics first: the flags are then never those of an older process than the metrics are.
func (a *Agent) readDetails(ctx context.Context) details {
	now := a.clock.now()
	d := details{asked: now.Boot}
	signals, err := a.kcm.Signals(ctx)
	if _, dropped := errors.AsType[*scrape.SampleError](err); err != nil && !dropped {
		a.log.V(1).Info("cannot read the metrics of kube-controller-manager", "error", err.Error())
		return d
	} else if dropped {
		a.log.Info("some metrics of kube-controller-manager make no sense", "error", err.Error())
	}
	signals.KCM.Time = metav1.NewMicroTime(now.Wall.UTC())
	d.known, d.signals = true, signals
	d.process = process{Start: signals.ProcessStart(), Fingerprint: signals.Fingerprint}
	configuration, err := a.kcm.Configuration(ctx)
	if err != nil {
		a.log.V(1).Info("cannot read the flags of kube-controller-manager", "error", err.Error())
		return d
	}
	d.flags, d.settings, d.flagsKnown = configuration.Flags, configuration.Settings, true
	if signals.ReleaseOnExit != nil { // what is in force, whatever was asked for
		d.settings.ReleaseOnExit = signals.ReleaseOnExit
	}
	return d
}

// observe looks at everything once and returns when to look again.
func (a *Agent) observe(ctx context.Context) time.Duration {
	health, fingerprint := a.probe(ctx)
	now := a.clock.now().Boot
	due := health != answerGood || fingerprint != a.read.fingerprint || now-a.read.at >= detailsSteady || a.activity.until > now
	var d details
	if due {
		d = a.readDetails(ctx)
		a.read = reading{at: now, fingerprint: fingerprint}
	}
	_, _, err := a.look(change{})
	a.silent = a.silent.next(health)
	a.view.update(func(s *sight) {
		s.Healthy = a.silent.healthy(s.Healthy, health)
		if s.Manifest = nil; err != nil {
			s.Manifest = asFailure(err)
		}
		if due {
			a.activity = a.activity.next(s.Signals.KCM, d.signals.KCM, a.clock.now().Boot)
			s.take(d)
		}
	})
	signal(a.view.changed)
	if a.activity.until > a.clock.now().Boot || a.silent > 0 {
		return activeEvery
	}
	return steadyEvery
}

// look says what the manifest's path holds, compared with a change's hashes, and lets the status say it.
func (a *Agent) look(c change) (found, snapshot, error) {
	at, now, err := a.place.look(c)
	wall := a.clock.now().Wall
	a.view.update(func(s *sight) { s.ManifestHash, s.Seen = now.Hash, s.Seen.next(at, now, wall) })
	return at, now, err
}

// manifestSeen is what the manifest's path last held, as far as it could be read, and since when. The zero value is that
// of an agent that has not looked yet.
type manifestSeen struct {
	looked  bool
	hash    hash // empty: there was nothing
	changed time.Time
}

// next takes in what the path holds now. What was written before the first look has the time of its file, unless the
// clock was set back since; everything later has the time at which it was seen, unless that lies before the last.
func (m manifestSeen) next(at found, now snapshot, wall time.Time) manifestSeen {
	switch {
	case at == foundUnreadable: // it may be what it was
		return m
	case !m.looked && now.changed.Before(wall):
		return manifestSeen{looked: true, hash: now.Hash, changed: now.changed}
	case !m.looked:
		return manifestSeen{looked: true, hash: now.Hash, changed: wall}
	case now.Hash == m.hash:
		return m
	case wall.Before(m.changed):
		wall = m.changed
	}
	return manifestSeen{looked: true, hash: now.Hash, changed: wall}
}

// silence is how many probes in a row stayed without an answer.
type silence int

func (s silence) next(a answer) silence {
	if a == answerSilent {
		return s + 1
	}
	return 0
}

// healthy is what the probes say, the last one included; before is what was said until now.
func (s silence) healthy(before *bool, last answer) *bool {
	if s > 0 && s < silentProbes {
		return before
	}
	return new(last == answerGood)
}

// take replaces what was known about the process. What cannot be read is not known any more.
func (s *sight) take(d details) {
	s.Signals, s.Running, s.Settings = d.signals, v1alpha1.Flags{}, v1alpha1.KCMSettings{}
	if d.flagsKnown {
		s.Running, s.Settings = d.flags, d.settings
	}
}

// reading is when signals and flags were last read, and of which process.
type reading struct {
	at          time.Duration // on the boot clock
	fingerprint string
}

// activity is whether kube-controller-manager is busy.
type activity struct{ until time.Duration }

// next compares two readings of one process.
func (a activity) next(before, after v1alpha1.KCMSignals, now time.Duration) activity {
	busy := positive(after.Endpoints.Depth) || positive(after.EndpointSlices.Depth)
	if before.Writes != nil && after.Writes != nil && before.ProcessStartTime == after.ProcessStartTime {
		between := max(after.Time.Sub(before.Time.Time), activeEvery)
		busy = busy || float64(*after.Writes-*before.Writes)*activeEvery.Seconds() >= activeWrites*between.Seconds()
	}
	if busy {
		return activity{until: now + activeFor}
	}
	return a
}

func positive(n *int64) bool { return n != nil && *n > 0 }

// companions read, beside the probing of /healthz, what may take long when the API server is dead.
type companions struct {
	mu      sync.Mutex
	details details
	lease   leaseView
	leaseAt time.Duration // when the Lease was read, on the boot clock
}

// accompany starts the readers. They end, and done returns, when ctx has ended.
func (a *Agent) accompany(ctx context.Context, t trial) (c *companions, done func()) {
	c = &companions{}
	var group sync.WaitGroup
	group.Go(func() {
		a.every(ctx, func() time.Duration {
			d := a.readDetails(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.details = d
			return detailsEvery
		})
	})
	group.Go(func() {
		a.every(ctx, func() time.Duration {
			lease, now := a.cluster.lease(ctx), a.clock.now().Boot
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lease, c.leaseAt = lease, now
			return t.leasePace(now)
		})
	})
	return c, group.Wait
}

// every calls do again and again, each time after what do returned, until ctx ends.
func (a *Agent) every(ctx context.Context, do func() time.Duration) {
	for {
		if !a.wait(ctx, do(), nil) {
			return
		}
	}
}

// wait returns true after d or when wake has a note, false when ctx has ended.
func (a *Agent) wait(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := a.clock.wall.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
	case <-wake:
	}
	return ctx.Err() == nil
}

// merge makes one observation of a probe and what the companions know. Details that may be of a process that is gone
// are left out.
func (c *companions) merge(at time.Duration, health answer, fingerprint string, refused time.Duration) observation {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := observation{
		At: at, Health: health, Process: process{Fingerprint: fingerprint},
		APIReachable: c.lease.Reachable, LeaseRenewal: c.lease.Renewal, LeaseHolder: c.lease.Holder, LeaseAt: c.leaseAt,
	}
	if d := c.details; d.known && d.asked > refused && d.process.Fingerprint == fingerprint {
		o.Process = d.process
		o.Leader = d.signals.Leader
		o.FlagsKnown, o.Flags = d.flagsKnown, d.flags
	}
	return o
}

func (c *companions) lastDetails() details {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.details
}
