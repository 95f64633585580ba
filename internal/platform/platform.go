// Package platform tells from what a cluster shows who renders the command line of its kube-controller-manager, whether
// a manifest may be edited there, and how people set its flags where none may. It computes: it reads and changes nothing.
package platform

// Platform is who renders kube-controller-manager's command line.
type Platform string

// The platforms. A value of type Platform is one of them; the empty one means that nobody has looked.
const (
	// Kubeadm writes a static Pod's file once, and again at an upgrade.
	Kubeadm Platform = "Kubeadm"
	// StaticPod is a file that people wrote for the kubelet.
	StaticPod Platform = "StaticPod"
	// KOps writes the file when it makes a machine, and replaces machines.
	KOps Platform = "KOps"
	// RKE2 writes the file at each start of its server.
	RKE2 Platform = "RKE2"
	// K3s runs kube-controller-manager in its own process.
	K3s Platform = "K3s"
	// Talos serves the Pod to the kubelet and has no file.
	Talos Platform = "Talos"
	// OpenShift has an operator that writes the file.
	OpenShift Platform = "OpenShift"
	// ClusterAPI replaces machines, with whatever was changed on them.
	ClusterAPI Platform = "ClusterAPI"
	// Gardener runs the control plane in another cluster.
	Gardener Platform = "Gardener"
	// EKS is Amazon's.
	EKS Platform = "EKS"
	// GKE is Google's.
	GKE Platform = "GKE"
	// AKS is Microsoft's.
	AKS Platform = "AKS"
	// TKE is Tencent's.
	TKE Platform = "TKE"
	// CCE is Huawei's.
	CCE Platform = "CCE"
	// Managed is a control plane that shows no kube-controller-manager and no control-plane node.
	Managed Platform = "Managed"
	// Unknown is what cannot be told, or is contradicted.
	Unknown Platform = "Unknown"
)

// Facts are what can be seen of a control plane with read access. What could not be read is not known, which is another
// thing than absent.
type Facts struct {
	// ServerVersion is what the API server says of itself, such as v1.37.2+rke2r1; empty: not known.
	ServerVersion string
	// NodesKnown says whether the nodes could be read.
	NodesKnown bool
	// Nodes are the control-plane nodes, or some of the others where none is labelled as one.
	Nodes []Node
	// PodsKnown says whether the Pods could be read.
	PodsKnown bool
	// Pods are those that run kube-controller-manager.
	Pods []Pod
	// Kubeadm is whether the ConfigMap kube-system/kubeadm-config exists.
	Kubeadm Answer
	// KubeadmVersion is the apiVersion of its ClusterConfiguration, such as kubeadm.k8s.io/v1beta4; empty: not known.
	KubeadmVersion string
	// OpenShift is whether the API server serves kubecontrollermanagers.operator.openshift.io.
	OpenShift Answer
	// Unread is why something could not be read, for people.
	Unread []string
}

// Answer is one to a question that may not be allowed.
type Answer int

// The answers.
const (
	NotKnown Answer = iota
	Yes
	No
)

// Node is what a Node shows of its platform.
type Node struct {
	Name           string
	ControlPlane   bool // labelled as a control-plane node
	KubeletVersion string
	OSImage        string
	Labels         map[string]string
	Annotations    map[string]string
}

// Pod is what a Pod of kube-controller-manager shows of its platform.
type Pod struct {
	Namespace   string
	Name        string
	Labels      map[string]string
	Annotations map[string]string
}

// Finding is what the facts say. The zero Finding is that nobody has looked: it is not Patchable, and its Snippet is
// kubeadm's. Findings are comparable with ==.
type Finding struct {
	// Platform that was found; empty: nobody has looked.
	Platform Platform
	// Patchable says that kube-controller-manager is a static Pod from a file that nobody renders again while its machine
	// lives, as far as can be seen.
	Patchable bool
	// Reason is the evidence, as a sentence without a full stop.
	Reason string

	form form
}

// form is what Snippet has to know besides the flags.
type form struct {
	kubeadmVersion string // apiVersion of the ClusterConfiguration
	talosDocument  bool   // kube-controller-manager has a configuration document of its own
	owner          owner  // of the control plane's Cluster API machines
}

// owner is the object in a Cluster API management cluster that machines belong to, as far as the nodes say.
type owner struct{ kind, name string }
