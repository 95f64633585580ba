// Package survey reads what a cluster shows of who renders its kube-controller-manager, for internal/platform to judge.
// It needs no right but to read, makes do with less than it asks for, and writes nothing.
package survey

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
)

const (
	kcm = "kube-controller-manager"

	controlPlaneLabel = "node-role.kubernetes.io/control-plane"

	openShiftAPI      = "operator.openshift.io/v1"
	openShiftResource = "kubecontrollermanagers"

	// maxWorkers is how many other nodes are looked at where none is a control-plane node: all of a cloud's nodes have its
	// labels.
	maxWorkers = 10
)

// places are where platforms show the Pods of kube-controller-manager, by a label.
var places = []struct{ namespace, label string }{
	{metav1.NamespaceSystem, "component"}, // kubeadm and RKE2
	{metav1.NamespaceSystem, "k8s-app"},   // kOps
	{"openshift-kube-controller-manager", "app"},
}

// api is what an API server says of itself; discovery clients do.
type api interface {
	ServerVersionWithContext(ctx context.Context) (*version.Info, error)
	ServerResourcesForGroupVersionWithContext(ctx context.Context, groupVersion string) (*metav1.APIResourceList, error)
}

// Reader reads the facts of one cluster.
type Reader struct {
	objects client.Reader
	api     api
}

// NewReader returns a reader that sends nothing before it is asked. The client should not read through a cache: it would
// keep all Pods of the cluster for the sake of three.
func NewReader(cfg *rest.Config, objects client.Reader) (*Reader, error) {
	served, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("build a client for the API server's version: %w", err)
	}
	return &Reader{objects: objects, api: served}, nil
}

// Facts reads everything once, in eight small requests and one for each control-plane node that shows no Pod. What is
// forbidden is not known, and no error; an error is what may be over at the next try.
func (r *Reader) Facts(ctx context.Context) (platform.Facts, error) {
	var f platform.Facts
	for _, read := range []func(context.Context, *platform.Facts) error{
		r.readVersion, r.readNodes, r.readPods, r.readKubeadm, r.readOpenShift,
	} {
		if err := read(ctx, &f); err != nil {
			return platform.Facts{}, err
		}
	}
	return f, nil
}

func (r *Reader) readVersion(ctx context.Context, f *platform.Facts) error {
	served, err := r.api.ServerVersionWithContext(ctx)
	switch {
	case forbidden(err):
		return nil
	case err != nil:
		return fmt.Errorf("read the API server's version: %w", err)
	}
	f.ServerVersion = served.GitVersion
	return nil
}

func (r *Reader) readNodes(ctx context.Context, f *platform.Facts) error {
	var nodes corev1.NodeList
	err := r.objects.List(ctx, &nodes, client.HasLabels{controlPlaneLabel})
	if err == nil && len(nodes.Items) == 0 {
		err = r.objects.List(ctx, &nodes, client.Limit(maxWorkers))
	}
	switch {
	case forbidden(err):
		f.Unread = append(f.Unread, err.Error())
		return nil
	case err != nil:
		return fmt.Errorf("list the control-plane nodes: %w", err)
	}
	f.NodesKnown = true
	for _, n := range nodes.Items {
		_, labelled := n.Labels[controlPlaneLabel]
		f.Nodes = append(f.Nodes, platform.Node{
			Name: n.Name, ControlPlane: labelled,
			KubeletVersion: n.Status.NodeInfo.KubeletVersion, OSImage: n.Status.NodeInfo.OSImage,
			Labels: n.Labels, Annotations: n.Annotations,
		})
	}
	return nil
}

// readPods finds the Pods by their labels, and those without by the name that the kubelet gives them.
func (r *Reader) readPods(ctx context.Context, f *platform.Facts) error {
	found := map[client.ObjectKey]corev1.Pod{}
	showing := map[string]bool{} // nodes
	add := func(pods ...corev1.Pod) {
		for _, p := range pods {
			found[client.ObjectKeyFromObject(&p)], showing[p.Spec.NodeName] = p, true
		}
	}
	for _, place := range places {
		var pods corev1.PodList
		err := r.objects.List(ctx, &pods, client.InNamespace(place.namespace), client.MatchingLabels{place.label: kcm})
		switch {
		case forbidden(err) && place.namespace == metav1.NamespaceSystem:
			f.Unread = append(f.Unread, err.Error())
			return nil
		case err != nil && !forbidden(err):
			return fmt.Errorf("list kube-controller-manager's Pods in %s: %w", place.namespace, err)
		}
		add(pods.Items...)
	}
	for _, n := range f.Nodes {
		if !n.ControlPlane || showing[n.Name] {
			continue
		}
		var p corev1.Pod
		err := r.objects.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: kcm + "-" + n.Name}, &p)
		switch {
		case err == nil:
			add(p)
		case !apierrors.IsNotFound(err) && !forbidden(err):
			return fmt.Errorf("get kube-controller-manager's Pod of node %s: %w", n.Name, err)
		}
	}
	f.PodsKnown, f.Pods = true, podsOf(found)
	return nil
}

// podsOf returns what a platform shows in its Pods, by name.
func podsOf(found map[client.ObjectKey]corev1.Pod) []platform.Pod {
	out := make([]platform.Pod, 0, len(found))
	for _, p := range found {
		out = append(out, platform.Pod{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Annotations: p.Annotations})
	}
	slices.SortFunc(out, func(a, b platform.Pod) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
	return out
}

func (r *Reader) readKubeadm(ctx context.Context, f *platform.Facts) error {
	var config corev1.ConfigMap
	err := r.objects.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "kubeadm-config"}, &config)
	switch {
	case forbidden(err):
		return nil
	case apierrors.IsNotFound(err):
		f.Kubeadm = platform.No
		return nil
	case err != nil:
		return fmt.Errorf("get ConfigMap kube-system/kubeadm-config: %w", err)
	}
	var written metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(config.Data["ClusterConfiguration"]), &written); err == nil {
		f.KubeadmVersion = written.APIVersion // else its form is not known, and its existence is enough
	}
	f.Kubeadm = platform.Yes
	return nil
}

// readOpenShift asks for what is served: that needs no right, unlike reading the custom resource definition.
func (r *Reader) readOpenShift(ctx context.Context, f *platform.Facts) error {
	served, err := r.api.ServerResourcesForGroupVersionWithContext(ctx, openShiftAPI)
	switch {
	case forbidden(err):
		return nil
	case apierrors.IsNotFound(err):
		f.OpenShift = platform.No
		return nil
	case err != nil:
		return fmt.Errorf("read what the API server serves of %s: %w", openShiftAPI, err)
	}
	f.OpenShift = platform.No
	if slices.ContainsFunc(served.APIResources, func(a metav1.APIResource) bool { return a.Name == openShiftResource }) {
		f.OpenShift = platform.Yes
	}
	return nil
}

// forbidden says that we may not know.
func forbidden(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)
}
