package lag

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// DefaultCapacity is how many of the newest changes a Tracker keeps: half an hour at 55 changes/s, in 4 MB. A percentile
// does not gain from more, and every Summary costs as much again for a moment.
const DefaultCapacity = 100_000

// Options sets the bounds of a Tracker; the zero value has the defaults.
type Options struct {
	// Capacity is the number of newest changes to keep; 0 means DefaultCapacity. Older ones that are not published yet
	// are kept besides.
	Capacity int
	// Ended hears of every outcome that ends, as it ends. It is called while the tracker is locked: it must be quick and
	// must not call the tracker.
	Ended func(Ended)
}

// Tracker follows the desired and the published membership of every Pod in every Service and records each change. It is
// safe for concurrent use. Nothing is recorded before Synced.
type Tracker struct {
	ended func(Ended)

	mu         sync.Mutex
	synced     bool
	namespaces map[string]*namespace
	nodes      map[string]struct{} // nil until the first is told
	records    records
	totals     [apiCount][wayCount]total
	leaderless spans
	gaps       gaps
	delays     delays

	// scratch of publish
	before, after []Address
	touched       []*member
}

// NewTracker returns an empty tracker.
func NewTracker(o Options) *Tracker {
	return &Tracker{
		ended:      o.Ended,
		namespaces: map[string]*namespace{},
		records:    records{capacity: cmp.Or(max(o.Capacity, 0), DefaultCapacity)},
	}
}

func (t *Tracker) namespace(name string) *namespace {
	ns := t.namespaces[name]
	if ns == nil {
		ns = &namespace{
			pods:      map[string]*pod{},
			services:  map[string]*service{},
			slices:    map[string]*published{},
			endpoints: map[string]*published{},
			selected:  map[Label]map[*service]struct{}{},
		}
		t.namespaces[name] = ns
	}
	return ns
}

// SetNamespace tells a namespace's labels, which Query.Measured may ask for.
func (t *Tracker) SetNamespace(name string, labels Labels) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.namespace(name).labels = labels
}

// DeleteNamespace forgets the labels of a namespace; its objects are deleted one by one.
func (t *Tracker) DeleteNamespace(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ns := t.namespaces[name]; ns != nil {
		ns.labels = Labels{}
		t.prune(name, ns)
	}
}

// prune forgets a namespace in which nothing is left.
func (t *Tracker) prune(name string, ns *namespace) {
	if len(ns.pods)+len(ns.services)+len(ns.slices)+len(ns.endpoints) == 0 && ns.labels.IsEmpty() {
		delete(t.namespaces, name)
	}
}

// SetNode tells that a Node exists. Until the first call every Node is taken to exist; from then on a Pod on a Node that
// does not is in no slice, unless its Service publishes addresses that are not ready.
func (t *Tracker) SetNode(name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.nodes == nil
	if first {
		t.nodes = map[string]struct{}{}
	}
	if _, known := t.nodes[name]; known {
		return
	}
	t.nodes[name] = struct{}{}
	t.evaluatePods(at, func(p *pod) bool { return first || p.Node == name })
}

// DeleteNode tells that a Node is gone. An unknown Node is no error.
func (t *Tracker) DeleteNode(name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.nodes[name]; known {
		delete(t.nodes, name)
		t.evaluatePods(at, func(p *pod) bool { return p.Node == name })
	}
}

// evaluatePods looks at the chosen Pods again because of a Node. Nodes come and go rarely.
func (t *Tracker) evaluatePods(at time.Time, chosen func(*pod) bool) {
	if !t.synced {
		return
	}
	for _, ns := range t.namespaces {
		for _, p := range ns.pods {
			if chosen(p) {
				t.evaluateAll(p, event{by: KindNode, at: at, ips: p.IPs})
			}
		}
	}
}

// SetPod tells that a Pod was added or changed, as received at the given time. A new UID under a known name is another
// Pod: the known one is deleted first.
func (t *Tracker) SetPod(p Pod, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespace(p.Namespace)
	known := ns.pods[p.Name]
	if known != nil && known.UID != p.UID {
		t.removePod(ns, known, at)
		known = nil
	}
	if known == nil {
		known = &pod{Pod: p}
		ns.pods[p.Name] = known
		if t.synced {
			t.match(ns, known, event{by: KindPod, acted: true, at: at})
		}
		return
	}
	e := event{by: KindPod, acted: known.actedOn(p), at: at, ips: known.IPs}
	relabelled := known.Labels != p.Labels
	p.Namespace, p.Name = known.Namespace, known.Name // One copy of the text is enough.
	known.Pod = p
	switch {
	case !t.synced:
	case relabelled:
		t.match(ns, known, e)
	default:
		t.evaluateAll(known, e)
	}
}

// DeletePod tells that a Pod is gone. An unknown Pod is no error.
func (t *Tracker) DeletePod(namespace, name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespaces[namespace]
	if ns == nil {
		return
	}
	if p := ns.pods[name]; p != nil {
		t.removePod(ns, p, at)
		t.prune(namespace, ns)
	}
}

func (t *Tracker) removePod(ns *namespace, p *pod, at time.Time) {
	delete(ns.pods, p.Name)
	for m := p.members; m != nil; {
		following := m.next
		m.pod, m.next = nil, nil
		t.evaluate(m, event{by: KindPod, acted: true, at: at, ips: p.IPs})
		m = following
	}
	p.members = nil
}

// SetService tells that a Service was added or changed. Pods that become or cease to be members thereby are changes.
func (t *Tracker) SetService(s Service, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespace(s.Namespace)
	known := ns.service(s.Name)
	if known.managed && s.Selector.IsEmpty() { // kube-controller-manager leaves what it published as it is
		known = t.release(ns, known, at)
	}
	rematch, same, begins := known.Selector != s.Selector, known.asks(s), !known.managed
	known.Service = s
	known.managed = !s.Selector.IsEmpty()
	if rematch {
		ns.index(known)
	}
	if same || !t.synced {
		return
	}
	if rematch {
		ns.rematch(known)
	}
	for _, m := range known.collect() {
		e := event{by: KindService, acted: true, at: at}
		if m.pod != nil {
			e.ips = m.pod.IPs
		}
		t.evaluate(m, e)
		if begins {
			t.noteInherited(m, at)
		}
	}
}

// noteInherited opens the removal of what is shown under the name of a Service that begins to be managed, and not wanted
// any more: kube-controller-manager acts on the Service.
func (t *Tracker) noteInherited(m *member, at time.Time) {
	for in := range apiCount {
		c := &m.cells[in]
		if m.service.managed && c.want == 0 && c.pending == 0 && !m.conforms(in) && !m.service.cutsOff(in) {
			t.open(m, in, t.begin(m.service, removal, KindService, at), Open)
		}
	}
}

// asks says whether the Service asks for the same members as before.
func (s *service) asks(o Service) bool {
	return s.Selector == o.Selector && s.PublishNotReady == o.PublishNotReady &&
		slices.Equal(s.Families, o.Families) && s.NeedsPort == o.NeedsPort
}

// DeleteService tells that a Service is gone. Its open changes end as Superseded: nobody publishes them any more.
func (t *Tracker) DeleteService(namespace, name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespaces[namespace]
	if ns == nil || ns.services[name] == nil {
		return
	}
	if s := ns.services[name]; s.managed {
		t.release(ns, s, at)
	}
	ns.forget(name)
	t.prune(namespace, ns)
}

// SetSlice tells that an EndpointSlice was added or changed.
func (t *Tracker) SetSlice(s Slice, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespace(s.Namespace)
	p := ns.slices[s.Name]
	if p != nil && p.owner.Name != s.Service {
		t.withdraw(ns, p, at)
		p = nil
	}
	if p == nil {
		p = ns.attach(s.Service, sliceAPI)
		ns.slices[s.Name] = p
	}
	t.publish(p, s.Ready, at)
}

// DeleteSlice tells that an EndpointSlice is gone.
func (t *Tracker) DeleteSlice(namespace, name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespaces[namespace]
	if ns == nil || ns.slices[name] == nil {
		return
	}
	p := ns.slices[name]
	delete(ns.slices, name)
	t.withdraw(ns, p, at)
	t.prune(namespace, ns)
}

// SetEndpoints tells that an Endpoints object was added or changed.
func (t *Tracker) SetEndpoints(e Endpoints, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespace(e.Namespace)
	p := ns.endpoints[e.Name]
	if p == nil {
		p = ns.attach(e.Name, endpointsAPI)
		ns.endpoints[e.Name] = p
	}
	if e.OverCapacity && !p.owner.overCapacity {
		t.cut(p.owner, at)
	}
	p.owner.overCapacity = e.OverCapacity
	t.publish(p, e.Ready, at)
}

// DeleteEndpoints tells that an Endpoints object is gone.
func (t *Tracker) DeleteEndpoints(namespace, name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespaces[namespace]
	if ns == nil || ns.endpoints[name] == nil {
		return
	}
	p := ns.endpoints[name]
	delete(ns.endpoints, name)
	p.owner.overCapacity = false
	t.withdraw(ns, p, at)
	t.prune(namespace, ns)
}

// Retain deletes every known object of a kind that keep does not want, as the end of a list does.
func (t *Tracker) Retain(k Kind, keep func(namespace, name string) bool, at time.Time) {
	remove := [kindCount]func(namespace, name string){
		KindPod:       func(namespace, name string) { t.DeletePod(namespace, name, at) },
		KindService:   func(namespace, name string) { t.DeleteService(namespace, name, at) },
		KindSlice:     func(namespace, name string) { t.DeleteSlice(namespace, name, at) },
		KindEndpoints: func(namespace, name string) { t.DeleteEndpoints(namespace, name, at) },
		KindNode:      func(_, name string) { t.DeleteNode(name, at) },
		KindNamespace: func(_, name string) { t.DeleteNamespace(name) },
	}
	for _, gone := range t.unwanted(k, keep) {
		remove[k](gone.namespace, gone.name)
	}
}

type objectKey struct{ namespace, name string }

// unwanted returns the known objects of a kind that keep does not want.
func (t *Tracker) unwanted(k Kind, keep func(namespace, name string) bool) []objectKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []objectKey
	check := func(namespace, name string) {
		if !keep(namespace, name) {
			out = append(out, objectKey{namespace, name})
		}
	}
	if k == KindNode {
		for name := range t.nodes {
			check("", name)
		}
	}
	for namespace, ns := range t.namespaces {
		ns.each(k, namespace, check)
	}
	return out
}

// Synced tells that the initial lists of all kinds were handed over. Differences that stand now began before we looked:
// they are of class Startup. From now on changes are recorded. Further calls do nothing.
func (t *Tracker) Synced(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.synced {
		return
	}
	t.records.since(at)
	for _, ns := range t.namespaces {
		for _, p := range ns.pods {
			t.match(ns, p, event{by: KindPod, acted: true, at: at})
		}
	}
	t.synced = true
	for _, ns := range t.namespaces {
		for _, s := range ns.services {
			t.noteStanding(s, at)
		}
	}
}

// noteStanding records the differences of a Service that stood before the tracker looked.
func (t *Tracker) noteStanding(s *service, at time.Time) {
	for _, m := range s.members {
		for in := range apiCount {
			c := &m.cells[in]
			c.fresh = false
			if !s.managed || m.conforms(in) || s.cutsOff(in) {
				continue
			}
			t.open(m, in, t.begin(s, c.way(), KindPod, at), Startup)
		}
	}
}

// cut ends the open Endpoints changes of a Service whose object no longer shows all members.
func (t *Tracker) cut(s *service, at time.Time) {
	for _, m := range s.members {
		t.end(m, endpointsAPI, OverCapacity, at)
	}
}

// withdraw takes back what a deleted object showed.
func (t *Tracker) withdraw(ns *namespace, p *published, at time.Time) {
	t.publish(p, nil, at)
	p.owner.sources = slices.DeleteFunc(p.owner.sources, func(o *published) bool { return o == p })
	ns.forget(p.owner.Name)
}

// release ends the life of a Service: its changes keep the old value, and a new one takes over what is published under
// the name. It returns the new one.
func (t *Tracker) release(ns *namespace, old *service, at time.Time) *service {
	ns.unindex(old)
	for _, m := range old.members {
		for in := range apiCount {
			t.end(m, in, Superseded, at)
		}
		if m.pod != nil {
			m.pod.detach(m)
		}
	}
	old.members = nil
	next := &service{Service: Service{Namespace: old.Namespace, Name: old.Name}, overCapacity: old.overCapacity}
	ns.services[old.Name] = next
	next.sources, old.sources = old.sources, nil
	for _, p := range next.sources {
		p.owner = next
		for _, a := range p.ready {
			p.show(a)
		}
	}
	return next
}
