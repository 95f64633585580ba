package watch

import (
	"bytes"
	"fmt"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// slice reads the Pods that a slice shows as ready; a missing condition means ready (discovery/v1). False: the slice is
// not one that the EndpointSlice controller made for a Service.
func (d *decoder) slice(raw []byte) (s lag.Slice, ours bool, err error) {
	if err = d.object(raw); err != nil {
		return lag.Slice{}, false, fmt.Errorf("read the metadata of an endpointslice: %w", err)
	}
	s = lag.Slice{Namespace: d.intern(d.meta.namespace), Name: string(d.meta.name)}
	d.ready = d.ready[:0]
	m := message{rest: raw}
	for m.next() {
		if m.number == sliceEndpoints {
			m.into(d.endpoint(m.bytes))
		}
	}
	manager, err := d.meta.label(discoveryv1.LabelManagedBy)
	m.into(err)
	service, err := d.meta.label(discoveryv1.LabelServiceName)
	if m.into(err); m.err != nil {
		return lag.Slice{}, false, fmt.Errorf("read endpointslice %s/%s: %w", s.Namespace, s.Name, m.err)
	}
	s.Service, s.Ready = d.intern(service), d.ready
	return s, len(service) > 0 && string(manager) == sliceController, nil
}

// endpoint adds the addresses of an endpoint that is ready and a Pod's.
func (d *decoder) endpoint(raw []byte) error {
	before, hidden := len(d.ready), false
	var target []byte
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case endpointAddresses:
			d.ready = append(d.ready, lag.Address{IP: lag.ParseIP(m.bytes)})
		case endpointConditions:
			c := message{rest: m.bytes}
			for c.next() {
				if c.number == conditionsReady {
					hidden = c.varint == 0
				}
			}
			m.into(c.err)
		case endpointTarget:
			target = m.bytes
		}
	}
	uid, ok, err := podUID(target)
	m.into(err)
	if hidden || !ok {
		d.ready = d.ready[:before]
	}
	for i := range d.ready[before:] {
		d.ready[before+i].PodUID = uid
	}
	return m.err
}

// podUID returns the UID in a reference; false if it is none to a Pod.
func podUID(reference []byte) (lag.UID, bool, error) {
	kind, uid, err := two(reference, referenceKind, referenceUID)
	if err != nil || !bytes.Equal(kind, []byte("Pod")) {
		return lag.UID{}, false, err
	}
	return lag.ParseUID(uid), true, nil
}

// endpoints reads the Pods that an Endpoints object shows as ready.
func (d *decoder) endpoints(raw []byte) (lag.Endpoints, error) {
	if err := d.object(raw); err != nil {
		return lag.Endpoints{}, fmt.Errorf("read the metadata of endpoints: %w", err)
	}
	e := lag.Endpoints{Namespace: d.intern(d.meta.namespace), Name: d.intern(d.meta.name)}
	d.ready = d.ready[:0]
	addresses := 0
	m := message{rest: raw}
	for m.next() {
		if m.number != endpointsSubsets {
			continue
		}
		s := message{rest: m.bytes}
		for s.next() {
			if s.number == subsetAddresses {
				addresses++
				s.into(d.subsetAddress(s.bytes))
			}
		}
		m.into(s.err)
	}
	if m.err != nil {
		return lag.Endpoints{}, fmt.Errorf("read endpoints %s/%s: %w", e.Namespace, e.Name, m.err)
	}
	// Below the limit only addresses that are not ready were cut.
	e.Ready, e.OverCapacity = d.ready, d.meta.overCapacity && addresses >= endpointsCapacity
	return e, nil
}

func (d *decoder) subsetAddress(raw []byte) error {
	ip, target, err := two(raw, subsetAddressIP, subsetAddressTarget)
	if err != nil {
		return err
	}
	uid, ok, err := podUID(target)
	if ok {
		d.ready = append(d.ready, lag.Address{PodUID: uid, IP: lag.ParseIP(ip)})
	}
	return err
}
