package lag

import "strings"

// Resource is the API in which a change becomes visible.
type Resource string

// The two APIs that kube-controller-manager publishes endpoints in.
const (
	ResourceEndpointSlice Resource = "EndpointSlice"
	ResourceEndpoints     Resource = "Endpoints"
)

// Direction tells additions from removals.
type Direction string

// The directions of a Stat; a Change is an Addition or a Removal. A Pod that stays ready but moves to another address is
// an addition.
const (
	DirectionAny      Direction = "Any"
	DirectionAddition Direction = "Addition"
	DirectionRemoval  Direction = "Removal"
)

// Family is the IP family of an address.
type Family string

// The families a Service may publish.
const (
	FamilyIPv4 Family = "IPv4"
	FamilyIPv6 Family = "IPv6"
)

// endpointsCapacity is how many addresses kube-controller-manager writes into one Endpoints object; it cuts the rest
// (maxCapacity in pkg/controller/endpoint).
const endpointsCapacity = 1000

// Pod is what decides about a Pod's membership. The tracker keeps Labels, IPs and PortNames: they must not be changed
// after the call.
type Pod struct {
	Namespace, Name, UID string
	Labels               map[string]string
	// IPs are the addresses of status.podIPs (or status.podIP).
	IPs []string
	// PortNames are the named container ports, as protocol/name ("TCP/http").
	PortNames []string
	// Ready is the Pod's Ready condition alone.
	Ready bool
	// Terminating says that the deletion timestamp is set.
	Terminating bool
	// Included is k8s.io/endpointslice/util.ShouldPodBeInEndpoints with terminating Pods included.
	Included bool
}

// Service is what decides about a Service's members. The tracker keeps the maps and slices: they must not be changed
// after the call.
type Service struct {
	Namespace, Name string
	Labels          map[string]string
	// NamespaceLabels is filled in for Query.Measured; SetService ignores it.
	NamespaceLabels map[string]string
	// Selector is empty when kube-controller-manager does not manage the endpoints: no selector, or ExternalName.
	Selector map[string]string
	// PublishNotReady is spec.publishNotReadyAddresses.
	PublishNotReady bool
	// Families are spec.ipFamilies, the primary one first; empty accepts any address.
	Families []Family
	// NeedsPort lists the named target ports, as protocol/name, when all target ports are named: a Pod that has none of
	// them is in no Endpoints object (but in a slice without ports). Empty needs none.
	NeedsPort []string
}

// Address is one address that a published object shows as ready.
type Address struct {
	PodUID, IP string
}

// Slice is an EndpointSlice of the EndpointSlice controller. The tracker keeps Ready.
type Slice struct {
	Namespace, Name string
	// Service is the label kubernetes.io/service-name.
	Service string
	Ready   []Address
}

// Endpoints is an Endpoints object of the Endpoints controller; it is named after its Service. The tracker keeps Ready.
type Endpoints struct {
	Namespace, Name string
	Ready           []Address
	// OverCapacity says that ready addresses were cut off: annotation endpoints.kubernetes.io/over-capacity with nothing
	// but ready addresses left (addresses that are not ready are cut first and do not matter here).
	OverCapacity bool
}

func familyOf(ip string) Family {
	if strings.Contains(ip, ":") {
		return FamilyIPv6
	}
	return FamilyIPv4
}

// api numbers the resources for arrays.
type api uint8

const (
	sliceAPI api = iota
	endpointsAPI
	apiCount
)

var resources = [apiCount]Resource{ResourceEndpointSlice, ResourceEndpoints}
