package tests

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/watch"
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
		if stopErr := cp.Stop(); stopErr != nil {
			t.Error(stopErr)
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
		if feedErr := <-done; feedErr != nil {
			t.Error(feedErr)
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

func (o *oddities) summary(service string) lag.Summary {
	return o.tracker.Summary(lag.Query{Now: time.Now(), Measured: func(s lag.Service) bool {
		return s.Namespace == oddNamespace && s.Name == service
	}})
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
