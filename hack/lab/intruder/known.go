package intruder

import (
	"maps"
	"net/http"
	"slices"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
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
		forged := document{"status": document{"phase": v1alpha1.PhaseIdle, "healthy": false}}
		full := r.served[nodesKey].object("", name)
		forgedFull := maps.Clone(full)
		layOver(forgedFull, forged)
		calls = append(calls,
			called("forge it", call{method: http.MethodPut, path: with(status, dryRun), body: r.present(status, forgedFull, forged)}),
			called("forge it", patch(merge, with(status, dryRun), forged)),
			called("forge it", patch(jsonPatch, with(status, dryRun), []any{document{"op": "add", "path": "/status", "value": forged["status"]}})),
			called("forge it", patch(apply, with(status, forcibly, dryRun), forgedFull)),
			called("as it is", call{method: http.MethodPut, path: status, body: r.present(status, full, nil)}),
			called("as it is", patch(merge, status, document{})),
			called("as it is", patch(jsonPatch, status, []any{})),
		)
	}
	return calls
}

// instructions are for the controller alone to write, those of the agent's own node, too.
func (r *raid) instructions() []call {
	own := nodes + "/" + r.Node
	instruct := document{"spec": document{"revision": 1 << 40, "action": "Restore"}}
	full := r.served[nodesKey].object("", r.Node)
	layOver(full, instruct)
	return []call{
		called("restore", call{method: http.MethodPut, path: with(own, dryRun), body: r.present(own, full, instruct)}),
		called("restore", patch(merge, with(own, dryRun), instruct)),
		called("restore", patch(jsonPatch, with(own, dryRun), []any{document{"op": "add", "path": "/spec/revision", "value": 1 << 40}})),
		called("restore", patch(apply, with(own, forcibly, dryRun), full)),
		called("a finalizer", patch(merge, with(own, dryRun), document{"metadata": document{"finalizers": []string{"endpointsync.io/" + marker}}})),
		{method: http.MethodDelete, path: with(own, dryRun)},
		called("again", call{method: http.MethodPost, path: with(nodes, dryRun), body: fixed(full)}),
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
		request := document{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": document{"expirationSeconds": 600}}
		calls = append(calls, call{method: http.MethodPost, path: account + "/token", body: fixed(request)})
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
			patch(strategic, with(pod+"/ephemeralcontainers", dryRun), document{
				"spec": document{"ephemeralContainers": []any{document{"name": marker, "image": marker}}},
			}),
			call{method: http.MethodPost, path: with(pod+"/eviction", dryRun), body: fixed(document{
				"apiVersion": "policy/v1", "kind": "Eviction", "metadata": document{"name": marker},
			})},
			call{method: http.MethodDelete, path: with(pod, dryRun, "gracePeriodSeconds=0")},
		)
	}
	root := document{
		"apiVersion": "v1", "kind": "Pod", "metadata": document{"name": marker, "namespace": operator.Namespace},
		"spec": document{
			"nodeName": r.Others[0], "hostPID": true, "hostNetwork": true, "serviceAccountName": operator.Controller,
			"containers": []any{document{
				"name": "c", "image": marker, "securityContext": document{"privileged": true},
				"volumeMounts": []any{document{"name": "host", "mountPath": "/host"}},
			}},
			"volumes": []any{document{"name": "host", "hostPath": document{"path": "/"}}},
		},
	}
	return append(calls,
		called("with the host in hand", call{method: http.MethodPost, path: with(home+"/pods", dryRun), body: fixed(root)}),
		call{method: http.MethodPost, path: with(home+"/pods/"+marker+"/binding", dryRun), body: fixed(document{
			"apiVersion": "v1", "kind": "Binding", "metadata": document{"name": marker}, "target": document{"kind": "Node", "name": r.Others[0]},
		})},
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
			called("no control plane", patch(strategic, with(node, dryRun), document{"metadata": document{"labels": document{"node-role.kubernetes.io/control-plane": nil}}})),
			called("cordon", patch(strategic, with(node, dryRun), document{"spec": document{"unschedulable": true}})),
			patch(strategic, with(node+"/status", dryRun), document{"status": document{"conditions": []any{document{"type": "Ready", "status": "False"}}}}),
			call{method: http.MethodDelete, path: with(node, dryRun)},
			call{method: http.MethodGet, path: leases + "kube-node-lease/leases/" + name},
			patch(merge, with(leases+"kube-node-lease/leases/"+name, dryRun), document{"spec": document{"renewTime": nil}}),
		)
	}
	return calls
}

// secrets, and what the control plane's own configuration lies in.
func secrets() []call {
	calls := []call{
		called("the controller's token", call{method: http.MethodPost, path: with(home+"/secrets", dryRun), body: fixed(document{
			"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
			"metadata": document{"name": marker, "annotations": document{"kubernetes.io/service-account.name": operator.Controller}},
		})}),
		{method: http.MethodGet, path: system + "/secrets?fieldSelector=type%3Dbootstrap.kubernetes.io/token"},
		{method: http.MethodGet, path: core + "/watch/secrets?timeoutSeconds=1"},
		called("a client certificate", call{method: http.MethodPost, path: with(signing, dryRun), body: fixed(document{
			"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": document{"name": marker},
			"spec": document{"request": "", "signerName": "kubernetes.io/kube-apiserver-client", "usages": []string{"client auth"}},
		})}),
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
			called("take it over", patch(merge, with(path, dryRun), document{
				"data": document{"ClusterConfiguration": ""}, "spec": document{"holderIdentity": marker},
			})),
			call{method: http.MethodPut, path: with(path, dryRun), body: fixed(document{"metadata": labelled()})},
			call{method: http.MethodDelete, path: with(path, dryRun)},
		)
	}
	return calls
}

// permissions to be given to oneself: escalate and bind.
func permissions() []call {
	me := []any{document{"kind": "ServiceAccount", "name": operator.Agent, "namespace": operator.Namespace}}
	everything := []any{document{"apiGroups": []string{"*"}, "resources": []string{"*"}, "verbs": []string{"*"}}}
	bind := func(kind, role string) document {
		return document{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": document{"name": marker},
			"roleRef":  document{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
			"subjects": me,
		}
	}
	var calls []call
	for _, role := range []string{"cluster-admin", "admin", "endpoint-sync-admin", operator.Controller} {
		calls = append(calls,
			called("bind "+role, call{method: http.MethodPost, path: with(rbac+"/clusterrolebindings", dryRun), body: fixed(bind("ClusterRoleBinding", role))}),
			called("bind "+role, call{method: http.MethodPost, path: with(rbac+"/namespaces/kube-system/rolebindings", dryRun), body: fixed(bind("RoleBinding", role))}),
		)
	}
	for _, role := range []string{
		rbac + "/clusterroles/" + operator.Agent, rbac + "/clusterroles/endpoint-sync-viewer", rbac + "/clusterroles/view",
		rbac + "/clusterroles/system:discovery", rbac + "/namespaces/kube-system/roles/" + operator.Agent,
	} {
		calls = append(calls,
			called("everything", patch(merge, with(role, dryRun), document{"rules": everything})),
			call{method: http.MethodDelete, path: with(role, dryRun)},
		)
	}
	for _, binding := range []string{
		rbac + "/clusterrolebindings/cluster-admin", rbac + "/clusterrolebindings/system:basic-user", rbac + "/clusterrolebindings/" + operator.Controller,
		rbac + "/namespaces/kube-system/rolebindings/" + operator.Agent, rbac + "/namespaces/endpoint-sync-system/rolebindings/" + operator.Controller,
	} {
		calls = append(calls,
			called("to me", patch(merge, with(binding, dryRun), document{"subjects": me})),
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
			patch(merge, with(definition, dryRun), document{"spec": document{"failurePolicy": "Ignore"}}),
			patch(jsonPatch, with(definition, dryRun), []any{document{"op": "replace", "path": "/spec/validations/0/expression", "value": "true"}}),
			patch(merge, with(binding, dryRun), document{"spec": document{"validationActions": []string{"Audit"}}}),
		)
	}
	for _, kind := range []string{"endpointsyncnodes", "endpointsyncpolicies"} {
		definition := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + kind + ".endpointsync.io"
		calls = append(calls,
			call{method: http.MethodDelete, path: with(definition, dryRun)},
			patch(merge, with(definition, dryRun), document{"spec": document{"preserveUnknownFields": true}}),
			patch(merge, with(definition+"/status", dryRun), document{"status": document{"storedVersions": []string{}}}),
		)
	}
	return calls
}

// takeOver are ways to stand in the path of everybody's requests, or to change the operator itself.
func takeOver() []call {
	hook := func(kind string) document {
		return document{"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": document{"name": marker}, "webhooks": []any{}}
	}
	image := document{"spec": document{"template": document{"spec": document{"containers": []any{document{"name": "agent", "image": marker}}}}}}
	return []call{
		called("a hook", call{method: http.MethodPost, path: with(admitting+"/mutatingwebhookconfigurations", dryRun), body: fixed(hook("MutatingWebhookConfiguration"))}),
		called("a hook", call{method: http.MethodPost, path: with(admitting+"/validatingwebhookconfigurations", dryRun), body: fixed(hook("ValidatingWebhookConfiguration"))}),
		patch(merge, with("/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.endpointsync.io", dryRun), document{"spec": document{"insecureSkipTLSVerify": true}}),
		{method: http.MethodDelete, path: with("/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.endpointsync.io", dryRun)},
		{method: http.MethodDelete, path: with(home, dryRun)},
		{method: http.MethodDelete, path: with(system, dryRun)},
		patch(merge, with(home, dryRun), document{"metadata": document{"labels": document{"pod-security.kubernetes.io/enforce": nil}}}),
		patch(strategic, with(apps+"/daemonsets/"+operator.Agent, dryRun), image),
		patch(strategic, with(apps+"/deployments/"+operator.Controller, dryRun), image),
		patch(merge, with(apps+"/deployments/"+operator.Controller+"/scale", dryRun), document{"spec": document{"replicas": 0}}),
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
		calls = append(calls, call{method: http.MethodPost, path: reviews, as: disguise, body: fixed(document{
			"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
		})})
	}
	return calls
}
