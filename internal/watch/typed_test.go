package watch

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	endpointutil "k8s.io/endpointslice/util"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// legacyEndpoints is the deprecated API.
type legacyEndpoints = corev1.Endpoints

// The functions below say in terms of the typed objects what the decoder has to find in their bytes. Where
// kube-controller-manager exports a rule, they call it.

func podOf(p *corev1.Pod) lag.Pod {
	out := lag.Pod{
		Namespace: p.Namespace, Name: p.Name, UID: lag.ParseUID(p.UID),
		Labels:      lag.LabelsOf(p.Labels),
		Node:        p.Spec.NodeName,
		Ready:       endpointutil.IsPodReady(p),
		Terminating: p.DeletionTimestamp != nil,
		Included:    endpointutil.ShouldPodBeInEndpoints(p, true),
	}
	for i := range min(len(p.Status.PodIPs), len(out.IPs)) {
		out.IPs[i] = lag.ParseIP(p.Status.PodIPs[i].IP)
	}
	if names := portNames(p); len(names) > 0 {
		out.Ports = lag.NewPortNames(names...)
	}
	return out
}

// portNames are the ports that a Service can find by name: those of containers and of sidecars (FindPort in
// k8s.io/endpointslice).
func portNames(p *corev1.Pod) []string {
	var names []string
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.Name != "" {
				names = append(names, string(port.Protocol)+"/"+port.Name)
			}
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	return names
}

func serviceOf(s *corev1.Service) lag.Service {
	out := lag.Service{
		Namespace: s.Namespace, Name: s.Name,
		Labels:          lag.LabelsOf(s.Labels),
		PublishNotReady: s.Spec.PublishNotReadyAddresses,
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		out.Selector = lag.LabelsOf(s.Spec.Selector)
	}
	for _, family := range s.Spec.IPFamilies {
		out.Families = append(out.Families, lag.Family(family))
	}
	var names []string
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if port.TargetPort.Type != intstr.String {
			return out
		}
		names = append(names, string(port.Protocol)+"/"+port.TargetPort.StrVal)
	}
	if len(names) > 0 {
		out.NeedsPort = lag.NewPortNames(names...)
	}
	return out
}

func sliceOf(s *discoveryv1.EndpointSlice) lag.Slice {
	out := lag.Slice{Namespace: s.Namespace, Name: s.Name, Service: s.Labels[discoveryv1.LabelServiceName]}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		if uid, ok := uidIn(e.TargetRef); ok {
			for _, ip := range e.Addresses {
				out.Ready = append(out.Ready, lag.Address{PodUID: uid, IP: lag.ParseIP(ip)})
			}
		}
	}
	return out
}

// ours says whether a slice is one that the EndpointSlice controller made for a Service.
func ours(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == sliceController && s.Labels[discoveryv1.LabelServiceName] != ""
}

func endpointsOf(e *legacyEndpoints) lag.Endpoints {
	out := lag.Endpoints{Namespace: e.Namespace, Name: e.Name}
	addresses := 0
	for i := range e.Subsets {
		addresses += len(e.Subsets[i].Addresses)
		for j := range e.Subsets[i].Addresses {
			a := &e.Subsets[i].Addresses[j]
			if uid, ok := uidIn(a.TargetRef); ok {
				out.Ready = append(out.Ready, lag.Address{PodUID: uid, IP: lag.ParseIP(a.IP)})
			}
		}
	}
	// Below the limit only addresses that are not ready were cut.
	out.OverCapacity = e.Annotations[corev1.EndpointsOverCapacity] == "truncated" && addresses >= endpointsCapacity
	return out
}

func uidIn(target *corev1.ObjectReference) (lag.UID, bool) {
	if target == nil || target.Kind != "Pod" {
		return lag.UID{}, false
	}
	return lag.ParseUID(target.UID), true
}
