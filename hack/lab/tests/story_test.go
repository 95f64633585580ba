package tests

import (
	"context"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/story"
)

// TestTheStorysObjectsAreAccepted puts them to a real API server; what their Pods do needs kubelets.
func TestTheStorysObjectsAreAccepted(t *testing.T) {
	c := environment.Shared(t)
	app := story.App{Namespace: metav1.NamespaceDefault, Name: "story", Image: "story:1", Args: []string{"--linger=1s"}}
	t.Cleanup(func() {
		atEnd(t, c.Client.AppsV1().Deployments(app.Namespace).Delete, app.Name)
		atEnd(t, func(ctx context.Context, name string, o metav1.DeleteOptions) error {
			return c.Client.CoreV1().Services(app.Namespace).Delete(ctx, name, o)
		}, app.Name)
	})
	for _, sleep := range []int64{0, 9} {
		app.PreStopSeconds = sleep
		address, err := app.Deploy(t.Context(), c.Client)
		if err != nil {
			t.Fatal(err)
		}
		if at, parseErr := netip.ParseAddrPort(address); parseErr != nil || at.Port() != 80 {
			t.Errorf("Deploy = %q (%v), want IP:80", address, parseErr)
		}
	}
	deployments := c.Client.AppsV1().Deployments(app.Namespace)
	before, err := deployments.Get(t.Context(), app.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err = app.RolloutRestart(t.Context(), c.Client, time.Now()); err != nil {
		t.Fatal(err)
	}
	after, err := deployments.Get(t.Context(), app.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if after.Generation != before.Generation+1 {
		t.Errorf("generation went from %d to %d, want one more", before.Generation, after.Generation)
	}
	if hook := after.Spec.Template.Spec.Containers[0].Lifecycle; hook == nil || hook.PreStop == nil || hook.PreStop.Sleep == nil || hook.PreStop.Sleep.Seconds != 9 {
		t.Errorf("lifecycle = %+v, want a preStop sleep of 9 s", hook)
	}
}
