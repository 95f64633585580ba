// Package workload makes the incident in the lab: many Services whose Pods change readiness at once, as they do when a
// zone or a dependency fails and comes back.
//
// It plays kubelet (Pods bound to fake nodes, made Ready through their status) and nothing else: the endpoints are the
// real kube-controller-manager's work. It measures its own speed, not the lag.
package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
)

// ServiceLabel is the label of each Pod that holds the name of its Service, or those of several, joined by dots; they
// select by it.
const ServiceLabel = "app"

// Options are the workload's size. The zero value of a field means its default.
type Options struct {
	// Namespace is created if absent; default "incident".
	Namespace string

	// Namespaces is over how many the Services spread; default 1. With more they are called Namespace-0, Namespace-1 and so
	// on. kube-controller-manager goes through all Services and Pods of a namespace for each change in it: with a thousand
	// in one, that is most of its work.
	Namespaces int

	// Services is how many there are; default 1000.
	Services int

	// PodsPerService is how many Pods each Service selects, and ServicesPerPod how many Services select each Pod; default 1.
	// A Pod of several makes as many changes of endpoints as it has Services, for one write. Services is a multiple of it.
	PodsPerService, ServicesPerPod int

	// Nodes are the names of existing nodes that the Pods are bound to in turn. At least one is needed.
	Nodes []string

	// Writers is how many requests are in flight at once; default 32.
	Writers int

	// Progress receives lines about the set-up; nil discards them.
	Progress io.Writer
}

const (
	defaultNamespace = "incident"
	defaultServices  = 1000
	defaultWriters   = 32
	port             = 8080
)

func (o Options) withDefaults() Options {
	if o.Namespace == "" {
		o.Namespace = defaultNamespace
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, d := range []struct {
		value    *int
		fallback int
	}{{&o.Services, defaultServices}, {&o.PodsPerService, 1}, {&o.ServicesPerPod, 1}, {&o.Writers, defaultWriters}, {&o.Namespaces, 1}} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return o
}

// Workload is a set of Services and Pods. Its methods are for one goroutine.
type Workload struct {
	options Options
	// clients share nothing, so that no single HTTP/2 connection holds the writers back.
	clients []kubernetes.Interface
	clock   clock.Clock
	pods    []*corev1.Pod // As last written.
}

// FlipResult says how fast an incident went.
type FlipResult struct {
	// Start is when the first Pod was about to change, and Duration how long it took until the last had changed.
	Start    time.Time
	Duration time.Duration

	// Pods is how many Pods changed: all of them, half to ready and half to unready.
	Pods int
}

// clientCount is over how many connections the writers spread.
const clientCount = 4

// New prepares a workload and creates nothing.
func New(config *rest.Config, o Options) (*Workload, error) {
	if len(o.Nodes) == 0 {
		return nil, errors.New("workload: no node to bind Pods to")
	}
	w := &Workload{options: o.withDefaults(), clock: clock.RealClock{}}
	if o = w.options; o.Services%o.ServicesPerPod != 0 {
		return nil, fmt.Errorf("workload: %d Services cannot share Pods by %d", o.Services, o.ServicesPerPod)
	}
	for i := range clientCount {
		c := rest.CopyConfig(config)
		c.QPS = -1 // The API server's pace, not ours.
		c.ContentType = "application/vnd.kubernetes.protobuf"
		c.AcceptContentTypes = c.ContentType + ",application/json"
		c.UserAgent = fmt.Sprintf("endpoint-sync-lab-workload-%d", i)
		c.WarningHandler = rest.NoWarnings{} // That Endpoints are deprecated is known.
		// An own dialer keeps client-go from sharing one connection between the clients.
		c.Dial = newDialer()
		client, err := kubernetes.NewForConfig(c)
		if err != nil {
			return nil, fmt.Errorf("make client: %w", err)
		}
		w.clients = append(w.clients, client)
	}
	return w, nil
}

// Setup creates namespaces, Pods and Services. Every second Pod is ready and the others are not, so that each Flip makes as
// many endpoints appear as disappear. It does not wait for endpoints; WaitConverged does.
func (w *Workload) Setup(ctx context.Context) error {
	o := w.options
	err := w.each(ctx, o.Namespaces, func(ctx context.Context, client kubernetes.Interface, i int) error {
		return makeNamespace(ctx, client, o.namespace(i))
	})
	if err != nil {
		return err
	}
	w.pods = make([]*corev1.Pod, o.pods())
	if err = w.each(ctx, len(w.pods), w.createPod); err != nil {
		return fmt.Errorf("create Pods: %w", err)
	}
	_, _ = fmt.Fprintf(o.Progress, "workload: %d Pods running\n", len(w.pods))
	// After their Pods, so that each takes one write of endpoints and not two.
	err = w.each(ctx, o.Services, func(ctx context.Context, client kubernetes.Interface, i int) error {
		_, e := client.CoreV1().Services(o.namespace(i/o.ServicesPerPod)).Create(ctx, o.service(i), metav1.CreateOptions{})
		return e
	})
	if err != nil {
		return fmt.Errorf("create Services: %w", err)
	}
	_, _ = fmt.Fprintf(o.Progress, "workload: %d Services created\n", o.Services)
	return nil
}

// groups are the sets of Services that share their Pods, and pods how many Pods there are.
func (o Options) groups() int { return o.Services / o.ServicesPerPod }
func (o Options) pods() int   { return o.groups() * o.PodsPerService }

// namespace is that of a group.
func (o Options) namespace(group int) string {
	if o.Namespaces == 1 {
		return o.Namespace
	}
	return fmt.Sprintf("%s-%d", o.Namespace, group%o.Namespaces)
}

// names are those of a group's Services, as its Pods have them.
func (o Options) names(group int) string {
	var names []string
	for i := range o.ServicesPerPod {
		names = append(names, serviceName(group*o.ServicesPerPod+i))
	}
	return strings.Join(names, ".")
}

// scope is the namespace whose lists have everything: all, if there are several.
func (o Options) scope() string {
	if o.Namespaces == 1 {
		return o.Namespace
	}
	return metav1.NamespaceAll
}

// Adopt takes over the Pods that an earlier Setup of the same options made, and reports whether all of them are there.
func (w *Workload) Adopt(ctx context.Context) (bool, error) {
	o := w.options
	list, err := w.clients[0].CoreV1().Pods(o.scope()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list Pods: %w", err)
	}
	byName := map[types.NamespacedName]*corev1.Pod{}
	for i := range list.Items {
		p := &list.Items[i]
		byName[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	}
	pods := make([]*corev1.Pod, o.pods())
	for i := range pods {
		name := types.NamespacedName{Namespace: o.namespace(i / o.PodsPerService), Name: o.podName(i)}
		if pods[i] = byName[name]; pods[i] == nil {
			return false, nil
		}
	}
	w.pods = pods
	return true, nil
}

// podName is called after the group's first Service.
func (o Options) podName(i int) string {
	return fmt.Sprintf("%s-%d", serviceName(i/o.PodsPerService*o.ServicesPerPod), i%o.PodsPerService)
}

// Flip makes the incident: every ready Pod becomes unready and every unready one ready, as fast as the API server takes
// it. Each Pod changes once.
func (w *Workload) Flip(ctx context.Context) (FlipResult, error) { return w.FlipAt(ctx, Pace{}) }

// FlipAt is Flip at a pace. Pods that are due wait for a free writer, so a slow API server stretches it.
func (w *Workload) FlipAt(ctx context.Context, p Pace) (FlipResult, error) {
	turns := p.turns(w.options.groups(), w.options.PodsPerService)
	result := FlipResult{Start: w.clock.Now(), Pods: len(w.pods)}
	err := w.spread(ctx, turns, func(ctx context.Context, client kubernetes.Interface, i int) error {
		return w.writeStatus(ctx, client, i, !ready(w.pods[i]))
	})
	result.Duration = w.clock.Since(result.Start)
	if err != nil {
		return result, fmt.Errorf("flip Pods: %w", err)
	}
	return result, nil
}

func makeNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	// kube-controller-manager would make it in time, but admission refuses Pods before.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, err = client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ServiceAccount %s/default: %w", name, err)
	}
	return nil
}

func (o Options) service(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{ServiceLabel: o.names(i / o.ServicesPerPod)},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(port)}},
		},
	}
}

func (w *Workload) createPod(ctx context.Context, client kubernetes.Interface, i int) error {
	o := w.options
	group := i / o.PodsPerService
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.namespace(group),
			Name:      o.podName(i),
			Labels:    map[string]string{ServiceLabel: o.names(group)},
		},
		Spec: corev1.PodSpec{
			NodeName:                     o.Nodes[i%len(o.Nodes)],
			AutomountServiceAccountToken: new(false),
			Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "server", Image: "server",
				Ports: []corev1.ContainerPort{{ContainerPort: port}},
			}},
		},
	}
	created, err := client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	created.Status = corev1.PodStatus{
		Phase:     corev1.PodRunning,
		PodIPs:    []corev1.PodIP{{IP: podIP(i)}},
		PodIP:     podIP(i),
		StartTime: new(metav1.NewTime(w.clock.Now())),
	}
	w.pods[i] = created
	return w.writeStatus(ctx, client, i, i%2 == 0)
}

// writeStatus writes a Pod's readiness as its kubelet would.
func (w *Workload) writeStatus(ctx context.Context, client kubernetes.Interface, i int, becomesReady bool) error { //nolint:revive // The value written, not a mode.
	pod := w.pods[i].DeepCopy()
	pod.ResourceVersion = "" // Nobody else writes this status, so the last write wins without a conflict.
	// One empty entry resets the record of who wrote which field, and without one the API server keeps none for this Pod.
	// That makes the flip cheaper; what kube-controller-manager writes costs what it costs anywhere.
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{}}
	status := corev1.ConditionFalse
	if becomesReady {
		status = corev1.ConditionTrue
	}
	now := metav1.NewTime(w.clock.Now())
	pod.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: pod.CreationTimestamp},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: pod.CreationTimestamp},
		{Type: corev1.ContainersReady, Status: status, LastTransitionTime: now},
		{Type: corev1.PodReady, Status: status, LastTransitionTime: now},
	}
	return retry.OnError(retry.DefaultBackoff, interrupted, func() error {
		written, err := client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		if err == nil {
			w.pods[i] = written
		}
		return err
	})
}

// interrupted says whether a write may be made again because its connection broke, as it does when one of several API
// servers goes: whatever is no answer of the API server.
func interrupted(err error) bool {
	_, answered := errors.AsType[*apierrors.StatusError](err)
	return !answered || apierrors.IsInternalError(err)
}

// each calls f for 0..n-1 with as many at once as there are writers, and stops at the first error.
func (w *Workload) each(ctx context.Context, n int, f func(ctx context.Context, client kubernetes.Interface, i int) error) error {
	return w.spread(ctx, Pace{}.turns(n, 1), f)
}

// spread is each for Pods that have their time.
func (w *Workload) spread(ctx context.Context, turns []turn, f func(ctx context.Context, client kubernetes.Interface, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var running sync.WaitGroup
	for writer := range w.options.Writers {
		client := w.clients[writer%len(w.clients)]
		running.Go(func() {
			for i := range next {
				if err := f(ctx, client, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	start := w.clock.Now()
	for _, t := range turns {
		if wait := t.after - w.clock.Since(start); wait > 0 {
			select {
			case <-w.clock.After(wait):
			case <-ctx.Done():
			}
		}
		select {
		case next <- t.pod:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	running.Wait()
	return context.Cause(ctx)
}

func serviceName(i int) string { return fmt.Sprintf("svc-%05d", i) }

// podIP gives each Pod an address of its own in 10.128.0.0/9, which no Service IP is in.
func podIP(i int) string {
	i++ // Not the network's own address.
	return fmt.Sprintf("10.%d.%d.%d", 128+i>>16, i>>8&0xff, i&0xff)
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
