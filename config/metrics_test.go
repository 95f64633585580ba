package config_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	metricsService = "endpoint-sync-controller-metrics"
	metricsReader  = "endpoint-sync-metrics-reader"
)

func TestTheServiceReachesTheMetricsOfEveryReplica(t *testing.T) {
	objects := render(t, "default")
	service := find[corev1.Service](t, objects, "Service", metricsService)
	deployment := find[appsv1.Deployment](t, objects, "Deployment", controller)
	if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(deployment.Spec.Template.Labels)) {
		t.Errorf("selector %v misses the controller's Pods, labelled %v", service.Spec.Selector, deployment.Spec.Template.Labels)
	}
	if service.Namespace != deployment.Namespace || service.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("Service in %s with cluster IP %q, want a headless one in %s", service.Namespace, service.Spec.ClusterIP, deployment.Namespace)
	}
	container := onlyContainer(t, deployment.Spec.Template.Spec)
	if len(service.Spec.Ports) != 1 {
		t.Fatalf("ports = %+v, want one", service.Spec.Ports)
	}
	port := service.Spec.Ports[0]
	served := slices.IndexFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal })
	if served < 0 || container.Ports[served].ContainerPort != port.Port {
		t.Errorf("port %+v is none of the container's: %+v", port, container.Ports)
	}
	if !slices.Contains(container.Args, "--metrics-bind-address=:8443") || port.Port != 8443 {
		t.Errorf("the Service's port is %d and the arguments are %q", port.Port, container.Args)
	}
}

func TestTheReaderMayReadMetricsAndNothingElse(t *testing.T) {
	reader := find[rbacv1.ClusterRole](t, render(t, "default"), "ClusterRole", metricsReader)
	want := []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}}
	if diff := cmp.Diff(want, reader.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	binding := find[rbacv1.ClusterRoleBinding](t, render(t, "prometheus"), "ClusterRoleBinding", metricsReader)
	if binding.RoleRef.Kind != "ClusterRole" || binding.RoleRef.Name != reader.Name {
		t.Errorf("the sample binds %s %s, want ClusterRole %s", binding.RoleRef.Kind, binding.RoleRef.Name, reader.Name)
	}
}

// serviceMonitor is what we use of that CRD.
type serviceMonitor struct {
	Selector  map[string]string
	Port      string
	Scheme    string
	Path      string
	Namespace string
}

func TestTheServiceMonitorFindsTheService(t *testing.T) {
	service := find[corev1.Service](t, render(t, "default"), "Service", metricsService)
	monitor := findServiceMonitor(t)
	if !labels.SelectorFromSet(monitor.Selector).Matches(labels.Set(service.Labels)) || monitor.Namespace != service.Namespace {
		t.Errorf("%+v misses the Service in %s, labelled %v", monitor, service.Namespace, service.Labels)
	}
	if monitor.Port != service.Spec.Ports[0].Name || monitor.Scheme != "https" || monitor.Path != "/metrics" {
		t.Errorf("%+v, want https, /metrics and the Service's port %s", monitor, service.Spec.Ports[0].Name)
	}
}

func findServiceMonitor(t *testing.T) serviceMonitor {
	t.Helper()
	for _, object := range render(t, "prometheus") {
		if object.GetKind() != "ServiceMonitor" {
			continue
		}
		selector, _, err := unstructured.NestedStringMap(object.Object, "spec", "selector", "matchLabels")
		if err != nil {
			t.Fatal(err)
		}
		endpoints, _, err := unstructured.NestedSlice(object.Object, "spec", "endpoints")
		if err != nil || len(endpoints) != 1 {
			t.Fatalf("endpoints = %v (%v), want one", endpoints, err)
		}
		m := serviceMonitor{Selector: selector, Namespace: object.GetNamespace()}
		endpoint, _ := endpoints[0].(map[string]any)
		for field, into := range map[string]*string{"port": &m.Port, "scheme": &m.Scheme, "path": &m.Path} {
			*into, _ = endpoint[field].(string)
		}
		return m
	}
	t.Fatal("config/prometheus has no ServiceMonitor")
	return serviceMonitor{}
}

func TestTheControllerReadsOneLeaseOfKubeSystem(t *testing.T) {
	var got []rbacv1.PolicyRule
	for _, r := range roles(t, render(t, "default")) {
		if r.name == controller && r.namespace == "kube-system" {
			got = append(got, r.rules...)
		}
	}
	want := []rbacv1.PolicyRule{{
		APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"},
		ResourceNames: []string{"kube-controller-manager"}, Verbs: []string{"get"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the controller's rules in kube-system (-want +got):\n%s", diff)
	}
}
