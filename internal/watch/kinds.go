package watch

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	endpointutil "k8s.io/endpointslice/util"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// sliceController is the value of the label managed-by on the slices of the EndpointSlice controller; mirrored slices and
// those of other controllers have another (pkg/controller/endpointslice).
const sliceController = "endpointslice-controller.k8s.io"

// endpointsCapacity is how many addresses kube-controller-manager leaves in one Endpoints object (maxCapacity in
// pkg/controller/endpoint).
const endpointsCapacity = 1000

// legacyEndpoints is the deprecated API, measured because kube-controller-manager still spends half of its writes on it.
type legacyEndpoints = corev1.Endpoints

func newSink(name string) *sink {
	return &sink{name: name, trim: keepAll, known: map[types.NamespacedName]struct{}{}}
}

func keepAll(object any) (any, error) { return object, nil }

func (f *Feed) pods() *sink {
	s := newSink("pods")
	s.example = &corev1.Pod{}
	s.source = listWatch(s, f.clients.kube.CoreV1().Pods(f.options.Namespace), metav1.ListOptions{}, f.clients.kube)
	s.trim = trimPod
	s.set = func(object any, at time.Time) bool {
		p, ok := object.(*corev1.Pod)
		if ok {
			f.tracker.SetPod(podOf(p), at)
		}
		return ok
	}
	s.remove = f.tracker.DeletePod
	return s
}

func (f *Feed) services() *sink {
	s := newSink("services")
	s.example = &corev1.Service{}
	s.source = listWatch(s, f.clients.kube.CoreV1().Services(f.options.Namespace), metav1.ListOptions{}, f.clients.kube)
	s.set = func(object any, at time.Time) bool {
		service, ok := object.(*corev1.Service)
		if ok {
			f.tracker.SetService(serviceOf(service), at)
		}
		return ok
	}
	s.remove = f.tracker.DeleteService
	return s
}

func (f *Feed) endpointSlices() *sink {
	s := newSink("endpointslices")
	s.example = &discoveryv1.EndpointSlice{}
	managed := labels.Set{discoveryv1.LabelManagedBy: sliceController}
	s.source = listWatch(s, f.clients.kube.DiscoveryV1().EndpointSlices(f.options.Namespace),
		metav1.ListOptions{LabelSelector: managed.String()}, f.clients.kube)
	s.set = func(object any, at time.Time) bool {
		slice, ok := object.(*discoveryv1.EndpointSlice)
		// Asked for by label already, but a server is free to ignore that.
		if !ok || slice.Labels[discoveryv1.LabelManagedBy] != sliceController ||
			slice.Labels[discoveryv1.LabelServiceName] == "" {
			return false
		}
		f.tracker.SetSlice(sliceOf(slice), at)
		return true
	}
	s.remove = f.tracker.DeleteSlice
	return s
}

// endpoints watches the Endpoints API. The tracker measures only those named after a Service with a selector, which
// leaves out leader election and whatever people maintain themselves.
func (f *Feed) endpoints() *sink {
	s := newSink("endpoints")
	s.example = &legacyEndpoints{}
	s.source = listWatch(s, f.clients.kube.CoreV1().Endpoints(f.options.Namespace), metav1.ListOptions{}, f.clients.kube)
	s.set = func(object any, at time.Time) bool {
		e, ok := object.(*legacyEndpoints)
		if ok {
			f.tracker.SetEndpoints(endpointsOf(e), at)
		}
		return ok
	}
	s.remove = f.tracker.DeleteEndpoints
	return s
}

// namespaces watches names and labels. Without the right to, Services cannot be told apart by their namespace's labels,
// and everything else works.
func (f *Feed) namespaces() *sink {
	s := newSink("namespaces")
	s.optional = true
	s.example = &metav1.PartialObjectMetadata{}
	var narrow metav1.ListOptions
	if f.options.Namespace != "" {
		narrow.FieldSelector = fields.OneTermEqualSelector("metadata.name", f.options.Namespace).String()
	}
	client := f.clients.namespaces.Resource(corev1.SchemeGroupVersion.WithResource("namespaces"))
	s.source = listWatch(s, client, narrow, f.clients.namespaces)
	s.set = func(object any, _ time.Time) bool {
		namespace, ok := object.(*metav1.PartialObjectMetadata)
		if ok {
			f.tracker.SetNamespace(namespace.Name, lag.LabelsOf(namespace.Labels))
		}
		return ok
	}
	s.remove = func(_, name string, _ time.Time) { f.tracker.DeleteNamespace(name) }
	return s
}

// trimPod keeps what podOf reads, so that a list of many Pods does not need much more than their names.
func trimPod(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	ready := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
			Labels: p.Labels, DeletionTimestamp: p.DeletionTimestamp,
		},
		Spec: corev1.PodSpec{
			Containers:     trimContainers(p.Spec.Containers),
			InitContainers: trimContainers(p.Spec.InitContainers),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs},
	}
	if ready >= 0 {
		kept.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: p.Status.Conditions[ready].Status}}
	}
	return kept, nil
}

// trimContainers keeps the containers that name a port.
func trimContainers(all []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for i := range all {
		if slices.ContainsFunc(all[i].Ports, func(p corev1.ContainerPort) bool { return p.Name != "" }) {
			kept = append(kept, corev1.Container{Ports: all[i].Ports, RestartPolicy: all[i].RestartPolicy})
		}
	}
	return kept
}

// podOf reads what decides about membership (podToEndpoint and ShouldPodBeInEndpoints in k8s.io/endpointslice).
func podOf(p *corev1.Pod) lag.Pod {
	return lag.Pod{
		Namespace: p.Namespace, Name: p.Name, UID: lag.ParseUID(p.UID),
		Labels:      lag.LabelsOf(p.Labels),
		IPs:         podIPs(p),
		Node:        p.Spec.NodeName,
		Ports:       lag.NewPortNames(portNames(p)...),
		Ready:       endpointutil.IsPodReady(p),
		Terminating: p.DeletionTimestamp != nil,
		Included:    endpointutil.ShouldPodBeInEndpoints(p, true),
	}
}

func podIPs(p *corev1.Pod) (ips [2]lag.IP) {
	for i := range min(len(ips), len(p.Status.PodIPs)) {
		ips[i] = lag.ParseIP(p.Status.PodIPs[i].IP)
	}
	return ips
}

// portNames are the ports that a Service can find by name: those of containers and of sidecars.
func portNames(p *corev1.Pod) []string {
	var names []string
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.Name != "" {
				names = append(names, portName(port.Protocol, port.Name))
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

func portName(protocol corev1.Protocol, name string) string { return string(protocol) + "/" + name }

// serviceOf reads what decides about a Service's members. ExternalName has none, whatever its selector says.
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
		names = append(names, portName(port.Protocol, port.TargetPort.StrVal))
	}
	out.NeedsPort = lag.NewPortNames(names...)
	return out
}

// sliceOf reads the Pods that a slice shows as ready; a missing condition means ready (discovery/v1).
func sliceOf(s *discoveryv1.EndpointSlice) lag.Slice {
	out := lag.Slice{Namespace: s.Namespace, Name: s.Name, Service: s.Labels[discoveryv1.LabelServiceName]}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		if uid, ok := podUID(e.TargetRef); ok {
			for _, ip := range e.Addresses {
				out.Ready = append(out.Ready, lag.Address{PodUID: uid, IP: lag.ParseIP(ip)})
			}
		}
	}
	return out
}

func endpointsOf(e *legacyEndpoints) lag.Endpoints {
	out := lag.Endpoints{Namespace: e.Namespace, Name: e.Name}
	addresses := 0
	for i := range e.Subsets {
		addresses += len(e.Subsets[i].Addresses)
		for j := range e.Subsets[i].Addresses {
			a := &e.Subsets[i].Addresses[j]
			if uid, ok := podUID(a.TargetRef); ok {
				out.Ready = append(out.Ready, lag.Address{PodUID: uid, IP: lag.ParseIP(a.IP)})
			}
		}
	}
	// Below the limit only addresses that are not ready were cut.
	out.OverCapacity = e.Annotations[corev1.EndpointsOverCapacity] == "truncated" && addresses >= endpointsCapacity
	return out
}

func podUID(target *corev1.ObjectReference) (lag.UID, bool) {
	if target == nil || target.Kind != "Pod" {
		return lag.UID{}, false
	}
	return lag.ParseUID(target.UID), true
}
