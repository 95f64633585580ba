package watch

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// attach connects the tracker, as the feed does behind its streams.
func (w *world) attach() {
	f := &Feed{tracker: w.tracker}
	w.decoder, w.told = newDecoder(), map[lag.Kind]*kind{}
	for _, k := range []*kind{f.pods(), f.services(), f.endpointSlices(), f.nodes()} {
		w.told[k.of] = k
	}
}

// tell hands an object to the tracker in the bytes in which it arrives.
func (w *world) tell(k lag.Kind, object interface{ Marshal() ([]byte, error) }) {
	raw, err := object.Marshal()
	if err == nil {
		err = w.told[k].set(w.decoder, raw, w.tick())
	}
	if err != nil {
		panic(err)
	}
}

func (w *world) tellPod(p *corev1.Pod)                  { w.tell(lag.KindPod, p) }
func (w *world) tellPodGone(name string)                { w.told[lag.KindPod].remove(shop, name, w.tick()) }
func (w *world) tellService(s *corev1.Service)          { w.tell(lag.KindService, s) }
func (w *world) tellServiceGone(name string)            { w.told[lag.KindService].remove(shop, name, w.tick()) }
func (w *world) tellSlice(s *discoveryv1.EndpointSlice) { w.tell(lag.KindSlice, s) }
func (w *world) tellSliceGone(name string)              { w.told[lag.KindSlice].remove(shop, name, w.tick()) }
func (w *world) tellNode(n *corev1.Node)                { w.tell(lag.KindNode, n) }
func (w *world) tellNodeGone(name string)               { w.told[lag.KindNode].remove("", name, w.tick()) }
func (w *world) begin()                                 { w.tracker.Synced(w.tick()) }

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
