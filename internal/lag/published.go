package lag

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// published is the ready addresses of one slice or Endpoints object, in its own order.
type published struct {
	owner *service
	in    api
	ready []Address
}

// shownChanged ends what was pending when the published state conforms, and notes a difference that no desired change
// explains.
func (t *Tracker) shownChanged(m *member, in api, at time.Time) {
	c := &m.cells[in]
	c.fresh = true
	switch {
	case !t.synced || !m.service.managed:
	case m.conforms(in):
		t.end(m, in, Closed, at)
	case c.pending == 0 && !m.service.cutsOff(in):
		t.open(m, in, t.begin(m.service, c.way(), in.kind(), at), Drift)
	}
	m.drop()
}

// publish replaces what an object shows, in one step for each member: an address that only moves inside the object was
// never gone. kube-controller-manager keeps the order of what stays, so that usually one address in the middle differs.
func (t *Tracker) publish(p *published, ready []Address, at time.Time) {
	head, tail, shorter := 0, 0, min(len(p.ready), len(ready))
	for head < shorter && p.ready[head] == ready[head] {
		head++
	}
	for tail < shorter-head && p.ready[len(p.ready)-1-tail] == ready[len(ready)-1-tail] {
		tail++
	}
	end := len(p.ready) - tail
	t.before = append(t.before[:0], p.ready[head:end]...)
	t.after = append(t.after[:0], ready[head:len(ready)-tail]...)
	if cap(p.ready) < len(ready) {
		p.ready = slices.Clone(ready) // Exactly as large as needed: most objects never grow.
	} else {
		p.ready = slices.Replace(p.ready, head, end, t.after...)
	}
	slices.SortFunc(t.before, compareAddress)
	slices.SortFunc(t.after, compareAddress)
	touched := t.swap(p, t.before, t.after)
	for _, m := range touched {
		t.shownChanged(m, p.in, at)
	}
	clear(touched)
}

// swap hides and shows what differs between two sorted lists of addresses, and returns the members that it touched. The
// result is good until the next call.
func (t *Tracker) swap(p *published, before, after []Address) []*member {
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
			touched = append(touched, p.hide(before[0]))
			before = before[1:]
		case order > 0:
			touched = append(touched, p.show(after[0]))
			after = after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	t.touched = touched
	return touched
}

func (p *published) show(a Address) *member {
	m := p.owner.member(a.PodUID)
	m.cells[p.in].show(a.IP)
	return m
}

func (p *published) hide(a Address) *member {
	m := p.owner.member(a.PodUID)
	m.cells[p.in].hide(a.IP)
	return m
}

func compareAddress(a, b Address) int {
	return cmp.Or(bytes.Compare(a.PodUID[:], b.PodUID[:]), bytes.Compare(a.IP[:], b.IP[:]))
}
