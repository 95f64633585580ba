package tests

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/intruder"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	robbed, spared = "robbed-node", "spared-node"
	// isolationProbe is the EndpointSyncNode on which agents try whether they are confined.
	isolationProbe = "zz-isolation-probe"
	// enoughCalls is how many forbidden calls the least-privilege goal asks for.
	enoughCalls = 400
	// raidQPS is what a control plane with no other work takes.
	raidQPS = 1000
)

func TestAStolenTokenOpensNothing(t *testing.T) {
	c := environment.Shared(t)
	node, err := c.Client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: robbed}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { atEnd(t, c.Client.CoreV1().Nodes().Delete, robbed) })
	for _, name := range []string{robbed, spared} { // The rig keeps the isolation probe.
		if _, err = c.Dynamic.Resource(nodes).Create(t.Context(), newNode(name, 3), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			atEnd(t, func(ctx context.Context, name string, o metav1.DeleteOptions) error {
				return c.Dynamic.Resource(nodes).Delete(ctx, name, o)
			}, name)
		})
	}
	grants, err := intruder.ReadGrants(filepath.Join("..", "..", "..", "config", "rbac", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := operator.Credentials(t.Context(), c.Client, operator.Agent, robbed)
	if err != nil {
		t.Fatal(err)
	}
	raid := intruder.Options{
		Admin: c.Admin, Token: stolen, Node: robbed, Others: []string{spared, isolationProbe}, MayReport: true, Grants: grants, QPS: raidQPS,
	}
	t.Run("bound to a Pod on its node", func(t *testing.T) { opensNothing(t, raid) })
	t.Run("bound to a Pod on no node", func(t *testing.T) {
		unscheduled := raid
		unscheduled.MayReport = false
		if unscheduled.Token, err = operator.Credentials(t.Context(), c.Client, operator.Agent, ""); err != nil {
			t.Fatal(err)
		}
		opensNothing(t, unscheduled)
	})
	t.Run("bound to nothing", func(t *testing.T) {
		unbound := raid
		unbound.Token, unbound.MayReport = agentToken(t, c.Client, nil), false
		opensNothing(t, unbound)
	})
	t.Run("bound to its node and to no Pod", func(t *testing.T) {
		nodeBound := raid
		nodeBound.MayReport = false
		nodeBound.Token = agentToken(t, c.Client, &authenticationv1.BoundObjectReference{
			Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID,
		})
		opensNothing(t, nodeBound)
	})
	t.Run("where RBAC grants far too much", func(t *testing.T) {
		overBroad := raid
		overBroad.Grants = append(overBroad.Grants, grant(t, c.Client, thief(t, c.Admin, stolen), rbacv1.PolicyRule{
			APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{rbacv1.ResourceAll}, Verbs: []string{rbacv1.VerbAll},
		}))
		opensNothing(t, overBroad)
		overBroad.Token, overBroad.MayReport = agentToken(t, c.Client, nil), false
		opensNothing(t, overBroad)
	})
}

// TestARaidSeesOpenDoorsAndDoesNoHarm keeps the raid honest: where the token opens everything, it says so, and yet leaves
// the cluster as it was.
func TestARaidSeesOpenDoorsAndDoesNoHarm(t *testing.T) {
	c := environment.Own(t)
	for _, name := range []string{robbed, spared} {
		if _, err := c.Dynamic.Resource(nodes).Create(t.Context(), newNode(name, 3), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	stolen, err := operator.Credentials(t.Context(), c.Client, operator.Agent, robbed)
	if err != nil {
		t.Fatal(err)
	}
	bindings := c.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	if err = bindings.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/part-of=endpoint-sync-operator",
	}); err != nil {
		t.Fatal(err)
	}
	agent := thief(t, c.Admin, stolen)
	everything := grant(t, c.Client, agent, rbacv1.PolicyRule{
		APIGroups: []string{rbacv1.APIGroupAll}, Resources: []string{rbacv1.ResourceAll}, Verbs: []string{rbacv1.VerbAll},
	})
	rig.Await(t, time.Minute, func() string { return "the admission policies to be gone" }, func(ctx context.Context) bool {
		client, makeErr := dynamic.NewForConfig(tokenConfig(c.Admin, stolen))
		if makeErr != nil {
			t.Fatal(makeErr)
		}
		_, makeErr = client.Resource(nodes).Create(ctx, newNode("none", 0), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return makeErr == nil
	})
	before := everythingIn(t, c)
	result, err := intruder.Raid(t.Context(), intruder.Options{
		Admin: c.Admin, Token: stolen, Node: robbed, Others: []string{spared}, MayReport: true, QPS: raidQPS,
		// What the agent is meant to have, and on top of it what the raid is to try on objects of its own.
		Grants: []intruder.Grant{{PolicyRule: rbacv1.PolicyRule{
			APIGroups: everything.APIGroups, Resources: []string{"endpointsyncnodes", "endpointsyncpolicies"}, Verbs: everything.Verbs,
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(result)
	if len(result.Allowed) < enoughCalls {
		t.Errorf("%d calls allowed, want at least %d", len(result.Allowed), enoughCalls)
	}
	for _, kind := range []string{"ConfigMap", "Secret", "ServiceAccount", "EndpointSyncNode", "EndpointSyncPolicy"} {
		if !slices.Contains(result.Allowed, "the "+kind+" that was made for the raid is gone") {
			t.Errorf("the %s that was made for the raid was deleted, which it does not say", kind)
		}
	}
	if diff := cmp.Diff(before, everythingIn(t, c)); diff != "" {
		t.Errorf("the raid changed what is not its own (-before +after):\n%s", diff)
	}
}

// everythingIn returns the version of every object of a cluster, but for those that are written all the time.
func everythingIn(t *testing.T, c *rig.Cluster) map[string]string {
	t.Helper()
	lists, err := c.Client.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, list := range lists {
		root, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range list.APIResources {
			if !slices.Contains(one.Verbs, "list") || one.Name == "events" || one.Name == "leases" {
				continue
			}
			objects, err := c.Dynamic.Resource(root.WithResource(one.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, object := range objects.Items {
				key := one.Name + " " + object.GetNamespace() + "/" + object.GetName()
				versions[key] = string(object.GetUID()) + " " + object.GetResourceVersion()
			}
		}
	}
	return versions
}

// opensNothing makes a raid and demands that every call of it was refused.
func opensNothing(t *testing.T, o intruder.Options) {
	t.Helper()
	result, err := intruder.Raid(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(result)
	if result.Tried < enoughCalls {
		t.Errorf("%d calls tried, want at least %d", result.Tried, enoughCalls)
	}
	for _, c := range result.Allowed {
		t.Errorf("allowed: %s", c)
	}
	for _, c := range result.Unexpected {
		t.Errorf("proves nothing: %s", c)
	}
	if result.Refused.Admission == 0 {
		t.Error("admission refused nothing: the calls that only it stops were not tried")
	}
}

// agentToken returns a token of the agent's account as kubectl create token does.
func agentToken(t *testing.T, kube kubernetes.Interface, bound *authenticationv1.BoundObjectReference) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound}}
	answer, err := kube.CoreV1().ServiceAccounts(operator.Namespace).CreateToken(t.Context(), operator.Agent, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// tokenConfig reaches the API server with a stolen token and nothing else.
func tokenConfig(admin *rest.Config, token string) *rest.Config {
	config := rest.AnonymousClientConfig(admin)
	config.BearerToken = token
	return config
}

// thief returns a client with a stolen token.
func thief(t *testing.T, admin *rest.Config, token string) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(tokenConfig(admin, token))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// grant gives the agents' account more than it should have, as far as RBAC goes, until the test ends, and returns when
// that is in force.
func grant(t *testing.T, kube, agent kubernetes.Interface, rule rbacv1.PolicyRule) intruder.Grant {
	t.Helper()
	const name = "far-too-much"
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{rule}}
	if _, err := kube.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { atEnd(t, kube.RbacV1().ClusterRoles().Delete, name) })
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: operator.Agent, Namespace: operator.Namespace}},
	}
	if _, err := kube.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { atEnd(t, kube.RbacV1().ClusterRoleBindings().Delete, name) })
	rig.Await(t, time.Minute, func() string { return "the role to be in force" }, func(ctx context.Context) bool {
		review, err := agent.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: nodes.Group, Resource: nodes.Resource, Verb: "delete",
			}},
		}, metav1.CreateOptions{})
		return err == nil && review.Status.Allowed
	})
	return intruder.Grant{PolicyRule: rule}
}

// atEnd deletes an object when its test has ended.
func atEnd(t *testing.T, remove func(context.Context, string, metav1.DeleteOptions) error, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := remove(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Errorf("delete %s: %v", name, err)
	}
}

func TestATokenOfADeletedPodDies(t *testing.T) {
	c := environment.Shared(t)
	token, err := operator.Credentials(t.Context(), c.Client, operator.Agent, spared)
	if err != nil {
		t.Fatal(err)
	}
	agent := thief(t, c.Admin, token)
	who := func(ctx context.Context) (authenticationv1.UserInfo, error) {
		review, askErr := agent.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if askErr != nil {
			return authenticationv1.UserInfo{}, askErr
		}
		return review.Status.UserInfo, nil
	}
	me, err := who(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pod := me.Extra["authentication.kubernetes.io/pod-name"]
	if len(pod) != 1 {
		t.Fatalf("the token is of no Pod: %+v", me)
	}
	// Without a kubelet nobody else would end it.
	err = c.Client.CoreV1().Pods(operator.Namespace).Delete(t.Context(), pod[0], metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil {
		t.Fatal(err)
	}
	deleted := time.Now()
	// The API server believes a token for ten seconds after it has looked.
	rig.Await(t, 2*time.Minute, func() string { return "the API server to refuse the token of a Pod that is gone" }, func(ctx context.Context) bool {
		_, err = who(ctx)
		return apierrors.IsUnauthorized(err)
	})
	t.Logf("refused %.1f s after its Pod was deleted", time.Since(deleted).Seconds())
}
