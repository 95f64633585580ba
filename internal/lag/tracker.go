package lag

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// DefaultCapacity is how many of the newest changes a Tracker keeps: an hour at 55 changes/s, in about 16 MB.
const DefaultCapacity = 200_000

// Options sets the bounds of a Tracker; the zero value has the defaults.
type Options struct {
	// Capacity is the number of newest changes to keep; 0 means DefaultCapacity.
	Capacity int
}

// Tracker follows the desired and the published membership of every Pod in every Service and records each change. It is
// safe for concurrent use. Nothing is recorded before Synced.
type Tracker struct {
	mu         sync.Mutex
	synced     bool
	namespaces map[string]*namespace
	records    records
	leaderless []span
	touched    []*member // scratch of publish
}

// NewTracker returns an empty tracker.
func NewTracker(o Options) *Tracker {
	return &Tracker{
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
			selected:  map[label]map[*service]struct{}{},
		}
		t.namespaces[name] = ns
	}
	return ns
}

// SetNamespace tells a namespace's labels, which Query.Measured may ask for.
func (t *Tracker) SetNamespace(name string, labels map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.namespace(name).labels = labels
}

// DeleteNamespace forgets the labels of a namespace; its objects are deleted one by one.
func (t *Tracker) DeleteNamespace(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ns := t.namespaces[name]; ns != nil {
		ns.labels = nil
		t.prune(name, ns)
	}
}

// prune forgets a namespace in which nothing is left.
func (t *Tracker) prune(name string, ns *namespace) {
	if len(ns.pods)+len(ns.services)+len(ns.slices)+len(ns.endpoints)+len(ns.labels) == 0 {
		delete(t.namespaces, name)
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
		known = &pod{}
		ns.pods[p.Name] = known
	} else if maps.Equal(known.Labels, p.Labels) {
		known.Pod = p
		for _, m := range known.members {
			t.evaluate(m, at)
		}
		return
	}
	known.Pod = p
	if t.synced {
		t.match(ns, known, at)
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
	for _, m := range p.members {
		m.pod = nil
		t.evaluate(m, at)
	}
	p.members = nil
}

// SetService tells that a Service was added or changed. Pods that become or cease to be members thereby are changes.
func (t *Tracker) SetService(s Service, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespace(s.Namespace)
	known := ns.service(s.Name)
	if known.managed && len(s.Selector) == 0 { // kube-controller-manager leaves what it published as it is
		known = t.release(ns, known, at)
	}
	rematch, same := !maps.Equal(known.Selector, s.Selector), known.asks(s)
	known.Service = s
	known.managed = len(s.Selector) > 0
	if rematch {
		ns.index(known)
	}
	if same || !t.synced {
		return
	}
	if rematch {
		ns.rematch(known)
	}
	for _, m := range slices.Collect(maps.Values(known.members)) {
		t.evaluate(m, at)
	}
}

// asks says whether the Service asks for the same members as before.
func (s *service) asks(o Service) bool {
	return maps.Equal(s.Selector, o.Selector) && s.PublishNotReady == o.PublishNotReady &&
		slices.Equal(s.Families, o.Families) && slices.Equal(s.NeedsPort, o.NeedsPort)
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

// Synced tells that the initial lists of all kinds were handed over. Differences that stand now began before we looked:
// they are of class Startup. From now on changes are recorded. Further calls do nothing.
func (t *Tracker) Synced(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.synced {
		return
	}
	for _, ns := range t.namespaces {
		for _, p := range ns.pods {
			t.match(ns, p, at)
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
			if !s.managed || c.conforms() || s.cutsOff(in) {
				continue
			}
			c.pending = t.records.add(s, c.direction(), at)
			t.records.open(c.pending, in, Startup)
		}
	}
}

// cut ends the open Endpoints changes of a Service whose object no longer shows all members.
func (t *Tracker) cut(s *service, at time.Time) {
	for _, m := range s.members {
		c := &m.cells[endpointsAPI]
		t.records.end(c.pending, endpointsAPI, OverCapacity, at)
		c.pending = 0
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
			t.records.supersede(m.cells[in].pending, in, at)
		}
		if m.pod != nil {
			m.pod.members = slices.DeleteFunc(m.pod.members, func(o *member) bool { return o == m })
		}
	}
	old.members = nil
	next := &service{Service: Service{Namespace: old.Namespace, Name: old.Name}, overCapacity: old.overCapacity}
	ns.services[old.Name] = next
	next.sources, old.sources = old.sources, nil
	for _, p := range next.sources {
		p.owner = next
		for _, a := range p.ready {
			next.show(a, p.in)
		}
	}
	return next
}

// service returns the Service of that name, known already or not.
func (ns *namespace) service(name string) *service {
	s := ns.services[name]
	if s == nil {
		s = &service{Service: Service{Name: name}}
		ns.services[name] = s
	}
	return s
}

// attach returns an empty published object of the named Service.
func (ns *namespace) attach(name string, in api) *published {
	p := &published{owner: ns.service(name), in: in}
	p.owner.sources = append(p.owner.sources, p)
	return p
}

// forget drops a Service that does not exist and under whose name nothing is published.
func (ns *namespace) forget(name string) {
	if s := ns.services[name]; s != nil && !s.managed && len(s.sources) == 0 {
		delete(ns.services, name)
	}
}

// index files a managed Service under the pair of its selector that the fewest others share.
func (ns *namespace) index(s *service) {
	ns.unindex(s)
	best := -1
	for k, v := range s.Selector {
		if n := len(ns.selected[label{k, v}]); best < 0 || n < best {
			s.indexed, best = label{k, v}, n
		}
	}
	if ns.selected[s.indexed] == nil {
		ns.selected[s.indexed] = map[*service]struct{}{}
	}
	ns.selected[s.indexed][s] = struct{}{}
}

func (ns *namespace) unindex(s *service) {
	delete(ns.selected[s.indexed], s)
	if len(ns.selected[s.indexed]) == 0 {
		delete(ns.selected, s.indexed)
	}
}

// rematch attaches and detaches the Pods of the namespace after a Service's selector changed; the caller evaluates.
func (ns *namespace) rematch(s *service) {
	for _, p := range ns.pods {
		m := s.members[p.UID]
		attached := m != nil && m.pod != nil
		switch selected := s.selects(p.Labels); {
		case selected && !attached:
			m = s.member(p.UID)
			m.pod = p
			p.members = append(p.members, m)
		case !selected && attached:
			m.pod = nil
			p.members = slices.DeleteFunc(p.members, func(o *member) bool { return o == m })
		}
	}
}

func compareAddress(a, b Address) int {
	return cmp.Or(cmp.Compare(a.PodUID, b.PodUID), cmp.Compare(a.IP, b.IP))
}
