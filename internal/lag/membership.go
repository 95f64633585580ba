package lag

import (
	"slices"
	"time"
)

// namespace holds the objects of one Kubernetes namespace; selectors never reach across.
type namespace struct {
	labels    map[string]string
	pods      map[string]*pod
	services  map[string]*service
	slices    map[string]*published
	endpoints map[string]*published
	// selected finds the Services whose selector asks for a label without looking at all of them. Each Service stands
	// under one pair of its selector.
	selected map[label]map[*service]struct{}
}

type label struct{ key, value string }

type pod struct {
	Pod

	members []*member
}

// service is one incarnation of a Service. Records point to it, so it outlives its deletion as long as they do.
type service struct {
	Service

	indexed label
	// managed says that it exists and has a selector; otherwise it only keeps what is published under its name.
	managed bool
	// overCapacity says that the Endpoints object lacks members that are ready.
	overCapacity bool
	wanted       int // members wanted in Endpoints
	members      map[string]*member
	sources      []*published // what is published under its name
}

// published is the ready addresses of one slice or Endpoints object, sorted and without duplicates.
type published struct {
	owner *service
	in    api
	ready []Address
}

// member is a Pod, as a UID, seen from one Service: wanted there, shown there, or both.
type member struct {
	service *service
	uid     string
	pod     *pod // nil when the Service does not select the Pod, or the Pod is gone or not yet known
	cells   [apiCount]cell
}

// cell is what one API should show of a member, and what it shows.
type cell struct {
	// want holds the addresses of which one must be shown; empty wants none.
	want []string
	// shown holds an address once for each object that shows it as ready.
	shown []string
	// pending is the record that the next conforming publication ends, or 0.
	pending recordID
	// fresh says that shown changed since want last did.
	fresh bool
}

// conforms says whether what is published is what is wanted: one address of the Pod shown and none that it no longer
// has, or nothing at all. One family of a dual-stack Service is enough.
func (c *cell) conforms() bool {
	if len(c.want) == 0 {
		return len(c.shown) == 0
	}
	for _, ip := range c.shown {
		if !slices.Contains(c.want, ip) {
			return false
		}
	}
	return len(c.shown) > 0
}

func (c *cell) idle() bool {
	return len(c.want) == 0 && len(c.shown) == 0 && c.pending == 0
}

// direction is the one a difference of the cell has to be closed in.
func (c *cell) direction() Direction {
	if len(c.want) == 0 {
		return DirectionRemoval
	}
	return DirectionAddition
}

// selects says whether the Service's selector matches the labels.
func (s *service) selects(labels map[string]string) bool {
	if !s.managed {
		return false
	}
	for k, v := range s.Selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// wants returns the addresses of which the API must show one as ready, following podToEndpoint of the EndpointSlice
// controller and syncService of the Endpoints controller; empty if the Pod must not be shown.
func (s *service) wants(p *pod, in api) []string {
	if !s.managed || p == nil || !p.Included || (!s.PublishNotReady && (!p.Ready || p.Terminating)) {
		return nil
	}
	families := s.Families
	if in == endpointsAPI {
		if len(s.NeedsPort) > 0 && !slices.ContainsFunc(s.NeedsPort, p.hasPort) {
			return nil
		}
		families = families[:min(1, len(families))]
	}
	return addressesIn(p.IPs, families)
}

func (p *pod) hasPort(name string) bool { return slices.Contains(p.PortNames, name) }

// addressesIn returns the addresses of the given families, without a copy when that is all of them.
func addressesIn(ips []string, families []Family) []string {
	foreign := func(ip string) bool { return !slices.Contains(families, familyOf(ip)) }
	if len(families) == 0 || !slices.ContainsFunc(ips, foreign) {
		return ips
	}
	return slices.DeleteFunc(slices.Clone(ips), foreign)
}

func (s *service) member(uid string) *member {
	m := s.members[uid]
	if m == nil {
		m = &member{service: s, uid: uid}
		if s.members == nil {
			s.members = map[string]*member{}
		}
		s.members[uid] = m
	}
	return m
}

// drop forgets a member of which nothing is left to say.
func (m *member) drop() {
	if m.pod == nil && m.cells[sliceAPI].idle() && m.cells[endpointsAPI].idle() {
		delete(m.service.members, m.uid)
	}
}

// match brings the Pod's memberships in line with its labels and evaluates all of them.
func (t *Tracker) match(ns *namespace, p *pod, at time.Time) {
	touched := p.members
	p.members = nil
	for _, m := range touched {
		if !m.service.selects(p.Labels) {
			m.pod = nil
		}
	}
	for k, v := range p.Labels {
		for s := range ns.selected[label{k, v}] {
			if s.selects(p.Labels) {
				m := s.member(p.UID)
				m.pod = p
				p.members = append(p.members, m)
			}
		}
	}
	for _, m := range touched {
		if m.pod == nil {
			t.evaluate(m, at)
		}
	}
	for _, m := range p.members {
		t.evaluate(m, at)
	}
}

// evaluate compares what is wanted of a member with what was wanted before and opens or ends changes. Both APIs share
// one record when they change in the same direction.
func (t *Tracker) evaluate(m *member, at time.Time) {
	var ids [2]recordID // by direction: removal, addition
	for in := range apiCount {
		c := &m.cells[in]
		want := m.service.wants(m.pod, in)
		if slices.Equal(want, c.want) {
			c.want = want // the newer slice, so that the older Pod can be collected
			continue
		}
		if in == endpointsAPI {
			t.countWanted(m.service, min(1, len(want))-min(1, len(c.want)), at)
		}
		c.want = want
		if !t.synced {
			continue
		}
		id := &ids[min(1, len(want))]
		if *id == 0 {
			*id = t.records.add(m.service, c.direction(), at)
		}
		t.wantChanged(m, in, *id, at)
	}
	m.drop()
}

// countWanted keeps the number of members wanted in Endpoints and notices when one object can no longer show them.
func (t *Tracker) countWanted(s *service, change int, at time.Time) {
	fitted := s.wanted <= endpointsCapacity
	s.wanted += change
	if fitted && s.wanted > endpointsCapacity {
		t.cut(s, at)
	}
}

// wantChanged ends what was pending for the member and gives the new change its outcome or leaves it open.
func (t *Tracker) wantChanged(m *member, in api, id recordID, at time.Time) {
	c := &m.cells[in]
	fresh := c.fresh
	c.fresh = false
	t.records.supersede(c.pending, in, at)
	switch {
	case m.service.cutsOff(in):
		t.records.settle(id, in, OverCapacity)
	case !c.conforms():
		t.records.open(id, in, Open)
		c.pending = id
		return
	case fresh: // the published object overtook the Pod on its way here
		t.records.settle(id, in, Closed)
		t.records.explain(c.pending, in)
	default:
		t.records.settle(id, in, NotNeeded)
	}
	c.pending = 0
}

// cutsOff says that the API cannot show all members of the Service, so that a missing one means nothing.
func (s *service) cutsOff(in api) bool {
	return in == endpointsAPI && (s.overCapacity || s.wanted > endpointsCapacity)
}

// shownChanged ends what was pending when the published state conforms, and notes a difference that no desired change
// explains.
func (t *Tracker) shownChanged(m *member, in api, at time.Time) {
	c := &m.cells[in]
	c.fresh = true
	switch {
	case !t.synced || !m.service.managed:
	case c.conforms():
		t.records.close(c.pending, in, at)
		c.pending = 0
	case c.pending == 0 && !m.service.cutsOff(in):
		c.pending = t.records.add(m.service, c.direction(), at)
		t.records.open(c.pending, in, Drift)
	}
	m.drop()
}

// publish replaces what an object shows, in one step for each member: an address that only moves inside the object was
// never gone.
func (t *Tracker) publish(p *published, ready []Address, at time.Time) {
	ready = slices.Clone(ready)
	slices.SortFunc(ready, compareAddress)
	ready = slices.Compact(ready)
	before, after := p.ready, ready
	p.ready = ready
	touched := t.touched[:0]
	for len(before) > 0 || len(after) > 0 {
		var order int
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = compareAddress(before[0], after[0])
		}
		switch {
		case order < 0:
			touched = append(touched, p.owner.hide(before[0], p.in))
			before = before[1:]
		case order > 0:
			touched = append(touched, p.owner.show(after[0], p.in))
			after = after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	for _, m := range touched {
		t.shownChanged(m, p.in, at)
	}
	clear(touched)
	t.touched = touched[:0]
}

func (s *service) show(a Address, in api) *member {
	m := s.member(a.PodUID)
	c := &m.cells[in]
	c.shown = append(c.shown, a.IP)
	return m
}

func (s *service) hide(a Address, in api) *member {
	m := s.member(a.PodUID)
	c := &m.cells[in]
	if i := slices.Index(c.shown, a.IP); i >= 0 {
		c.shown = slices.Delete(c.shown, i, i+1)
	}
	if len(c.shown) == 0 {
		c.shown = nil
	}
	return m
}
