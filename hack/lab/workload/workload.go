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
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
)

// ServiceLabel is the label of each Pod that holds the name of its Service; the Service selects by it.
const ServiceLabel = "app"

// Options are the workload's size. The zero value of a field means its default.
type Options struct {
	// Namespace is created if absent; default "incident".
	Namespace string

	// Services is how many there are; default 1000.
	Services int

	// PodsPerService is how many Pods each Service selects; default 1.
	PodsPerService int

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
	}{{&o.Services, defaultServices}, {&o.PodsPerService, 1}, {&o.Writers, defaultWriters}} {
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

// Setup creates the namespace, Services and Pods. Every second Pod is ready and the others are not, so that each Flip
// makes as many endpoints appear as disappear. It does not wait for endpoints; WaitConverged does.
func (w *Workload) Setup(ctx context.Context) error {
	if err := w.makeNamespace(ctx); err != nil {
		return err
	}
	o := w.options
	err := w.each(ctx, o.Services, func(ctx context.Context, client kubernetes.Interface, i int) error {
		_, err := client.CoreV1().Services(o.Namespace).Create(ctx, w.newService(i), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("create Services: %w", err)
	}
	_, _ = fmt.Fprintf(o.Progress, "workload: %d Services created\n", o.Services)
	w.pods = make([]*corev1.Pod, o.Services*o.PodsPerService)
	err = w.each(ctx, len(w.pods), w.createPod)
	if err != nil {
		return fmt.Errorf("create Pods: %w", err)
	}
	_, _ = fmt.Fprintf(o.Progress, "workload: %d Pods running\n", len(w.pods))
	return nil
}

// Adopt takes over the Pods that an earlier Setup of the same options made, and reports whether all of them are there.
func (w *Workload) Adopt(ctx context.Context) (bool, error) {
	o := w.options
	list, err := w.clients[0].CoreV1().Pods(o.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list the Pods of namespace %s: %w", o.Namespace, err)
	}
	byName := map[string]*corev1.Pod{}
	for i := range list.Items {
		byName[list.Items[i].Name] = &list.Items[i]
	}
	pods := make([]*corev1.Pod, o.Services*o.PodsPerService)
	for i := range pods {
		if pods[i] = byName[podName(i, o.PodsPerService)]; pods[i] == nil {
			return false, nil
		}
	}
	w.pods = pods
	return true, nil
}

func podName(i, perService int) string {
	return fmt.Sprintf("%s-%d", serviceName(i/perService), i%perService)
}

// Flip makes the incident: every ready Pod becomes unready and every unready one ready, as fast as the API server takes
// it. Each Pod changes once.
func (w *Workload) Flip(ctx context.Context) (FlipResult, error) { return w.FlipAt(ctx, Pace{}) }

// FlipAt is Flip at a pace. Pods that are due wait for a free writer, so a slow API server stretches it.
func (w *Workload) FlipAt(ctx context.Context, p Pace) (FlipResult, error) {
	turns := p.turns(w.options.Services, w.options.PodsPerService)
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

func (w *Workload) makeNamespace(ctx context.Context) error {
	client := w.clients[0].CoreV1()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.options.Namespace}}
	_, err := client.Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", w.options.Namespace, err)
	}
	// kube-controller-manager would make it in time, but admission refuses Pods before.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, err = client.ServiceAccounts(w.options.Namespace).Create(ctx, account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ServiceAccount %s/default: %w", w.options.Namespace, err)
	}
	return nil
}

func (w *Workload) newService(i int) *corev1.Service {
	name := serviceName(i)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{ServiceLabel: name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(port)}},
		},
	}
}

func (w *Workload) createPod(ctx context.Context, client kubernetes.Interface, i int) error {
	o := w.options
	service := serviceName(i / o.PodsPerService)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:   podName(i, o.PodsPerService),
			Labels: map[string]string{ServiceLabel: service},
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
	created, err := client.CoreV1().Pods(o.Namespace).Create(ctx, pod, metav1.CreateOptions{})
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
