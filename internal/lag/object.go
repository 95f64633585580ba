package lag

// Kind is a kind of object that a tracker is fed with.
type Kind uint8

// The kinds. Of nodes and namespaces only names and labels matter.
const (
	KindPod Kind = iota
	KindService
	KindSlice
	KindEndpoints
	KindNode
	KindNamespace
	kindCount
)

var kindNames = [kindCount]string{"pods", "services", "endpointslices", "endpoints", "nodes", "namespaces"}

// String returns the kind's resource as the API names it.
func (k Kind) String() string { return kindNames[k] }

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

// maxIPs is how many addresses a Pod has at most: one of each family (validatePodIPs in pkg/apis/core/validation).
const maxIPs = 2

// Pod is what decides about a Pod's membership.
type Pod struct {
	Namespace, Name string
	UID             UID
	Labels          Labels
	// IPs are the addresses of status.podIPs, in order; zero where there is none.
	IPs [maxIPs]IP
	// Node is spec.nodeName.
	Node string
	// Ports are the named container ports.
	Ports PortNames
	// Ready is the Pod's Ready condition alone.
	Ready bool
	// Terminating says that the deletion timestamp is set.
	Terminating bool
	// Included is k8s.io/endpointslice/util.ShouldPodBeInEndpoints with terminating Pods included.
	Included bool
}

// Service is what decides about a Service's members. The tracker keeps Families: it must not be changed after the call.
type Service struct {
	Namespace, Name string
	Labels          Labels
	// NamespaceLabels is filled in for Query.Measured; SetService ignores it.
	NamespaceLabels Labels
	// Selector is empty when kube-controller-manager does not manage the endpoints: no selector, or ExternalName.
	Selector Labels
	// PublishNotReady is spec.publishNotReadyAddresses.
	PublishNotReady bool
	// Families are spec.ipFamilies, the primary one first; empty accepts any address.
	Families []Family
	// NeedsPort lists the named target ports when all target ports are named: a Pod that has none of them is in no
	// Endpoints object (but in a slice without ports). Empty needs none.
	NeedsPort PortNames
}

// Address is one address that a published object shows as ready.
type Address struct {
	PodUID UID
	IP     IP
}

// Slice is an EndpointSlice of the EndpointSlice controller. The tracker does not keep Ready.
type Slice struct {
	Namespace, Name string
	// Service is the label kubernetes.io/service-name.
	Service string
	Ready   []Address
}

// Endpoints is an Endpoints object of the Endpoints controller; it is named after its Service. The tracker does not keep
// Ready.
type Endpoints struct {
	Namespace, Name string
	Ready           []Address
	// OverCapacity says that ready addresses were cut off: annotation endpoints.kubernetes.io/over-capacity with nothing
	// but ready addresses left (addresses that are not ready are cut first and do not matter here).
	OverCapacity bool
}

// api numbers the resources for arrays.
type api uint8

const (
	sliceAPI api = iota
	endpointsAPI
	apiCount
)

var resources = [apiCount]Resource{ResourceEndpointSlice, ResourceEndpoints}

// kind is the kind of object in which the API publishes.
func (in api) kind() Kind {
	if in == sliceAPI {
		return KindSlice
	}
	return KindEndpoints
}

// way numbers the directions for arrays.
type way uint8

const (
	removal way = iota
	addition
	wayCount
)

var directions = [wayCount]Direction{DirectionRemoval, DirectionAddition}
