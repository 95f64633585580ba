package accuracy

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// crowd is the Pods of one namespace, one for each Service, that nobody else writes.
type crowd struct {
	kube      kubernetes.Interface
	namespace string
	pods      []corev1.Pod // As last written.
}

func newCrowd(ctx context.Context, config *rest.Config, namespace string) (*crowd, error) {
	own := rest.CopyConfig(config)
	own.UserAgent = "endpoint-sync-lab-" + namespace
	own.WarningHandler = rest.NoWarnings{} // That Endpoints are deprecated is known.
	own.ContentType = "application/vnd.kubernetes.protobuf"
	own.AcceptContentTypes = own.ContentType + ",application/json"
	kube, err := kubernetes.NewForConfig(own)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	list, err := kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Pods: %w", err)
	}
	return &crowd{kube: kube, namespace: namespace, pods: list.Items}, nil
}

// flipAll changes the readiness of every Pod once, one after each period, or as fast as the given number of writers can.
func (s *crowd) flipAll(ctx context.Context, period time.Duration, writers int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *corev1.Pod)
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for pod := range next {
				if err := s.flip(ctx, pod); err != nil {
					cancel(fmt.Errorf("flip Pod %s: %w", pod.Name, err))
				}
			}
		})
	}
	ticker := clock.RealClock{}.NewTicker(max(period, time.Nanosecond))
	defer ticker.Stop()
	for i := range s.pods {
		if period > 0 {
			<-ticker.C()
		}
		next <- &s.pods[i]
	}
	close(next)
	writing.Wait()
	return context.Cause(ctx)
}

func (s *crowd) flip(ctx context.Context, pod *corev1.Pod) error {
	status := corev1.ConditionTrue
	if reachable(pod) {
		status = corev1.ConditionFalse
	}
	next := pod.DeepCopy()
	for i := range next.Status.Conditions {
		if next.Status.Conditions[i].Type == corev1.PodReady {
			next.Status.Conditions[i].Status = status
		}
	}
	return s.writeStatus(ctx, pod, next)
}

func (s *crowd) writeStatus(ctx context.Context, into, next *corev1.Pod) error {
	next.ResourceVersion = "" // Nobody else writes it.
	written, err := s.kube.CoreV1().Pods(s.namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	*into = *written
	return nil
}

// published says whether all EndpointSlices and Endpoints show what the Pods are, these and more.
func (s *crowd) published(ctx context.Context, more ...corev1.Pod) (bool, error) {
	fromCache := metav1.ListOptions{ResourceVersion: "0"} // At most a watch event behind.
	wanted := map[string]bool{}
	for _, list := range [][]corev1.Pod{s.pods, more} {
		for i := range list {
			if reachable(&list[i]) {
				wanted[plainUID(string(list[i].UID))] = true
			}
		}
	}
	inSlices, inEndpoints := map[string]bool{}, map[string]bool{}
	sliceList, err := s.kube.DiscoveryV1().EndpointSlices(s.namespace).List(ctx, fromCache)
	if err != nil {
		return false, err
	}
	for i := range sliceList.Items {
		maps.Copy(inSlices, readyInSlice(&sliceList.Items[i]))
	}
	endpointsList, err := s.kube.CoreV1().Endpoints(s.namespace).List(ctx, fromCache)
	if err != nil {
		return false, err
	}
	for i := range endpointsList.Items {
		maps.Copy(inEndpoints, readyInEndpoints(&endpointsList.Items[i]))
	}
	return maps.Equal(wanted, inSlices) && maps.Equal(wanted, inEndpoints), nil
}
