package watch

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func anySelector(d *dice) map[string]string {
	s := map[string]string{"app": pick(d, "web", "web", "web", "api")}
	if d.percent(35) {
		s["tier"] = pick(d, "a", "b")
	}
	return s
}

func anyFamilies(d *dice) []corev1.IPFamily {
	return pick(d, []corev1.IPFamily{"IPv4"}, []corev1.IPFamily{"IPv4"}, []corev1.IPFamily{"IPv6"},
		[]corev1.IPFamily{"IPv4", "IPv6"}, []corev1.IPFamily{"IPv6", "IPv4"})
}

func anyPorts(d *dice) []corev1.ServicePort {
	port := func(name string) corev1.ServicePort {
		out := corev1.ServicePort{Name: name, Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(int32(80 + d.n(3)))}
		if d.percent(60) {
			out.TargetPort = intstr.FromString("http")
		}
		if d.percent(20) {
			out.Protocol = corev1.ProtocolUDP
		}
		return out
	}
	switch d.n(5) {
	case 0:
		return nil
	case 1, 2, 3:
		return []corev1.ServicePort{port("a")}
	default:
		return []corev1.ServicePort{port("a"), port("b")}
	}
}

func setPorts(s *corev1.Service, d *dice) {
	s.Spec.Ports, s.Spec.ClusterIP = anyPorts(d), "10.96.0.1"
	if len(s.Spec.Ports) == 0 || d.percent(20) {
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
}

func newService(w *world, d *dice, name string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: w.meta(name, anyLabels(d))}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, Selector: anySelector(d), IPFamilies: anyFamilies(d),
		PublishNotReadyAddresses: d.percent(20),
	}
	setPorts(s, d)
	return s
}

func createService(w *world, d *dice) string {
	name := fmt.Sprint("service-", d.n(2))
	if w.services[name] != nil {
		return ""
	}
	w.rules[ruleServiceReplaced] = w.rules[ruleServiceReplaced] || w.gone[name]
	w.setService(newService(w, d, name))
	return "created " + describeService(w.services[name])
}

func describeService(s *corev1.Service) string {
	var ports []string
	for _, p := range s.Spec.Ports {
		ports = append(ports, string(p.Protocol)+"/"+p.TargetPort.String())
	}
	out := fmt.Sprintf("%s: %s, selector %v, families %v, ports %v", s.Name, s.Spec.Type, s.Spec.Selector, s.Spec.IPFamilies, ports)
	if s.Spec.PublishNotReadyAddresses {
		out += ", publishes what is not ready"
	}
	if s.DeletionTimestamp != nil {
		out += ", terminating"
	}
	return out
}

// onService is an action on a Service that exists.
func onService(w *world, d *dice, change func(s *corev1.Service)) string {
	if len(w.services) == 0 {
		return ""
	}
	s := w.services[pick(d, slices.Sorted(maps.Keys(w.services))...)]
	w.changeService(s, change)
	return "changed " + describeService(w.services[s.Name])
}

func deleteService(w *world, d *dice) string {
	if len(w.services) == 0 {
		return ""
	}
	name := pick(d, slices.Sorted(maps.Keys(w.services))...)
	w.deleteService(name)
	w.rules[ruleServiceDeleted] = true
	return "deleted " + name
}

func replaceService(w *world, d *dice) string {
	if len(w.services) == 0 {
		return ""
	}
	name := pick(d, slices.Sorted(maps.Keys(w.services))...)
	w.rules[ruleServiceReplaced] = true
	w.deleteService(name)
	w.setService(newService(w, d, name))
	return "deleted and created " + describeService(w.services[name])
}

func changeSelector(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) {
		s.Spec.Selector = anySelector(d)
		w.rules[ruleSelectorChanged] = true
	})
}

func togglePublish(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = !s.Spec.PublishNotReadyAddresses })
}

func changeFamilies(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { s.Spec.IPFamilies = anyFamilies(d) })
}

// addFamily gives a Pod or a Service a second family, as dual stack is introduced in a cluster.
func addFamily(w *world, d *dice) string {
	if d.percent(50) {
		return onService(w, d, func(s *corev1.Service) {
			if len(s.Spec.IPFamilies) == 1 && s.Spec.IPFamilies[0] == corev1.IPv4Protocol {
				s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv6"}
			} else if len(s.Spec.IPFamilies) == 1 {
				s.Spec.IPFamilies = []corev1.IPFamily{"IPv6", "IPv4"}
			}
		})
	}
	return onPod(w, d, func(p *corev1.Pod) {
		if len(p.Status.PodIPs) != 1 {
			return
		}
		other := pick(d, v4...)
		if familyOf(p.Status.PodIP) == corev1.IPv4Protocol {
			other = pick(d, v6...)
		}
		setIPs(p, []string{p.Status.PodIP, other})
	})
}

func changePorts(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { setPorts(s, d) })
}

func changeType(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) {
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			s.Spec.Type = corev1.ServiceTypeClusterIP
		} else {
			s.Spec.Type = corev1.ServiceTypeExternalName
		}
	})
}

func dropSelector(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) {
		if s.Spec.Selector == nil {
			s.Spec.Selector = anySelector(d)
		} else {
			s.Spec.Selector = nil
		}
	})
}

// terminateService sets the deletion timestamp of a Service that a finalizer holds, as that of a load balancer does.
func terminateService(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: w.now} })
}
