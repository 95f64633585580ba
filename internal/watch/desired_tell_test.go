package watch

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	kubefake "k8s.io/client-go/kubernetes/fake"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// fakeClients is never asked anything: feeds are built with it for their conversions.
var fakeClients = clients{kube: kubefake.NewClientset()}

// attach connects the tracker, as the feed does.
func (w *world) attach() {
	w.feed = &Feed{clients: fakeClients, tracker: w.tracker}
	w.sinks = map[string]*sink{"slices": w.feed.endpointSlices()}
}

func (w *world) tellPod(p *corev1.Pod)         { w.tracker.SetPod(podOf(p), w.tick()) }
func (w *world) tellPodGone(name string)       { w.tracker.DeletePod(shop, name, w.tick()) }
func (w *world) tellService(s *corev1.Service) { w.tracker.SetService(serviceOf(s), w.tick()) }
func (w *world) tellServiceGone(name string)   { w.tracker.DeleteService(shop, name, w.tick()) }
func (w *world) tellNode(name string)          { w.tracker.SetNode(name, w.tick()) }
func (w *world) tellNodeGone(name string)      { w.tracker.DeleteNode(name, w.tick()) }
func (w *world) begin()                        { w.tracker.Synced(w.tick()) }
func (w *world) tellSlice(s *discoveryv1.EndpointSlice) {
	if err := w.sinks["slices"].update(s, w.tick()); err != nil {
		panic(err)
	}
}

func (w *world) tellSliceGone(name string) {
	w.sinks["slices"].drop(types.NamespacedName{Namespace: shop, Name: name}, w.tick())
}

// view is what the tracker says of one Service's slices.
type view struct {
	// missing and stale are how many Pods are ready and not published, or published and not ready, at this moment.
	missing, stale int
	open, drift    int
	addsUp         bool
}

// view reads the tracker. How many differences stand can be seen from how fast wrong-endpoint-seconds grow.
func (w *world) view(service string) view {
	if !w.begun {
		return view{addsUp: true}
	}
	q := lag.Query{Now: w.now, Measured: func(s lag.Service) bool { return s.Name == service }}
	now := w.tracker.Summary(q)
	q.Now = w.now.Add(time.Second)
	later := w.tracker.Summary(q)
	grown := func(d lag.Direction) int {
		seconds := later.Stat(lag.ResourceEndpointSlice, d).WrongEndpointSeconds -
			now.Stat(lag.ResourceEndpointSlice, d).WrongEndpointSeconds
		return int(math.Round(seconds))
	}
	s := now.Stat(lag.ResourceEndpointSlice, lag.DirectionAny)
	return view{
		missing: grown(lag.DirectionAddition), stale: grown(lag.DirectionRemoval),
		open: s.Open, drift: s.Drift,
		addsUp: s.Changes == s.Closed+s.Open+s.Superseded+s.NotNeeded+s.Startup+s.Gap+s.HandOver+s.OverCapacity+s.Unacted,
	}
}
