package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// role is a Role or a ClusterRole.
type role struct {
	namespace string // "" for a ClusterRole
	name      string
	labels    map[string]string
	rules     []rbacv1.PolicyRule
}

func roles(t *testing.T, objects []unstructured.Unstructured) []role {
	t.Helper()
	var found []role
	for _, object := range objects {
		if object.GetKind() != "Role" && object.GetKind() != "ClusterRole" {
			continue
		}
		var typed rbacv1.ClusterRole // A Role has no field that a ClusterRole has not.
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &typed, true); err != nil {
			t.Fatal(err)
		}
		if typed.AggregationRule != nil {
			t.Errorf("ClusterRole %s takes rules from others, which cannot be reviewed here", typed.Name)
		}
		found = append(found, role{typed.Namespace, typed.Name, typed.Labels, typed.Rules})
	}
	return found
}

func TestNoRoleGrantsMoreThanItNames(t *testing.T) {
	for _, r := range roles(t, append(render(t, "default"), render(t, "kubeadm-config")...)) {
		for _, rule := range r.rules {
			everything := slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.NonResourceURLs)
			if slices.ContainsFunc(everything, func(s string) bool { return strings.Contains(s, "*") }) {
				t.Errorf("%s has a wildcard: %+v", r.name, rule)
			}
			for _, verb := range []string{"escalate", "bind", "impersonate", "deletecollection"} {
				if slices.Contains(rule.Verbs, verb) {
					t.Errorf("%s may %s: %+v", r.name, verb, rule)
				}
			}
			for _, resource := range rule.Resources {
				if resource == "secrets" || strings.HasPrefix(resource, "pods/") || strings.HasPrefix(resource, "nodes/") ||
					strings.HasPrefix(resource, "serviceaccounts") {
					t.Errorf("%s may touch %s: %+v", r.name, resource, rule)
				}
			}
		}
	}
}

func TestWhoMayWriteWhat(t *testing.T) {
	got := map[string][]string{}
	for _, r := range roles(t, render(t, "default")) {
		for _, rule := range r.rules {
			if allowed := writes(r.namespace, rule); len(allowed) > 0 {
				got[r.name] = append(got[r.name], allowed...)
			}
		}
	}
	for _, list := range got {
		slices.Sort(list)
	}
	want := map[string][]string{
		agent: {"patch endpointsyncnodes/status", "update endpointsyncnodes/status"},
		controller: {
			"create configmaps in endpoint-sync-system",
			"create endpointsyncnodes",
			"create events in default",
			"create events in endpoint-sync-system",
			"create events in endpoint-sync-system",
			"create leases in endpoint-sync-system",
			"create subjectaccessreviews",
			"create tokenreviews",
			"delete endpointsyncnodes",
			"patch endpointsyncnodes",
			"patch endpointsyncpolicies/status",
			"patch events in default",
			"patch events in endpoint-sync-system",
			"patch events in endpoint-sync-system",
			"patch leases [endpoint-sync-controller endpoint-sync-rollout] in endpoint-sync-system",
			"update configmaps [endpoint-sync-episodes] in endpoint-sync-system",
			"update endpointsyncnodes",
			"update endpointsyncpolicies/status",
			"update leases [endpoint-sync-controller endpoint-sync-rollout] in endpoint-sync-system",
		},
		"endpoint-sync-admin": {
			"create endpointsyncpolicies", "delete endpointsyncpolicies", "patch endpointsyncpolicies", "update endpointsyncpolicies",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// writes lists what a rule allows besides reading.
func writes(namespace string, rule rbacv1.PolicyRule) []string {
	var list []string
	for _, verb := range rule.Verbs {
		if slices.Contains([]string{"get", "list", "watch"}, verb) {
			continue
		}
		for _, what := range slices.Concat(rule.Resources, rule.NonResourceURLs) {
			if len(rule.ResourceNames) > 0 {
				what += " [" + strings.Join(rule.ResourceNames, " ") + "]"
			}
			if namespace != "" {
				what += " in " + namespace
			}
			list = append(list, verb+" "+what)
		}
	}
	return list
}

func TestPersistenceIsGrantedApart(t *testing.T) {
	objects := render(t, "kubeadm-config")
	if len(objects) != 2 {
		t.Errorf("%d objects, want a Role and its RoleBinding", len(objects))
	}
	const name = "endpoint-sync-kubeadm-config"
	want := []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"kubeadm-config"}, Verbs: []string{"get", "update"},
	}}
	granted := find[rbacv1.Role](t, objects, "Role", name)
	if diff := cmp.Diff(want, granted.Rules); diff != "" || granted.Namespace != "kube-system" {
		t.Errorf("rules in namespace %s (-want +got):\n%s", granted.Namespace, diff)
	}
	binding := find[rbacv1.RoleBinding](t, objects, "RoleBinding", name)
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Name: controller, Namespace: namespace}}
	if diff := cmp.Diff(subjects, binding.Subjects); diff != "" || binding.Namespace != "kube-system" || binding.RoleRef.Name != name {
		t.Errorf("%s in namespace %s is bound to (-want +got):\n%s", binding.RoleRef.Name, binding.Namespace, diff)
	}
	for _, r := range roles(t, render(t, "default")) {
		for _, rule := range r.rules {
			if r.namespace != namespace && slices.Contains(rule.Resources, "configmaps") {
				t.Errorf("config/default grants %s in %q: %+v", r.name, r.namespace, rule)
			}
		}
	}
}

func TestOnlyOurServiceAccountsAreBound(t *testing.T) {
	for _, object := range render(t, "default") {
		if object.GetKind() != "RoleBinding" && object.GetKind() != "ClusterRoleBinding" {
			continue
		}
		var binding rbacv1.ClusterRoleBinding // A RoleBinding has the same fields.
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &binding, true); err != nil {
			t.Fatal(err)
		}
		want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: binding.RoleRef.Name, Namespace: namespace}}
		if diff := cmp.Diff(want, binding.Subjects); diff != "" {
			t.Errorf("%s %s/%s binds (-want +got):\n%s", object.GetKind(), binding.Namespace, binding.Name, diff)
		}
	}
}

func TestTenantsDoNotGetToWritePolicies(t *testing.T) {
	for _, r := range roles(t, render(t, "default")) {
		for label := range r.labels {
			if strings.HasPrefix(label, "rbac.authorization.k8s.io/aggregate-to-") && r.name != "endpoint-sync-viewer" {
				t.Errorf("%s is part of another role: %s", r.name, label)
			}
		}
	}
}
