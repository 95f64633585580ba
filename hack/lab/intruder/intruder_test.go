package intruder

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

func TestCallsAreReadAsTheAPIServerReadsThem(t *testing.T) {
	tests := map[string]struct {
		method, path string
		want         attributes
	}{
		"a namespaced object": {
			http.MethodGet, "/api/v1/namespaces/a/pods/b", attributes{verb: "get", resource: "pods", namespace: "a", name: "b"},
		},
		"a subresource, and what lies behind it": {
			http.MethodPost, "/api/v1/nodes/a/proxy/run/b?cmd=c", attributes{verb: "create", resource: "nodes/proxy", name: "a"},
		},
		"a collection of a group": {
			http.MethodDelete, "/apis/g/v1/things", attributes{verb: "deletecollection", group: "g", resource: "things"},
		},
		"all namespaces": {
			http.MethodGet, "/apis/g/v1/things", attributes{verb: "list", group: "g", resource: "things"},
		},
		"a watch": {
			http.MethodGet, "/api/v1/namespaces/a/pods?watch=true", attributes{verb: "watch", resource: "pods", namespace: "a"},
		},
		"a namespace itself": {
			http.MethodPatch, "/api/v1/namespaces/a", attributes{verb: "patch", resource: "namespaces", name: "a"},
		},
		"a part of a namespace": {
			http.MethodPut, "/api/v1/namespaces/a/finalize", attributes{verb: "update", resource: "namespaces/finalize", name: "a"},
		},
		"no resource": {
			http.MethodGet, "/healthz/etcd", attributes{verb: "get", url: "/healthz/etcd"},
		},
		"a list of resources": {
			http.MethodGet, "/apis/g/v1", attributes{verb: "get", url: "/apis/g/v1"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := call{method: tt.method, path: tt.path}.attributes()
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(attributes{})); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

// agentsGrants are what an installation grants.
func agentsGrants(t *testing.T) []Grant {
	t.Helper()
	grants, err := ReadGrants(filepath.Join("..", "..", "..", "config", "rbac", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return grants
}

func TestWhatTheAgentIsMeantToHaveIsNoCrime(t *testing.T) {
	const own, other = nodes + "/mine/status", nodes + "/other/status"
	everything := Grant{PolicyRule: rbacv1.PolicyRule{
		APIGroups: []string{"endpointsync.io"}, Resources: []string{rbacv1.ResourceAll}, Verbs: []string{rbacv1.VerbAll},
	}}
	tests := map[string]struct {
		call   call
		change func(*Options)
		want   bool // that it is tried
	}{
		"its own report":                       {call: patch(merge, own, nil)},
		"another's":                            {call: patch(merge, other, nil), want: true},
		"its own, with a token of no Pod":      {patch(merge, own, nil), func(o *Options) { o.MayReport = false }, true},
		"reading all nodes":                    {call: call{method: http.MethodGet, path: nodes}},
		"reading the Lease of the leader":      {call: call{method: http.MethodGet, path: leases + "kube-system/leases/kube-controller-manager"}},
		"reading another Lease":                {call: call{method: http.MethodGet, path: leases + "kube-system/leases/kube-scheduler"}, want: true},
		"the same in another namespace":        {call: call{method: http.MethodGet, path: leases + "default/leases/kube-controller-manager"}, want: true},
		"metrics":                              {call: call{method: http.MethodGet, path: "/metrics"}},
		"posting to metrics":                   {call: call{method: http.MethodPost, path: "/metrics"}, want: true},
		"reading while dressed up":             {call: call{method: http.MethodGet, path: nodes, as: http.Header{"Impersonate-User": {"a"}}}, want: true},
		"what RBAC grants beyond reading":      {call{method: http.MethodDelete, path: nodes + "/mine"}, func(o *Options) { o.Grants = []Grant{everything} }, true},
		"what it grants and is not served":     {call{method: http.MethodDelete, path: own}, func(o *Options) { o.Grants = []Grant{everything} }, false},
		"a patch that nobody would understand": {call: patch(strategic, other, nil)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := raid{Options: Options{Node: "mine", MayReport: true, Grants: agentsGrants(t)}, served: map[string]resource{
				nodesKey: {}, nodesKey + "/status": {},
			}}
			for key, verbs := range map[string][]string{nodesKey: {"get", "delete"}, nodesKey + "/status": {"get", "patch", "update"}} {
				s := r.served[key]
				s.Verbs = verbs
				r.served[key] = s
			}
			if tt.change != nil {
				tt.change(&r.Options)
			}
			if got := len(r.forbidden([]call{tt.call, tt.call})); got > 1 || got == 1 != tt.want {
				t.Errorf("%s is tried %d times, want %v", tt.call, got, tt.want)
			}
		})
	}
}

func TestOnlyWhoShouldRefuseCounts(t *testing.T) {
	const kind = `{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"message":`
	tests := map[string]struct {
		status int
		body   string
		want   refuser
	}{
		"RBAC": {http.StatusForbidden, kind + `"pods is forbidden: User \"system:serviceaccount:` + operator.Namespace + `:a\" cannot list resource \"pods\" in API group \"\" at the cluster scope"}`, authorization},
		"our admission policy": {
			http.StatusForbidden, kind + `"endpointsyncnodes.endpointsync.io \"b\" is forbidden: ValidatingAdmissionPolicy 'endpoint-sync-agent-own-node-only' with binding 'x' denied request: no"}`, admission,
		},
		"a quota":           {http.StatusForbidden, kind + `"pods \"b\" is forbidden: exceeded quota: a"}`, noOne},
		"a bad token":       {http.StatusUnauthorized, "Unauthorized", authentication},
		"something between": {http.StatusForbidden, "<html>", noOne},
		"not found":         {http.StatusNotFound, kind + `"User \"a\" cannot be found"}`, noOne},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := refusedBy(tt.status, []byte(tt.body)); got != tt.want {
				t.Errorf("refusedBy(%d, %s) = %d, want %d", tt.status, tt.body, got, tt.want)
			}
		})
	}
}

func TestReadGrantsRefusesAFileWithoutRules(t *testing.T) {
	if grants, err := ReadGrants(filepath.Join("..", "..", "..", "config", "default", "kustomization.yaml")); err == nil {
		t.Errorf("ReadGrants = %v, want an error", grants)
	}
}
