package intruder

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

// Where things are.
const (
	core      = "/api/v1"
	system    = core + "/namespaces/" + metav1.NamespaceSystem
	home      = core + "/namespaces/" + operator.Namespace
	apps      = "/apis/apps/v1/namespaces/" + operator.Namespace
	nodes     = "/apis/endpointsync.io/v1alpha1/endpointsyncnodes"
	rbac      = "/apis/rbac.authorization.k8s.io/v1"
	admitting = "/apis/admissionregistration.k8s.io/v1"
	leases    = "/apis/coordination.k8s.io/v1/namespaces/"
	reviews   = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	signing   = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
)

// nodesKey is the key of EndpointSyncNodes in what is served.
const nodesKey = "endpointsync.io/endpointsyncnodes"

// podNameExtra is where a token's user information names the Pod that it is bound to.
const podNameExtra = "authentication.kubernetes.io/pod-name"

// known are the calls that an attacker would try by name: the objects that exist, and bodies that would be worth it.
func (r *raid) known() []call {
	return slices.Concat(r.reports(), r.instructions(), tokens(), r.pods(), r.machines(), secrets(), permissions(), defences(),
		takeOver(), r.disguises())
}

// reports are every agent's, and that of the isolation self-test. What is no dry run changes nothing.
func (r *raid) reports() []call {
	var calls []call
	for _, name := range append(slices.Clone(r.Others), r.Node) {
		status := nodes + "/" + name + "/status"
		full, forged := r.served[nodesKey].object("", name), parsed(`{"status":{"phase":"Idle","healthy":false}}`)
		forgedFull := maps.Clone(full)
		layOver(forgedFull, forged)
		calls = append(calls,
			called("forge it", call{method: http.MethodPut, path: with(status, dryRun), body: r.present(status, forgedFull, forged)}),
			called("forge it", patch(merge, with(status, dryRun), forged)),
			called("forge it", patch(jsonPatch, with(status, dryRun), text(`[{"op":"add","path":"/status","value":{"phase":"Idle"}}]`))),
			called("forge it", patch(apply, with(status, forcibly, dryRun), forgedFull)),
			called("as it is", call{method: http.MethodPut, path: status, body: r.present(status, full, nil)}),
			called("as it is", patch(merge, status, text("{}"))),
			called("as it is", patch(jsonPatch, status, text("[]"))),
		)
	}
	return calls
}

// instructions are for the controller alone to write, those of the agent's own node, too.
func (r *raid) instructions() []call {
	own := nodes + "/" + r.Node
	full, instruct := r.served[nodesKey].object("", r.Node), parsed(`{"spec":{"revision":1000000,"action":"Restore"}}`)
	layOver(full, instruct)
	return []call{
		called("restore", call{method: http.MethodPut, path: with(own, dryRun), body: r.present(own, full, instruct)}),
		called("restore", patch(merge, with(own, dryRun), instruct)),
		called("restore", patch(jsonPatch, with(own, dryRun), text(`[{"op":"add","path":"/spec/revision","value":1000000}]`))),
		called("restore", patch(apply, with(own, forcibly, dryRun), full)),
		called("a finalizer", patch(merge, with(own, dryRun), text(`{"metadata":{"finalizers":["endpointsync.io/%s"]}}`, marker))),
		{method: http.MethodDelete, path: with(own, dryRun)},
		called("again", post(with(nodes, dryRun), full)),
		called("a new one", patch(apply, with(nodes+"/"+marker+"-new", forcibly, dryRun), r.served[nodesKey].fresh(""))),
	}
}

// tokens of whoever has more rights, and longer ones of the agent's own.
func tokens() []call {
	var calls []call
	for _, account := range []string{
		home + "/serviceaccounts/" + operator.Agent, home + "/serviceaccounts/" + operator.Controller, home + "/serviceaccounts/default",
		system + "/serviceaccounts/default", system + "/serviceaccounts/clusterrole-aggregation-controller",
		system + "/serviceaccounts/generic-garbage-collector", system + "/serviceaccounts/namespace-controller",
	} {
		calls = append(calls, post(account+"/token", text(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":600}}`)))
	}
	return calls
}

// pods that run with more rights, or can be made to.
func (r *raid) pods() []call {
	mine := home + "/pods/" + operator.Agent
	if bound := r.me.Extra[podNameExtra]; len(bound) == 1 {
		mine = home + "/pods/" + bound[0]
	}
	var calls []call
	for _, pod := range []string{
		mine, system + "/pods/kube-controller-manager-" + r.Node, system + "/pods/kube-apiserver-" + r.Node, system + "/pods/etcd-" + r.Node,
	} {
		exec := "command=true&stdout=true"
		calls = append(calls,
			call{method: http.MethodGet, path: pod},
			call{method: http.MethodGet, path: pod + "/log?tailLines=1"},
			call{method: http.MethodGet, path: with(pod+"/exec", exec)},
			call{method: http.MethodPost, path: with(pod+"/exec", exec)},
			call{method: http.MethodPost, path: pod + "/attach?stdout=true"},
			call{method: http.MethodPost, path: pod + "/portforward?ports=10257"},
			call{method: http.MethodGet, path: pod + "/proxy/metrics"},
			patch(strategic, with(pod+"/ephemeralcontainers", dryRun), text(`{"spec":{"ephemeralContainers":[{"name":"c","image":"c"}]}}`)),
			post(with(pod+"/eviction", dryRun), text(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"pod"}}`)),
			call{method: http.MethodDelete, path: with(pod, dryRun, "gracePeriodSeconds=0")},
		)
	}
	return append(calls,
		called("with the host in hand", post(with(home+"/pods", dryRun), text(`{
			"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q},
			"spec": {
				"nodeName": %q, "serviceAccountName": %q, "hostPID": true, "hostNetwork": true,
				"containers": [{
					"name": "c", "image": "c", "securityContext": {"privileged": true}, "volumeMounts": [{"name": "host", "mountPath": "/host"}]
				}],
				"volumes": [{"name": "host", "hostPath": {"path": "/"}}]
			}
		}`, marker, r.Others[0], operator.Controller))),
		post(with(home+"/pods/"+marker+"/binding", dryRun), text(
			`{"apiVersion":"v1","kind":"Binding","metadata":{"name":%q},"target":{"kind":"Node","name":%q}}`, marker, r.Others[0])),
	)
}

// machines are the nodes and their kubelets.
func (r *raid) machines() []call {
	var calls []call
	for _, name := range []string{r.Node, r.Others[0]} {
		node := core + "/nodes/" + name
		calls = append(calls,
			call{method: http.MethodGet, path: node},
			call{method: http.MethodGet, path: node + "/proxy/pods"},
			call{method: http.MethodGet, path: node + "/proxy/configz"},
			call{method: http.MethodGet, path: node + "/proxy/logs/"},
			call{method: http.MethodPost, path: node + "/proxy/run/kube-system/etcd-" + name + "/etcd?cmd=true"},
			called("no control plane", patch(strategic, with(node, dryRun), text(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":null}}}`))),
			called("cordon", patch(strategic, with(node, dryRun), text(`{"spec":{"unschedulable":true}}`))),
			patch(strategic, with(node+"/status", dryRun), text(`{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`)),
			call{method: http.MethodDelete, path: with(node, dryRun)},
			call{method: http.MethodGet, path: leases + "kube-node-lease/leases/" + name},
			patch(merge, with(leases+"kube-node-lease/leases/"+name, dryRun), text(`{"spec":{"renewTime":null}}`)),
		)
	}
	return calls
}

// secrets, and what the control plane's own configuration lies in.
func secrets() []call {
	calls := []call{
		called("the controller's token", post(with(home+"/secrets", dryRun), text(`{
			"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
			"metadata": {"name": %q, "annotations": {"kubernetes.io/service-account.name": %q}}
		}`, marker, operator.Controller))),
		{method: http.MethodGet, path: system + "/secrets?fieldSelector=type%3Dbootstrap.kubernetes.io/token"},
		{method: http.MethodGet, path: core + "/watch/secrets?timeoutSeconds=1"},
		called("a client certificate", post(with(signing, dryRun), text(`{
			"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": %q},
			"spec": {"request": "", "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}
		}`, marker))),
	}
	for _, path := range []string{
		system + "/secrets/kubeadm-certs", system + "/configmaps/kubeadm-config", system + "/configmaps/extension-apiserver-authentication",
		system + "/configmaps/kubelet-config", system + "/configmaps/kube-proxy", home + "/configmaps/endpoint-sync-episodes",
		home + "/configmaps/kube-root-ca.crt", core + "/namespaces/kube-public/configmaps/cluster-info",
		leases + metav1.NamespaceSystem + "/leases/kube-controller-manager", leases + metav1.NamespaceSystem + "/leases/kube-scheduler",
		leases + operator.Namespace + "/leases/endpoint-sync-controller", leases + operator.Namespace + "/leases/endpoint-sync-rollout",
	} {
		calls = append(calls,
			call{method: http.MethodGet, path: path},
			called("take it over", patch(merge, with(path, dryRun), text(`{"data":{"ClusterConfiguration":""},"spec":{"holderIdentity":%q}}`, marker))),
			call{method: http.MethodPut, path: with(path, dryRun), body: fixed(text("{}"))},
			call{method: http.MethodDelete, path: with(path, dryRun)},
		)
	}
	return calls
}

// permissions to be given to oneself: escalate and bind.
func permissions() []call {
	me := fmt.Sprintf(`[{"kind":"ServiceAccount","name":%q,"namespace":%q}]`, operator.Agent, operator.Namespace)
	bind := func(kind, role string) json.RawMessage {
		return text(`{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": %q, "metadata": {"name": %q}, "subjects": %s,
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": %q}
		}`, kind, marker, me, role)
	}
	var calls []call
	for _, role := range []string{"cluster-admin", "admin", "endpoint-sync-admin", operator.Controller} {
		calls = append(calls,
			called("bind "+role, post(with(rbac+"/clusterrolebindings", dryRun), bind("ClusterRoleBinding", role))),
			called("bind "+role, post(with(rbac+"/namespaces/kube-system/rolebindings", dryRun), bind("RoleBinding", role))),
		)
	}
	for _, role := range []string{
		rbac + "/clusterroles/" + operator.Agent, rbac + "/clusterroles/endpoint-sync-viewer", rbac + "/clusterroles/view",
		rbac + "/clusterroles/system:discovery", rbac + "/namespaces/kube-system/roles/" + operator.Agent,
	} {
		calls = append(calls,
			called("everything", patch(merge, with(role, dryRun), text(`{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`))),
			call{method: http.MethodDelete, path: with(role, dryRun)},
		)
	}
	for _, binding := range []string{
		rbac + "/clusterrolebindings/cluster-admin", rbac + "/clusterrolebindings/system:basic-user", rbac + "/clusterrolebindings/" + operator.Controller,
		rbac + "/namespaces/kube-system/rolebindings/" + operator.Agent, rbac + "/namespaces/endpoint-sync-system/rolebindings/" + operator.Controller,
	} {
		calls = append(calls,
			called("to me", patch(merge, with(binding, dryRun), text(`{"subjects":%s}`, me))),
			call{method: http.MethodDelete, path: with(binding, dryRun)},
		)
	}
	return calls
}

// defences are what confines the agent, and the kinds that it reports in.
func defences() []call {
	var calls []call
	for _, policy := range []string{"endpoint-sync-agent-own-node-only", "endpoint-sync-node-spec-controller-only"} {
		definition, binding := admitting+"/validatingadmissionpolicies/"+policy, admitting+"/validatingadmissionpolicybindings/"+policy
		calls = append(calls,
			call{method: http.MethodDelete, path: with(definition, dryRun)},
			call{method: http.MethodDelete, path: with(binding, dryRun)},
			patch(merge, with(definition, dryRun), text(`{"spec":{"failurePolicy":"Ignore"}}`)),
			patch(jsonPatch, with(definition, dryRun), text(`[{"op":"replace","path":"/spec/validations/0/expression","value":"true"}]`)),
			patch(merge, with(binding, dryRun), text(`{"spec":{"validationActions":["Audit"]}}`)),
		)
	}
	for _, kind := range []string{"endpointsyncnodes", "endpointsyncpolicies"} {
		definition := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + kind + ".endpointsync.io"
		calls = append(calls,
			call{method: http.MethodDelete, path: with(definition, dryRun)},
			patch(merge, with(definition, dryRun), text(`{"spec":{"preserveUnknownFields":true}}`)),
			patch(merge, with(definition+"/status", dryRun), text(`{"status":{"storedVersions":[]}}`)),
		)
	}
	return calls
}

// takeOver are ways to stand in the path of everybody's requests, or to change the operator itself.
func takeOver() []call {
	hook := func(kind string) json.RawMessage {
		return text(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":%q,"metadata":{"name":%q},"webhooks":[]}`, kind, marker)
	}
	image := text(`{"spec":{"template":{"spec":{"containers":[{"name":"agent","image":"c"}]}}}}`)
	return []call{
		called("a hook", post(with(admitting+"/mutatingwebhookconfigurations", dryRun), hook("MutatingWebhookConfiguration"))),
		called("a hook", post(with(admitting+"/validatingwebhookconfigurations", dryRun), hook("ValidatingWebhookConfiguration"))),
		patch(merge, with("/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.endpointsync.io", dryRun), text(`{"spec":{"insecureSkipTLSVerify":true}}`)),
		{method: http.MethodDelete, path: with("/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.endpointsync.io", dryRun)},
		{method: http.MethodDelete, path: with(home, dryRun)},
		{method: http.MethodDelete, path: with(system, dryRun)},
		patch(merge, with(home, dryRun), text(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":null}}}`)),
		patch(strategic, with(apps+"/daemonsets/"+operator.Agent, dryRun), image),
		patch(strategic, with(apps+"/deployments/"+operator.Controller, dryRun), image),
		patch(merge, with(apps+"/deployments/"+operator.Controller+"/scale", dryRun), text(`{"spec":{"replicas":0}}`)),
		{method: http.MethodDelete, path: with(apps+"/daemonsets/"+operator.Agent, dryRun)},
		{method: http.MethodDelete, path: with(apps+"/deployments/"+operator.Controller, dryRun)},
	}
}

// disguises ask to be somebody else. What they ask for then is what everybody may have: who they are.
func (r *raid) disguises() []call {
	var calls []call
	for _, disguise := range []http.Header{
		{authenticationv1.ImpersonateUserHeader: {"system:admin"}},
		{authenticationv1.ImpersonateUserHeader: {marker}},
		{authenticationv1.ImpersonateUserHeader: {"system:kube-controller-manager"}},
		{authenticationv1.ImpersonateUserHeader: {"system:anonymous"}},
		{authenticationv1.ImpersonateUserHeader: {"system:node:" + r.Node}},
		{authenticationv1.ImpersonateUserHeader: {"system:node:" + r.Others[0]}},
		{authenticationv1.ImpersonateUserHeader: {r.me.Username}},
		{authenticationv1.ImpersonateUserHeader: {"system:serviceaccount:" + operator.Namespace + ":" + operator.Controller}},
		{authenticationv1.ImpersonateUserHeader: {marker}, authenticationv1.ImpersonateGroupHeader: {"system:masters"}},
		{authenticationv1.ImpersonateUserHeader: {r.me.Username}, authenticationv1.ImpersonateGroupHeader: {"endpoint-sync-breakglass"}},
		{authenticationv1.ImpersonateUserHeader: {r.me.Username}, authenticationv1.ImpersonateUIDHeader: {r.me.UID}},
		{authenticationv1.ImpersonateUserHeader: {r.me.Username}, authenticationv1.ImpersonateUserExtraHeaderPrefix + "Authentication.kubernetes.io%2fnode-Name": {r.Others[0]}},
	} {
		c := whoami()
		c.as = disguise
		calls = append(calls, c)
	}
	return calls
}

// whoami asks the API server who it takes the caller for.
func whoami() call {
	return post(reviews, text(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`))
}
