// Package story is the incident as an application team meets it: a Deployment of several replicas behind a Service, a
// client that keeps opening connections to it, and a rollout of new Pods.
//
// It makes and counts; it judges nothing, and knows nothing of the operator.
package story

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
)

const (
	// Replicas is how many Pods share the Service.
	Replicas = 6

	// appLabel is the Pods' label that the Service selects by.
	appLabel = "app.kubernetes.io/name"
	// serverPort is where the server listens by default.
	serverPort = 8080
	// servicePort is where the Service listens.
	servicePort = 80
	// graceSeconds is terminationGracePeriodSeconds where nobody says; the server needs none of it.
	graceSeconds = 30
	// probePeriodSeconds is as often as the kubelet probes at most, so that new Pods count soon.
	probePeriodSeconds = 1
	// serverCPU is what a server asks for. Pods that ask for nothing weigh 2 of 1,024 and stand still for seconds beside a
	// control plane that is short of processors, which is no endpoint's fault.
	serverCPU = "100m"
	// restartedAt is the annotation by which kubectl rollout restart makes a new revision.
	restartedAt = "kubectl.kubernetes.io/restartedAt"
	// rolloutPoll is how often a rollout is looked at.
	rolloutPoll = 250 * time.Millisecond
)

// App is what the story is about. Its namespace exists.
type App struct {
	Namespace, Name string

	// Image holds the server as its entrypoint, and Args are added to its command.
	Image string
	Args  []string

	// PreStopSeconds is lifecycle.preStop.sleep; 0 means none. The Pods' grace period grows by it.
	PreStopSeconds int64
}

func (a App) labels() map[string]string { return map[string]string{appLabel: a.Name} }

// Deployment returns the app's Pods: spread evenly over the control-plane nodes, each revision for itself.
func (a App) Deployment() *appsv1.Deployment {
	selector := &metav1.LabelSelector{MatchLabels: a.labels()}
	container := corev1.Container{
		Name: "server", Image: a.Image, Args: a.Args, ImagePullPolicy: corev1.PullIfNotPresent,
		Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: serverPort}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(serverCPU)}},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/healthz", Port: intstr.FromInt32(serverPort),
			}},
			PeriodSeconds: probePeriodSeconds,
		},
	}
	if a.PreStopSeconds > 0 {
		container.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Sleep: &corev1.SleepAction{Seconds: a.PreStopSeconds},
		}}
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name, Labels: a.labels()},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(Replicas)), Selector: selector,
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: a.labels()},
				Spec: corev1.PodSpec{
					Containers:                    []corev1.Container{container},
					TerminationGracePeriodSeconds: new(graceSeconds + a.PreStopSeconds),
					AutomountServiceAccountToken:  new(false),
					NodeSelector:                  map[string]string{controlplane.ControlPlaneLabel: ""},
					Tolerations:                   []corev1.Toleration{{Key: controlplane.ControlPlaneLabel, Operator: corev1.TolerationOpExists}},
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
						LabelSelector: selector, MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey},
					}},
				},
			},
		},
	}
}

// Service returns the ClusterIP in front of the app's Pods.
func (a App) Service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name, Labels: a.labels()},
		Spec: corev1.ServiceSpec{
			Selector: a.labels(),
			Ports:    []corev1.ServicePort{{Name: "http", Port: servicePort, TargetPort: intstr.FromInt32(serverPort)}},
		},
	}
}

// Deploy makes the app, or changes it to what it is now, and returns the address of its Service. It does not wait for
// Pods; WaitRolledOut does.
func (a App) Deploy(ctx context.Context, client kubernetes.Interface) (string, error) {
	services := client.CoreV1().Services(a.Namespace)
	service, err := services.Create(ctx, a.Service(), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		service, err = services.Get(ctx, a.Name, metav1.GetOptions{})
	}
	if err != nil {
		return "", fmt.Errorf("make Service %s/%s: %w", a.Namespace, a.Name, err)
	}
	deployments := client.AppsV1().Deployments(a.Namespace)
	_, err = deployments.Create(ctx, a.Deployment(), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			present, getErr := deployments.Get(ctx, a.Name, metav1.GetOptions{})
			if getErr != nil {
				return getErr
			}
			present.Spec = a.Deployment().Spec
			_, updateErr := deployments.Update(ctx, present, metav1.UpdateOptions{})
			return updateErr
		})
	}
	if err != nil {
		return "", fmt.Errorf("make Deployment %s/%s: %w", a.Namespace, a.Name, err)
	}
	return net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(servicePort)), nil
}

// RolloutRestart makes the Deployment replace its Pods, as kubectl rollout restart does. Two in the same second are one.
func (a App) RolloutRestart(ctx context.Context, client kubernetes.Interface, at time.Time) error {
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`, restartedAt, at.Format(time.RFC3339))
	_, err := client.AppsV1().Deployments(a.Namespace).Patch(ctx, a.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{FieldManager: "kubectl-rollout"})
	if err != nil {
		return fmt.Errorf("restart Deployment %s/%s: %w", a.Namespace, a.Name, err)
	}
	return nil
}

// WaitRolledOut returns when the Deployment has replaced its Pods, as kubectl rollout status does, and the old ones are
// gone, too. With ctx done, the error says how far it was.
func (a App) WaitRolledOut(ctx context.Context, client kubernetes.Interface) error {
	last := errors.New("not looked at")
	err := wait.PollUntilContextCancel(ctx, rolloutPoll, true, func(ctx context.Context) (bool, error) {
		last = a.rolledOut(ctx, client)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the rollout of Deployment %s/%s: %w; last: %w", a.Namespace, a.Name, context.Cause(ctx), last)
	}
	return nil
}

// rolledOut says what is missing. Pods that end are counted by themselves: the Deployment may not tell of them.
func (a App) rolledOut(ctx context.Context, client kubernetes.Interface) error {
	d, err := client.AppsV1().Deployments(a.Namespace).Get(ctx, a.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	want, s := *d.Spec.Replicas, d.Status
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas < want || s.Replicas > s.UpdatedReplicas || s.AvailableReplicas < s.UpdatedReplicas {
		return fmt.Errorf("generation %d of %d, %d of %d replicas new, %d in all, %d available",
			s.ObservedGeneration, d.Generation, s.UpdatedReplicas, want, s.Replicas, s.AvailableReplicas)
	}
	pods, err := client.CoreV1().Pods(a.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector), ResourceVersion: "0",
	})
	if err != nil {
		return err
	}
	if len(pods.Items) != int(want) {
		return fmt.Errorf("%d Pods, want %d", len(pods.Items), want)
	}
	return nil
}
