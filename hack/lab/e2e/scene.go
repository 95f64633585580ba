package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	lab "github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	policyName = "default"
	// services is how many of them change in an incident. They are in these namespaces, called shop-0 and so on, and each
	// Pod is one of several of them: what changes a Pod costs less then, and leaves more of a small machine to its endpoints.
	services, namespaces, servicesPerPod = 1000, 50, 4
	shop                                 = "shop"
	// hollow is how many nodes without a kubelet the incident's Pods are bound to.
	hollow = 4
	// maxLag is what the policy asks for.
	maxLag = 3 * time.Second
	poll   = 250 * time.Millisecond
	// manifestName is kube-controller-manager's, as kubeadm names it.
	manifestName = "kube-controller-manager.yaml"
)

// scene is what all stages share.
type scene struct {
	Options

	cluster  *kubeadm.Cluster
	kube     kubernetes.Interface
	objects  client.Client // may write EndpointSyncNode specs, too
	nodes    *controlplane.Nodes
	work     *workload.Workload
	observer *observer.Observer
	audit    *audit
	clock    clock.WithTicker
	began    time.Time
	result   Result
	maxBurst int32 // of the policy's bounds
}

// connect makes clients.
func (s *scene) connect(ctx context.Context) (err error) {
	scheme := runtime.NewScheme()
	if err = errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return err
	}
	if s.kube, err = kubernetes.NewForConfig(s.cluster.Admin); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	breakGlass := rest.CopyConfig(s.cluster.Admin)
	breakGlass.Impersonate = rest.ImpersonationConfig{UserName: "e2e", Groups: []string{"system:masters", "endpoint-sync-breakglass"}}
	if s.objects, err = client.New(breakGlass, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	s.result.Nodes = len(s.cluster.Nodes)
	if s.Attach && s.installed(ctx) {
		return s.watch(ctx)
	}
	return nil
}

func (s *scene) installed(ctx context.Context) bool {
	_, err := s.kube.AppsV1().DaemonSets(operator.Namespace).Get(ctx, operator.Agent, metav1.GetOptions{})
	return err == nil
}

// watch starts what looks on from outside.
func (s *scene) watch(ctx context.Context) (err error) {
	if s.observer != nil {
		return nil
	}
	s.observer, err = observer.Start(ctx, s.cluster.Admin, observer.Options{ServiceLabel: workload.ServiceLabel})
	if err != nil {
		return err
	}
	s.audit, err = startAudit(ctx, s.cluster.Admin)
	return err
}

func (s *scene) close() {
	if s.observer != nil {
		s.observer.Stop()
	}
	if s.audit != nil {
		s.audit.stop()
	}
	if s.nodes != nil {
		s.nodes.Stop()
	}
}

// await polls until the condition holds, and says what it saw last if it never does.
func (s *scene) await(ctx context.Context, within time.Duration, what string, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	last := errors.New("not looked at")
	err := lab.WaitFor(ctx, what, poll, func(ctx context.Context) (bool, error) {
		err := holds(ctx)
		if ctx.Err() == nil || err == nil { // What a cut-off look says is nothing to tell.
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waited %s in vain for %s: %w", within, what, last)
	}
	return nil
}

// kubectl runs the pinned version's, as people do.
func (s *scene) kubectl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.cluster.Binaries.Kubectl, append([]string{"--kubeconfig", s.cluster.AdminKubeconfig}, args...)...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return out, fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

func (s *scene) policy(ctx context.Context) (p v1alpha1.EndpointSyncPolicy, err error) {
	err = s.objects.Get(ctx, client.ObjectKey{Name: policyName}, &p)
	return p, err
}

// syncNodes are the nodes' objects, by name.
func (s *scene) syncNodes(ctx context.Context) ([]v1alpha1.EndpointSyncNode, error) {
	var list v1alpha1.EndpointSyncNodeList
	if err := s.objects.List(ctx, &list); err != nil {
		return nil, err
	}
	nodes := list.Nodes()
	slices.SortFunc(nodes, func(a, b v1alpha1.EndpointSyncNode) int { return strings.Compare(a.Name, b.Name) })
	return nodes, nil
}

func (s *scene) node(name string) *kubeadm.Node {
	i := slices.IndexFunc(s.cluster.Nodes, func(n *kubeadm.Node) bool { return n.Name == name })
	return s.cluster.Nodes[i]
}

// atRest waits until no node has anything to do and all are known to be well.
func (s *scene) atRest(ctx context.Context, within time.Duration) (nodes []v1alpha1.EndpointSyncNode, err error) {
	err = s.await(ctx, within, "all nodes to be at rest and well", func(ctx context.Context) error {
		if nodes, err = s.syncNodes(ctx); err != nil {
			return err
		}
		leaders := 0
		for _, n := range nodes {
			switch {
			case inFlight(n):
				return fmt.Errorf("node %s has not ended revision %d", n.Name, *n.Spec.Revision)
			case n.Status.Healthy == nil || !*n.Status.Healthy || n.Status.Leader == nil || n.Status.Running == (v1alpha1.Flags{}):
				return fmt.Errorf("node %s is not known to be well: %+v", n.Name, n.Status.Conditions)
			case *n.Status.Leader:
				leaders++
			}
		}
		if leaders != 1 || len(nodes) != len(s.cluster.Nodes) {
			return fmt.Errorf("%d nodes, %d of them lead", len(nodes), leaders)
		}
		return nil
	})
	return nodes, err
}

// standbys are the nodes that do not lead, by name; the operator begins with the first.
func standbys(nodes []v1alpha1.EndpointSyncNode) []string {
	var names []string
	for _, n := range nodes {
		if n.Status.Leader != nil && !*n.Status.Leader {
			names = append(names, n.Name)
		}
	}
	return names
}

// condition is one of the policy's, or a zero one.
func condition(p v1alpha1.EndpointSyncPolicy, name string) metav1.Condition {
	if c := meta.FindStatusCondition(p.Status.Conditions, name); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// evidence is what a person would look at first after a failure.
func (s *scene) evidence(ctx context.Context) string {
	var out strings.Builder
	if p, err := s.policy(ctx); err == nil {
		if text, err := yaml.Marshal(p.Status.Conditions); err == nil {
			fmt.Fprintf(&out, "policy:\n%s", text)
		}
	}
	if nodes, err := s.syncNodes(ctx); err == nil {
		for _, n := range nodes {
			fmt.Fprintf(&out, "node %s: revision %d %s, ended %d, phase %s, leader %v, running %s, last %+v\n", n.Name, *n.Spec.Revision,
				n.Spec.Flags, n.Status.ObservedRevision, n.Status.Phase, n.Status.Leader != nil && *n.Status.Leader, n.Status.Running, n.Status.Last)
		}
	}
	for _, args := range [][]string{{"get", "pods", "-A", "-o", "wide", "--selector", "!" + workload.ServiceLabel}, {"-n", operator.Namespace, "logs", "-l", "app.kubernetes.io/part-of=endpoint-sync-operator", "--tail=12", "--prefix"}} {
		text, err := s.kubectl(ctx, args...)
		fmt.Fprintf(&out, "%s", text)
		if err != nil {
			fmt.Fprintf(&out, "%v\n", err)
		}
	}
	return out.String()
}
