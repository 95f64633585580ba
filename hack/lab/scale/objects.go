package scale

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Words that several objects share.
const (
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelVersion   = "app.kubernetes.io/version"
	component      = "api"
	appVersion     = "1.42.3"
	production     = "-production"
	portHTTP       = "http"
	portMetrics    = "metrics"
	volumeConfig   = "config"
	coreVersion    = "v1"
	kcm            = "kube-controller-manager"
	shopImages     = "registry.example.com/shop/"
	architecture   = "amd64"
	linux          = "linux"
)

func (c *cluster) service(i int) *corev1.Service {
	name := serviceName(i)
	created := c.born.Add(-30 * 24 * time.Hour)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: c.namespaceName(i), Name: name, UID: types.UID(uuid(c.key, saltService, uint64(i))),
		ResourceVersion: versionText(firstVersion - int64(i)), CreationTimestamp: metav1.NewTime(created),
		Labels: serviceLabels(name),
		Annotations: map[string]string{
			"meta.helm.sh/release-name": name + production, "meta.helm.sh/release-namespace": c.namespaceName(i),
		},
		ManagedFields: []metav1.ManagedFieldsEntry{managed("helm", "", coreVersion, created, serviceFields)},
	}}
	s.Spec = corev1.ServiceSpec{
		Ports: []corev1.ServicePort{
			{Name: portHTTP, Protocol: corev1.ProtocolTCP, AppProtocol: new(portHTTP), Port: 80, TargetPort: intstr.FromString(portHTTP)},
			{Name: portMetrics, Protocol: corev1.ProtocolTCP, Port: 9090, TargetPort: intstr.FromString(portMetrics)},
		},
		Selector: map[string]string{
			labelName: name, labelInstance: name + production,
			labelComponent: component,
		},
		ClusterIP: clusterIP(i), ClusterIPs: []string{clusterIP(i)}, Type: corev1.ServiceTypeClusterIP,
		SessionAffinity: corev1.ServiceAffinityNone, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack), InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyCluster),
	}
	return s
}

func serviceLabels(name string) map[string]string {
	return map[string]string{
		labelName: name, labelInstance: name + production,
		labelComponent: component, "app.kubernetes.io/part-of": "shop",
		labelVersion: appVersion, "app.kubernetes.io/managed-by": "Helm",
		"helm.sh/chart": "web-service-5.11.0",
	}
}

// endpointSlice is what kube-controller-manager writes for the Pods of a Service.
func (c *cluster) endpointSlice(i int, version int64, pods []podState) *discoveryv1.EndpointSlice {
	name := serviceName(i)
	labels := serviceLabels(name)
	labels[discoveryv1.LabelServiceName] = name
	labels[discoveryv1.LabelManagedBy] = "endpointslice-controller.k8s.io"
	changed := latest(pods)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.namespaceName(i), Name: name + "-" + suffix(5, c.key, saltSlice, uint64(i)), GenerateName: name + "-",
			UID: types.UID(uuid(c.key, saltSlice, uint64(i))), ResourceVersion: versionText(version),
			Generation: version - firstVersion, CreationTimestamp: metav1.NewTime(c.born.Add(-30 * 24 * time.Hour)),
			Labels:      labels,
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: changed.UTC().Format(time.RFC3339)},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: coreVersion, Kind: "Service", Name: name, UID: types.UID(uuid(c.key, saltService, uint64(i))),
				Controller: new(true), BlockOwnerDeletion: new(true),
			}},
			ManagedFields: []metav1.ManagedFieldsEntry{
				managed(kcm, "", "discovery.k8s.io/v1", changed, sliceFields),
			},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: new(portHTTP), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080)), AppProtocol: new(portHTTP)},
			{Name: new(portMetrics), Protocol: new(corev1.ProtocolTCP), Port: new(int32(9090))},
		},
		Endpoints: make([]discoveryv1.Endpoint, 0, len(pods)),
	}
	from, _ := c.podsOf(i)
	for j, s := range pods {
		if s.phase == pending {
			continue
		}
		node := c.nodeOf(from+j, s.life)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{podIP(from+j, s.life)},
			Conditions: discoveryv1.EndpointConditions{
				Ready: new(s.phase == ready), Serving: new(s.phase != notReady), Terminating: new(s.phase == terminating),
			},
			TargetRef: c.reference(from+j, s), NodeName: new(nodeName(node)), Zone: new(zoneOf(node)),
		})
	}
	return slice
}

// endpointsOf is what kube-controller-manager writes besides, for a deprecated API.
func (c *cluster) endpointsOf(i int, version int64, pods []podState) *corev1.Endpoints {
	name, changed := serviceName(i), latest(pods)
	labels := serviceLabels(name)
	labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Namespace: c.namespaceName(i), Name: name, UID: types.UID(uuid(c.key, saltEndpoints, uint64(i))),
		ResourceVersion: versionText(version), CreationTimestamp: metav1.NewTime(c.born.Add(-30 * 24 * time.Hour)),
		Labels:      labels,
		Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: changed.UTC().Format(time.RFC3339)},
		ManagedFields: []metav1.ManagedFieldsEntry{
			managed(kcm, "", coreVersion, changed, endpointsFields),
		},
	}}
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{
		{Name: portHTTP, Port: 8080, Protocol: corev1.ProtocolTCP, AppProtocol: new(portHTTP)},
		{Name: portMetrics, Port: 9090, Protocol: corev1.ProtocolTCP},
	}}
	from, _ := c.podsOf(i)
	for j, s := range pods {
		address := corev1.EndpointAddress{
			IP: podIP(from+j, s.life), NodeName: new(nodeName(c.nodeOf(from+j, s.life))), TargetRef: c.reference(from+j, s),
		}
		switch s.phase {
		case ready:
			subset.Addresses = append(subset.Addresses, address)
		case notReady:
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		case pending, terminating:
		}
	}
	if len(subset.Addresses)+len(subset.NotReadyAddresses) > 0 {
		e.Subsets = []corev1.EndpointSubset{subset}
	}
	return e
}

func (c *cluster) reference(pod int, s podState) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		Kind: "Pod", Namespace: c.namespaceName(serviceOf(pod)), Name: c.podName(pod, s.life), UID: types.UID(c.podUID(pod, s.life)),
	}
}

// latest is when the newest of the transitions was.
func latest(pods []podState) time.Time {
	var newest int64
	for _, s := range pods {
		newest = max(newest, s.changed)
	}
	return time.Unix(newest, 0)
}

func systemNamespaces() []string {
	return []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}
}

func (c *cluster) namespace(i int) *corev1.Namespace {
	system := systemNamespaces()
	var name string
	if i < len(system) {
		name = system[i]
	} else {
		name = c.namespaceName(i - len(system))
	}
	return &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(uuid(c.key, saltNamespace, uint64(i))), ResourceVersion: versionText(firstVersion - int64(i)),
			CreationTimestamp: metav1.NewTime(c.born.Add(-300 * 24 * time.Hour)),
			Labels: map[string]string{
				corev1.LabelMetadataName: name, "team": name, "pod-security.kubernetes.io/enforce": "restricted",
			},
		},
		Spec:   corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
}

// nodeImages is how many images the kubelet reports (--node-status-max-images).
const nodeImages = 50

func (c *cluster) node(i int, version int64) *corev1.Node {
	name, ip := nodeName(i), nodeIP(i)
	created, now := c.born.Add(-7*24*time.Hour), c.born.Add(time.Duration(version-firstVersion)*time.Microsecond)
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(uuid(c.key, saltNode, uint64(i))), ResourceVersion: versionText(version),
			CreationTimestamp: metav1.NewTime(created),
			Labels: map[string]string{
				"beta.kubernetes.io/arch": architecture, "beta.kubernetes.io/os": linux, corev1.LabelArchStable: architecture,
				corev1.LabelOSStable: linux, corev1.LabelHostname: name, corev1.LabelInstanceTypeStable: "m7i.8xlarge",
				corev1.LabelTopologyRegion: "eu-central-1", corev1.LabelTopologyZone: zoneOf(i), "node-pool": "general",
			},
			Annotations: map[string]string{
				"csi.volume.kubernetes.io/nodeid":                        `{"ebs.csi.aws.com":"i-` + digest(uint64(i))[:17] + `"}`,
				"node.alpha.kubernetes.io/ttl":                           "30",
				"projectcalico.org/IPv4Address":                          ip + "/20",
				"volumes.kubernetes.io/controller-managed-attach-detach": yes,
			},
			ManagedFields: []metav1.ManagedFieldsEntry{managed("kubelet", "status", coreVersion, now, nodeFields)},
		},
		Spec: corev1.NodeSpec{PodCIDR: "10.0.0.0/24", ProviderID: "aws:///" + zoneOf(i) + "/i-" + digest(uint64(i))[:17]},
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("131072Mi"),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("209702892Ki"),
	}
	n.Status = corev1.NodeStatus{
		Capacity: capacity, Allocatable: capacity,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: ip},
			{Type: corev1.NodeHostName, Address: name},
			{Type: corev1.NodeInternalDNS, Address: name},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: digest(uint64(i))[:32], SystemUUID: uuid(uint64(i)), BootID: uuid(uint64(i), 1), KernelVersion: "6.12.40-63.114.amzn2023.x86_64",
			OSImage: "Amazon Linux 2023.9", ContainerRuntimeVersion: "containerd://2.1.4", KubeletVersion: "v1.37.2",
			OperatingSystem: linux, Architecture: architecture,
		},
	}
	for _, of := range []corev1.NodeConditionType{
		corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady,
	} {
		condition := corev1.NodeCondition{
			Type: of, Status: corev1.ConditionFalse, LastHeartbeatTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(created),
			Reason: "KubeletHasNo" + string(of), Message: "kubelet has sufficient memory available",
		}
		if of == corev1.NodeReady {
			condition.Status, condition.Reason, condition.Message = corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"
		}
		n.Status.Conditions = append(n.Status.Conditions, condition)
	}
	for j := range nodeImages {
		image := serviceName(int(mix(c.key, saltNode, uint64(i), uint64(j)) % uint64(c.Services)))
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{
				shopImages + image + "@sha256:" + digest(saltImage, uint64(j)),
				shopImages + image + ":1.42.3",
			},
			SizeBytes: 48_000_000 + int64(j)*1_234_567,
		})
	}
	return n
}

const (
	serviceFields = `{"f:metadata":{"f:annotations":{".":{},"f:meta.helm.sh/release-name":{},"f:meta.helm.sh/release-namespace":{}},` +
		`"f:labels":{".":{},"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},"f:app.kubernetes.io/managed-by":{},` +
		`"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:app.kubernetes.io/version":{},"f:helm.sh/chart":{}}},` +
		`"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:appProtocol":{},` +
		`"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}},"k:{\"port\":9090,\"protocol\":\"TCP\"}":{".":{},"f:name":{},` +
		`"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}`
	sliceFields = `{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},` +
		`"f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},"f:labels":{".":{},` +
		`"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},"f:app.kubernetes.io/managed-by":{},` +
		`"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:app.kubernetes.io/version":{},` +
		`"f:endpointslice.kubernetes.io/managed-by":{},"f:helm.sh/chart":{},"f:kubernetes.io/service-name":{}},` +
		`"f:ownerReferences":{".":{},"k:{\"uid\":\"7a2f3c1e-5d14-4c3c-9a57-0f6f2f0a1b11\"}":{}}},"f:ports":{}}`
	endpointsFields = `{"f:metadata":{"f:annotations":{".":{},"f:endpoints.kubernetes.io/last-change-trigger-time":{}},` +
		`"f:labels":{".":{},"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},"f:app.kubernetes.io/managed-by":{},` +
		`"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:app.kubernetes.io/version":{},` +
		`"f:endpoints.kubernetes.io/managed-by":{},"f:helm.sh/chart":{}}},"f:subsets":{}}`
	nodeFields = `{"f:status":{"f:conditions":{"k:{\"type\":\"DiskPressure\"}":{"f:lastHeartbeatTime":{}},` +
		`"k:{\"type\":\"MemoryPressure\"}":{"f:lastHeartbeatTime":{}},"k:{\"type\":\"PIDPressure\"}":{"f:lastHeartbeatTime":{}},` +
		`"k:{\"type\":\"Ready\"}":{"f:lastHeartbeatTime":{},"f:lastTransitionTime":{},"f:message":{},"f:reason":{},"f:status":{}}},` +
		`"f:images":{}}}`
)
