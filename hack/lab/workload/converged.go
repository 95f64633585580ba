package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// convergencePoll is rare enough not to weigh on what is measured: one poll of 1,000 Services costs some 20 ms of CPU.
const convergencePoll = time.Second

// WaitConverged returns when all EndpointSlices and Endpoints say what the Pods do: ready Pods are published as ready and
// no other is. With ctx done, the error says how many were still wrong.
func (w *Workload) WaitConverged(ctx context.Context) error {
	for {
		wrong, err := w.wrong(ctx)
		if err == nil && wrong.slices+wrong.endpoints == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			err = errors.Join(context.Cause(ctx), err)
			return fmt.Errorf("wait until endpoints say what %d Pods do, %d wrong in EndpointSlices and %d in Endpoints: %w",
				len(w.pods), wrong.slices, wrong.endpoints, err)
		case <-w.clock.After(convergencePoll):
		}
	}
}

// wrongCounts is how many Pods are published as ready and should not be, or the other way round.
type wrongCounts struct{ slices, endpoints int }

// fromCache lets the API server answer from memory, at most a watch event behind.
var fromCache = metav1.ListOptions{ResourceVersion: "0"}

func (w *Workload) wrong(ctx context.Context) (wrongCounts, error) {
	client, namespace := w.clients[0], w.options.scope()
	sliceList, err := client.DiscoveryV1().EndpointSlices(namespace).List(ctx, fromCache)
	if err != nil {
		return wrongCounts{}, fmt.Errorf("list EndpointSlices: %w", err)
	}
	endpointsList, err := client.CoreV1().Endpoints(namespace).List(ctx, fromCache)
	if err != nil {
		return wrongCounts{}, fmt.Errorf("list Endpoints: %w", err)
	}
	inSlices, inEndpoints := readyInSlices(sliceList.Items), readyInEndpoints(endpointsList.Items)
	var out wrongCounts
	for _, pod := range w.pods {
		want := 0
		if ready(pod) {
			want = w.options.ServicesPerPod
		}
		if inSlices[pod.UID] != want {
			out.slices++
		}
		if inEndpoints[pod.UID] != want {
			out.endpoints++
		}
	}
	return out, nil
}

// readyInSlices is in how many slices each Pod is ready.
func readyInSlices(list []discoveryv1.EndpointSlice) map[types.UID]int {
	out := map[types.UID]int{}
	for _, slice := range list {
		for _, endpoint := range slice.Endpoints {
			if endpoint.TargetRef != nil && ptr.Deref(endpoint.Conditions.Ready, true) {
				out[endpoint.TargetRef.UID]++
			}
		}
	}
	return out
}

// readyInEndpoints is in how many Endpoints each Pod is ready.
func readyInEndpoints(list []corev1.Endpoints) map[types.UID]int {
	out := map[types.UID]int{}
	for _, endpoints := range list {
		for _, subset := range endpoints.Subsets {
			for _, address := range subset.Addresses {
				if address.TargetRef != nil {
					out[address.TargetRef.UID]++
				}
			}
		}
	}
	return out
}
