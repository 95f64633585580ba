package accuracy

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	// steadyPeriod is the time between two steps of the trickle. With DefaultSteadyServices, each Pod is left alone for
	// 80 s, longer than the default flags take to publish a burst.
	steadyPeriod = time.Second / 3
	// keptExtras is how many Pods the trickle has created and not deleted: each then lives 75 s, as one step in five
	// creates one.
	keptExtras = 45
	// terminating is for how long a deleted Pod ends gracefully.
	terminating = 2 * time.Second
)

// steady is a trickle of changes: readiness flips, new Pods and graceful deletions, one after another over all its
// Services. Its methods are for one goroutine.
type steady struct {
	*crowd

	clock  clock.WithTicker
	extras []corev1.Pod // Created by the trickle, the oldest first.
	ending []ending     // Deleted and not gone, the oldest first.
	step   int
}

type ending struct {
	pod   string
	since time.Time
}

// run trickles until ctx is done, which is no error.
func (s *steady) run(ctx context.Context) error {
	ticker := s.clock.NewTicker(steadyPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		// A step is not broken off half-way: what is written must be known.
		if err := s.change(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("trickle: %w", err)
		}
	}
}

// change makes one change: three flips, then a new Pod, then a deletion.
func (s *steady) change(ctx context.Context) error {
	if err := s.finish(ctx); err != nil {
		return err
	}
	n := s.step
	s.step++
	pod := &s.pods[n%len(s.pods)]
	switch {
	case n%5 < 3:
		return s.flip(ctx, pod)
	case n%5 == 3:
		return s.create(ctx, pod)
	case len(s.extras) > keptExtras:
		return s.remove(ctx)
	}
	return nil
}

// create makes a Pod that becomes ready, in the Service of the given one.
func (s *steady) create(ctx context.Context, like *corev1.Pod) error {
	created, err := s.kube.CoreV1().Pods(s.namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:   fmt.Sprintf("extra-%05d", s.step),
			Labels: map[string]string{workload.ServiceLabel: like.Labels[workload.ServiceLabel]},
		},
		Spec: corev1.PodSpec{
			NodeName: like.Spec.NodeName, AutomountServiceAccountToken: new(false), Tolerations: like.Spec.Tolerations,
			Containers: []corev1.Container{{Name: "server", Image: "server"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	ip := fmt.Sprintf("10.250.%d.%d", s.step>>8&0xff, s.step&0xff)
	created.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	if err = s.writeStatus(ctx, created, created); err != nil {
		return err
	}
	s.extras = append(s.extras, *created)
	return nil
}

// remove begins to delete the oldest Pod that the trickle created.
func (s *steady) remove(ctx context.Context) error {
	name := s.extras[0].Name
	s.extras = s.extras[1:]
	if err := s.kube.CoreV1().Pods(s.namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	s.ending = append(s.ending, ending{name, s.clock.Now()})
	return nil
}

// finish does what a kubelet does when a Pod has ended: it takes the object away.
func (s *steady) finish(ctx context.Context) error {
	for len(s.ending) > 0 && s.clock.Since(s.ending[0].since) >= terminating {
		name := s.ending[0].pod
		s.ending = s.ending[1:]
		err := s.kube.CoreV1().Pods(s.namespace).Delete(ctx, name, *metav1.NewDeleteOptions(0))
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// shown says whether all EndpointSlices and Endpoints show what the trickle left.
func (s *steady) shown(ctx context.Context) (bool, error) { return s.published(ctx, s.extras...) }
