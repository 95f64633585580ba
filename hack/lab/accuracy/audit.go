package accuracy

import (
	"bufio"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

//go:embed audit-policy.yaml
var auditPolicy string

// AuditPolicy asks for what AuditTruth reads: what every write of Pods and of what is published of them came to.
func AuditPolicy() []byte { return []byte(auditPolicy) }

// event is what is read of audit.k8s.io/v1 Event.
type event struct {
	AuditID                  string           `json:"auditID"`
	Stage                    string           `json:"stage"`
	Verb                     string           `json:"verb"`
	RequestReceivedTimestamp metav1.MicroTime `json:"requestReceivedTimestamp"`
	StageTimestamp           metav1.MicroTime `json:"stageTimestamp"`
	ObjectRef                struct {
		Resource  string `json:"resource"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	ResponseObject json.RawMessage `json:"responseObject"`
}

// write is one write as the audit log tells it, with the object it led to.
type write struct {
	event

	version uint64
	// Either pod or shows is set: what the write says about one Pod, or the Pods that an object shows.
	pod   *podWrite
	shows map[string]bool
}

// podWrite is what a write of a Pod led to.
type podWrite struct {
	uid, service string
	wanted       bool
}

// span is how long the write took; it took effect some time in between.
func (w *write) span() time.Duration { return w.StageTimestamp.Sub(w.RequestReceivedTimestamp.Time) }

// object names what was written.
func (w *write) object() string {
	return w.ObjectRef.Resource + "/" + w.ObjectRef.Namespace + "/" + w.ObjectRef.Name
}

// AuditTruth derives from an audit log when each change of membership was acknowledged and when its publication was. A
// Pod is of the Service that the given label names. It replays all writes in the order of their resource versions, which etcd gives to all kinds from one counter.
func AuditTruth(log io.Reader, serviceLabel string) ([]Change, error) {
	writes, err := readWrites(log, serviceLabel)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(writes, func(a, b write) int { return cmp.Compare(a.version, b.version) })
	replay := newReplay()
	for i := range writes {
		replay.take(&writes[i])
	}
	return replay.changes, nil
}

func readWrites(log io.Reader, serviceLabel string) ([]write, error) {
	var out []write
	lines := bufio.NewReaderSize(log, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil // A line without an end was being written.
		}
		if err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		w := write{}
		if err = json.Unmarshal(line, &w.event); err != nil {
			return nil, fmt.Errorf("read audit log, line %d: %w", n, err)
		}
		if w.Stage != "ResponseComplete" || w.ResponseStatus.Code >= 300 {
			continue
		}
		if err = w.decode(serviceLabel); err != nil {
			return nil, fmt.Errorf("read audit log, line %d, audit ID %s: %w", n, w.AuditID, err)
		}
		out = append(out, w)
	}
}

// decode reads the object that the write led to.
func (w *write) decode(serviceLabel string) error {
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(w.ResponseObject, &meta); err != nil {
		return fmt.Errorf("decode %s: %w", w.ObjectRef.Resource, err)
	}
	version, err := strconv.ParseUint(meta.ResourceVersion, 10, 64)
	if err != nil {
		return fmt.Errorf("%s of %s answered by a %s without a resource version: %w", w.Verb, w.object(), meta.Kind, err)
	}
	w.version, w.ObjectRef.Name = version, meta.Name
	switch w.ObjectRef.Resource {
	case "pods":
		var pod corev1.Pod
		err = json.Unmarshal(w.ResponseObject, &pod)
		w.pod = &podWrite{plainUID(string(pod.UID)), pod.Labels[serviceLabel], w.Verb != "delete" && reachable(&pod)}
	case "endpointslices":
		var slice discoveryv1.EndpointSlice
		err = json.Unmarshal(w.ResponseObject, &slice)
		w.shows = readyInSlice(&slice)
	case "endpoints":
		var endpoints corev1.Endpoints
		err = json.Unmarshal(w.ResponseObject, &endpoints)
		w.shows = readyInEndpoints(&endpoints)
	default:
		return fmt.Errorf("the audit policy does not ask for %s", w.ObjectRef.Resource)
	}
	if w.Verb == "delete" && w.pod == nil {
		w.shows = map[string]bool{}
	}
	return err
}

// reachable says whether a Service without special settings is to lead to the Pod.
func reachable(pod *corev1.Pod) bool {
	ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
	return ready && !ended && pod.DeletionTimestamp == nil && len(pod.Status.PodIPs) > 0
}

func readyInSlice(slice *discoveryv1.EndpointSlice) map[string]bool {
	out := map[string]bool{}
	for _, e := range slice.Endpoints {
		if e.TargetRef != nil && ptr.Deref(e.Conditions.Ready, true) {
			out[plainUID(string(e.TargetRef.UID))] = true
		}
	}
	return out
}

func readyInEndpoints(endpoints *corev1.Endpoints) map[string]bool {
	out := map[string]bool{}
	for _, subset := range endpoints.Subsets {
		for _, address := range subset.Addresses {
			if address.TargetRef != nil {
				out[plainUID(string(address.TargetRef.UID))] = true
			}
		}
	}
	return out
}

// replay goes through all writes in their order and notes what changed.
type replay struct {
	wanted  map[string]bool // by Pod
	ledgers map[string]*auditLedger
	changes []Change
}

// auditLedger is what one API shows.
type auditLedger struct {
	resource string
	objects  map[string]map[string]bool
	shown    map[string]int // by Pod, in how many objects
	open     map[string]opened
}

// opened is a change that is not published yet.
type opened struct {
	by      *write
	service string
	added   bool
}

func newReplay() *replay {
	r := &replay{wanted: map[string]bool{}, ledgers: map[string]*auditLedger{}}
	for kind, resource := range map[string]lag.Resource{
		"endpointslices": lag.ResourceEndpointSlice, "endpoints": lag.ResourceEndpoints,
	} {
		r.ledgers[kind] = &auditLedger{
			resource: string(resource), objects: map[string]map[string]bool{}, shown: map[string]int{}, open: map[string]opened{},
		}
	}
	return r
}

func (r *replay) take(w *write) {
	if w.pod == nil {
		r.publish(w, r.ledgers[w.ObjectRef.Resource])
		return
	}
	uid, wanted := w.pod.uid, w.pod.wanted
	if w.pod.service == "" || r.wanted[uid] == wanted {
		return
	}
	r.wanted[uid] = wanted
	for _, l := range r.ledgers {
		if before, ok := l.open[uid]; ok {
			r.end(l, uid, before, w, classSuperseded)
		} else if (l.shown[uid] > 0) != wanted {
			l.open[uid] = opened{by: w, service: w.pod.service, added: wanted}
		}
	}
}

func (r *replay) publish(w *write, l *auditLedger) {
	before := l.objects[w.object()]
	l.objects[w.object()] = w.shows
	for uid := range w.shows {
		if !before[uid] {
			l.shown[uid]++
		}
	}
	for uid := range before {
		if !w.shows[uid] {
			l.shown[uid]--
		}
	}
	for _, pods := range []map[string]bool{before, w.shows} {
		for uid := range pods {
			if o, ok := l.open[uid]; ok && o.added == (l.shown[uid] > 0) {
				r.end(l, uid, o, w, classClosed)
			}
		}
	}
}

func (r *replay) end(l *auditLedger, uid string, o opened, by *write, class string) {
	delete(l.open, uid)
	r.changes = append(r.changes, Change{
		Resource: l.resource, Service: o.service, Pod: uid, Added: o.added, Class: class,
		From: o.by.StageTimestamp.Time, Lag: by.StageTimestamp.Sub(o.by.StageTimestamp.Time), Spread: o.by.span() + by.span(),
	})
}
