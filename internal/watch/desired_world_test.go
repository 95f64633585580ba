package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/endpointslice"
	endpointutil "k8s.io/endpointslice/util"
	utilnet "k8s.io/utils/net"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// world is what an API server holds of one namespace and of the nodes. Whatever happens to it is told to kube-controller-
// manager's own code, which says whether it would look at a Service again, and to a tracker.
type world struct {
	services map[string]*corev1.Service
	pods     map[string]*corev1.Pod
	nodes    map[string]*corev1.Node
	slices   map[string]*discoveryv1.EndpointSlice

	// queued are the Services that kube-controller-manager was made to look at again.
	queued map[string]bool
	// perSlice is --max-endpoints-per-slice.
	perSlice int32
	expected *endpointutil.EndpointSliceTracker

	tracker *lag.Tracker
	decoder *decoder
	told    map[lag.Kind]*kind
	begun   bool // the tracker records
	missed  bool // the tracker does not hear that a Pod is deleted
	now     time.Time
	created int
	rules   ruleSet
	// happened is how many things did since the last sync, and rearranged that slices were touched among them. unsettled
	// are the Services that the last sync left as they were.
	happened   int
	rearranged bool
	unsettled  map[string]bool
	// flips counts the changes of readiness of each Pod since the last sync.
	flips map[types.UID]int
	// unmanaged are the Services that were not kube-controller-manager's at the last sync; gone are those deleted.
	unmanaged, gone map[string]bool
}

const shop = "shop"

func newWorld(perSlice int32) *world {
	w := &world{
		services: map[string]*corev1.Service{}, pods: map[string]*corev1.Pod{}, nodes: map[string]*corev1.Node{},
		slices: map[string]*discoveryv1.EndpointSlice{}, queued: map[string]bool{}, perSlice: perSlice,
		expected: endpointutil.NewEndpointSliceTracker(),
		tracker:  lag.NewTracker(lag.Options{Capacity: 5000}),
		now:      time.Unix(1_800_000_000, 0),
		flips:    map[types.UID]int{}, unmanaged: map[string]bool{}, gone: map[string]bool{},
		unsettled: map[string]bool{},
	}
	w.attach()
	return w
}

// tick makes a millisecond pass.
func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

func (w *world) nextUID() types.UID {
	w.created++
	if w.created%3 == 0 { // not every UID is a UUID: those of static Pods are not
		return types.UID(fmt.Sprintf("%032x", w.created))
	}
	return types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", w.created, w.created))
}

// meta returns the metadata of a new object.
func (w *world) meta(name string, set map[string]string) metav1.ObjectMeta {
	uid := w.nextUID()
	return metav1.ObjectMeta{
		Namespace: shop, Name: name, UID: uid, Labels: set, Generation: 1, ResourceVersion: strconv.Itoa(w.created),
	}
}

func (w *world) bump(m *metav1.ObjectMeta) {
	w.created++
	m.ResourceVersion = strconv.Itoa(w.created)
	m.Generation++
}

// setPod stores a Pod, or deletes it with nil, and queues the Services that kube-controller-manager would.
func (w *world) setPod(name string, p *corev1.Pod) {
	old := w.pods[name]
	var before, after any
	if old != nil {
		before = old
	}
	if p != nil {
		after = p
		w.pods[name] = p
		w.tellPod(p)
	} else {
		delete(w.pods, name)
		if !w.missed {
			w.tellPodGone(name)
		}
	}
	key := endpointutil.GetPodUpdateProjectionKey(before, after)
	names, err := endpointutil.GetServicesToUpdate(serviceLister{w: w}, key)
	if err != nil {
		panic(err) // our lister has none
	}
	for key := range names {
		w.queued[key[len(shop)+1:]] = true
	}
}

// changePod changes a copy of a Pod and stores it.
func (w *world) changePod(p *corev1.Pod, change func(*corev1.Pod)) {
	p = p.DeepCopy()
	change(p)
	w.bump(&p.ObjectMeta)
	w.setPod(p.Name, p)
}

func (w *world) setService(s *corev1.Service) {
	w.services[s.Name] = s
	w.queued[s.Name] = true
	w.tellService(s)
}

func (w *world) changeService(s *corev1.Service, change func(*corev1.Service)) {
	s = s.DeepCopy()
	change(s)
	w.bump(&s.ObjectMeta)
	w.setService(s)
}

func (w *world) deleteService(name string) {
	delete(w.services, name)
	w.gone[name] = true
	w.queued[name] = true
	w.expected.DeleteService(shop, name)
	w.tellServiceGone(name)
}

func isOurs(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == sliceController
}

// setSlice stores a slice that somebody else than kube-controller-manager wrote.
func (w *world) setSlice(s *discoveryv1.EndpointSlice) {
	w.rearranged = true
	w.slices[s.Name] = s
	if isOurs(s) && w.expected.ShouldSync(s) {
		w.queued[s.Labels[discoveryv1.LabelServiceName]] = true
	}
	w.tellSlice(s)
}

// deleteSlice deletes a slice on behalf of somebody else.
func (w *world) deleteSlice(name string) {
	w.rearranged = true
	s := w.slices[name]
	delete(w.slices, name)
	if isOurs(s) && w.expected.Has(s) && !w.expected.HandleDeletion(s) {
		w.queued[s.Labels[discoveryv1.LabelServiceName]] = true
	}
	w.tellSliceGone(name)
}

// managed says whether syncService of the EndpointSlice controller goes on with the Service.
func managed(s *corev1.Service) bool {
	return s != nil && s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.Selector != nil
}

func (w *world) selected(s *corev1.Service) []*corev1.Pod {
	selector := labels.Set(s.Spec.Selector).AsSelectorPreValidated()
	var out []*corev1.Pod
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		if p := w.pods[name]; selector.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// slicesOf are the slices that syncService lists.
func (w *world) slicesOf(service string) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, name := range slices.Sorted(maps.Keys(w.slices)) {
		if s := w.slices[name]; isOurs(s) && s.Labels[discoveryv1.LabelServiceName] == service {
			out = append(out, s)
		}
	}
	return out
}

// membership is which addresses are ready, by the UID of the Pod.
type membership map[types.UID][]string

// shownBy reads what slices show as ready: API documentation, not the code under test.
func shownBy(all []*discoveryv1.EndpointSlice) membership {
	out := membership{}
	for _, s := range all {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || (e.Conditions.Ready != nil && !*e.Conditions.Ready) {
				continue
			}
			for _, text := range e.Addresses {
				out[e.TargetRef.UID] = append(out[e.TargetRef.UID], utilnet.ParseIPSloppy(text).String())
			}
		}
	}
	for _, ips := range out {
		slices.Sort(ips)
	}
	return out
}

// write is one request of the reconciler's: a slice as it is then, or nil when it is deleted.
type write struct {
	name  string
	slice *discoveryv1.EndpointSlice
}

// reconcile lets the real reconciler do its work on a Service and returns what it wrote; nothing is applied. An error
// means that it would try again by itself.
func (w *world) reconcile(s *corev1.Service) ([]write, error) {
	if !managed(s) {
		return nil, nil
	}
	server := &sliceServer{world: w}
	r := endpointslice.NewReconciler(sliceClient{server: server}, nodeLister{nodes: w.nodes}, w.perSlice,
		endpointutil.NewEndpointSliceTracker(), nil, nil, sliceController)
	err := r.Reconcile(logr.Discard(), s, w.selected(s), w.slicesOf(s.Name), time.Time{})
	return server.writes, err
}

// apply carries out one write of the reconciler's.
func (w *world) apply(x write) {
	if x.slice == nil {
		s := w.slices[x.name]
		w.expected.ExpectDeletion(s)
		delete(w.slices, x.name)
		w.expected.HandleDeletion(s)
		w.tellSliceGone(x.name)
		return
	}
	w.slices[x.name] = x.slice
	w.expected.Update(x.slice)
	w.tellSlice(x.slice)
}

// after is what the slices of a Service would be after some writes.
func (w *world) after(service string, writes []write) []*discoveryv1.EndpointSlice {
	all := maps.Clone(w.slices)
	for _, x := range writes {
		if x.slice == nil {
			delete(all, x.name)
		} else {
			all[x.name] = x.slice
		}
	}
	was := w.slices
	defer func() { w.slices = was }()
	w.slices = all
	return w.slicesOf(service)
}

// sliceServer writes down what is asked of it.
type sliceServer struct {
	discoveryclient.EndpointSliceInterface

	world  *world
	writes []write
}

// Create gives a slice its name and UID.
func (s *sliceServer) Create(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.CreateOptions) (*discoveryv1.EndpointSlice, error) {
	made := s.world.meta("", nil)
	slice.Name, slice.UID, slice.Generation = slice.GenerateName+made.ResourceVersion, made.UID, 1
	s.writes = append(s.writes, write{slice.Name, slice})
	return slice, nil
}

// Update takes a slice as it is.
func (s *sliceServer) Update(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.UpdateOptions) (*discoveryv1.EndpointSlice, error) {
	known := s.world.slices[slice.Name]
	if known == nil {
		return nil, errors.New("there is no slice " + slice.Name)
	}
	slice.UID, slice.Generation = known.UID, known.Generation+1
	s.writes = append(s.writes, write{slice.Name, slice})
	return slice, nil
}

// Delete takes note.
func (s *sliceServer) Delete(_ context.Context, name string, _ metav1.DeleteOptions) error {
	s.writes = append(s.writes, write{name: name})
	return nil
}

type sliceClient struct {
	kubernetes.Interface
	discoveryclient.DiscoveryV1Interface

	server *sliceServer
}

func (c sliceClient) DiscoveryV1() discoveryclient.DiscoveryV1Interface { return c }

func (c sliceClient) EndpointSlices(string) discoveryclient.EndpointSliceInterface { return c.server }

type nodeLister struct {
	corelisters.NodeLister

	nodes map[string]*corev1.Node
}

var errNoNode = apierrors.NewNotFound(corev1.Resource("nodes"), "")

func (l nodeLister) Get(name string) (*corev1.Node, error) {
	if n := l.nodes[name]; n != nil {
		return n, nil
	}
	return nil, errNoNode
}

type serviceLister struct {
	corelisters.ServiceLister
	corelisters.ServiceNamespaceLister

	w *world
}

func (l serviceLister) Services(string) corelisters.ServiceNamespaceLister { return l }

func (l serviceLister) List(labels.Selector) ([]*corev1.Service, error) {
	return slices.Collect(maps.Values(l.w.services)), nil
}
