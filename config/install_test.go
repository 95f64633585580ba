package config_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	_ "github.com/endpointsync/endpoint-sync-operator/internal/cli" // A change of the program outdates cached results.
)

func TestInstallationIsComplete(t *testing.T) {
	var got []string
	for _, object := range render(t, "default") {
		got = append(got, strings.Join([]string{object.GetKind(), object.GetNamespace(), object.GetName()}, "/"))
	}
	want := []string{
		"ClusterRole//endpoint-sync-admin",
		"ClusterRole//endpoint-sync-agent",
		"ClusterRole//endpoint-sync-controller",
		"ClusterRole//endpoint-sync-metrics-reader",
		"ClusterRole//endpoint-sync-viewer",
		"ClusterRoleBinding//endpoint-sync-agent",
		"ClusterRoleBinding//endpoint-sync-controller",
		"CustomResourceDefinition//endpointsyncnodes.endpointsync.io",
		"CustomResourceDefinition//endpointsyncpolicies.endpointsync.io",
		"DaemonSet/endpoint-sync-system/endpoint-sync-agent",
		"Deployment/endpoint-sync-system/endpoint-sync-controller",
		"Namespace//endpoint-sync-system",
		"Role/default/endpoint-sync-controller",
		"Role/endpoint-sync-system/endpoint-sync-controller",
		"Role/kube-system/endpoint-sync-agent",
		"Role/kube-system/endpoint-sync-controller",
		"RoleBinding/default/endpoint-sync-controller",
		"RoleBinding/endpoint-sync-system/endpoint-sync-controller",
		"RoleBinding/kube-system/endpoint-sync-agent",
		"RoleBinding/kube-system/endpoint-sync-controller",
		"Service/endpoint-sync-system/endpoint-sync-controller-metrics",
		"ServiceAccount/endpoint-sync-system/endpoint-sync-agent",
		"ServiceAccount/endpoint-sync-system/endpoint-sync-controller",
		"ValidatingAdmissionPolicy//endpoint-sync-agent-own-node-only",
		"ValidatingAdmissionPolicy//endpoint-sync-node-spec-controller-only",
		"ValidatingAdmissionPolicyBinding//endpoint-sync-agent-own-node-only",
		"ValidatingAdmissionPolicyBinding//endpoint-sync-node-spec-controller-only",
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config/default renders (-want +got):\n%s", diff)
	}
}

func TestSamplesArePoliciesOfTheirMode(t *testing.T) {
	for _, mode := range []v1alpha1.Mode{v1alpha1.ModeObserve, v1alpha1.ModeRecommend, v1alpha1.ModeEnforce} {
		t.Run(string(mode), func(t *testing.T) {
			objects := render(t, "samples/"+strings.ToLower(string(mode)))
			if len(objects) != 1 {
				t.Fatalf("%d objects, want 1", len(objects))
			}
			var policy v1alpha1.EndpointSyncPolicy
			err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[0].Object, &policy, true)
			if err != nil {
				t.Fatal(err)
			}
			if policy.Spec.Mode != mode {
				t.Errorf("mode = %q, want %q", policy.Spec.Mode, mode)
			}
		})
	}
}

func TestAgentPodIsConfined(t *testing.T) {
	pod := find[appsv1.DaemonSet](t, render(t, "default"), "DaemonSet", agent).Spec.Template.Spec
	container := onlyContainer(t, pod)
	requireConfined(t, pod, container)

	t.Run("two host directories and no other", func(t *testing.T) {
		got := map[string]string{}
		for _, volume := range pod.Volumes {
			if volume.HostPath != nil {
				got[volume.Name] = volume.HostPath.Path
			}
		}
		want := map[string]string{"manifests": "/etc/kubernetes/manifests", "state": "/var/lib/endpoint-sync-agent"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("hostPath volumes (-want +got):\n%s", diff)
		}
	})
	t.Run("mounts are where the arguments say", func(t *testing.T) {
		for _, mount := range container.VolumeMounts {
			switch {
			case mount.SubPath != "":
				t.Errorf("volume %s is mounted by subPath: a file mounted by itself cannot be renamed over", mount.Name)
			case mount.Name == "manifests" && !slices.Contains(container.Args, "--manifest-dir="+mount.MountPath),
				mount.Name == "state" && !slices.Contains(container.Args, "--state-dir="+mount.MountPath):
				t.Errorf("volume %s is mounted at %s, which no argument of %q names", mount.Name, mount.MountPath, container.Args)
			}
		}
	})
	t.Run("a short-lived token that is bound to the Pod", func(t *testing.T) {
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
			t.Error("automountServiceAccountToken is not false")
		}
		token := projectedToken(pod)
		if token == nil || token.ExpirationSeconds == nil || *token.ExpirationSeconds != 600 || token.Audience != "" {
			t.Errorf("projected token = %+v, want one of 600 s for the API server", token)
		}
	})
	t.Run("runs on every control-plane node and listens nowhere", func(t *testing.T) {
		if !pod.HostNetwork || pod.HostPID || pod.HostIPC {
			t.Errorf("hostNetwork, hostPID, hostIPC = %v, %v, %v, want true, false, false", pod.HostNetwork, pod.HostPID, pod.HostIPC)
		}
		if pod.PriorityClassName != "system-node-critical" || len(pod.Tolerations) == 0 || pod.Affinity == nil {
			t.Errorf("priority class %q, tolerations %v, affinity %v", pod.PriorityClassName, pod.Tolerations, pod.Affinity)
		}
		if len(container.Ports) > 0 {
			t.Errorf("ports = %v, want none", container.Ports)
		}
	})
	if user := container.SecurityContext.RunAsUser; user == nil || *user != 0 {
		t.Errorf("runAsUser = %v, want 0: the manifests are root's", user)
	}
}

func TestControllerPodMeetsTheRestrictedLevel(t *testing.T) {
	deployment := find[appsv1.Deployment](t, render(t, "default"), "Deployment", controller)
	pod := deployment.Spec.Template.Spec
	container := onlyContainer(t, pod)
	requireConfined(t, pod, container)
	if pod.SecurityContext.RunAsNonRoot == nil || !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.RunAsUser == nil ||
		*pod.SecurityContext.RunAsUser == 0 {
		t.Error("the Pod may run as root")
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.Volumes) > 0 {
		t.Errorf("the Pod shares something with its host: %+v", pod)
	}
	if deployment.Spec.Replicas == nil || *deployment.Spec.Replicas != 2 || !slices.Contains(container.Args, "--leader-elect") {
		t.Error("want two replicas with leader election")
	}
}

func TestTheProgramTakesTheArgumentsOfThePods(t *testing.T) {
	objects := render(t, "default")
	pods := map[string]corev1.PodSpec{
		controller: find[appsv1.Deployment](t, objects, "Deployment", controller).Spec.Template.Spec,
		agent:      find[appsv1.DaemonSet](t, objects, "DaemonSet", agent).Spec.Template.Spec,
	}
	for name, pod := range pods {
		t.Run(name, func(t *testing.T) {
			container := onlyContainer(t, pod)
			// Asked for help, the program parses all other arguments and does nothing.
			arguments := slices.Concat([]string{"run", "."}, container.Args, []string{"--help"})
			command := exec.CommandContext(t.Context(), "go", arguments...)
			command.Dir = ".."
			if out, err := command.CombinedOutput(); err != nil {
				t.Errorf("go %s: %v\n%s", strings.Join(arguments, " "), err, out)
			}
		})
	}
}

// requireConfined checks what both Pods have in common.
func requireConfined(t *testing.T, pod corev1.PodSpec, container corev1.Container) {
	t.Helper()
	if pod.SecurityContext == nil || pod.SecurityContext.SeccompProfile == nil ||
		pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Error("seccomp profile is not RuntimeDefault")
	}
	s := container.SecurityContext
	if s == nil || s.Capabilities == nil || s.AllowPrivilegeEscalation == nil || s.ReadOnlyRootFilesystem == nil {
		t.Fatalf("security context is incomplete: %+v", s)
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("capabilities = %+v, want all dropped", s.Capabilities)
	}
	if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.Privileged != nil && *s.Privileged {
		t.Errorf("security context = %+v, want no escalation, a read-only root and no privilege", s)
	}
	if container.ImagePullPolicy != corev1.PullIfNotPresent || strings.HasSuffix(container.Image, ":latest") {
		t.Errorf("image %s, pull policy %s", container.Image, container.ImagePullPolicy)
	}
	if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
		t.Errorf("resources = %+v, want a memory limit and a CPU request", container.Resources)
	}
}

func onlyContainer(t *testing.T, pod corev1.PodSpec) corev1.Container {
	t.Helper()
	if len(pod.Containers) != 1 || len(pod.InitContainers) > 0 {
		t.Fatalf("%d containers and %d init containers, want 1 and 0", len(pod.Containers), len(pod.InitContainers))
	}
	return pod.Containers[0]
}

func projectedToken(pod corev1.PodSpec) *corev1.ServiceAccountTokenProjection {
	for _, volume := range pod.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				return source.ServiceAccountToken
			}
		}
	}
	return nil
}
