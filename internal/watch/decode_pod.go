package watch

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// pod reads what decides about a Pod's membership (podToEndpoint and ShouldPodBeInEndpoints in k8s.io/endpointslice).
func (d *decoder) pod(raw []byte) (lag.Pod, error) {
	if err := d.object(raw); err != nil {
		return lag.Pod{}, fmt.Errorf("read the metadata of a pod: %w", err)
	}
	p := lag.Pod{
		Namespace: d.intern(d.meta.namespace), Name: string(d.meta.name),
		UID: lag.ParseUID(d.meta.uid), Terminating: d.meta.deleted,
	}
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case podSpec:
			m.into(d.podSpec(m.bytes, &p))
		case podStatus:
			m.into(d.podStatus(m.bytes, &p))
		}
	}
	labels, err := d.labelsOf(d.meta.labels)
	m.into(err)
	if m.err != nil {
		return lag.Pod{}, fmt.Errorf("read pod %s/%s: %w", p.Namespace, p.Name, m.err)
	}
	p.Labels = labels
	return p, nil
}

// podSpec reads the node and the ports that a Service can find by name: those of containers and of sidecars.
func (d *decoder) podSpec(raw []byte, p *lag.Pod) error {
	d.names = d.names[:0]
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case specNodeName:
			p.Node = d.intern(m.bytes)
		case specContainers:
			_, err := d.container(m.bytes)
			m.into(err)
		case specInitContainers:
			before := len(d.names)
			sidecar, err := d.container(m.bytes)
			if m.into(err); !sidecar {
				d.names = d.names[:before]
			}
		}
	}
	p.Ports = d.portNames()
	return m.err
}

// portNames returns the set of d.names.
func (d *decoder) portNames() lag.PortNames {
	if len(d.names) == 0 {
		return lag.PortNames{}
	}
	d.text = d.text[:0]
	for _, name := range d.names {
		d.text = protowire.AppendString(d.text, name)
	}
	if known, ok := d.ports[string(d.text)]; ok {
		return known
	}
	if len(d.ports) >= internedMost {
		clear(d.ports)
	}
	set := string(d.text)
	d.ports[set] = lag.NewPortNames(d.names...)
	return d.ports[set]
}

// container adds the named ports of a container and says whether it is always restarted.
func (d *decoder) container(raw []byte) (always bool, err error) {
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case containerPorts:
			m.into(d.containerPort(m.bytes))
		case containerRestart:
			always = string(m.bytes) == string(corev1.ContainerRestartPolicyAlways)
		}
	}
	return always, m.err
}

func (d *decoder) containerPort(raw []byte) error {
	name, protocol, err := two(raw, portName, portProtocol)
	if len(name) > 0 {
		d.names = append(d.names, d.port(protocol, name))
	}
	return err
}

// port returns a port's name as the tracker compares it.
func (d *decoder) port(protocol, name []byte) string {
	d.text = append(append(append(d.text[:0], protocol...), '/'), name...)
	return d.intern(d.text)
}

func (d *decoder) podStatus(raw []byte, p *lag.Pod) error {
	var addressed, judged, over bool
	addresses := 0
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case statusPhase:
			over = string(m.bytes) == string(corev1.PodSucceeded) || string(m.bytes) == string(corev1.PodFailed)
		case statusConditions:
			kind, status, err := two(m.bytes, conditionType, conditionStatus)
			if m.into(err); !judged && string(kind) == string(corev1.PodReady) {
				judged, p.Ready = true, string(status) == string(corev1.ConditionTrue)
			}
		case statusPodIP:
			addressed = addressed || len(m.bytes) > 0
		case statusPodIPs:
			addressed = true
			text, err := field(m.bytes, podIPText)
			if m.into(err); addresses < len(p.IPs) {
				p.IPs[addresses] = lag.ParseIP(text)
				addresses++
			}
		}
	}
	p.Included = addressed && !over
	return m.err
}

// service reads what decides about a Service's members. ExternalName has none, whatever its selector says.
func (d *decoder) service(raw []byte) (lag.Service, error) {
	if err := d.object(raw); err != nil {
		return lag.Service{}, fmt.Errorf("read the metadata of a service: %w", err)
	}
	s := lag.Service{Namespace: d.intern(d.meta.namespace), Name: d.intern(d.meta.name)}
	labels, err := d.labelsOf(d.meta.labels)
	m := message{rest: raw}
	m.into(err)
	for m.next() {
		if m.number == serviceSpec {
			m.into(d.serviceSpec(m.bytes, &s))
		}
	}
	if m.err != nil {
		return lag.Service{}, fmt.Errorf("read service %s/%s: %w", s.Namespace, s.Name, m.err)
	}
	s.Labels = labels
	return s, nil
}

func (d *decoder) serviceSpec(raw []byte, s *lag.Service) error {
	d.names = d.names[:0]
	d.text = d.text[:0]
	var selector []byte
	external, byNumber := false, false
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case servicePorts:
			named, err := d.servicePort(m.bytes)
			m.into(err)
			byNumber = byNumber || !named
		case serviceSelector:
			selector = protowire.AppendBytes(selector, m.bytes)
		case serviceType:
			external = string(m.bytes) == string(corev1.ServiceTypeExternalName)
		case servicePublish:
			s.PublishNotReady = m.varint != 0
		case serviceFamilies:
			s.Families = append(s.Families, family(m.bytes))
		}
	}
	if !external && m.err == nil {
		s.Selector, m.err = d.labelsOf(selector)
	}
	if !byNumber {
		s.NeedsPort = d.portNames()
	}
	return m.err
}

func family(text []byte) lag.Family {
	for _, known := range [...]lag.Family{lag.FamilyIPv4, lag.FamilyIPv6} {
		if string(text) == string(known) {
			return known
		}
	}
	return lag.Family(text)
}

// servicePort adds the port's target if that is a name, and says whether it is.
func (d *decoder) servicePort(raw []byte) (named bool, err error) {
	protocol, target, err := two(raw, servicePortProtocol, servicePortTarget)
	var text []byte
	t := message{rest: target}
	for t.next() {
		switch t.number {
		case intOrStringType:
			named = t.varint == intOrStringIsText
		case intOrStringText:
			text = t.bytes
		}
	}
	if named {
		d.names = append(d.names, d.port(protocol, text))
	}
	return named, errors.Join(err, t.err)
}
