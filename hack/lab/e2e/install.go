package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/image"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/story"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/workload"
)

const (
	storyImage = "lab.local/story-server:e2e"
	// readyTimeout bounds the wait for Pods of the operator, images being there already.
	readyTimeout = 3 * time.Minute
	// setupTimeout bounds the making of all Services and their endpoints at the default 20 requests a second.
	setupTimeout = 5 * time.Minute
)

// install puts the images on every node, makes the Services whose Pods will change, and then installs config/default as a
// person would, so that the operator does not take the making for an incident.
func (s *scene) install(ctx context.Context) error {
	if err := s.importImages(ctx); err != nil {
		return err
	}
	if err := s.startHollowNodes(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	group, inner := errgroup.WithContext(bounded)
	group.Go(func() error { return s.populate(inner) })
	group.Go(func() error { return s.deployStory(inner, 0) })
	if err := group.Wait(); err != nil {
		return err
	}
	s.sayf("kubectl apply --server-side -k config/default")
	args := []string{"apply", "--server-side", "-k", filepath.Join(s.Root, "config", "default")}
	if s.Attach { // An earlier run may have hurried the agents.
		args = append(args, "--force-conflicts")
	}
	if _, err := s.kubectl(ctx, args...); err != nil {
		return err
	}
	if err := s.operatorReady(ctx); err != nil {
		return err
	}
	if _, err := s.atRest(ctx, readyTimeout); err != nil {
		return err
	}
	return s.watch(ctx)
}

// importImages makes the images of the operator and of the story's server and gives them to every node.
func (s *scene) importImages(ctx context.Context) error {
	server, err := kubeadm.Program(ctx, filepath.Join(s.cluster.Dir, "bin"), "story/server")
	if err != nil {
		return err
	}
	tarball := filepath.Join(s.cluster.Dir, "images", "story-server.tar")
	_, err = image.Write(tarball, image.Spec{
		Reference: storyImage, Architecture: runtime.GOARCH, User: "65532",
		Files: []image.File{{Path: "/server", Source: server, Mode: 0o755}}, Entrypoint: []string{"/server"}, Uncompressed: true,
	})
	if err != nil {
		return err
	}
	for _, n := range s.cluster.Nodes {
		if err = errors.Join(n.Import(ctx, s.Image), n.Import(ctx, tarball)); err != nil {
			return fmt.Errorf("give %s its images: %w", n.Name, err)
		}
	}
	return nil
}

// startHollowNodes makes the nodes for the Pods that change, and keeps the scheduler from using them.
func (s *scene) startHollowNodes(ctx context.Context) (err error) {
	if s.nodes, err = controlplane.StartNodes(ctx, s.cluster.Admin, 0, hollow); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"taints": []corev1.Taint{{Key: "lab/hollow", Effect: corev1.TaintEffectNoSchedule}}}})
	if err != nil {
		return err
	}
	for _, name := range s.nodes.Workers {
		if _, err := s.kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("taint node %s: %w", name, err)
		}
	}
	return nil
}

// populate makes the Services and Pods of the incident, and waits until their endpoints are there.
func (s *scene) populate(ctx context.Context) (err error) {
	s.work, err = workload.New(s.cluster.Admin, workload.Options{
		Namespace: shop, Namespaces: namespaces, Services: services, ServicesPerPod: servicesPerPod, Nodes: s.nodes.Workers, Progress: s.Progress,
	})
	if err != nil {
		return err
	}
	if s.Attach { // They may be there from an earlier run.
		found, adoptErr := s.work.Adopt(ctx)
		if adoptErr != nil || found {
			return adoptErr
		}
	}
	if err = s.work.Setup(ctx); err != nil {
		return err
	}
	return s.work.WaitConverged(ctx)
}

func (s *scene) operatorReady(ctx context.Context) error {
	return s.await(ctx, readyTimeout, "the operator's Pods to be ready", func(ctx context.Context) error {
		return ready(ctx, s.kube, len(s.cluster.Nodes))
	})
}

func ready(ctx context.Context, kube kubernetes.Interface, agents int) error {
	set, err := kube.AppsV1().DaemonSets(operator.Namespace).Get(ctx, operator.Agent, metav1.GetOptions{})
	if err != nil {
		return err
	}
	deployment, err := kube.AppsV1().Deployments(operator.Namespace).Get(ctx, operator.Controller, metav1.GetOptions{})
	if err != nil {
		return err
	}
	d, a := deployment.Status, set.Status
	if a.ObservedGeneration < set.Generation || int(a.UpdatedNumberScheduled) != agents || int(a.NumberAvailable) != agents ||
		d.ObservedGeneration < deployment.Generation || d.UpdatedReplicas != *deployment.Spec.Replicas ||
		d.AvailableReplicas != d.UpdatedReplicas || d.Replicas != d.UpdatedReplicas {
		return fmt.Errorf("agents: %d of %d up to date, %d available; controllers: %d of %d up to date, %d available, %d in all",
			a.UpdatedNumberScheduled, agents, a.NumberAvailable, d.UpdatedReplicas, *deployment.Spec.Replicas, d.AvailableReplicas, d.Replicas)
	}
	return nil
}

// app is the Deployment whose users are counted.
func app(preStop int64) story.App {
	return story.App{Namespace: "story", Name: "web", Image: storyImage, PreStopSeconds: preStop}
}

func (s *scene) deployStory(ctx context.Context, preStop int64) error {
	a := app(preStop)
	_, err := s.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make namespace %s: %w", a.Namespace, err)
	}
	if _, err = a.Deploy(ctx, s.kube); err != nil {
		return err
	}
	return a.WaitRolledOut(ctx, s.kube)
}

// imageOn gives one node another image under a reference that it knows.
func imageOn(ctx context.Context, n *kubeadm.Node, dir string, spec image.Spec) error {
	tarball := filepath.Join(dir, "images", "other.tar")
	if _, err := image.Write(tarball, spec); err != nil {
		return err
	}
	return n.Import(ctx, tarball)
}
