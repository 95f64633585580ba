package lag

// namespace holds the objects of one Kubernetes namespace; selectors never reach across.
type namespace struct {
	labels    Labels
	pods      map[string]*pod
	services  map[string]*service
	slices    map[string]*published
	endpoints map[string]*published
	// selected finds the Services whose selector asks for a label without looking at all of them. Each Service stands
	// under one pair of its selector.
	selected map[Label]map[*service]struct{}
}

// each calls f for every known object of a kind.
func (ns *namespace) each(k Kind, namespace string, f func(namespace, name string)) {
	switch k {
	case KindPod:
		for name := range ns.pods {
			f(namespace, name)
		}
	case KindService:
		for name, s := range ns.services {
			if s.managed {
				f(namespace, name)
			}
		}
	case KindSlice:
		for name := range ns.slices {
			f(namespace, name)
		}
	case KindEndpoints:
		for name := range ns.endpoints {
			f(namespace, name)
		}
	case KindNamespace:
		f("", namespace)
	case KindNode, kindCount: // not in a namespace
	}
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
	for k, v := range s.Selector.All() {
		if n := len(ns.selected[Label{k, v}]); best < 0 || n < best {
			s.indexed, best = Label{k, v}, n
		}
	}
	if best < 0 {
		return
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
			p.attach(s.member(p.UID))
		case !selected && attached:
			p.detach(m)
		}
	}
}
