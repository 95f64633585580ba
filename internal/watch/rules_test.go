package watch

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func TestPodOfReadsWhatDecidesMembership(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	port := func(name string) []corev1.ContainerPort {
		return []corev1.ContainerPort{{Name: name, Protocol: corev1.ProtocolTCP}, {ContainerPort: 9}}
	}
	tests := map[string]struct {
		change func(*corev1.Pod)
		want   func(*lag.Pod)
	}{
		"a ready Pod":          {func(*corev1.Pod) {}, func(*lag.Pod) {}},
		"a Pod without status": {func(p *corev1.Pod) { p.Status.Conditions = nil }, func(p *lag.Pod) { p.Ready = false }},
		"a Pod that is not ready": {
			func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionUnknown },
			func(p *lag.Pod) { p.Ready = false },
		},
		"a terminating Pod": {
			func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} },
			func(p *lag.Pod) { p.Terminating = true },
		},
		"a finished Pod": {
			func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
			func(p *lag.Pod) { p.Included = false },
		},
		"a Pod without an address": {
			func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil },
			func(p *lag.Pod) { p.Included, p.IPs = false, [2]lag.IP{} },
		},
		"a dual-stack Pod": {
			func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}} },
			func(p *lag.Pod) { p.IPs[1] = lag.ParseIP("fd00::1") },
		},
		"named ports of containers and sidecars": {
			func(p *corev1.Pod) {
				p.Spec.Containers = []corev1.Container{{Ports: port("http")}, {}}
				p.Spec.InitContainers = []corev1.Container{
					{Ports: port("once")}, {Ports: port("mesh"), RestartPolicy: &always},
				}
			},
			func(p *lag.Pod) { p.Ports = lag.NewPortNames("TCP/http", "TCP/mesh") },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := pod("a", true)
			test.change(p)
			want := lag.Pod{
				Namespace: "shop", Name: "a", UID: lag.ParseUID("uid-of-a"), Labels: web,
				Node: "node-1", IPs: [2]lag.IP{lag.ParseIP("10.0.0.1")}, Ready: true, Included: true,
			}
			test.want(&want)
			if diff := cmp.Diff(want, podOf(p), interned); diff != "" {
				t.Errorf("podOf() (-want +got):\n%s", diff)
			}
			mustDecode(t, p, want)
		})
	}
}

var web = lag.LabelsOf(map[string]string{"app": "web"})

// mustDecode requires that the decoder finds what is wanted.
func mustDecode(t *testing.T, object marshaler, want any) {
	t.Helper()
	got, err := decoded(newDecoder(), object, marshal(t, object))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, interned); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

func TestServiceOfReadsWhatDecidesMembership(t *testing.T) {
	tests := map[string]struct {
		change func(*corev1.ServiceSpec)
		want   func(*lag.Service)
	}{
		"a plain Service": {func(*corev1.ServiceSpec) {}, func(*lag.Service) {}},
		"no selector":     {func(s *corev1.ServiceSpec) { s.Selector = nil }, func(s *lag.Service) { s.Selector = lag.Labels{} }},
		"ExternalName is not the controllers', whatever its selector": {
			func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeExternalName },
			func(s *lag.Service) { s.Selector = lag.Labels{} },
		},
		"publishNotReadyAddresses": {
			func(s *corev1.ServiceSpec) { s.PublishNotReadyAddresses = true },
			func(s *lag.Service) { s.PublishNotReady = true },
		},
		"families in their order": {
			func(s *corev1.ServiceSpec) { s.IPFamilies = []corev1.IPFamily{"IPv6", "IPv4"} },
			func(s *lag.Service) { s.Families = []lag.Family{lag.FamilyIPv6, lag.FamilyIPv4} },
		},
		"only named target ports": {
			func(s *corev1.ServiceSpec) {
				s.Ports = []corev1.ServicePort{{Protocol: "TCP", TargetPort: intstr.FromString("http")}}
			},
			func(s *lag.Service) { s.NeedsPort = lag.NewPortNames("TCP/http") },
		},
		"one numbered target port is enough": {
			func(s *corev1.ServiceSpec) {
				s.Ports = []corev1.ServicePort{
					{Protocol: "TCP", TargetPort: intstr.FromString("http")}, {Protocol: "TCP", TargetPort: intstr.FromInt32(1)},
				}
			},
			func(*lag.Service) {},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := service()
			test.change(&s.Spec)
			want := lag.Service{
				Namespace: "shop", Name: "web", Labels: web, Selector: web,
			}
			test.want(&want)
			if diff := cmp.Diff(want, serviceOf(s), interned); diff != "" {
				t.Errorf("serviceOf() (-want +got):\n%s", diff)
			}
			mustDecode(t, s, want)
		})
	}
}

func TestSliceOfReadsWhatIsShownAsReady(t *testing.T) {
	yes, no := true, false
	s := slice("unsaid", "ready", "not-ready", "by-hand", "a-node")
	s.Endpoints[1].Conditions.Ready = &yes
	s.Endpoints[2].Conditions.Ready = &no
	s.Endpoints[3].TargetRef = nil
	s.Endpoints[4].TargetRef.Kind = "Node"
	want := lag.Slice{
		Namespace: "shop", Name: "web-1", Service: "web",
		Ready: []lag.Address{address("unsaid"), address("ready")},
	}
	if diff := cmp.Diff(want, sliceOf(s)); diff != "" {
		t.Errorf("sliceOf() (-want +got):\n%s", diff)
	}
	mustDecode(t, s, judged{want, true})
}

func address(pod string) lag.Address {
	return lag.Address{PodUID: lag.ParseUID(uidOf(pod)), IP: lag.ParseIP("10.0.0.1")}
}

func TestSlicesOfOthersAreIgnored(t *testing.T) {
	tests := map[string]struct {
		change func(*discoveryv1.EndpointSlice)
		want   bool
	}{
		"the EndpointSlice controller's": {func(*discoveryv1.EndpointSlice) {}, true},
		"a mirrored one": {func(s *discoveryv1.EndpointSlice) {
			s.Labels[discoveryv1.LabelManagedBy] = "endpointslicemirroring-controller.k8s.io"
		}, false},
		"one without a Service": {func(s *discoveryv1.EndpointSlice) {
			delete(s.Labels, discoveryv1.LabelServiceName)
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := slice("a")
			test.change(s)
			mustDecode(t, s, judged{sliceOf(s), test.want})
		})
	}
}

func TestEndpointsOfReadsWhatIsShownAsReady(t *testing.T) {
	many := func(ready, notReady int) *legacyEndpoints {
		e := endpoints()
		e.Annotations = map[string]string{corev1.EndpointsOverCapacity: "truncated"}
		for i := range ready {
			e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{TargetRef: reference(strconv.Itoa(i))})
		}
		for i := range notReady {
			e.Subsets[0].NotReadyAddresses = append(e.Subsets[0].NotReadyAddresses,
				corev1.EndpointAddress{TargetRef: reference(fmt.Sprint("n", i))})
		}
		return e
	}
	tests := map[string]struct {
		endpoints *legacyEndpoints
		ready     int
		over      bool
	}{
		"a few":                          {endpoints("a", "b"), 2, false},
		"ready ones were cut off":        {many(1000, 0), 1000, true},
		"only ones not ready were":       {many(999, 1), 999, false},
		"an address without a Pod":       {&legacyEndpoints{Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.9"}}}}}, 0, false},
		"no subsets, as leader election": {&legacyEndpoints{}, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := endpointsOf(test.endpoints)
			mustDecode(t, test.endpoints, got)
			if len(got.Ready) != test.ready || got.OverCapacity != test.over {
				t.Errorf("endpointsOf() = %d ready, over capacity %v, want %d, %v",
					len(got.Ready), got.OverCapacity, test.ready, test.over)
			}
		})
	}
}
