package watch

import (
	"fmt"
	"path"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// kind is one kind of object that is watched: what to ask for, and what to do with it.
type kind struct {
	name string // the resource, for messages
	path string
	// labels and fields narrow the request.
	labels, fields string
	metadataOnly   bool
	of             lag.Kind // as the tracker knows it
	// optional kinds do not hold up the others when they may not be read.
	optional bool

	// set hands an object over, remove tells that one is gone. The metadata of the object is in the decoder.
	set    func(d *decoder, raw []byte, at time.Time) error
	remove func(namespace, name string, at time.Time)

	// The fields below are the applying goroutine's.
	current *stream             // whose items count
	seen    map[uint64]struct{} // names of a list that is under way; nil when none is
	synced  bool                // a first list is in
	lost    bool                // the tracker was told that nothing is received
	good    time.Time           // everything until then was received

	mu      sync.Mutex
	waiting bool  // for the first list
	err     error // of the latest request or stream; nil while it works
}

// resource is the path of a resource in a group, of one namespace unless that is empty.
func resource(group, namespace, name string) string {
	if namespace == "" {
		return path.Join(group, name)
	}
	return path.Join(group, "namespaces", namespace, name)
}

const (
	coreGroup      = "/api/v1"
	discoveryGroup = "/apis/discovery.k8s.io/v1"
)

// kinds are what a feed watches.
func (f *Feed) kinds() []*kind {
	all := []*kind{f.pods(), f.services(), f.endpointSlices(), f.endpoints(), f.namespaces(), f.nodes()}
	for _, k := range all {
		k.name, k.waiting = k.of.String(), true
	}
	return all
}

func (f *Feed) pods() *kind {
	return &kind{
		of: lag.KindPod, path: resource(coreGroup, f.options.Namespace, "pods"),
		set: func(d *decoder, raw []byte, at time.Time) error {
			p, err := d.pod(raw)
			if err == nil {
				f.tracker.SetPod(p, at)
			}
			return err
		},
		remove: f.tracker.DeletePod,
	}
}

func (f *Feed) services() *kind {
	return &kind{
		of: lag.KindService, path: resource(coreGroup, f.options.Namespace, "services"),
		set: func(d *decoder, raw []byte, at time.Time) error {
			s, err := d.service(raw)
			if err == nil {
				f.tracker.SetService(s, at)
			}
			return err
		},
		remove: f.tracker.DeleteService,
	}
}

func (f *Feed) endpointSlices() *kind {
	return &kind{
		of: lag.KindSlice, path: resource(discoveryGroup, f.options.Namespace, "endpointslices"),
		labels: labels.Set{discoveryv1.LabelManagedBy: sliceController}.String(),
		set: func(d *decoder, raw []byte, at time.Time) error {
			s, ours, err := d.slice(raw)
			switch {
			case err != nil:
				return err
			case ours:
				f.tracker.SetSlice(s, at)
			default: // Asked for by label already, but a server is free to ignore that.
				f.tracker.DeleteSlice(s.Namespace, s.Name, at)
			}
			return nil
		},
		remove: f.tracker.DeleteSlice,
	}
}

// endpoints watches the Endpoints API, deprecated but still half of what kube-controller-manager writes. The tracker
// measures only those named after a Service with a selector, which leaves out leader election and whatever people
// maintain themselves.
func (f *Feed) endpoints() *kind {
	return &kind{
		of: lag.KindEndpoints, path: resource(coreGroup, f.options.Namespace, "endpoints"),
		set: func(d *decoder, raw []byte, at time.Time) error {
			e, err := d.endpoints(raw)
			if err == nil {
				f.tracker.SetEndpoints(e, at)
			}
			return err
		},
		remove: f.tracker.DeleteEndpoints,
	}
}

// namespaces watches names and labels. Without the right to, Services cannot be told apart by their namespace's labels,
// and everything else works.
func (f *Feed) namespaces() *kind {
	k := &kind{
		of: lag.KindNamespace, path: resource(coreGroup, "", "namespaces"), metadataOnly: true, optional: true,
		set: func(d *decoder, raw []byte, _ time.Time) error {
			if err := d.object(raw); err != nil {
				return err
			}
			set, err := d.labelsOf(d.meta.labels)
			if err == nil {
				f.tracker.SetNamespace(d.intern(d.meta.name), set)
			}
			return err
		},
		remove: func(_, name string, _ time.Time) { f.tracker.DeleteNamespace(name) },
	}
	if f.options.Namespace != "" {
		k.fields = fields.OneTermEqualSelector("metadata.name", f.options.Namespace).String()
	}
	return k
}

// nodes watches names. Without the right to, every Node is taken to exist.
func (f *Feed) nodes() *kind {
	return &kind{
		of: lag.KindNode, path: resource(coreGroup, "", "nodes"), metadataOnly: true, optional: true,
		set: func(d *decoder, raw []byte, at time.Time) error {
			err := d.object(raw)
			if err == nil {
				f.tracker.SetNode(d.intern(d.meta.name), at)
			}
			return err
		},
		remove: func(_, name string, at time.Time) { f.tracker.DeleteNode(name, at) },
	}
}

// note keeps what the latest request came to. An optional kind that may not be read is no longer waited for.
func (f *Feed) note(k *kind, err error) {
	k.mu.Lock()
	k.err = err
	k.mu.Unlock()
	if k.optional && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)) {
		f.listed(k)
	}
}

// missing says why the first list is not in; nil if it is.
func (k *kind) missing() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !k.waiting:
		return nil
	case k.err != nil:
		return fmt.Errorf("list %s: %w", k.name, k.err)
	default:
		return fmt.Errorf("list %s: no answer yet", k.name)
	}
}
