package accuracy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

// Role says which of the two watching processes a process is.
type Role string

// The operator's own measurement is held against the lab's observer. Each runs in a process of its own, so that they
// compete for the CPUs like any other and share no scheduler, no garbage collector and no connection.
const (
	RoleSubject  Role = "subject"
	RoleObserver Role = "observer"
)

// WatchOptions are what a watching process is told on its command line.
type WatchOptions struct {
	Role       Role
	Kubeconfig string
	// Out is where the recording is written at the end.
	Out string
	// Commands is the standard input: a line with the time at which the windows begin, and its end, which ends the run.
	Commands io.Reader
	// Ready is the standard output: a line when everything that exists has been seen.
	Ready io.Writer
}

// recording is what a watching process saw.
type recording struct {
	Changes []Change `json:"changes"`
	// Stated is what the subject said about each window.
	Stated []stated `json:"stated,omitempty"`
	// Gaps are the times in which the subject says that it could not see.
	Gaps int `json:"gaps"`
	// Nice is the scheduling priority that the process ran at.
	Nice int `json:"nice"`
}

// stated is what the subject says about the error of the samples that began in a window.
type stated struct {
	// Bound was stated a little after the window's end, about what had been published by then.
	Bound bound `json:"bound"`
	// Later is what is stated about the same window when it is extended by one window after another, about changes that
	// were published only then: Later[0] is one window longer.
	Later []bound `json:"later"`
}

// bound is a stated error bound; not Known states nothing.
type bound struct {
	Known bool          `json:"known"`
	Error time.Duration `json:"error"`
}

const (
	// windowLength is how long a window is.
	windowLength = 10 * time.Second
	// statementDelay is when a window's bound is asked for after its end. The feed tells once a second what the seconds
	// that are over were late by, so that the window's last one is known after two.
	statementDelay = 2500 * time.Millisecond
	// longestStatement is by how many windows a statement is extended at most: longer than a burst takes to be published
	// at the default flags.
	longestStatement = 12
	// subjectCapacity holds every change of a run, so that none is pushed out.
	subjectCapacity = 1 << 17
)

// Watch records changes until its commands end.
func Watch(ctx context.Context, o WatchOptions) (err error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return fmt.Errorf("load %s: %w", o.Kubeconfig, err)
	}
	record := recordSubject
	if o.Role == RoleObserver {
		record = recordObserver
	}
	commands := bufio.NewReader(o.Commands)
	r, err := record(ctx, config, session{ready: o.Ready, commands: commands})
	if err != nil {
		return fmt.Errorf("%s: %w", o.Role, err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%s: encode the recording: %w", o.Role, err)
	}
	return os.WriteFile(o.Out, text, 0o600)
}

// session is the conversation with the process that leads the run.
type session struct {
	ready    io.Writer
	commands *bufio.Reader
}

// begin says that the process is ready and returns when the windows begin, and a channel that is closed at the end.
func (s session) begin() (time.Time, <-chan struct{}, error) {
	if _, err := fmt.Fprintln(s.ready, "ready"); err != nil {
		return time.Time{}, nil, fmt.Errorf("say that it is ready: %w", err)
	}
	line, err := s.commands.ReadString('\n')
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("read when the windows begin: %w", err)
	}
	from, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(line))
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("read when the windows begin: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, s.commands) // An error ends the run as well as the end of the input does.
	}()
	return from, ended, nil
}

// recordObserver lets the lab's observer watch.
func recordObserver(ctx context.Context, config *rest.Config, s session) (recording, error) {
	out := recording{Nice: prefer(truthNice)} // Before more threads are made, which inherit it.
	ob, err := observer.Start(ctx, config, observer.Options{ServiceLabel: workload.ServiceLabel})
	if err != nil {
		return recording{}, err
	}
	defer ob.Stop()
	_, ended, err := s.begin()
	if err != nil {
		return recording{}, err
	}
	select {
	case <-ended:
	case <-ctx.Done():
		return recording{}, context.Cause(ctx)
	}
	result, err := ob.Result("start")
	if err != nil {
		return recording{}, err
	}
	out.observed(lag.ResourceEndpointSlice, result.From, result.EndpointSlice)
	out.observed(lag.ResourceEndpoints, result.From, result.Endpoints)
	return out, nil
}

// observed takes over what the observer saw in one API.
func (r *recording) observed(resource lag.Resource, from time.Time, seen observer.Resource) {
	take := func(list []observer.Change, class string) {
		for _, c := range list {
			if c.Pending {
				class = classOpen
			}
			r.Changes = append(r.Changes, Change{
				Resource: string(resource), Service: c.Service, Pod: plainUID(c.Pod), Added: c.Added, Class: class,
				From: from.Add(c.At), Lag: c.Lag,
			})
		}
	}
	take(seen.Series, classClosed)
	take(seen.SupersededSeries, classSuperseded)
}

// recordSubject lets the operator's feed and tracker watch, as the operator itself runs them.
func recordSubject(ctx context.Context, config *rest.Config, s session) (recording, error) {
	var log Log
	tracker := lag.NewTracker(lag.Options{Capacity: subjectCapacity, Ended: log.Ended})
	feed, err := watch.NewFeed(config, tracker, watch.Options{})
	if err != nil {
		return recording{}, err
	}
	feeding, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = feed.Start(feeding) }) // It ends with its context only.
	if err = feed.WaitSynced(ctx); err != nil {
		return recording{}, err
	}
	from, ended, err := s.begin()
	if err != nil {
		return recording{}, err
	}
	statements, err := followWindows(ctx, tracker, from, ended)
	if err != nil {
		return recording{}, err
	}
	return recording{Changes: log.Changes(), Stated: statements, Gaps: len(tracker.Summary(lag.Query{Since: from, Now: clock.RealClock{}.Now()}).Blind)}, nil
}

// followWindows asks for each window's bound when it has passed, until the run ends, and then for the bounds of longer
// ones.
func followWindows(ctx context.Context, tracker *lag.Tracker, from time.Time, ended <-chan struct{}) ([]stated, error) {
	var out []stated
	for {
		until := from.Add(time.Duration(len(out)+1) * windowLength)
		timer := clock.RealClock{}.NewTimer(-clock.RealClock{}.Since(until.Add(statementDelay)))
		select {
		case <-timer.C():
			out = append(out, stated{Bound: boundOf(tracker, until.Add(-windowLength), until)})
			continue
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		case <-ended:
			timer.Stop()
		}
		break
	}
	if len(out) == 0 {
		return nil, errors.New("the run ended before its first window")
	}
	for i := range out {
		start := from.Add(time.Duration(i) * windowLength)
		for j := i + 1; j < min(len(out), i+1+longestStatement); j++ {
			out[i].Later = append(out[i].Later, boundOf(tracker, start, from.Add(time.Duration(j+1)*windowLength)))
		}
	}
	return out, nil
}

// boundOf asks the tracker how wrong the samples of a window may be.
func boundOf(tracker *lag.Tracker, since, now time.Time) bound {
	s := tracker.Summary(lag.Query{Since: since, Now: now})
	return bound{Known: s.BoundKnown, Error: s.ErrorBound}
}
