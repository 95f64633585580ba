package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// ControlPlaneLabel marks a control-plane node, with an empty value, and is the key of its taint, as kubeadm sets them.
const ControlPlaneLabel = "node-role.kubernetes.io/control-plane"

// heartbeatPeriod is the kubelet's for its Lease. kube-controller-manager calls a node unready after 50 s without one
// (--node-monitor-grace-period).
const heartbeatPeriod = 10 * time.Second

// leaseDuration is the kubelet's nodeLeaseDurationSeconds.
const leaseDuration int32 = 40

// Nodes are Node objects without a kubelet that stay Ready until Stop.
type Nodes struct {
	// ControlPlane and Workers are the nodes' names.
	ControlPlane, Workers []string

	client kubernetes.Interface
	clock  clock.WithTicker
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// StartNodes registers control-plane nodes (control-plane-1…, labelled and tainted as kubeadm does) and worker nodes
// (worker-1…), and keeps all of them Ready. The context bounds the registration only; Stop ends the heartbeats and leaves
// the objects.
func StartNodes(ctx context.Context, config *rest.Config, controlPlanes, workers int) (*Nodes, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	n := &Nodes{client: client, clock: clock.RealClock{}}
	for i := range controlPlanes {
		n.ControlPlane = append(n.ControlPlane, fmt.Sprintf("control-plane-%d", i+1))
	}
	for i := range workers {
		n.Workers = append(n.Workers, fmt.Sprintf("worker-%d", i+1))
	}
	for i, name := range n.all() {
		node := newNode(name, i)
		if i < controlPlanes {
			asControlPlane(node)
		}
		if err = n.register(ctx, node); err != nil {
			return nil, fmt.Errorf("register node %s: %w", name, err)
		}
	}
	beating, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	n.done.Go(func() { n.beat(beating) })
	return n, nil
}

// Stop ends the heartbeats.
func (n *Nodes) Stop() {
	n.cancel()
	n.done.Wait()
}

func (n *Nodes) all() []string {
	return append(append([]string{}, n.ControlPlane...), n.Workers...)
}

func newNode(name string, index int) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.0.2.%d", index+1)}, // TEST-NET-1: routes nowhere.
				{Type: corev1.NodeHostName, Address: name},
			},
			NodeInfo: corev1.NodeSystemInfo{KubeletVersion: KubernetesVersion, OperatingSystem: "linux", Architecture: "amd64"},
		},
	}
	return node
}

func asControlPlane(node *corev1.Node) {
	node.Labels[ControlPlaneLabel] = ""
	node.Spec.Taints = []corev1.Taint{{Key: ControlPlaneLabel, Effect: corev1.TaintEffectNoSchedule}}
}

func (n *Nodes) register(ctx context.Context, node *corev1.Node) error {
	node.Status.Conditions = conditions(n.clock.Now())
	_, err := n.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, Namespace: corev1.NamespaceNodeLease},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: new(node.Name), LeaseDurationSeconds: new(leaseDuration),
			RenewTime: &metav1.MicroTime{Time: n.clock.Now()},
		},
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}}
	_, err = n.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// conditions are those of a healthy kubelet.
func conditions(now time.Time) []corev1.NodeCondition {
	out := []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse},
		{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse},
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
	}
	for i := range out {
		out[i].Reason, out[i].Message = "Lab", "kept by the lab"
		out[i].LastHeartbeatTime, out[i].LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
	}
	return out
}

func (n *Nodes) beat(ctx context.Context) {
	ticker := n.clock.NewTicker(heartbeatPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		for _, name := range n.all() {
			// A beat that is missed while the API server is away is made up for by the next.
			_ = n.beatOnce(ctx, name)
		}
	}
}

// beatOnce renews the node's Lease and, where somebody else called it unready, its conditions.
func (n *Nodes) beatOnce(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeatPeriod)
	defer cancel()
	leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		lease.Spec.RenewTime = &metav1.MicroTime{Time: n.clock.Now()}
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	node, nodeErr := n.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if nodeErr == nil {
		node.Status.Conditions = conditions(n.clock.Now())
		_, nodeErr = n.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	}
	return errors.Join(err, nodeErr)
}
