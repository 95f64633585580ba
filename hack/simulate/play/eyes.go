package play

import (
	"encoding/binary"
	"strconv"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// eyes feed the operator's own tracker with what its watches would see.
type eyes struct {
	cluster *cluster.Cluster
	tracker *lag.Tracker
	pods    []lag.Pod
	address []lag.Address
	service []int32
	slices  map[sliceID][]int32 // Pods of each slice
	whole   [][]int32           // Pods of each Service
	place   []sliceID           // of each Pod
	names   []string            // of Services
	ready   []lag.Address       // scratch
	seen    int                 // how much was seen, to notice that nothing was
}

type sliceID struct{ service, number int32 }

const namespace = "sim"

func newEyes(s *Scene) *eyes {
	e := &eyes{service: s.ServiceOf, slices: map[sliceID][]int32{}, whole: make([][]int32, s.Services)}
	for i := range s.Services {
		e.names = append(e.names, "s"+strconv.Itoa(i))
	}
	for i, service := range s.ServiceOf {
		pod := int32(i)
		var uid lag.UID
		var ip lag.IP
		binary.BigEndian.PutUint32(uid[:], uint32(i)+1)
		binary.BigEndian.PutUint32(ip[12:], 10<<24+uint32(i)+1)
		ip[10], ip[11] = 0xff, 0xff
		e.pods = append(e.pods, lag.Pod{
			Namespace: namespace, Name: "p" + strconv.Itoa(i), UID: uid, IPs: [2]lag.IP{ip}, Included: true,
			Labels: selector(e.names[service]),
		})
		e.address = append(e.address, lag.Address{PodUID: uid, IP: ip})
		id := sliceID{service, int32(len(e.whole[service]) / podsPerSlice)}
		e.place = append(e.place, id)
		e.slices[id] = append(e.slices[id], pod)
		e.whole[service] = append(e.whole[service], pod)
	}
	return e
}

// podsPerSlice is as in package cluster.
const podsPerSlice = 100

func selector(service string) lag.Labels { return lag.LabelsOf(map[string]string{"app": service}) }

// open begins to watch: a new process of the operator knows nothing but what it lists.
func (e *eyes) open() {
	e.tracker = lag.NewTracker(lag.Options{})
	now := at(e.cluster.Now())
	for service, name := range e.names {
		e.tracker.SetService(lag.Service{Namespace: namespace, Name: name, Selector: selector(name)}, now)
		e.publish(cluster.Endpoints, sliceID{service: int32(service)})
	}
	for pod := range e.pods {
		e.tell(int32(pod))
	}
	for i, id := range e.place {
		if i == 0 || id != e.place[i-1] { // The Pods of a slice follow one another.
			e.publish(cluster.Slices, id)
		}
	}
	e.tracker.Synced(now)
}

// Changed is what cluster.Watcher asks for.
func (e *eyes) Changed(pod int32) {
	e.seen++
	e.tell(pod)
}

func (e *eyes) tell(pod int32) {
	p := e.pods[pod]
	p.Ready = e.cluster.Ready(pod)
	e.tracker.SetPod(p, at(e.cluster.Now()))
}

// Published is what cluster.Watcher asks for: the Pods are of one slice, or of one Endpoints object.
func (e *eyes) Published(in cluster.API, pods []int32) {
	e.seen++
	e.publish(in, e.place[pods[0]])
}

func (e *eyes) publish(in cluster.API, id sliceID) {
	now := at(e.cluster.Now())
	members := e.slices[id]
	if in == cluster.Endpoints {
		members = e.whole[id.service]
	}
	e.ready = e.ready[:0]
	for _, pod := range members {
		if e.cluster.Shown(in, pod) {
			e.ready = append(e.ready, e.address[pod])
		}
	}
	name := e.names[id.service]
	if in == cluster.Endpoints {
		e.tracker.SetEndpoints(lag.Endpoints{Namespace: namespace, Name: name, Ready: e.ready}, now)
		return
	}
	e.tracker.SetSlice(lag.Slice{
		Namespace: namespace, Name: name + "-" + strconv.Itoa(int(id.number)), Service: name, Ready: e.ready,
	}, now)
}
