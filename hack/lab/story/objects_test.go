package story

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestDeployChangesWhatIsThere(t *testing.T) {
	client := fake.NewClientset()
	app := App{Namespace: "story", Name: "web", Image: "server:1"}
	for _, sleep := range []int64{0, 7} {
		app.PreStopSeconds = sleep
		if _, err := app.Deploy(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		d, err := client.AppsV1().Deployments("story").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod := d.Spec.Template.Spec
		var got int64
		if hook := pod.Containers[0].Lifecycle; hook != nil {
			got = hook.PreStop.Sleep.Seconds
		}
		if got != sleep || *pod.TerminationGracePeriodSeconds != graceSeconds+sleep {
			t.Errorf("preStop sleep %d s within %d s, want %d within %d", got, *pod.TerminationGracePeriodSeconds, sleep, graceSeconds+sleep)
		}
	}
}

func TestRolloutRestartDoesWhatKubectlDoes(t *testing.T) {
	app := App{Namespace: "story", Name: "web", Image: "server:1"}
	client := fake.NewClientset(app.Deployment())
	at := time.Date(2027, time.March, 1, 12, 0, 0, 0, time.UTC)
	if err := app.RolloutRestart(t.Context(), client, at); err != nil {
		t.Fatal(err)
	}
	d, err := client.AppsV1().Deployments("story").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"]; got != "2027-03-01T12:00:00Z" {
		t.Errorf("restartedAt = %q", got)
	}
}

func TestRolledOut(t *testing.T) {
	done := appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: Replicas, UpdatedReplicas: Replicas, AvailableReplicas: Replicas}
	tests := map[string]struct {
		change func(*appsv1.DeploymentStatus)
		pods   int
		want   string // in the error; "": none
	}{
		"done":                       {func(*appsv1.DeploymentStatus) {}, Replicas, ""},
		"not looked at yet":          {func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = 1 }, Replicas, "generation 1 of 2"},
		"new ones are missing":       {func(s *appsv1.DeploymentStatus) { s.UpdatedReplicas = 4 }, Replicas, "4 of 6 replicas new"},
		"old ones are left":          {func(s *appsv1.DeploymentStatus) { s.Replicas = 7 }, Replicas, "7 in all"},
		"new ones are not available": {func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 5 }, Replicas, "5 available"},
		"old ones still end":         {func(*appsv1.DeploymentStatus) {}, Replicas + 2, "8 Pods"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			app := App{Namespace: "story", Name: "web", Image: "server:1"}
			deployment := app.Deployment()
			deployment.Generation, deployment.Status = 2, done
			tt.change(&deployment.Status)
			client := fake.NewClientset(deployment)
			for i := range tt.pods {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: string(rune('a' + i)), Namespace: "story", Labels: app.labels()}}
				if _, err := client.CoreV1().Pods("story").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			err := app.rolledOut(t.Context(), client)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("rolledOut() = %v, want %q", err, tt.want)
			}
		})
	}
}
