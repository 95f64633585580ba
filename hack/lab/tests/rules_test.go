package tests

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/staticpod"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/watch"
)

const (
	oddNamespace = "odd"
	// quietWithin bounds how long kube-controller-manager may take for one scene at 20 requests a second.
	quietWithin = 2 * time.Minute
	// sliceController is the managed-by label of the slices that are measured.
	sliceController = "endpointslice-controller.k8s.io"
)

// oddities is a real control plane with a tracker that watches it.
type oddities struct {
	client  kubernetes.Interface
	tracker *lag.Tracker

	mu    sync.Mutex
	ended map[lag.Resource]map[lag.Class]int

	pods int // made so far
}

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

// startOddities starts a dual-stack control plane with kube-controller-manager as it comes, and watches it.
func startOddities(t *testing.T) *oddities {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.Options{
		UnsafeNoFsync: true, Progress: t.Output(),
		APIServerArgs: []string{"--service-cluster-ip-range=10.96.0.0/12,fd00:96::/112"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	nodes, err := controlplane.StartNodes(t.Context(), cp.Admin, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nodes.Stop)
	manifest, err := cp.KCMManifest()
	if err != nil {
		t.Fatal(err)
	}
	manifests := t.TempDir()
	if err = os.WriteFile(filepath.Join(manifests, rig.ManifestName), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	runner, err := staticpod.Start(context.WithoutCancel(t.Context()), staticpod.Options{
		ManifestDir: manifests, LogDir: cp.Logs, NodeName: nodes.ControlPlane[0],
		Binaries: map[string]string{"kube-controller-manager": cp.Binaries.ControllerManager},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(runner.Stop)
	o := &oddities{ended: map[lag.Resource]map[lag.Class]int{lag.ResourceEndpointSlice: {}, lag.ResourceEndpoints: {}}}
	o.watch(t, cp.Admin)
	for _, err = range []error{
		o.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: oddNamespace}}),
		// kube-controller-manager would make it in time, but admission refuses Pods before.
		o.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}),
	} {
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	return o
}

// watch starts the feed under test.
func (o *oddities) watch(t *testing.T, admin *rest.Config) {
	t.Helper()
	config := rest.CopyConfig(admin)
	config.WarningHandler = rest.NoWarnings{} // That Endpoints are deprecated is known.
	var err error
	if o.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	o.tracker = lag.NewTracker(lag.Options{Ended: func(e lag.Ended) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ended[e.Resource][e.Class]++
	}})
	feed, err := watch.NewFeed(config, o.tracker, watch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- feed.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synced, stop := context.WithTimeout(t.Context(), quietWithin)
	defer stop()
	if err = feed.WaitSynced(synced); err != nil {
		t.Fatal(err)
	}
}

// create makes an object of the kinds that the scenes use.
func (o *oddities) create(t *testing.T, object any) (err error) {
	t.Helper()
	ctx, options := t.Context(), metav1.CreateOptions{}
	switch x := object.(type) {
	case *corev1.Namespace:
		_, err = o.client.CoreV1().Namespaces().Create(ctx, x, options)
	case *corev1.ServiceAccount:
		_, err = o.client.CoreV1().ServiceAccounts(oddNamespace).Create(ctx, x, options)
	case *corev1.Service:
		_, err = o.client.CoreV1().Services(oddNamespace).Create(ctx, x, options)
	case *corev1.Endpoints:
		_, err = o.client.CoreV1().Endpoints(oddNamespace).Create(ctx, x, options)
	default:
		t.Fatalf("cannot create a %T", object)
	}
	return err
}

// service makes a Service of the given name that selects app=NAME and has one port by number.
func (o *oddities) service(t *testing.T, name string, change func(*corev1.ServiceSpec)) {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name},
		Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if change != nil {
		change(&s.Spec)
	}
	if err := o.create(t, s); err != nil {
		t.Fatal(err)
	}
}

func (o *oddities) changeService(t *testing.T, name string, change func(*corev1.Service)) {
	t.Helper()
	s, err := o.client.CoreV1().Services(oddNamespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change(s)
	if _, err = o.client.CoreV1().Services(oddNamespace).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// pod makes a running, ready Pod of a Service as its kubelet would.
func (o *oddities) pod(t *testing.T, app, name string, change func(*corev1.Pod)) {
	t.Helper()
	o.pods++
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{
			NodeName: fmt.Sprint("worker-", 1+o.pods%2), AutomountServiceAccountToken: new(false),
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers:  []corev1.Container{{Name: "server", Image: "server"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	setIPs(p, fmt.Sprintf("10.128.%d.%d", o.pods>>8, o.pods&0xff))
	setReady(p, corev1.ConditionTrue)
	if change != nil {
		change(p)
	}
	status := p.Status
	made, err := o.client.CoreV1().Pods(oddNamespace).Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status = status
	if _, err = o.client.CoreV1().Pods(oddNamespace).UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func setIPs(p *corev1.Pod, ips ...string) {
	p.Status.PodIP, p.Status.PodIPs = ips[0], nil
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
}

func setReady(p *corev1.Pod, status corev1.ConditionStatus) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
}

// changeStatus writes a Pod's status as its kubelet would.
func (o *oddities) changeStatus(t *testing.T, name string, change func(*corev1.Pod)) {
	t.Helper()
	p, err := o.client.CoreV1().Pods(oddNamespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change(p)
	if _, err = o.client.CoreV1().Pods(oddNamespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func ready(status corev1.ConditionStatus) func(*corev1.Pod) {
	return func(p *corev1.Pod) { setReady(p, status) }
}

// deletePod deletes a Pod; with seconds of grace it terminates until nobody's kubelet has ended it.
func (o *oddities) deletePod(t *testing.T, name string, grace int64) {
	t.Helper()
	err := o.client.CoreV1().Pods(oddNamespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
	if err != nil {
		t.Fatal(err)
	}
}

// shown is what both APIs show as ready for a Service: names of Pods, each as often as it is shown.
type shown struct{ slices, endpoints []string }

func (o *oddities) shown(ctx context.Context, service string) (out shown, err error) {
	selector := discoveryv1.LabelServiceName + "=" + service + "," + discoveryv1.LabelManagedBy + "=" + sliceController
	list, err := o.client.DiscoveryV1().EndpointSlices(oddNamespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return out, err
	}
	for i := range list.Items {
		for _, e := range list.Items[i].Endpoints {
			if e.TargetRef != nil && *e.Conditions.Ready {
				out.slices = append(out.slices, e.TargetRef.Name)
			}
		}
	}
	endpoints, err := o.client.CoreV1().Endpoints(oddNamespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return out, err
	}
	for _, subset := range endpoints.Subsets {
		for _, a := range subset.Addresses {
			out.endpoints = append(out.endpoints, a.TargetRef.Name)
		}
	}
	slices.Sort(out.slices)
	slices.Sort(out.endpoints)
	return out, nil
}

// await returns when both APIs show these Pods of a Service, each as often as it is named, and the tracker agrees that
// nothing is open.
func (o *oddities) await(t *testing.T, service string, inSlices, inEndpoints []string) {
	t.Helper()
	want := shown{slices.Sorted(slices.Values(inSlices)), slices.Sorted(slices.Values(inEndpoints))}
	var last shown
	rig.Await(t, quietWithin, func() string {
		return fmt.Sprintf("%s to show %.300v, it shows %.300v", service, want, last)
	}, func(ctx context.Context) bool {
		var err error
		last, err = o.shown(ctx, service)
		return err == nil && slices.Equal(last.slices, want.slices) && slices.Equal(last.endpoints, want.endpoints)
	})
	var v verdict
	rig.Await(t, quietWithin, func() string { return fmt.Sprintf("the tracker to agree about %s: %+v", service, v) },
		func(context.Context) bool {
			v = o.verdict(service)
			return v.open == 0 && v.standing == 0
		})
}

func (o *oddities) both(t *testing.T, service string, pods ...string) {
	t.Helper()
	o.await(t, service, pods, pods)
}

// verdict is what the tracker says of a Service, or of all if it is empty: open changes, differences of whatever class
// that stand at this moment, and drifts.
type verdict struct {
	open, standing, drift, unacted, changes int
}

func (o *oddities) verdict(service string) (out verdict) {
	q := lag.Query{Now: time.Now(), Measured: func(s lag.Service) bool {
		return s.Namespace == oddNamespace && (service == "" || s.Name == service)
	}}
	now := o.tracker.Summary(q)
	q.Now = q.Now.Add(time.Second) // What stands makes wrong-endpoint-seconds grow.
	later := o.tracker.Summary(q)
	for _, r := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		s := now.Stat(r, lag.DirectionAny)
		out.open += s.Open
		out.drift += s.Drift
		out.unacted += s.Unacted
		out.changes += s.Changes
		out.standing += int(math.Round(later.Stat(r, lag.DirectionAny).WrongEndpointSeconds - s.WrongEndpointSeconds))
	}
	return out
}

// requireConsistency requires that every change is in one class, and was reported once when it ended.
func (o *oddities) requireConsistency(t *testing.T) {
	t.Helper()
	summary := o.tracker.Summary(lag.Query{Now: time.Now()})
	for _, r := range []lag.Resource{lag.ResourceEndpointSlice, lag.ResourceEndpoints} {
		s := summary.Stat(r, lag.DirectionAny)
		classes := map[lag.Class]int{
			lag.Closed: s.Closed, lag.Superseded: s.Superseded, lag.NotNeeded: s.NotNeeded, lag.Startup: s.Startup, lag.Gap: s.Gap,
			lag.HandOver: s.HandOver, lag.OverCapacity: s.OverCapacity, lag.Unacted: s.Unacted, lag.Drift: s.Drift,
		}
		sum := s.Open - s.Drift
		for _, n := range classes {
			sum += n
		}
		if sum != s.Changes {
			t.Errorf("%s: %d changes, in classes %d: %+v", r, s.Changes, sum, s)
		}
		o.mu.Lock()
		ended := maps.Clone(o.ended[r])
		o.mu.Unlock()
		maps.DeleteFunc(classes, func(_ lag.Class, n int) bool { return n == 0 })
		if s.Open > 0 || !maps.Equal(classes, ended) {
			t.Errorf("%s: %d are open, counted as %v and ended as %v; want none and the same", r, s.Open, classes, ended)
		}
	}
	if t.Failed() {
		return
	}
	t.Logf("all in all: %+v", o.verdict(""))
}

// steady fails if any published state of the Service left the desired one by itself.
func (o *oddities) steady(t *testing.T, service string) {
	t.Helper()
	if v := o.verdict(service); v.drift != 0 {
		t.Errorf("%s: %d drifts, want none", service, v.drift)
	}
}

func headless(t *testing.T, o *oddities) {
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
}

func mirrored(t *testing.T, o *oddities) {
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
		list, err := o.client.DiscoveryV1().EndpointSlices(oddNamespace).List(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=" + name,
		})
		return err == nil && len(list.Items) == 1 && strings.Contains(list.Items[0].Labels[discoveryv1.LabelManagedBy], "mirroring")
	})
	o.await(t, name, nil, []string{"manual-a"})
	if v := o.verdict(name); v != (verdict{}) {
		t.Errorf("the tracker says %+v of endpoints that people made, want nothing", v)
	}
}

func endedPods(t *testing.T, o *oddities) {
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
	const name, pods = "brief", 20
	o.service(t, name, nil)
	for i := range pods {
		pod := fmt.Sprint("brief-", i)
		o.pod(t, name, pod, nil)
		o.deletePod(t, pod, 0)
	}
	o.pod(t, name, "brief-last", nil)
	o.both(t, name, "brief-last")
}

// flips changes the readiness of Pods there and back faster than kube-controller-manager publishes.
func flips(t *testing.T, o *oddities) {
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
	if s := o.tracker.Summary(lag.Query{Now: time.Now(), Measured: func(s lag.Service) bool { return s.Name == name }}).
		Stat(lag.ResourceEndpoints, lag.DirectionAny); s.OverCapacity == 0 {
		t.Errorf("no change over capacity: %+v", s)
	}
}
