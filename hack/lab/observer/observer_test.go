package observer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clocktesting "k8s.io/utils/clock/testing"
)

// stage drives an observer by hand: every step says what a watch delivers, a second after the one before.
type stage struct {
	t     *testing.T
	clock *clocktesting.FakePassiveClock
	ob    *Observer
	feeds map[string]*feed
}

func newStage(t *testing.T) *stage {
	t.Helper()
	c := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	ob, err := newObserver(Options{ServiceLabel: "app", Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, clock: c, ob: ob, feeds: map[string]*feed{}}
	for _, f := range ob.feeds(fake.NewClientset()) {
		s.feeds[f.name] = f
	}
	return s
}

func (s *stage) after(d time.Duration) *stage {
	s.clock.SetTime(s.clock.Now().Add(d))
	return s
}

func (s *stage) ok(err error) *stage {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	return s
}

// list is the base line: what exists when the watches begin.
func (s *stage) list(pods, slices []any) *stage {
	s.t.Helper()
	s.ok(s.feeds["EndpointSlices"].Replace(slices, "1"))
	s.ok(s.feeds["Endpoints"].Replace(nil, "1"))
	s.ok(s.feeds["Pods"].Replace(pods, "1"))
	s.ob.Mark("test")
	return s
}

func (s *stage) update(feed string, obj any) *stage {
	s.t.Helper()
	return s.ok(s.feeds[feed].Update(obj))
}

func (s *stage) remove(feed string, obj any) *stage {
	s.t.Helper()
	return s.ok(s.feeds[feed].Delete(obj))
}

func (s *stage) result() Result {
	s.t.Helper()
	r, err := s.ob.Result("test")
	s.ok(err)
	return r
}

func pod(name string, status corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1",
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}},
		},
	}
}

func slice(name string, ready ...string) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
	}}
	for _, p := range ready {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{TargetRef: &corev1.ObjectReference{UID: types.UID(p)}})
	}
	return out
}

func notReady(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	for i := range s.Endpoints {
		s.Endpoints[i].Conditions.Ready = new(false)
	}
	return s
}

const (
	yes = corev1.ConditionTrue
	no  = corev1.ConditionFalse
)

func TestChangesOfSlices(t *testing.T) {
	deleting := pod("a", yes)
	deleting.DeletionTimestamp = &metav1.Time{}
	stranger := pod("a", yes)
	stranger.Labels = nil
	reborn := pod("a", yes)
	reborn.UID = "a2"

	type counts struct {
		Added, Removed, Pending, Superseded int
		Max                                 time.Duration
	}
	const second = time.Second
	shared := func(status corev1.ConditionStatus) *corev1.Pod {
		p := pod("a", status)
		p.Labels = map[string]string{"app": "web.shop"}
		return p
	}
	ofShop := func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: "shop"}
		return s
	}
	tests := map[string]struct {
		do   func(*stage)
		want counts
	}{
		"a Pod of two Services is an addition in each": {
			func(s *stage) {
				s.list([]any{shared(no)}, nil).update("Pods", shared(yes)).after(second).update("EndpointSlices", slice("1", "a")).
					after(second).update("EndpointSlices", ofShop(slice("2", "a")))
			},
			counts{Added: 2, Max: 2 * second},
		},
		"what one of two Services still lacks is open": {
			func(s *stage) {
				s.list([]any{shared(yes)}, []any{slice("1", "a"), ofShop(slice("2", "a"))}).
					update("Pods", shared(no)).after(second).update("EndpointSlices", slice("1")).after(second)
			},
			counts{Removed: 2, Pending: 1, Max: 2 * second},
		},
		"what exists at the start is no change": {
			func(s *stage) { s.list([]any{pod("a", yes)}, []any{slice("1", "a")}).after(second) },
			counts{},
		},
		"an addition ends when a slice shows it": {
			func(s *stage) {
				s.list([]any{pod("a", no)}, nil).update("Pods", pod("a", yes)).after(2*second).update("EndpointSlices", slice("1", "a"))
			},
			counts{Added: 1, Max: 2 * second},
		},
		"an addition is not ended by a slice that shows it as not ready": {
			func(s *stage) {
				s.list([]any{pod("a", no)}, nil).update("Pods", pod("a", yes)).after(2*second).update("EndpointSlices", notReady(slice("1", "a")))
			},
			counts{Added: 1, Pending: 1, Max: 2 * second},
		},
		"a removal ends when the slice says not ready": {
			func(s *stage) {
				s.list([]any{pod("a", yes)}, []any{slice("1", "a")}).
					update("Pods", pod("a", no)).after(3*second).update("EndpointSlices", notReady(slice("1", "a")))
			},
			counts{Removed: 1, Max: 3 * second},
		},
		"a removal lasts while any slice still shows it": {
			func(s *stage) {
				s.list([]any{pod("a", yes)}, []any{slice("1", "a"), slice("2", "a")}).
					update("Pods", pod("a", no)).after(second).update("EndpointSlices", slice("1")).
					after(second).remove("EndpointSlices", slice("2", "a"))
			},
			counts{Removed: 1, Max: 2 * second},
		},
		"a Pod that terminates is to be removed": {
			func(s *stage) {
				s.list([]any{pod("a", yes)}, []any{slice("1", "a")}).update("Pods", deleting).after(second).remove("Pods", deleting)
			},
			counts{Removed: 1, Pending: 1, Max: second},
		},
		"a Pod that is gone is to be removed": {
			func(s *stage) {
				s.list([]any{pod("a", yes)}, []any{slice("1", "a")}).remove("Pods", pod("a", yes)).after(second).update("EndpointSlices", slice("1"))
			},
			counts{Removed: 1, Max: second},
		},
		"a new Pod of the same name is an addition and a removal": {
			func(s *stage) {
				s.list([]any{pod("a", yes)}, []any{slice("1", "a")}).update("Pods", reborn).after(second).update("EndpointSlices", slice("1", "a2"))
			},
			counts{Added: 1, Removed: 1, Max: second},
		},
		"a new Pod that is not ready is no change": {
			func(s *stage) { s.list(nil, nil).update("Pods", pod("a", no)) },
			counts{},
		},
		"a change that is undone before it showed is superseded": {
			func(s *stage) {
				s.list([]any{pod("a", yes)}, []any{slice("1", "a")}).update("Pods", pod("a", no)).after(second).update("Pods", pod("a", yes))
			},
			counts{Superseded: 1},
		},
		"what was wrong at the start and becomes right by itself is superseded": {
			func(s *stage) { s.list([]any{pod("a", yes)}, nil).after(second).update("Pods", pod("a", no)) },
			counts{Superseded: 1},
		},
		"a publication that arrives before its cause has no lag": {
			func(s *stage) {
				s.list([]any{pod("a", no)}, nil).after(second).update("EndpointSlices", slice("1", "a")).after(second).update("Pods", pod("a", yes))
			},
			counts{Added: 1},
		},
		"an update that changes nothing is no change": {
			func(s *stage) {
				s.list([]any{pod("a", no)}, nil).update("Pods", pod("a", yes)).after(second).update("Pods", pod("a", yes)).
					after(second).update("EndpointSlices", slice("1", "a")).after(second).update("EndpointSlices", slice("1", "a"))
			},
			counts{Added: 1, Max: 2 * second},
		},
		"a Pod of no Service is ignored": {
			func(s *stage) { s.list(nil, nil).update("Pods", stranger) },
			counts{},
		},
		"what a new list lacks is gone": {
			func(s *stage) {
				s.list([]any{pod("a", yes)}, []any{slice("1", "a")}).after(second).ok(s.feeds["Pods"].Replace(nil, "9")).
					after(second).ok(s.feeds["EndpointSlices"].Replace(nil, "9"))
			},
			counts{Removed: 1, Max: second},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			test.do(s)
			r := s.result().EndpointSlice
			got := counts{r.Added.Changes, r.Removed.Changes, r.Pending, r.Superseded, r.Max}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if len(r.Series) != r.Changes {
				t.Errorf("series has %d changes, the summary %d", len(r.Series), r.Changes)
			}
		})
	}
}

func TestEndpointsAreKeptApartFromSlices(t *testing.T) {
	s := newStage(t).list([]any{pod("a", no)}, nil).update("Pods", pod("a", yes)).after(time.Second)
	s.update("Endpoints", &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Subsets: []corev1.EndpointSubset{{
			Addresses:         []corev1.EndpointAddress{{TargetRef: &corev1.ObjectReference{UID: "a"}}},
			NotReadyAddresses: []corev1.EndpointAddress{{TargetRef: &corev1.ObjectReference{UID: "b"}}},
		}},
	}).after(time.Second)
	r := s.result()
	if got, want := r.Endpoints.Summary, (Summary{Changes: 1, P50: time.Second, P99: time.Second, Max: time.Second}); got != want {
		t.Errorf("Endpoints = %+v, want %+v", got, want)
	}
	if got, want := r.EndpointSlice.Summary, (Summary{Changes: 1, Pending: 1, P50: 2 * time.Second, P99: 2 * time.Second, Max: 2 * time.Second}); got != want {
		t.Errorf("EndpointSlice = %+v, want %+v", got, want)
	}
}

func TestAChangeBelongsToTheWindowInWhichItOpened(t *testing.T) {
	s := newStage(t).list([]any{pod("a", no), pod("b", no)}, nil)
	s.after(time.Second).update("Pods", pod("a", yes)).after(time.Second)
	s.ob.Mark("later")
	s.update("Pods", pod("b", yes)).after(time.Second).update("EndpointSlices", slice("1", "a", "b"))

	want := map[string]Change{
		"test":  {Service: "web", Pod: "a", Added: true, At: time.Second, Lag: 2 * time.Second},
		"later": {Service: "web", Pod: "b", Added: true, At: 0, Lag: time.Second},
	}
	for window, change := range want {
		r, err := s.ob.Result(window)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Change{change}, r.EndpointSlice.Series); diff != "" {
			t.Errorf("window %q (-want +got):\n%s", window, diff)
		}
	}
	if _, err := s.ob.Result("never marked"); err == nil {
		t.Error("an unknown window gives no error")
	}
}

func lease(holder string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-controller-manager"},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: new(holder)},
	}
}

func TestALeaderThatReleasesItsLeaseLedUntilThen(t *testing.T) {
	s := newStage(t).list(nil, nil)
	s.update("Lease", lease("")).after(time.Second).update("Lease", lease("one")).after(1500*time.Millisecond).
		update("Lease", lease("")).after(time.Second).update("Lease", lease("two"))
	want := Leadership{Holder: "two", LongestGap: 1500 * time.Millisecond, HolderChanges: 1, Handover: time.Second}
	if got := s.result().Leadership; got != want {
		t.Errorf("leadership = %+v, want %+v", got, want)
	}
}

func TestLeadership(t *testing.T) {
	s := newStage(t).list(nil, nil)
	s.update("Lease", lease("one")).after(2*time.Second).update("Lease", lease("one")).
		after(17*time.Second).update("Lease", lease("two")).after(3*time.Second).update("Lease", lease("two")).after(time.Second)
	want := Leadership{Holder: "two", LongestGap: 17 * time.Second, HolderChanges: 1, Handover: 17 * time.Second}
	if got := s.result().Leadership; got != want {
		t.Errorf("leadership = %+v, want %+v", got, want)
	}
	s.after(30 * time.Second)
	if got, want := s.result().Leadership.LongestGap, 31*time.Second; got != want {
		t.Errorf("gap that lasts = %s, want %s", got, want)
	}
}

func TestSupersededChangesAreTold(t *testing.T) {
	s := newStage(t).list([]any{pod("a", yes)}, []any{slice("1", "a")}).after(time.Second).
		update("Pods", pod("a", no)).after(3*time.Second).update("Pods", pod("a", yes))
	want := []Change{{Service: "web", Pod: "a", At: time.Second, Lag: 3 * time.Second}}
	if diff := cmp.Diff(want, s.result().EndpointSlice.SupersededSeries); diff != "" {
		t.Errorf("superseded changes (-want +got):\n%s", diff)
	}
}
