package watch

import (
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// The fields that are read, by their numbers in generated.proto: meta in k8s.io/apimachinery/pkg/apis/meta/v1, the
// others in k8s.io/api/core/v1 and discovery/v1 (the same in all supported versions: numbers never change).
const (
	metadata = 1 // of every object, and of every list its ListMeta

	metaName         = 1
	metaNamespace    = 3
	metaUID          = 5
	metaVersion      = 6
	metaDeletion     = 9
	metaLabels       = 11
	metaAnnotations  = 12
	listMetaVersion  = 2
	listMetaContinue = 3
	listItems        = 2

	podSpec              = 2
	podStatus            = 3
	specContainers       = 2
	specNodeName         = 10
	specInitContainers   = 20
	containerPorts       = 6
	containerRestart     = 24
	portName             = 1
	portProtocol         = 4
	statusPhase          = 1
	statusConditions     = 2
	statusPodIP          = 6
	statusPodIPs         = 12
	conditionType        = 1
	conditionStatus      = 2
	podIPText            = 1
	serviceSpec          = 2
	servicePorts         = 1
	serviceSelector      = 2
	serviceType          = 4
	servicePublish       = 13
	serviceFamilies      = 19
	servicePortProtocol  = 2
	servicePortTarget    = 4
	intOrStringType      = 1 // of k8s.io/apimachinery/pkg/util/intstr
	intOrStringText      = 3
	intOrStringIsText    = 1
	sliceEndpoints       = 2
	endpointAddresses    = 1
	endpointConditions   = 2
	endpointTarget       = 4
	conditionsReady      = 1
	referenceKind        = 1
	referenceUID         = 4
	endpointsSubsets     = 2
	subsetAddresses      = 1
	subsetAddressIP      = 1
	subsetAddressTarget  = 2
	overCapacityTruncate = "truncated"
)

// sliceController is the value of the label managed-by on the slices of the EndpointSlice controller; mirrored slices and
// those of other controllers have another (pkg/controller/endpointslice).
const sliceController = "endpointslice-controller.k8s.io"

// endpointsCapacity is how many addresses kube-controller-manager leaves in one Endpoints object (maxCapacity in
// pkg/controller/endpoint).
const endpointsCapacity = 1000

// internedMost bounds each table of texts that repeat. A full table is emptied, so that churn cannot fill the memory; a
// cluster of 150,000 Pods has about 10,000 Services, 5,000 nodes and as many distinct sets of labels as workloads.
const internedMost = 1 << 14

// decoder turns objects into what the tracker wants. What it returns does not refer to the bytes it read, but lists of
// addresses are only valid until the next call. It serves one goroutine.
type decoder struct {
	texts  map[string]string
	labels map[string]lag.Labels // by their entries as encoded
	ports  map[string]lag.PortNames

	meta  meta
	names []string
	ready []lag.Address
	text  []byte
}

// meta is what is read of an object's metadata. The bytes are the frame's.
type meta struct {
	namespace, name, uid, version []byte
	labels                        []byte // the entries, each preceded by its length
	deleted                       bool   // a deletionTimestamp is set
	initialEventsEnd              bool
	overCapacity                  bool
}

func newDecoder() *decoder {
	return &decoder{texts: map[string]string{}, labels: map[string]lag.Labels{}, ports: map[string]lag.PortNames{}}
}

// intern returns the text as a string that is shared with everybody who asks for the same.
func (d *decoder) intern(text []byte) string {
	if known, ok := d.texts[string(text)]; ok {
		return known
	}
	if len(d.texts) >= internedMost {
		clear(d.texts)
	}
	s := string(text)
	d.texts[s] = s
	return s
}

// object reads the metadata of any object into d.meta.
func (d *decoder) object(raw []byte) error {
	d.meta = meta{labels: d.meta.labels[:0]}
	m := message{rest: raw}
	for m.next() {
		if m.number == metadata {
			m.into(d.readMeta(m.bytes))
		}
	}
	return m.err
}

func (d *decoder) readMeta(raw []byte) error {
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case metaName:
			d.meta.name = m.bytes
		case metaNamespace:
			d.meta.namespace = m.bytes
		case metaUID:
			d.meta.uid = m.bytes
		case metaVersion:
			d.meta.version = m.bytes
		case metaDeletion:
			d.meta.deleted = true
		case metaLabels:
			d.meta.labels = protowire.AppendBytes(d.meta.labels, m.bytes)
		case metaAnnotations:
			m.into(d.meta.readAnnotation(m.bytes))
		}
	}
	return m.err
}

func (o *meta) readAnnotation(raw []byte) error {
	key, value, err := entry(raw)
	switch string(key) {
	case metav1.InitialEventsAnnotationKey:
		o.initialEventsEnd = string(value) == "true"
	case corev1.EndpointsOverCapacity:
		o.overCapacity = string(value) == overCapacityTruncate
	}
	return err
}

// label returns the value of one label, nil without it.
func (o *meta) label(key string) ([]byte, error) {
	for rest := o.labels; len(rest) > 0; {
		raw, n := protowire.ConsumeBytes(rest)
		rest = rest[n:]
		k, v, err := entry(raw)
		if err != nil {
			return nil, err
		}
		if string(k) == key {
			return v, nil
		}
	}
	return nil, nil
}

// labelsOf returns the labels that entries hold, each preceded by its length. The API server writes them in the order of
// their keys, so that equal sets are equal bytes.
func (d *decoder) labelsOf(entries []byte) (lag.Labels, error) {
	if len(entries) == 0 {
		return lag.Labels{}, nil
	}
	if known, ok := d.labels[string(entries)]; ok {
		return known, nil
	}
	var pairs []lag.Label
	for rest := entries; len(rest) > 0; {
		raw, n := protowire.ConsumeBytes(rest)
		rest = rest[n:]
		k, v, err := entry(raw)
		if err != nil {
			return lag.Labels{}, err
		}
		pairs = append(pairs, lag.Label{Key: string(k), Value: string(v)})
	}
	if len(d.labels) >= internedMost {
		clear(d.labels)
	}
	labels := lag.NewLabels(pairs)
	d.labels[string(entries)] = labels
	return labels, nil
}
