package watch

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// marshaler is what the generated code of every object can do.
type marshaler interface{ Marshal() ([]byte, error) }

func marshal(t testing.TB, object marshaler) []byte {
	t.Helper()
	raw, err := object.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// envelope wraps an object as the API server does.
func envelope(t testing.TB, object marshaler) []byte {
	t.Helper()
	return append([]byte("k8s\x00"), marshal(t, &runtime.Unknown{
		TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Any"}, Raw: marshal(t, object),
	})...)
}

// frame makes the bytes of a watch event, without their length.
func frame(t testing.TB, eventType string, object marshaler) []byte {
	t.Helper()
	return marshal(t, &metav1.WatchEvent{Type: eventType, Object: runtime.RawExtension{Raw: envelope(t, object)}})
}

// decoded is what the decoder makes of an object, or the fault it finds.
func decoded(d *decoder, object marshaler, raw []byte) (any, error) {
	switch object.(type) {
	case *corev1.Pod:
		return d.pod(raw)
	case *corev1.Service:
		return d.service(raw)
	case *discoveryv1.EndpointSlice:
		s, interesting, err := d.slice(raw)
		s.Ready = slices.Clone(s.Ready)
		return judged{s, interesting}, err
	case *legacyEndpoints:
		e, err := d.endpoints(raw)
		e.Ready = slices.Clone(e.Ready)
		return e, err
	}
	return nil, errors.New("no such kind")
}

type judged struct {
	Slice lag.Slice
	Ours  bool
}

// converted is what the decoder has to make of it.
func converted(object marshaler) any {
	switch o := object.(type) {
	case *corev1.Pod:
		return podOf(o)
	case *corev1.Service:
		return serviceOf(o)
	case *discoveryv1.EndpointSlice:
		return judged{sliceOf(o), ours(o)}
	case *legacyEndpoints:
		return endpointsOf(o)
	}
	return nil
}

// interned compares interned sets, whose contents are hidden.
var interned = cmp.Options{
	cmp.Comparer(func(a, b lag.Labels) bool { return a == b }),
	cmp.Comparer(func(a, b lag.PortNames) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

var (
	words     = rapid.SampledFrom([]string{"", "a", "web", "http", "shop", "Pod", "Ready", "True", "10.0.0.1", "é"})
	addresses = rapid.SampledFrom([]string{"", "10.0.0.1", "010.0.0.2", "fd00::1", "::ffff:10.0.0.3", "no address"})
	uids      = rapid.SampledFrom([]string{"", "3d0c1a36-9d2b-4b5e-8a64-0f1f7c9e2a11", "a-mirror-pods-hash"})
	booleans  = rapid.SampledFrom([]*bool{nil, new(false), new(true)})
	protocols = rapid.SampledFrom([]corev1.Protocol{"", corev1.ProtocolTCP, corev1.ProtocolUDP})
	restarts  = rapid.SampledFrom([]*corev1.ContainerRestartPolicy{nil, new(corev1.ContainerRestartPolicyAlways), new(corev1.ContainerRestartPolicyNever)})
)

func drawMeta(t *rapid.T) metav1.ObjectMeta {
	keys := rapid.SampledFrom([]string{
		"app", "tier", discoveryv1.LabelManagedBy, discoveryv1.LabelServiceName, corev1.EndpointsOverCapacity,
	})
	values := rapid.SampledFrom([]string{"", "web", sliceController, "truncated"})
	m := metav1.ObjectMeta{
		Namespace: words.Draw(t, "namespace"), Name: words.Draw(t, "name"), ResourceVersion: "12",
		Labels:        rapid.MapOfN(keys, values, 0, 4).Draw(t, "labels"),
		Annotations:   rapid.MapOfN(keys, values, 0, 3).Draw(t, "annotations"),
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(`{"f:a":{}}`)}},
	}
	m.UID = types.UID(uids.Draw(t, "uid"))
	if rapid.Bool().Draw(t, "deleted") {
		m.DeletionTimestamp = &metav1.Time{Time: time.Unix(rapid.Int64Range(0, 2).Draw(t, "when"), 0)}
	}
	return m
}

func drawContainers(t *rapid.T) []corev1.Container {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) corev1.Container {
		c := corev1.Container{Name: words.Draw(t, "container"), Image: "image", RestartPolicy: restarts.Draw(t, "restart")}
		for range rapid.IntRange(0, 3).Draw(t, "ports") {
			c.Ports = append(c.Ports, corev1.ContainerPort{
				Name: words.Draw(t, "port"), ContainerPort: 80, Protocol: protocols.Draw(t, "protocol"),
			})
		}
		return c
	}), 0, 3).Draw(t, "containers")
}

func drawPod(t *rapid.T) marshaler {
	p := &corev1.Pod{ObjectMeta: drawMeta(t)}
	p.Spec.NodeName, p.Spec.HostNetwork = words.Draw(t, "node"), rapid.Bool().Draw(t, "host network")
	p.Spec.Containers, p.Spec.InitContainers = drawContainers(t), drawContainers(t)
	p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{
		"", corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown,
	}).Draw(t, "phase")
	p.Status.PodIP = addresses.Draw(t, "podIP")
	for _, ip := range rapid.SliceOfN(addresses, 0, 3).Draw(t, "podIPs") {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	for range rapid.IntRange(0, 3).Draw(t, "conditions") {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type:               rapid.SampledFrom([]corev1.PodConditionType{corev1.PodReady, corev1.PodInitialized}).Draw(t, "type"),
			Status:             rapid.SampledFrom([]corev1.ConditionStatus{"True", "False", "Unknown"}).Draw(t, "status"),
			LastTransitionTime: metav1.Unix(1, 0),
		})
	}
	return p
}

func drawService(t *rapid.T) marshaler {
	s := &corev1.Service{ObjectMeta: drawMeta(t)}
	s.Spec.Selector = rapid.MapOfN(words, words, 0, 3).Draw(t, "selector")
	s.Spec.Type = rapid.SampledFrom([]corev1.ServiceType{"", "ClusterIP", "ExternalName"}).Draw(t, "type")
	s.Spec.PublishNotReadyAddresses = rapid.Bool().Draw(t, "publish")
	s.Spec.IPFamilies = rapid.SliceOfN(rapid.SampledFrom([]corev1.IPFamily{"IPv4", "IPv6", ""}), 0, 2).Draw(t, "families")
	for range rapid.IntRange(0, 3).Draw(t, "ports") {
		port := corev1.ServicePort{Name: words.Draw(t, "name"), Protocol: protocols.Draw(t, "protocol"), Port: 80}
		if port.TargetPort = intstr.FromInt32(1); rapid.Bool().Draw(t, "named") {
			port.TargetPort = intstr.FromString(words.Draw(t, "target"))
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	return s
}

func drawTarget(t *rapid.T) *corev1.ObjectReference {
	kind := rapid.SampledFrom([]string{"none", "", "Pod", "Node"}).Draw(t, "target")
	if kind == "none" {
		return nil
	}
	return &corev1.ObjectReference{Kind: kind, Name: "a", UID: types.UID(uids.Draw(t, "target's uid"))}
}

func drawSlice(t *rapid.T) marshaler {
	s := &discoveryv1.EndpointSlice{ObjectMeta: drawMeta(t), AddressType: discoveryv1.AddressTypeIPv4}
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: rapid.SliceOfN(addresses, 0, 2).Draw(t, "addresses"), TargetRef: drawTarget(t),
			Conditions: discoveryv1.EndpointConditions{
				Ready: booleans.Draw(t, "ready"), Serving: booleans.Draw(t, "serving"), Terminating: booleans.Draw(t, "terminating"),
			},
		})
	}
	return s
}

func drawEndpoints(t *rapid.T) marshaler {
	e := &legacyEndpoints{ObjectMeta: drawMeta(t)}
	size := rapid.SampledFrom([]int{0, 1, 3, endpointsCapacity - 1, endpointsCapacity}).Draw(t, "addresses")
	for range rapid.IntRange(0, 2).Draw(t, "subsets") {
		var subset corev1.EndpointSubset
		one := corev1.EndpointAddress{IP: addresses.Draw(t, "ip"), TargetRef: drawTarget(t)}
		subset.Addresses = slices.Repeat([]corev1.EndpointAddress{one}, size)
		subset.NotReadyAddresses = []corev1.EndpointAddress{{IP: "10.0.0.9", TargetRef: drawTarget(t)}}
		subset.Ports = []corev1.EndpointPort{{Name: "http", Port: 80}}
		e.Subsets = append(e.Subsets, subset)
	}
	return e
}

var draws = map[string]func(*rapid.T) marshaler{
	"pods": drawPod, "services": drawService, "endpointslices": drawSlice, "endpoints": drawEndpoints,
}

func TestDecoderFindsWhatTheTypedObjectsSay(t *testing.T) {
	for name, draw := range draws {
		t.Run(name, func(t *testing.T) {
			d := newDecoder() // One for all: nothing of an object may stay for the next.
			rapid.Check(t, func(t *rapid.T) {
				object := draw(t)
				raw, err := object.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				// Fields of a later version are passed over, whatever their type.
				raw = protowire.AppendVarint(protowire.AppendTag(raw, 1000, protowire.VarintType), 7)
				raw = protowire.AppendFixed64(protowire.AppendTag(raw, 1001, protowire.Fixed64Type), 7)
				raw = protowire.AppendString(protowire.AppendTag(raw, 1002, protowire.BytesType), "new")
				got, err := decoded(d, object, raw)
				if err != nil {
					t.Fatalf("decode %+v: %v", object, err)
				}
				if diff := cmp.Diff(converted(object), got, interned); diff != "" {
					t.Fatalf("decode %+v (-want +got):\n%s", object, diff)
				}
			})
		})
	}
}

func TestDecoderRefusesWhatIsCutOff(t *testing.T) {
	for name, draw := range draws {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				object := draw(t)
				raw, err := object.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				whole := boundaries(raw)
				cut := rapid.IntRange(0, len(raw)).Draw(t, "cut")
				if _, err := decoded(newDecoder(), object, raw[:cut]); (err == nil) != whole[cut] {
					t.Fatalf("decode %d of %d bytes: error %v, want one unless between two fields (%v)", cut, len(raw), err, whole[cut])
				}
			})
		})
	}
}

// boundaries are where one field of a message ends and the next begins.
func boundaries(raw []byte) map[int]bool {
	at := map[int]bool{0: true}
	for n := 0; n < len(raw); {
		_, _, size := protowire.ConsumeField(raw[n:])
		if size < 0 {
			break
		}
		n += size
		at[n] = true
	}
	return at
}

func FuzzDecoder(f *testing.F) {
	for _, object := range []marshaler{pod("a", true), service(), slice("a"), endpoints("a")} {
		f.Add(marshal(f, object))
		f.Add(frame(f, "ADDED", object))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := newDecoder()
		for _, object := range []marshaler{&corev1.Pod{}, &corev1.Service{}, &discoveryv1.EndpointSlice{}, &legacyEndpoints{}} {
			_, err := decoded(d, object, raw)
			if _, whole := boundaries(raw)[len(raw)]; !whole && err == nil {
				t.Errorf("decode a cut-off %T: no error", object)
			}
		}
		e, err := readEvent(raw)
		if err == nil && e.object != nil {
			_ = d.object(e.object) // It may fail, but not panic.
		}
	})
}

func TestDecoderSharesTexts(t *testing.T) {
	d := newDecoder()
	for i := range internedMost + 10 {
		d.intern([]byte(strconv.Itoa(i)))
		if _, err := d.labelsOf(entries(map[string]string{"pod": strconv.Itoa(i)})); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.texts) > internedMost || len(d.labels) > internedMost {
		t.Errorf("%d texts and %d sets of labels are kept, want at most %d", len(d.texts), len(d.labels), internedMost)
	}
}

// entries are labels as d.meta keeps them.
func entries(labels map[string]string) []byte {
	var raw []byte
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		var e []byte
		e = protowire.AppendString(protowire.AppendTag(e, 1, protowire.BytesType), k)
		e = protowire.AppendString(protowire.AppendTag(e, 2, protowire.BytesType), labels[k])
		raw = protowire.AppendBytes(raw, e)
	}
	return raw
}
