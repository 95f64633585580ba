package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
	"github.com/endpointsync/endpoint-sync-operator/internal/trace"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// These tests run in synctest bubbles: the session's clock is the real one, in virtual time.

// scenario plays the watches: Services whose Pods become ready one after the other and are published as a rate limit
// with a burst allows.
type scenario struct {
	tracker  *lag.Tracker
	services int
	perLag   time.Duration // between two publications, after the burst
	err      error         // of WaitSynced, if any
	already  bool          // the Pods are ready before the measurement begins, and nothing is published
	late     time.Duration // of all stamps, told of each second when it is over; 0: nobody tells
	broken   time.Duration // for how long the watch of EndpointSlices breaks at the start of the publications
}

const (
	quietBefore = 10 * time.Second
	writeTime   = 4 * time.Millisecond
	burst       = 30
)

func (s scenario) Start(ctx context.Context) error {
	for i := range s.services {
		name := fmt.Sprintf("s%d", i)
		now := time.Now()
		s.tracker.SetService(lag.Service{Namespace: "shop", Name: name, Selector: lag.LabelsOf(map[string]string{"app": name})}, now)
		s.tracker.SetPod(s.pod(name, s.already), now)
	}
	s.tracker.Synced(time.Now())
	if s.late > 0 {
		go func() {
			for s.wait(ctx, time.Second) {
				s.tracker.SetDelay(time.Now().Add(-time.Second), s.late)
			}
		}()
	}
	if !s.wait(ctx, quietBefore) {
		return nil
	}
	if s.broken > 0 {
		s.tracker.SetReceiving(lag.KindSlice, false, time.Now())
		time.AfterFunc(s.broken, func() { s.tracker.SetReceiving(lag.KindSlice, true, time.Now()) })
	}
	go func() {
		for i := range s.services {
			s.tracker.SetPod(s.pod(fmt.Sprintf("s%d", i), true), time.Now())
			s.wait(ctx, writeTime)
		}
	}()
	for i := range s.services {
		pause := s.perLag
		if i < burst {
			pause = writeTime
		}
		if !s.wait(ctx, pause) {
			return nil
		}
		name, now := fmt.Sprintf("s%d", i), time.Now().Add(writeTime)
		ready := []lag.Address{{PodUID: lag.ParseUID(name), IP: lag.ParseIP("10.0.0.1")}}
		s.tracker.SetSlice(lag.Slice{Namespace: "shop", Name: name, Service: name, Ready: ready}, now)
		s.tracker.SetEndpoints(lag.Endpoints{Namespace: "shop", Name: name, Ready: ready}, now)
	}
	<-ctx.Done()
	return nil
}

func (s scenario) pod(name string, ready bool) lag.Pod {
	return lag.Pod{
		Namespace: "shop", Name: name, UID: lag.ParseUID(name), Labels: lag.LabelsOf(map[string]string{"app": name}),
		IPs:   [2]lag.IP{lag.ParseIP("10.0.0.1")},
		Ready: ready, Included: true,
	}
}

func (scenario) wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (s scenario) WaitSynced(ctx context.Context) error {
	if s.err != nil {
		return s.err
	}
	s.wait(ctx, time.Second)
	return ctx.Err()
}

// renewing answers for a Lease that its holder keeps renewing.
func renewing() interceptor.Funcs {
	return interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		lease, ok := obj.(*coordinationv1.Lease)
		if !ok {
			return c.Get(ctx, key, obj, opts...)
		}
		lease.Spec = coordinationv1.LeaseSpec{
			HolderIdentity: new("cp-1_b0b"), LeaseDurationSeconds: new(int32(15)), RenewTime: &metav1.MicroTime{Time: time.Now()},
		}
		return nil
	}}
}

func fakeClient(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) client.Client {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).Build()
}

// kcmPod is a mirror Pod as kubeadm's manifest gives it.
func kcmPod(node string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: kcmNamespace, Name: "kube-controller-manager-" + node, Labels: map[string]string{kcmLabel: kcmName}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Command: append([]string{"kube-controller-manager", "--leader-elect=true"}, args...),
		}}},
	}
}

func testConsole(format report.Format) (c *console, out, progress *bytes.Buffer) {
	out, progress = &bytes.Buffer{}, &bytes.Buffer{}
	return &console{out: out, format: format, live: report.NewLive(progress, report.Style{})}, out, progress
}

func TestMeasureMissedObjective(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := lag.NewTracker(lag.Options{})
		s := &session{
			client:  fakeClient(t, renewing(), kcmPod("cp-1")),
			tracker: tracker, clock: clock.RealClock{},
			feed: scenario{tracker: tracker, services: 400, perLag: 50 * time.Millisecond},
		}
		c, out, progress := testConsole(report.FormatJSON)
		o := measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99}
		err := o.measure(t.Context(), s, "https://test", c)
		if coded := (*exitError)(nil); !errors.As(err, &coded) || coded.ExitStatus() != statusObjectiveMissed {
			t.Fatalf("measure = %v, want exit status %d", err, statusObjectiveMissed)
		}
		var got report.Measurement
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("standard output is not JSON: %v\n%s", err, out)
		}
		row := got.Lag[0]
		if row.Changes != 400 || row.Open != 0 || row.P99Seconds == nil || *row.P99Seconds < 16 || *row.P99Seconds > 17.5 {
			t.Errorf("lag = %+v, want 400 changes, p99 about 17 s", row)
		}
		if got.Verdict.Outcome != report.OutcomeMissed || got.Window.DurationSeconds != 60 {
			t.Errorf("verdict %+v over %v s, want Missed over 60 s", got.Verdict, got.Window.DurationSeconds)
		}
		if got.Bottleneck.Type != string(v1alpha1.BottleneckClientRateLimit) || !got.Recommendation.Change ||
			got.Recommendation.Flags[v1alpha1.FlagKubeAPIQPS] <= 20 || got.Recommendation.Cost <= got.Running.Cost {
			t.Errorf("bottleneck %+v, recommendation %+v, want a higher rate limit", got.Bottleneck, got.Recommendation)
		}
		if got.Running.Source != "the command of Pod kube-system/kube-controller-manager-cp-1" || got.Running.Assumed {
			t.Errorf("running = %+v, want the Pod's flags", got.Running)
		}
		if lines := strings.Count(progress.String(), "\n"); lines < 10 || lines > 14 {
			t.Errorf("%d lines of progress in a minute, want one every 5 s:\n%s", lines, progress)
		}
	})
}

func TestMeasureOutcomes(t *testing.T) {
	tests := map[string]struct {
		options  measureOptions
		perLag   time.Duration
		services int
		outcome  string
		changes  int
	}{
		"met": {
			measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99}, time.Millisecond, 400, report.OutcomeMet, 400,
		},
		"inconclusive is no failure": {
			measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99}, time.Millisecond, 10, report.OutcomeInconclusive, 10,
		},
		"only the namespace asked for counts": {
			measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99, namespace: "other"},
			100 * time.Millisecond, 400, report.OutcomeInconclusive, 0,
		},
		"only the Service asked for counts": {
			measureOptions{length: time.Minute, maxLag: time.Minute, percentile: 99, namespace: "shop", service: "s7"},
			100 * time.Millisecond, 400, report.OutcomeInconclusive, 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker := lag.NewTracker(lag.Options{})
				s := &session{
					client: fakeClient(t, renewing(), kcmPod("cp-1")), tracker: tracker, clock: clock.RealClock{},
					feed: scenario{tracker: tracker, services: tt.services, perLag: tt.perLag},
				}
				c, out, _ := testConsole(report.FormatJSON)
				if err := tt.options.measure(t.Context(), s, "", c); err != nil {
					t.Fatal(err)
				}
				var got report.Measurement
				if err := json.Unmarshal(out.Bytes(), &got); err != nil {
					t.Fatal(err)
				}
				if got.Verdict.Outcome != tt.outcome || got.Lag[0].Changes != tt.changes {
					t.Errorf("%s over %d changes, want %s over %d", got.Verdict.Outcome, got.Lag[0].Changes, tt.outcome, tt.changes)
				}
			})
		})
	}
}

// measured runs measure over a scenario and returns the document.
func measured(t *testing.T, o measureOptions, play scenario, funcs interceptor.Funcs) report.Measurement {
	t.Helper()
	play.tracker = lag.NewTracker(lag.Options{})
	s := &session{client: fakeClient(t, funcs, kcmPod("cp-1")), tracker: play.tracker, clock: clock.RealClock{}, feed: play}
	c, out, _ := testConsole(report.FormatJSON)
	if err := o.measure(t.Context(), s, "https://test", c); err != nil {
		if coded := (*exitError)(nil); !errors.As(err, &coded) || coded.ExitStatus() != statusObjectiveMissed {
			t.Fatal(err)
		}
	}
	var got report.Measurement
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("standard output is not JSON: %v\n%s", err, out)
	}
	return got
}

func TestMeasureInTheMiddleOfAnIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := measureOptions{length: 40 * time.Second, maxLag: 2 * time.Second, percentile: 99}
		got := measured(t, o, scenario{services: 800, perLag: 50 * time.Millisecond, already: true}, renewing())
		row := got.Lag[0]
		if row.Startup != 800 || row.StartupOpen < 100 || row.StartupOpen > 300 || row.OldestStartupSeconds < 39 || row.Closed+row.Open != 0 {
			t.Errorf("lag = %+v, want 800 that were wrong before, some of them still", row)
		}
		if got.Bottleneck.Type != string(v1alpha1.BottleneckClientRateLimit) || !strings.Contains(got.Bottleneck.Message, "against 20 allowed") {
			t.Errorf("bottleneck = %+v, want the rate limit by the pace", got.Bottleneck)
		}
		if got.Verdict.Outcome != report.OutcomeInconclusive || got.Window.DurationSeconds != 40 || got.PreStop != nil {
			t.Errorf("verdict %s over %v s, preStop %+v, want none: no change was measured",
				got.Verdict.Outcome, got.Window.DurationSeconds, got.PreStop)
		}
	})
}

func TestMeasureWithoutTheLeaseStillRecommends(t *testing.T) {
	forbidden := interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, kcmName, errors.New("no"))
	}}
	synctest.Test(t, func(t *testing.T) {
		o := measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99}
		got := measured(t, o, scenario{services: 400, perLag: 50 * time.Millisecond}, forbidden)
		if !got.Recommendation.Change || !strings.Contains(got.NotSeen[0], "who leads") {
			t.Errorf("recommendation %+v, not seen %q, want one all the same, and that it is not known who leads", got.Recommendation, got.NotSeen)
		}
	})
}

func TestMeasureTellsOfABrokenWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := measureOptions{length: time.Minute, maxLag: 2 * time.Second, percentile: 99}
		got := measured(t, o, scenario{services: 400, perLag: 50 * time.Millisecond, broken: 5 * time.Second}, renewing())
		if row := got.Lag[0]; row.Marked < 50 || row.Marked > 150 {
			t.Errorf("lag = %+v, want those marked that were published in the gap", row)
		}
		if len(got.Blind) != 1 || got.Blind[0].Kind != "endpointslices" || got.Blind[0].EndTime.Sub(got.Blind[0].StartTime) != 5*time.Second ||
			!strings.HasPrefix(got.NotSeen[0], "endpointslices from ") || !strings.Contains(got.NotSeen[0], "(5s)") {
			t.Errorf("blind %+v, not seen %q, want the gap of 5 s first", got.Blind, got.NotSeen)
		}
		if got.ErrorBoundSeconds != nil || !strings.Contains(strings.Join(got.NotSeen, "\n"), "no error bound") {
			t.Errorf("error bound %v, want none: nobody told how late the stamps were", got.ErrorBoundSeconds)
		}
	})
}

func TestMeasureGivesAnErrorBoundInTheMiddleOfABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := measureOptions{length: 20500 * time.Millisecond, maxLag: 2 * time.Second, percentile: 99}
		got := measured(t, o, scenario{services: 400, perLag: 50 * time.Millisecond, late: 3 * time.Millisecond}, renewing())
		if row := got.Lag[0]; row.Open == 0 || row.Closed == 0 {
			t.Fatalf("lag = %+v, want some of it open", row)
		}
		if got.ErrorBoundSeconds == nil || *got.ErrorBoundSeconds != 0.003 {
			t.Errorf("error bound %v, want 3 ms also for what was published in the last second", got.ErrorBoundSeconds)
		}
	})
}

func TestMeasureShowsATableOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := lag.NewTracker(lag.Options{})
		s := &session{
			client: fakeClient(t, renewing(), kcmPod("cp-1")), tracker: tracker, clock: clock.RealClock{},
			feed: scenario{tracker: tracker, services: 400, perLag: 50 * time.Millisecond},
		}
		var progress bytes.Buffer
		c := &console{out: io.Discard, format: report.FormatJSON, live: report.NewLive(&progress, report.Style{Terminal: true, Width: 120})}
		o := measureOptions{length: 30 * time.Second, maxLag: 2 * time.Second, percentile: 99, namespace: "shop", service: "s399"}
		if coded := (*exitError)(nil); !errors.As(o.measure(t.Context(), s, "https://test", c), &coded) {
			t.Fatal("the objective is not missed by the last Service of a backlog")
		}
		screens := strings.Split(progress.String(), "\x1b[J")
		if len(screens) < 30 {
			t.Fatalf("%d screens in 30 s, want one a second:\n%s", len(screens), &progress)
		}
		last := screens[len(screens)-3] // then "Working out", then nothing
		for _, want := range []string{"Service shop/s399 of https://test", " of 30s, ", "EndpointSlice  Addition         1", "Cause so far", "shop       s399"} {
			if !strings.Contains(last, want) {
				t.Errorf("the last table lacks %q:\n%s", want, last)
			}
		}
	})
}

func TestNotSeenBeginsWithWhatMattersMost(t *testing.T) {
	start := time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC)
	s := &session{narrow: "shop", unread: map[source]string{whichNodes: "no", whoLeads: "no", kcmPods: "no", metricsAtURL: "no"}}
	gap := func(k lag.Kind, from, to int) lag.Blindness {
		return lag.Blindness{Kind: k, From: start.Add(time.Duration(from) * time.Second), To: start.Add(time.Duration(to) * time.Second)}
	}
	e := tuner.Evidence{Lag: lag.Summary{
		Stats: []lag.Stat{{Direction: lag.DirectionAny, Changes: 9, Closed: 1, Startup: 3, Gap: 2, HandOver: 3}},
		Blind: []lag.Blindness{gap(lag.KindPod, 1, 2), gap(lag.KindPod, 3, 4), gap(lag.KindPod, 5, 6), gap(lag.KindPod, 7, 9), {Kind: lag.KindSlice, From: start}},
	}}
	got := strings.Join(s.limits().notSeen(e), "\n")
	for _, want := range []string{
		"other namespaces than shop",
		"pods from 17:00:03.0 to 17:00:04.0 (1s), from 17:00:05.0 to 17:00:06.0 (1s), from 17:00:07.0 to 17:00:09.0 (2s), and 1 times before, when the watch was broken: changes that it told of then have no lag",
		"endpointslices from 17:00:00.0 on, when the watch was broken: lags that end then may be too long",
		"who leads", "the flags that kube-controller-manager runs with: upstream's defaults, assumed", "the flags changed", "the metrics at --kcm-url",
		"own metrics", "since when 3 endpoints", "since when 2 endpoints", "what the lag of 3 changes", "no error bound", "kube-controller-manager's Pods", "which Nodes exist",
		"what changed before", "what comes before and after",
	} {
		_, rest, found := strings.Cut(got, want)
		if !found {
			t.Fatalf("not seen lacks %q, or has it too early:\n%s", want, strings.Join(s.limits().notSeen(e), "\n"))
		}
		got = rest
	}
}

func TestRightsThatTheWatchesCanDoWithout(t *testing.T) {
	c := fakeClient(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if list.GetObjectKind().GroupVersionKind().Kind == "NodeList" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("no"))
		}
		return c.List(ctx, list, opts...)
	}})
	s := &session{client: c, unread: map[source]string{}}
	s.checkOptional(t.Context())
	if _, nodes := s.unread[whichNodes]; !nodes || len(s.unread) != 1 {
		t.Errorf("unread = %q, want the Nodes alone", s.unread)
	}
}

func TestMeasureEndsWithAResultWhenInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := lag.NewTracker(lag.Options{})
		s := &session{
			client: fakeClient(t, renewing()), tracker: tracker, clock: clock.RealClock{},
			feed: scenario{tracker: tracker, services: 400, perLag: 100 * time.Millisecond},
		}
		c, out, _ := testConsole(report.FormatTable)
		ctx, interrupt := context.WithTimeout(t.Context(), 30*time.Second)
		defer interrupt()
		err := (&measureOptions{maxLag: 2 * time.Second, percentile: 99}).measure(ctx, s, "", c)
		if coded := (*exitError)(nil); !errors.As(err, &coded) {
			t.Fatalf("measure = %v, want the objective missed", err)
		}
		for _, want := range []string{"for 29.0s", "≥", "Objective: 99 % of the changes visible within 2s: Missed", "assumed"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the result lacks %q:\n%s", want, out)
			}
		}
	})
}

func TestMeasureWithoutTheFirstListsIsAnError(t *testing.T) {
	forbidden := errors.New("list pods: forbidden")
	tests := map[string]struct {
		synced error
		after  time.Duration
		want   string
	}{
		"the watches fail":   {forbidden, time.Hour, "list pods: forbidden"},
		"interrupted before": {nil, 500 * time.Millisecond, "before the first lists"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker := lag.NewTracker(lag.Options{})
				s := &session{
					client: fakeClient(t, renewing()), tracker: tracker, clock: clock.RealClock{},
					feed: scenario{tracker: tracker, err: tt.synced},
				}
				c, out, _ := testConsole(report.FormatTable)
				ctx, cancel := context.WithTimeout(t.Context(), tt.after)
				defer cancel()
				err := (&measureOptions{maxLag: 2 * time.Second, percentile: 99}).measure(ctx, s, "", c)
				if err == nil || !strings.Contains(err.Error(), "first lists") && !strings.Contains(err.Error(), tt.want) || out.Len() > 0 {
					t.Errorf("measure = %v with output %q, want an error with %q and none", err, out, tt.want)
				}
			})
		})
	}
}

func TestNotSeenSaysWhatCouldNotBeRead(t *testing.T) {
	refuse := func(what string) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: what}, "", errors.New("no"))
	}
	tests := map[string]struct {
		funcs interceptor.Funcs
		want  string
	}{
		"the Lease": {interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return refuse("leases")
		}}, "who leads kube-controller-manager"},
		"Pods": {interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*corev1.PodList); ok {
				return refuse("pods")
			}
			return c.List(ctx, list, opts...)
		}}, "kube-controller-manager's Pods"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := &session{client: fakeClient(t, tt.funcs), tracker: lag.NewTracker(lag.Options{}), clock: clock.RealClock{}, unread: map[source]string{}}
			s.read(t.Context())
			if text := strings.Join(s.limits().notSeen(tuner.Evidence{}), "\n"); !strings.Contains(text, tt.want) {
				t.Errorf("not seen:\n%s\nwant %q", text, tt.want)
			}
		})
	}
}

func TestMissingKindsAreAskedForOnce(t *testing.T) {
	asked := 0
	c := fakeClient(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if _, ok := list.(*v1alpha1.EndpointSyncNodeList); ok {
			asked++
			return &meta.NoKindMatchError{}
		}
		return c.List(ctx, list, opts...)
	}})
	s := &session{client: c, tracker: lag.NewTracker(lag.Options{}), clock: clock.RealClock{}, unread: map[source]string{}}
	s.read(t.Context())
	s.read(t.Context())
	for _, text := range s.limits().notSeen(tuner.Evidence{}) {
		if strings.Contains(text, "EndpointSyncNodes") {
			t.Errorf("not seen mentions %q: the operator need not be installed", text)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times for a kind that is not there, want once", asked)
	}
}

func TestTheIsolationProbeIsNoNode(t *testing.T) {
	node := &v1alpha1.EndpointSyncNode{ObjectMeta: metav1.ObjectMeta{Name: "cp-1"}}
	probe := &v1alpha1.EndpointSyncNode{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.IsolationProbe}}
	s := &session{
		client: fakeClient(t, interceptor.Funcs{}, probe, node), tracker: lag.NewTracker(lag.Options{}), clock: clock.RealClock{},
		unread: map[source]string{},
	}
	s.read(t.Context())
	if got := s.readings.nodes; len(got) != 1 || got[0].Name != "cp-1" {
		t.Errorf("nodes = %+v, want cp-1 alone", got)
	}
}

// talking is a kube-controller-manager that answers.
type talking struct{ flags v1alpha1.Flags }

func (k talking) Configuration(context.Context) (scrape.Configuration, error) {
	return scrape.Configuration{Flags: k.flags}, nil
}

func (k talking) Signals(context.Context) (scrape.Signals, error) {
	return scrape.Signals{KCM: wholeScrape(1)}, nil
}

// wholeScrape has every counter; one that lacks any is not used.
func wholeScrape(writes int64) v1alpha1.KCMSignals {
	queue := v1alpha1.QueueSignals{
		Depth: new(int64), Syncs: new(int64), WaitMilliseconds: new(int64), WorkMilliseconds: new(int64),
	}
	return v1alpha1.KCMSignals{
		Writes: &writes, LimiterWaitMilliseconds: new(int64(2)), RequestMilliseconds: new(int64(3)),
		Endpoints: queue, EndpointSlices: queue,
	}
}

func TestSignalsComeFromTheURLWhenOneIsGiven(t *testing.T) {
	signals := wholeScrape(100)
	signals.Time = metav1.NowMicro()
	node := &v1alpha1.EndpointSyncNode{
		ObjectMeta: metav1.ObjectMeta{Name: "cp-1"},
		Status:     v1alpha1.EndpointSyncNodeStatus{Leader: new(true), Signals: signals},
	}
	for name, tt := range map[string]struct {
		kcm  kcm
		want int64
	}{"a URL": {talking{v1alpha1.DefaultFlags()}, 1}, "no URL": {nil, 100}} {
		t.Run(name, func(t *testing.T) {
			s := &session{
				client: fakeClient(t, interceptor.Funcs{}, node), kcm: tt.kcm,
				tracker: lag.NewTracker(lag.Options{}), clock: clock.RealClock{}, unread: map[source]string{},
			}
			s.read(t.Context())
			got := controllers.Samples(s.signals)
			if len(got) != 1 || got[0].Writes != tt.want {
				t.Errorf("samples = %+v, want one with %d writes", got, tt.want)
			}
		})
	}
}

func TestRunningFlagsAndTheirSource(t *testing.T) {
	tuned := v1alpha1.Flags{KubeAPIQPS: 100, KubeAPIBurst: 200, ConcurrentEndpointSyncs: 10, ConcurrentServiceEndpointSyncs: 11}
	leader := v1alpha1.EndpointSyncNode{
		ObjectMeta: metav1.ObjectMeta{Name: "cp-2"},
		Status:     v1alpha1.EndpointSyncNodeStatus{Leader: new(true), Running: tuned},
	}
	raised := *kcmPod("cp-2.example.com", "--kube-api-qps=50", "--kube-api-burst", "60")
	tests := map[string]struct {
		readings readings
		current  v1alpha1.Flags
		want     running
	}{
		"a person's word comes first": {
			readings{nodes: []v1alpha1.EndpointSyncNode{leader}},
			v1alpha1.Flags{KubeAPIQPS: 40},
			running{v1alpha1.Flags{KubeAPIQPS: 40}.Or(v1alpha1.DefaultFlags()), "given with --current; the rest are upstream's defaults, assumed", trace.FromGiven, true},
		},
		"then the agent on the leader": {
			readings{nodes: []v1alpha1.EndpointSyncNode{{}, leader}, flagz: &v1alpha1.Flags{}},
			v1alpha1.Flags{},
			running{tuned, "read by the agent on node cp-2, which leads", trace.FromAgent, false},
		},
		"then the process itself": {
			readings{flagz: &tuned, flagzURL: "https://kcm", pods: []corev1.Pod{raised}},
			v1alpha1.Flags{},
			running{tuned, "read from https://kcm", trace.FromProcess, false},
		},
		"then the leader's Pod": {
			readings{pods: []corev1.Pod{*kcmPod("cp-1"), raised}, holder: "cp-2_uuid"},
			v1alpha1.Flags{},
			running{
				v1alpha1.Flags{KubeAPIQPS: 50, KubeAPIBurst: 60}.Or(v1alpha1.DefaultFlags()),
				"the command of Pod kube-system/kube-controller-manager-cp-2.example.com, which leads", trace.FromPod, false,
			},
		},
		"Pods that differ, leader unknown": {
			readings{pods: []corev1.Pod{raised, *kcmPod("cp-1")}},
			v1alpha1.Flags{},
			running{
				v1alpha1.DefaultFlags(),
				"the command of Pod kube-system/kube-controller-manager-cp-1; the Pods differ and it is not known which one leads", trace.FromPod, true,
			},
		},
		"nothing at all": {
			readings{},
			v1alpha1.Flags{},
			running{v1alpha1.DefaultFlags(), "upstream's defaults, assumed: no kube-controller-manager could be read", trace.FromDefault, true},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := tt.readings.running(tt.current)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(running{})); diff != "" {
				t.Errorf("running (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandFlags(t *testing.T) {
	tests := map[string]struct {
		args []string
		want v1alpha1.Flags
	}{
		"none of ours":            {nil, v1alpha1.Flags{}},
		"the last one counts":     {[]string{"--kube-api-qps=20", "--kube-api-qps=30"}, v1alpha1.Flags{KubeAPIQPS: 30}},
		"value as the next word":  {[]string{"--concurrent-endpoint-syncs", "7"}, v1alpha1.Flags{ConcurrentEndpointSyncs: 7}},
		"value missing":           {[]string{"--kube-api-qps"}, v1alpha1.Flags{}},
		"nonsense is left out":    {[]string{"--kube-api-qps=NaN", "--kube-api-burst=-1", "--concurrent-endpoint-syncs=x"}, v1alpha1.Flags{}},
		"a float is what it says": {[]string{"--kube-api-qps=50.0"}, v1alpha1.Flags{KubeAPIQPS: 50}},
		"no flag without a dash":  {[]string{"kube-api-qps=50"}, v1alpha1.Flags{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := commandFlags(*kcmPod("cp-1", tt.args...)); got != tt.want {
				t.Errorf("commandFlags(%q) = %+v, want %+v", tt.args, got, tt.want)
			}
		})
	}
}

func TestParseFlagsRefusesWhatItDoesNotKnow(t *testing.T) {
	if got, err := parseFlags([]string{"kube-api-qps=50", "--kube-api-burst=60"}); err != nil || got != (v1alpha1.Flags{KubeAPIQPS: 50, KubeAPIBurst: 60}) {
		t.Errorf("parseFlags = %+v, %v", got, err)
	}
	for _, bad := range []string{"kube-api-qps", "kube-api-qps=0", "kube-api-qps=x", "leader-elect=1", "kube-api-qps=99999999999"} {
		if got, err := parseFlags([]string{bad}); err == nil {
			t.Errorf("parseFlags(%q) = %+v, want an error", bad, got)
		}
	}
}

func TestLeaseWatch(t *testing.T) {
	start := time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC)
	seconds := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	type reading struct {
		at, renewed int // seconds after the start
		holder      string
	}
	tests := map[string]struct {
		readings []reading
		want     tuner.LeaderState
		handOver int // of a change that was made at 0 s and published at 30 s
	}{
		"renewed all the time":                 {[]reading{{0, 0, "a"}, {10, 10, "a"}, {20, 20, "a"}, {30, 30, "a"}}, tuner.Led, 0},
		"not renewed any more":                 {[]reading{{0, 0, "a"}, {10, 0, "a"}, {20, 0, "a"}}, tuner.Leaderless, 1},
		"long dead at the first look":          {[]reading{{0, -100, "a"}}, tuner.Leaderless, 1},
		"a clock that is off is put up with":   {[]reading{{0, -50, "a"}, {2, -48, "a"}}, tuner.Led, 0},
		"nobody holds it":                      {[]reading{{0, 0, ""}}, tuner.Leaderless, 1},
		"another one took over":                {[]reading{{0, 0, "a"}, {4, 4, "a"}, {20, 20, "b"}, {30, 30, "b"}}, tuner.Led, 1},
		"gone, and back":                       {[]reading{{0, 0, "a"}, {16, 0, "a"}, {20, 20, "a"}, {30, 30, "a"}}, tuner.Led, 1},
		"the first reading is no change of it": {[]reading{{5, 5, "a"}, {30, 30, "a"}}, tuner.Led, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tracker := lag.NewTracker(lag.Options{})
			tracker.SetService(lag.Service{Namespace: "n", Name: "s", Selector: lag.LabelsOf(map[string]string{"a": "b"})}, start)
			tracker.Synced(start)
			pod := lag.Pod{Namespace: "n", Name: "p", UID: lag.ParseUID("p"), Ready: true, Included: true}
			pod.Labels, pod.IPs[0] = lag.LabelsOf(map[string]string{"a": "b"}), lag.ParseIP("10.0.0.1")
			tracker.SetPod(pod, start)
			var l leaseWatch
			for _, r := range tt.readings {
				l.see(coordinationv1.LeaseSpec{
					HolderIdentity: new(r.holder), RenewTime: &metav1.MicroTime{Time: seconds(r.renewed)},
				}, seconds(r.at), tracker)
			}
			published := start.Add(30 * time.Second)
			tracker.SetSlice(lag.Slice{Namespace: "n", Name: "s", Service: "s", Ready: []lag.Address{{PodUID: pod.UID, IP: pod.IPs[0]}}}, published)
			if l.state != tt.want {
				t.Errorf("state = %v, want %v", l.state, tt.want)
			}
			got := tracker.Summary(lag.Query{Now: published}).Stat(lag.ResourceEndpointSlice, lag.DirectionAny)
			if got.HandOver != tt.handOver {
				t.Errorf("%d changes met a hand-over, want %d", got.HandOver, tt.handOver)
			}
		})
	}
}

func TestNarrowestFallsBackToTheNamespaceThatMayBeRead(t *testing.T) {
	c := fakeClient(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		var o client.ListOptions
		if o.ApplyOptions(opts); o.Namespace != "shop" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))
		}
		return c.List(ctx, list, opts...)
	}})
	if got, err := narrowest(t.Context(), c, "shop"); err != nil || got != "shop" {
		t.Errorf("narrowest = %q, %v, want shop", got, err)
	}
	for _, namespace := range []string{"", "other"} {
		if _, err := narrowest(t.Context(), c, namespace); !apierrors.IsForbidden(err) {
			t.Errorf("narrowest in %q = %v, want forbidden", namespace, err)
		}
	}
	if got, err := narrowest(t.Context(), fakeClient(t, interceptor.Funcs{}), "shop"); err != nil || got != "" {
		t.Errorf("narrowest = %q, %v, want all namespaces where they may be read", got, err)
	}
}

func TestMeasureAndPlanRefuseBadOptions(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"unknown format":       {[]string{"measure", "-o", "wide"}, `"wide"`},
		"negative length":      {[]string{"measure", "--for", "-1s"}, "--for"},
		"no objective":         {[]string{"measure", "--objective", "0s"}, "--objective"},
		"percentile":           {[]string{"measure", "--percentile", "100"}, "--percentile"},
		"arguments":            {[]string{"measure", "x"}, "x"},
		"unknown current flag": {[]string{"measure", "--current", "leader-elect=1"}, "leader-elect"},
		"plan: unknown format": {[]string{"plan", "-o", "wide"}, `"wide"`},
		"plan: both":           {[]string{"plan", "a", "-f", "b"}, "not both"},
		"plan: two names":      {[]string{"plan", "a", "b"}, "at most 1"},
		"no such kubeconfig":   {[]string{"measure", "--kubeconfig", "/nonexistent"}, "/nonexistent"},
		"plan: negative":       {[]string{"plan", "--for", "-1s"}, "--for"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := newRootCommand()
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetArgs(tt.args)
			err := root.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q = %v, want an error with %q", tt.args, err, tt.want)
			}
		})
	}
}

func TestHelpNamesWhatPeopleNeed(t *testing.T) {
	for command, wants := range map[string][]string{
		"measure": {"--for", "--namespace", "--service", "--objective", "--percentile", "--kcm-url", "--current", "--output", "--kubeconfig", "--context", "Exit status"},
		"plan":    {"--file", "--for", "--output", "--kubeconfig", "Nothing is written"},
	} {
		root := newRootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{command, "--help"})
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s --help lacks %q", command, want)
			}
		}
	}
}
