package lag

import (
	"maps"
	"math/bits"
	"slices"
	"time"
)

type pod struct {
	Pod

	members *member // the first of its memberships; member.next has the others
}

func (p *pod) attach(m *member) {
	m.pod, m.next = p, p.members
	p.members = m
}

func (p *pod) detach(m *member) {
	for at := &p.members; *at != nil; at = &(*at).next {
		if *at == m {
			*at = m.next
			break
		}
	}
	m.pod, m.next = nil, nil
}

// actedOn says whether kube-controller-manager acts on the step from the Pod to its new state (podEndpointsChanged in
// k8s.io/endpointslice/util; it compares pointers, so that every update of a terminating Pod counts).
func (p *pod) actedOn(o Pod) bool {
	return p.Ready != o.Ready || p.Terminating || o.Terminating || p.IPs != o.IPs || p.Labels != o.Labels
}

// service is one incarnation of a Service. Records point to it, so it outlives its deletion as long as they do.
type service struct {
	Service

	indexed Label
	// managed says that it exists and has a selector; otherwise it only keeps what is published under its name.
	managed bool
	// overCapacity says that the Endpoints object lacks members that are ready.
	overCapacity bool
	wanted       int // members wanted in Endpoints
	members      map[UID]*member
	sources      []*published // what is published under its name
}

// collect returns the members as they are now.
func (s *service) collect() []*member { return slices.Collect(maps.Values(s.members)) }

// member is a Pod, as a UID, seen from one Service: wanted there, shown there, or both.
type member struct {
	service *service
	pod     *pod    // nil when the Service does not select the Pod, or the Pod is gone or not yet known
	next    *member // of the same Pod
	uid     UID
	cells   [apiCount]cell
}

// cell is what one API should show of a member, and what it shows.
type cell struct {
	// shown is an address that is shown as ready, and more has further ones: once for each object that shows one.
	shown IP
	more  *[]IP
	// pending is the record that the next conforming publication ends, or 0.
	pending recordID
	// want marks the addresses of the Pod of which one must be shown; 0 wants none.
	want addresses
	// fresh says that shown changed since want last did.
	fresh bool
}

// addresses is a set of a Pod's addresses: bit i stands for Pod.IPs[i].
type addresses uint8

func (a addresses) has(i int) bool { return a&(1<<i) != 0 }

func (c *cell) show(ip IP) {
	switch {
	case c.shown == (IP{}):
		c.shown = ip
	case c.more == nil:
		c.more = &[]IP{ip}
	default:
		*c.more = append(*c.more, ip)
	}
}

func (c *cell) hide(ip IP) {
	var rest []IP
	if c.more != nil {
		rest = *c.more
	}
	switch i := slices.Index(rest, ip); {
	case i >= 0:
		rest = slices.Delete(rest, i, i+1)
	case c.shown != ip:
		return
	case len(rest) > 0:
		c.shown = rest[0]
		rest = slices.Delete(rest, 0, 1)
	default:
		c.shown = IP{}
	}
	if len(rest) == 0 {
		c.more = nil
	} else {
		*c.more = rest
	}
}

// conforms says whether what is published is what is wanted: one address of the Pod shown and none that it no longer
// has, or nothing at all. One family of a dual-stack Service is enough.
func (m *member) conforms(in api) bool {
	c := &m.cells[in]
	if c.want == 0 || c.shown == (IP{}) {
		return c.want == 0 && c.shown == (IP{})
	}
	if !m.wanted(c.want, c.shown) {
		return false
	}
	if c.more != nil {
		for _, ip := range *c.more {
			if !m.wanted(c.want, ip) {
				return false
			}
		}
	}
	return true
}

func (m *member) wanted(want addresses, ip IP) bool {
	for i := range maxIPs {
		if want.has(i) && m.pod.IPs[i] == ip {
			return true
		}
	}
	return false
}

func (c *cell) idle() bool { return c.want == 0 && c.shown == (IP{}) && c.pending == 0 }

// way is the direction that a difference of the cell has to be closed in.
func (c *cell) way() way { return wayOf(c.want) }

func wayOf(want addresses) way {
	if want == 0 {
		return removal
	}
	return addition
}

// selects says whether the Service's selector matches the labels.
func (s *service) selects(labels Labels) bool { return s.managed && labels.include(s.Selector) }

// wants returns the addresses of which the API must show one as ready, following reconcileByAddressType and podToEndpoint
// of k8s.io/endpointslice and syncService of the Endpoints controller; 0 if the Pod must not be shown.
func (t *Tracker) wants(s *service, p *pod, in api) addresses {
	if !s.managed || p == nil || !p.Included {
		return 0
	}
	if !s.PublishNotReady && (!p.Ready || p.Terminating) {
		return 0
	}
	if in == endpointsAPI {
		if !s.NeedsPort.IsEmpty() && !s.NeedsPort.meets(p.Ports) {
			return 0
		}
		return p.addressesIn(s.Families[:min(1, len(s.Families))])
	}
	if !s.PublishNotReady && !t.exists(p.Node) {
		return 0
	}
	return p.addressesIn(s.Families)
}

// exists says whether a Node does, as far as is known.
func (t *Tracker) exists(node string) bool {
	_, exists := t.nodes[node]
	return exists || t.nodes == nil
}

// addressesIn returns the Pod's addresses of the given families; all if none is given.
func (p *pod) addressesIn(families []Family) addresses {
	var out addresses
	for i, ip := range p.IPs {
		if ip != (IP{}) && (len(families) == 0 || slices.Contains(families, ip.Family())) {
			out |= 1 << i
		}
	}
	return out
}

func (s *service) member(uid UID) *member {
	m := s.members[uid]
	if m == nil {
		m = &member{service: s, uid: uid}
		if s.members == nil {
			s.members = map[UID]*member{}
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

// event is something that may change what is wanted of a member.
type event struct {
	by Kind
	// acted says that kube-controller-manager looks at the Service because of it.
	acted bool
	at    time.Time
	// ips are the addresses that the Pod had before.
	ips [maxIPs]IP
}

// match brings the Pod's memberships in line with its labels and evaluates all of them.
func (t *Tracker) match(ns *namespace, p *pod, e event) {
	var left *member
	for m := p.members; m != nil; {
		following := m.next
		if !m.service.selects(p.Labels) {
			p.detach(m)
			m.next, left = left, m
		}
		m = following
	}
	for k, v := range p.Labels.All() {
		for s := range ns.selected[Label{k, v}] {
			if s.selects(p.Labels) {
				if m := s.member(p.UID); m.pod == nil {
					p.attach(m)
				}
			}
		}
	}
	for left != nil {
		m := left
		left, m.next = m.next, nil
		t.evaluate(m, e)
	}
	t.evaluateAll(p, e)
}

// evaluateAll evaluates all memberships of a Pod.
func (t *Tracker) evaluateAll(p *pod, e event) {
	for m := p.members; m != nil; m = m.next {
		t.evaluate(m, e)
	}
}

// evaluate compares what is wanted of a member with what was wanted before and opens or ends changes. Both APIs share
// one record when they change in the same direction.
func (t *Tracker) evaluate(m *member, e event) {
	var ids [wayCount]recordID
	for in := range apiCount {
		c := &m.cells[in]
		want := t.wants(m.service, m.pod, in)
		if m.wantsTheSame(c.want, want, e.ips) {
			c.want = want // The same addresses, perhaps in another order.
			continue
		}
		if in == endpointsAPI {
			t.countWanted(m.service, c.want, want, e.at)
		}
		c.want = want
		if !t.synced {
			continue
		}
		id := &ids[wayOf(want)]
		if *id == 0 {
			*id = t.begin(m.service, wayOf(want), e.by, e.at)
		}
		t.wantChanged(m, in, *id, e)
	}
	m.drop()
}

// wantsTheSame says whether the wanted addresses are those that were wanted before, of the addresses that the Pod had.
func (m *member) wantsTheSame(before, want addresses, had [maxIPs]IP) bool {
	switch {
	case before == 0 || want == 0:
		return before == want
	case m.pod.IPs == had:
		return before == want
	case bits.OnesCount8(uint8(before)) != bits.OnesCount8(uint8(want)):
		return false
	}
	for i, ip := range had {
		if before.has(i) && !m.wanted(want, ip) {
			return false
		}
	}
	return true
}

// countWanted keeps the number of members wanted in Endpoints and notices when one object can no longer show them.
func (t *Tracker) countWanted(s *service, before, after addresses, at time.Time) {
	fitted := s.wanted <= endpointsCapacity
	if before != 0 {
		s.wanted--
	}
	if after != 0 {
		s.wanted++
	}
	if fitted && s.wanted > endpointsCapacity {
		t.cut(s, at)
	}
}

// wantChanged ends what was pending for the member and gives the new change its outcome or leaves it open.
func (t *Tracker) wantChanged(m *member, in api, id recordID, e event) {
	c := &m.cells[in]
	fresh, conforms := c.fresh, m.conforms(in)
	c.fresh = false
	if fresh && conforms {
		t.explain(m, in, e.at)
	} else {
		t.end(m, in, Superseded, e.at)
	}
	switch {
	case m.service.cutsOff(in):
		t.settle(m, in, id, OverCapacity)
	case !conforms && e.acted:
		t.open(m, in, id, Open)
	case !conforms:
		t.open(m, in, id, Unacted)
	case fresh: // the published object overtook the Pod on its way here
		t.settle(m, in, id, Closed)
	default:
		t.settle(m, in, id, NotNeeded)
	}
}

// cutsOff says that the API cannot show all members of the Service, so that a missing one means nothing.
func (s *service) cutsOff(in api) bool {
	return in == endpointsAPI && (s.overCapacity || s.wanted > endpointsCapacity)
}
