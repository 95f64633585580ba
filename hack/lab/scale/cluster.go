package scale

import (
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// Shape is how large a synthetic cluster is.
type Shape struct {
	Pods       int `json:"pods"`
	Services   int `json:"services"` // each with the same number of Pods, but for the last
	Nodes      int `json:"nodes"`
	Namespaces int `json:"namespaces"`
}

// podsPerService gives 150,000 Pods 10,000 Services, the largest cluster that the project speaks of.
const podsPerService = 15

// ShapeOf returns the cluster of a number of Pods: 15 for each Service, on 2,000 nodes at most (75 Pods each), in 100
// namespaces at most.
func ShapeOf(pods int) Shape {
	services := (pods + podsPerService - 1) / podsPerService
	return Shape{Pods: pods, Services: services, Nodes: max(min(2000, pods/75), 1), Namespaces: min(100, services)}
}

// phase is where a Pod stands in its life.
type phase uint8

const (
	ready phase = iota
	notReady
	terminating // was asked to go, and still serves
	pending     // new, without an IP address
)

// podState is all that is kept of a Pod; what the API shows is made from it and from the Pod's number.
type podState struct {
	version int64  // resource version
	changed int64  // Unix seconds of the latest transition
	life    uint32 // how many Pods stood in this place before
	phase   phase
}

// cluster is the state of everything that is served. Objects are made when they are sent: what is kept fits in a few
// megabytes.
type cluster struct {
	Shape
	born time.Time
	// key tells clusters apart, so that no two runs have the same names.
	key uint64

	mu      sync.Mutex
	version int64 // the newest resource version
	pods    []podState
	// published is what slices and Endpoints show: pods, as they were when each Service was last written.
	published []podState
	slices    []int64 // resource versions
	endpoints []int64
	nodes     []int64

	kinds []*kind
	byURL map[string]*kind
}

// firstVersion is where resource versions begin: as long as those of a cluster that has run for some months.
const firstVersion = 481_516_234

func newCluster(shape Shape, now time.Time) *cluster {
	c := &cluster{Shape: shape, born: now, key: 1, version: firstVersion}
	c.pods = make([]podState, shape.Pods)
	for i := range c.pods {
		c.pods[i] = podState{version: c.next(), changed: now.Add(-time.Hour).Unix()}
	}
	c.published = slices.Clone(c.pods)
	for _, versions := range []struct {
		of    *[]int64
		count int
	}{{&c.slices, shape.Services}, {&c.endpoints, shape.Services}, {&c.nodes, shape.Nodes}} {
		*versions.of = make([]int64, versions.count)
		for i := range *versions.of {
			(*versions.of)[i] = c.next()
		}
	}
	c.addKinds()
	return c
}

// next takes the next resource version. The caller holds mu.
func (c *cluster) next() int64 {
	c.version++
	return c.version
}

// serviceOf is the number of a Pod's Service.
func serviceOf(pod int) int { return pod / podsPerService }

// podsOf are the numbers of the Pods of a Service: from, and up to but without to.
func (c *cluster) podsOf(service int) (from, to int) {
	return service * podsPerService, min((service+1)*podsPerService, c.Pods)
}

// podObjects are all Pods as they stand. The caller holds mu; the sequence may be used without it.
func (c *cluster) podObjects() iter.Seq[object] {
	states := slices.Clone(c.pods)
	return func(yield func(object) bool) {
		for i, state := range states {
			if !yield(c.pod(i, state)) {
				return
			}
		}
	}
}

func (c *cluster) serviceObjects() iter.Seq[object] {
	return numbered(c.Services, func(i int) object { return c.service(i) })
}

func (c *cluster) namespaceObjects() iter.Seq[object] {
	return numbered(c.Namespaces+len(systemNamespaces()), func(i int) object { return c.namespace(i) })
}

func (c *cluster) sliceObjects() iter.Seq[object] {
	shown, versions := slices.Clone(c.published), slices.Clone(c.slices)
	return numbered(c.Services, func(i int) object {
		from, to := c.podsOf(i)
		return c.endpointSlice(i, versions[i], shown[from:to])
	})
}

func (c *cluster) endpointsObjects() iter.Seq[object] {
	shown, versions := slices.Clone(c.published), slices.Clone(c.endpoints)
	return numbered(c.Services, func(i int) object {
		from, to := c.podsOf(i)
		return c.endpointsOf(i, versions[i], shown[from:to])
	})
}

func (c *cluster) nodeObjects() iter.Seq[object] {
	versions := slices.Clone(c.nodes)
	return numbered(c.Nodes, func(i int) object { return c.node(i, versions[i]) })
}

func numbered(count int, of func(int) object) iter.Seq[object] {
	return func(yield func(object) bool) {
		for i := range count {
			if !yield(of(i)) {
				return
			}
		}
	}
}

// changePod moves a Pod to a phase and tells everybody who watches.
func (c *cluster) changePod(i int, to phase, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.pods[i]
	s.phase, s.changed, s.version = to, now.Unix(), c.next()
	c.tellPod(apiwatch.Modified, i)
}

// replacePod deletes a Pod and creates another in its place, with another name, UID and IP address.
func (c *cluster) replacePod(i int, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.pods[i]
	s.version = c.next()
	c.tellPod(apiwatch.Deleted, i)
	*s = podState{version: c.next(), changed: now.Unix(), life: s.life + 1, phase: pending}
	c.tellPod(apiwatch.Added, i)
}

func (c *cluster) tellPod(what apiwatch.EventType, i int) {
	state := c.pods[i]
	c.kind(podsURL).history.add(event{version: state.version, what: what, object: func() object { return c.pod(i, state) }})
}

// publish writes a Service's EndpointSlice, and its Endpoints if those show the change, as kube-controller-manager does.
func (c *cluster) publish(service int, writes endpointWrites) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, to := c.podsOf(service)
	copy(c.published[from:to], c.pods[from:to])
	shown := slices.Clone(c.pods[from:to])
	if writes&writeSlice != 0 {
		version := c.next()
		c.slices[service] = version
		c.kind(slicesURL).history.add(event{version: version, what: apiwatch.Modified, object: func() object {
			return c.endpointSlice(service, version, shown)
		}})
	}
	if writes&writeEndpoints != 0 {
		version := c.next()
		c.endpoints[service] = version
		c.kind(endpointsURL).history.add(event{version: version, what: apiwatch.Modified, object: func() object {
			return c.endpointsOf(service, version, shown)
		}})
	}
}

// heartbeat is a kubelet's report that nothing changed.
func (c *cluster) heartbeat(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	version := c.next()
	c.nodes[i] = version
	c.kind(nodesURL).history.add(event{version: version, what: apiwatch.Modified, object: func() object {
		return c.node(i, version)
	}})
}

func (c *cluster) kind(url string) *kind { return c.byURL[url] }

// named returns the object of a name, or nil.
func (c *cluster) named(k *kind, namespace, name string) object {
	c.mu.Lock()
	all := k.objects()
	c.mu.Unlock()
	for o := range all {
		if o.GetName() == name && o.GetNamespace() == namespace {
			return o
		}
	}
	return nil
}

func versionText(version int64) string { return strconv.FormatInt(version, 10) }
