package tests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

// TestTheRulesHoldOnARealControlPlane makes, one scene after the other, what is odd about Services and Pods, and waits
// each time until both APIs show what kube-controller-manager makes of it. Then nothing may be open, every change must be
// in one class, and none may have drifted.
func TestTheRulesHoldOnARealControlPlane(t *testing.T) {
	o := startOddities(t)
	scenes := []struct {
		name string
		play func(*testing.T, *oddities)
	}{
		{"headless without ports", headless},
		{"publishNotReadyAddresses", publishNotReady},
		{"a named port that one Pod lacks", namedPort},
		{"dual stack", dualStack},
		{"hostNetwork", hostNetwork},
		{"the selector and labels change", selectorAndLabels},
		{"ExternalName and back", externalName},
		{"no selector: mirrored slices", mirrored},
		{"Pods that end", endedPods},
		{"a Pod on a node that does not exist", missingNode},
		{"Pods that come and go", brief},
		{"flips faster than kube-controller-manager", flips},
		{"more Pods than an Endpoints object holds", crowd},
	}
	for _, scene := range scenes {
		ok := t.Run(scene.name, func(t *testing.T) {
			scene.play(t, o)
			o.requireConsistency(t)
		})
		if !ok {
			break // The next scene would only show the same.
		}
	}
}

func headless(t *testing.T, o *oddities) {
	t.Helper()
	const name = "headless"
	o.service(t, name, func(s *corev1.ServiceSpec) { s.ClusterIP, s.Ports = corev1.ClusterIPNone, nil })
	o.pod(t, name, "headless-a", nil)
	o.pod(t, name, "headless-b", ready(corev1.ConditionFalse))
	o.both(t, name, "headless-a")
	o.changeStatus(t, "headless-a", ready(corev1.ConditionUnknown))
	o.changeStatus(t, "headless-b", ready(corev1.ConditionTrue))
	o.both(t, name, "headless-b")
	o.steady(t, name)
}

func publishNotReady(t *testing.T, o *oddities) {
	t.Helper()
	const name = "eager"
	o.service(t, name, func(s *corev1.ServiceSpec) { s.PublishNotReadyAddresses = true })
	o.pod(t, name, "eager-a", ready(corev1.ConditionFalse))
	o.pod(t, name, "eager-b", nil)
	o.both(t, name, "eager-a", "eager-b")
	o.deletePod(t, "eager-b", 300) // Terminating Pods stay.
	o.both(t, name, "eager-a", "eager-b")
	o.changeService(t, name, func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = false })
	o.both(t, name)
	o.deletePod(t, "eager-b", 0)
	o.steady(t, name)
}

func namedPort(t *testing.T, o *oddities) {
	t.Helper()
	const name = "named"
	o.service(t, name, func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromString("web") })
	o.pod(t, name, "named-a", func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}
	})
	o.pod(t, name, "named-b", func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolUDP}}
	})
	// The slice of a Pod without the port has no ports; an Endpoints object leaves the Pod out.
	o.await(t, name, []string{"named-a", "named-b"}, []string{"named-a"})
	o.changeStatus(t, "named-b", ready(corev1.ConditionFalse))
	o.await(t, name, []string{"named-a"}, []string{"named-a"})
	o.changeService(t, name, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(8080) })
	o.changeStatus(t, "named-b", ready(corev1.ConditionTrue))
	o.both(t, name, "named-a", "named-b")
}

func dualStack(t *testing.T, o *oddities) {
	t.Helper()
	const name = "dual"
	o.service(t, name, func(s *corev1.ServiceSpec) {
		s.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
		s.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	})
	o.pod(t, name, "dual-both", func(p *corev1.Pod) { setIPs(p, "10.129.0.1", "fd00:129::1") })
	o.pod(t, name, "dual-v4", func(p *corev1.Pod) { setIPs(p, "10.129.0.2") })
	o.pod(t, name, "dual-v6", func(p *corev1.Pod) { setIPs(p, "fd00:129::3") })
	o.await(t, name, []string{"dual-both", "dual-both", "dual-v4", "dual-v6"}, []string{"dual-both", "dual-v6"})
	o.changeService(t, name, func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
		s.Spec.IPFamilies, s.Spec.ClusterIPs = s.Spec.IPFamilies[:1], s.Spec.ClusterIPs[:1]
	})
	o.both(t, name, "dual-both", "dual-v6")
	o.steady(t, name)
}

func hostNetwork(t *testing.T, o *oddities) {
	t.Helper()
	const name = "host"
	o.service(t, name, nil)
	for _, pod := range []string{"host-a", "host-b"} {
		o.pod(t, name, pod, func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			setIPs(p, "192.0.2.2")
		})
	}
	o.both(t, name, "host-a", "host-b")
	o.deletePod(t, "host-a", 0) // The other still has the address.
	o.both(t, name, "host-b")
	o.steady(t, name)
}

func selectorAndLabels(t *testing.T, o *oddities) {
	t.Helper()
	const name = "choosy"
	o.service(t, name, func(s *corev1.ServiceSpec) { s.Selector["tier"] = "a" })
	o.pod(t, name, "choosy-a", func(p *corev1.Pod) { p.Labels["tier"] = "a" })
	o.pod(t, name, "choosy-b", func(p *corev1.Pod) { p.Labels["tier"] = "b" })
	o.both(t, name, "choosy-a")
	o.changeService(t, name, func(s *corev1.Service) { s.Spec.Selector["tier"] = "b" })
	o.both(t, name, "choosy-b")
	p, err := o.client.CoreV1().Pods(oddNamespace).Get(t.Context(), "choosy-a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Labels["tier"] = "b"
	if _, err = o.client.CoreV1().Pods(oddNamespace).Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	o.both(t, name, "choosy-a", "choosy-b")
	o.steady(t, name)
}

func externalName(t *testing.T, o *oddities) {
	t.Helper()
	const name = "external"
	o.service(t, name, nil)
	o.pod(t, name, "external-a", nil)
	o.pod(t, name, "external-b", nil)
	o.both(t, name, "external-a", "external-b")
	o.changeService(t, name, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = "", nil, nil, nil
	})
	o.changeStatus(t, "external-b", ready(corev1.ConditionFalse))
	// kube-controller-manager leaves what it published, and so nothing is late.
	o.both(t, name, "external-a", "external-b")
	o.changeService(t, name, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeClusterIP, ""
	})
	o.both(t, name, "external-a")
	o.steady(t, name)
	for _, r := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		// What the Service inherited from before is taken away, and that is a change like any other.
		if s := o.summary(name).Stat(r, lag.DirectionRemoval); s.Closed+s.HandOver != 1 {
			t.Errorf("%s: %d removals, want 1: %+v", r, s.Closed, s)
		}
	}
}

func mirrored(t *testing.T, o *oddities) {
	t.Helper()
	const name = "manual"
	o.service(t, name, func(s *corev1.ServiceSpec) { s.Selector = nil })
	o.pod(t, name, "manual-a", nil)
	err := o.create(t, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{
			IP: "10.130.0.1", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: oddNamespace, Name: "manual-a", UID: "1"},
		}},
		Ports: []corev1.EndpointPort{{Port: 80}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	rig.Await(t, quietWithin, func() string { return "a mirrored slice" }, func(ctx context.Context) bool {
		list, listErr := o.client.DiscoveryV1().EndpointSlices(oddNamespace).List(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=" + name,
		})
		return listErr == nil && len(list.Items) == 1 && strings.Contains(list.Items[0].Labels[discoveryv1.LabelManagedBy], "mirroring")
	})
	o.await(t, name, nil, []string{"manual-a"})
	if v := o.verdict(name); v != (verdict{}) {
		t.Errorf("the tracker says %+v of endpoints that people made, want nothing", v)
	}
}

func endedPods(t *testing.T, o *oddities) {
	t.Helper()
	const name = "mortal"
	o.service(t, name, nil)
	for _, pod := range []string{"mortal-a", "mortal-b", "mortal-c"} {
		o.pod(t, name, pod, nil)
	}
	o.both(t, name, "mortal-a", "mortal-b", "mortal-c")
	o.changeStatus(t, "mortal-a", func(p *corev1.Pod) {
		setReady(p, corev1.ConditionFalse)
		p.Status.Phase = corev1.PodFailed
	})
	o.both(t, name, "mortal-b", "mortal-c")
	o.deletePod(t, "mortal-b", 300)
	o.both(t, name, "mortal-c")
	// By its phase alone: kube-controller-manager does not look until something else happens to the Service.
	o.changeStatus(t, "mortal-c", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	var v verdict
	rig.Await(t, quietWithin, func() string { return fmt.Sprintf("one difference in each API that nobody acts on: %+v", v) },
		func(context.Context) bool {
			v = o.verdict(name)
			return v.unacted == 2 && v.standing == 2 && v.open == 0
		})
	if got, err := o.shown(t.Context(), name); err != nil || len(got.slices) != 1 || len(got.endpoints) != 1 {
		t.Errorf("shown = %v (%v), want the Pod still in both", got, err)
	}
	o.changeService(t, name, func(s *corev1.Service) { s.Annotations = map[string]string{"example.com/touched": ""} })
	o.both(t, name)
	o.deletePod(t, "mortal-b", 0)
	o.steady(t, name)
}

func missingNode(t *testing.T, o *oddities) {
	t.Helper()
	const name = "lost"
	o.service(t, name, nil)
	o.service(t, "lost-eager", func(s *corev1.ServiceSpec) {
		s.Selector["app"], s.PublishNotReadyAddresses = name, true
	})
	o.pod(t, name, "lost-a", func(p *corev1.Pod) { p.Spec.NodeName = "nowhere" })
	o.pod(t, name, "lost-b", nil)
	// Only slices care whether the node exists.
	o.await(t, name, []string{"lost-b"}, []string{"lost-a", "lost-b"})
	o.both(t, "lost-eager", "lost-a", "lost-b")
	o.deletePod(t, "lost-a", 0)
	o.both(t, name, "lost-b")
	o.both(t, "lost-eager", "lost-b")
	o.steady(t, name)
}

// brief makes Pods and deletes them before kube-controller-manager can have added all of them.
func brief(t *testing.T, o *oddities) {
	t.Helper()
	const name, pods = "brief", 20
	o.service(t, name, nil)
	for i := range pods {
		pod := fmt.Sprint("brief-", i)
		o.pod(t, name, pod, nil)
		o.deletePod(t, pod, 0)
	}
	o.pod(t, name, "brief-last", nil)
	o.both(t, name, "brief-last")
	for _, r := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		// A drift is explained here: a Pod that was gone already when it was published.
		if s := o.summary(name).Stat(r, lag.DirectionAddition); s.Drift > 0 {
			t.Errorf("%s: %d additions drifted, want none", r, s.Drift)
		}
	}
}

// flips changes the readiness of Pods there and back faster than kube-controller-manager publishes.
func flips(t *testing.T, o *oddities) {
	t.Helper()
	const services, rounds = 30, 4
	name := func(i int) string { return fmt.Sprint("flip-", i) }
	for i := range services {
		o.service(t, name(i), nil)
		o.pod(t, name(i), name(i), nil)
	}
	for i := range services {
		o.both(t, name(i), name(i))
	}
	for range rounds {
		for _, status := range []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue} {
			for i := range services {
				o.changeStatus(t, name(i), ready(status))
			}
		}
	}
	superseded := 0
	for i := range services {
		o.both(t, name(i), name(i))
	}
	summary := o.tracker.Summary(lag.Query{Now: time.Now(), Measured: func(s lag.Service) bool { return strings.HasPrefix(s.Name, "flip-") }})
	for _, r := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		s := summary.Stat(r, lag.DirectionAny)
		superseded += s.Superseded
		// A drift is explained here: the state before the last flip, published after it. Each flip makes at most one.
		if want := services * (1 + 2*rounds); s.Changes != want || s.Drift > want {
			t.Errorf("%s: %d changes and %d drifts, want %d and no more: %+v", r, s.Changes, s.Drift, want, s)
		}
	}
	if superseded == 0 {
		t.Error("no change was superseded: the flips were too slow to tell anything")
	}
}

// crowd makes 1,001 Pods of one Service, of which Endpoints show 1,000.
func crowd(t *testing.T, o *oddities) {
	t.Helper()
	const name, pods, capacity = "crowd", 1001, 1000
	o.service(t, name, nil)
	var all []string
	for i := range pods {
		all = append(all, fmt.Sprintf("crowd-%04d", i))
		o.pod(t, name, all[i], nil)
	}
	slices.Sort(all)
	rig.Await(t, quietWithin, func() string { return "1,001 endpoints in slices and 1,000 in Endpoints" }, func(ctx context.Context) bool {
		got, err := o.shown(ctx, name)
		return err == nil && slices.Equal(got.slices, all) && len(got.endpoints) == capacity
	})
	for _, pod := range all[:2] {
		o.deletePod(t, pod, 0)
	}
	o.both(t, name, all[2:]...)
	if s := o.summary(name).Stat(lag.ResourceEndpoints, lag.DirectionAny); s.OverCapacity == 0 {
		t.Errorf("no change over capacity: %+v", s)
	}
}
