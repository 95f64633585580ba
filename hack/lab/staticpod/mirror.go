package staticpod

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// mirrorPeriod is how often a mirror Pod that is not as it should be is tried again.
const mirrorPeriod = time.Second

// mirror shows static Pods in the API, in its own time. A nil mirror does nothing.
type mirror struct {
	client kubernetes.Interface
	node   string
	log    logr.Logger
	wake   chan struct{}

	mu   sync.Mutex
	pods map[string]*mirrored // by full name
}

// mirrored is what the API should say of one Pod.
type mirrored struct {
	pod      *corev1.Pod // nil: should not exist
	last     *corev1.Pod // the last one that should have existed, for its name
	statuses map[string]corev1.ContainerStatus
	dirty    bool
}

func newMirror(client kubernetes.Interface, node string, log logr.Logger) *mirror {
	return &mirror{client: client, node: node, log: log, wake: make(chan struct{}, 1), pods: map[string]*mirrored{}}
}

func (m *mirror) want(pod *corev1.Pod) {
	m.change(pod, func(w *mirrored) {
		w.pod, w.last, w.statuses = pod, pod, map[string]corev1.ContainerStatus{}
	})
}

func (m *mirror) unwant(pod *corev1.Pod) {
	m.change(pod, func(w *mirrored) {
		if w.pod != nil && w.pod.UID == pod.UID {
			w.pod = nil
		}
	})
}

func (m *mirror) running(pod *corev1.Pod, container string, since time.Time) {
	m.change(pod, func(w *mirrored) {
		if w.pod == nil || w.pod.UID != pod.UID {
			return
		}
		s, again := w.statuses[container]
		if again {
			s.RestartCount++
		}
		started := true
		s.Name, s.Ready, s.Started = container, true, &started
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(since)}}
		w.statuses[container] = s
	})
}

func (m *mirror) exited(pod *corev1.Pod, container string) {
	m.change(pod, func(w *mirrored) {
		if w.pod == nil || w.pod.UID != pod.UID {
			return
		}
		s := w.statuses[container]
		s.Ready, s.Started = false, new(bool)
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
		w.statuses[container] = s
	})
}

func (m *mirror) change(pod *corev1.Pod, f func(*mirrored)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.pods[fullName(pod)]
	if w == nil {
		w = &mirrored{last: pod}
		m.pods[fullName(pod)] = w
	}
	f(w)
	w.dirty = true
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mirror) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		err := wait.PollUntilContextCancel(ctx, mirrorPeriod, true, m.syncAll)
		if err != nil {
			return
		}
	}
}

// syncAll reports whether every Pod is as it should be.
func (m *mirror) syncAll(ctx context.Context) (bool, error) {
	done := true
	for _, w := range m.take() {
		if err := m.sync(ctx, w); err != nil {
			m.log.V(1).Info("Mirror Pod is not up to date", "pod", w.last.Name, "error", err.Error())
			m.change(w.last, func(*mirrored) {})
			done = false
		}
	}
	return done, nil
}

// take returns copies of what is not up to date, and marks it as up to date.
func (m *mirror) take() []mirrored {
	m.mu.Lock()
	defer m.mu.Unlock()
	var dirty []mirrored
	for _, w := range m.pods {
		if w.dirty {
			w.dirty = false
			c := *w
			c.statuses = maps.Clone(w.statuses)
			dirty = append(dirty, c)
		}
	}
	return dirty
}

func (m *mirror) sync(ctx context.Context, w mirrored) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pods := m.client.CoreV1().Pods(w.last.Namespace)
	current, err := pods.Get(ctx, w.last.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	exists := err == nil
	if exists && (w.pod == nil || current.Annotations[annotationMirror] != string(w.pod.UID)) {
		now := int64(0)
		err = pods.Delete(ctx, w.last.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &current.UID},
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		exists = false
	}
	if w.pod == nil {
		return nil
	}
	if !exists {
		if current, err = pods.Create(ctx, m.object(ctx, w.pod), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	current.Status = status(w)
	_, err = pods.UpdateStatus(ctx, current, metav1.UpdateOptions{})
	return err
}

// object is the Pod as the kubelet creates it: annotated with its hash and owned by its Node.
func (m *mirror) object(ctx context.Context, pod *corev1.Pod) *corev1.Pod {
	c := pod.DeepCopy()
	c.UID, c.ResourceVersion = types.UID(""), ""
	c.Annotations[annotationMirror] = string(pod.UID)
	if node, err := m.client.CoreV1().Nodes().Get(ctx, m.node, metav1.GetOptions{}); err == nil {
		controller := true
		c.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "Node", Name: m.node, UID: node.UID, Controller: &controller,
		}}
	}
	return c
}

func status(w mirrored) corev1.PodStatus {
	ready := corev1.ConditionTrue
	s := corev1.PodStatus{Phase: corev1.PodRunning}
	for _, c := range w.pod.Spec.Containers {
		cs, started := w.statuses[c.Name]
		if !started {
			s.Phase = corev1.PodPending
			cs = corev1.ContainerStatus{Name: c.Name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
		}
		if !cs.Ready {
			ready = corev1.ConditionFalse
		}
		cs.Image = c.Image
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
	}
	s.Conditions = []corev1.PodCondition{
		{Type: corev1.ContainersReady, Status: ready}, {Type: corev1.PodReady, Status: ready},
	}
	return s
}
