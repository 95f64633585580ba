package watch

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web"}}
}

func uidOf(pod string) types.UID { return types.UID("uid-of-" + pod) }

func service() *corev1.Service {
	return &corev1.Service{ObjectMeta: named("web"), Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}
}

func pod(name string, ready bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: named(name), Status: corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
	}}
	p.UID, p.Spec.NodeName = uidOf(name), "node-1"
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}
	if ready {
		condition.Status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}, condition}
	return p
}

func slice(ready ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: named("web-1"), AddressType: discoveryv1.AddressTypeIPv4}
	s.Labels = map[string]string{
		discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: sliceController,
	}
	for _, name := range ready {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{"10.0.0.1"}, TargetRef: reference(name),
		})
	}
	return s
}

func endpoints(ready ...string) *legacyEndpoints {
	e := &legacyEndpoints{ObjectMeta: named("web"), Subsets: []corev1.EndpointSubset{{}}}
	for _, name := range ready {
		e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{
			IP: "10.0.0.1", TargetRef: reference(name),
		})
	}
	return e
}

func reference(pod string) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: pod, UID: uidOf(pod)}
}
