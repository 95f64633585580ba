package platform

import (
	"strings"
	"testing"
)

// mirror is a mirror Pod as kubeadm's manifest gives it.
func mirror(change ...func(*Pod)) Pod {
	p := Pod{
		Namespace: "kube-system", Name: "kube-controller-manager-cp-1",
		Labels:      map[string]string{"component": "kube-controller-manager", "tier": "control-plane"},
		Annotations: map[string]string{annotationMirror: "0f1e", annotationSource: sourceFile},
	}
	for _, f := range change {
		f(&p)
	}
	return p
}

// controlPlane is a control-plane node as kubeadm marks it.
func controlPlane(change ...func(*Node)) Node {
	n := Node{
		Name: "cp-1", ControlPlane: true, KubeletVersion: "v1.37.2", OSImage: "Debian GNU/Linux 12 (bookworm)",
		Labels: map[string]string{"kubernetes.io/os": "linux"}, Annotations: map[string]string{},
	}
	for _, f := range change {
		f(&n)
	}
	return n
}

// worker is a node of a control plane that is elsewhere.
func worker(version, label string) Node {
	return controlPlane(func(n *Node) {
		n.Name, n.ControlPlane, n.KubeletVersion, n.Labels[label] = "worker-1", false, version, "x"
	})
}

func source(text string) func(*Pod) { return func(p *Pod) { p.Annotations[annotationSource] = text } }

func machine(kind string) func(*Node) {
	return func(n *Node) {
		n.Annotations[annotationMachine], n.Annotations[annotationOwnerKind], n.Annotations[annotationOwnerName] = "demo-4x7kd", kind, "demo"
	}
}

func kubelet(version string) func(*Node) { return func(n *Node) { n.KubeletVersion = version } }

// seen are facts where everything could be read, as on a kubeadm cluster whose ConfigMap is not readable.
func seen(change ...func(*Facts)) Facts {
	f := Facts{
		ServerVersion: "v1.37.2", NodesKnown: true, PodsKnown: true, OpenShift: No,
		Nodes: []Node{controlPlane()}, Pods: []Pod{mirror()},
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func TestDetect(t *testing.T) {
	tests := map[string]struct {
		facts     Facts
		want      Platform
		patchable bool
		reason    []string // parts of it
	}{
		"kubeadm by its labels, where its ConfigMap may not be read": {
			seen(), Kubeadm, true, []string{"kubeadm's labels", "Pod kube-controller-manager-cp-1 comes from a file"},
		},
		"kubeadm by its ConfigMap": {
			seen(func(f *Facts) { f.Kubeadm, f.KubeadmVersion = Yes, "kubeadm.k8s.io/v1beta4" }), Kubeadm, true, []string{"kubeadm-config"},
		},
		"kubeadm by its ConfigMap, whatever the labels are": {
			seen(func(f *Facts) { f.Kubeadm, f.Pods[0].Labels = Yes, nil }), Kubeadm, true, nil,
		},
		"a hand-made static Pod that looks like kubeadm's": {
			seen(func(f *Facts) { f.Kubeadm = No }), StaticPod, true, []string{"comes from a file", "nothing speaks for a platform"},
		},
		"a hand-made static Pod without labels": {
			seen(func(f *Facts) { f.Pods[0].Labels = nil }), StaticPod, true, nil,
		},
		"a Pod that the kubelet fetches": {
			seen(func(f *Facts) { f.Pods = []Pod{mirror(source("http"))} }), Unknown, false, []string{"does not come from a file: http"},
		},
		"one Pod of three that the kubelet fetches": {
			seen(func(f *Facts) { f.Pods = []Pod{mirror(), mirror(), mirror(source("http"))} }), Unknown, false, []string{"http"},
		},
		"a mirror Pod that does not say where it comes from": {
			seen(func(f *Facts) { f.Pods = []Pod{mirror(source(""))} }), Unknown, false, []string{"source is not known"},
		},
		"a Pod of a Deployment": {
			seen(func(f *Facts) { f.Pods[0].Annotations = nil }), Unknown, false, []string{"no static Pod"},
		},
		"no Pod, on a control-plane node": {
			seen(func(f *Facts) { f.Pods = nil }), Unknown, false, []string{"no Pod of kube-controller-manager is visible", "node cp-1"},
		},
		"no Pod, although kubeadm was here": {
			seen(func(f *Facts) { f.Pods, f.Nodes, f.Kubeadm = nil, nil, Yes }), Unknown, false, []string{"kubeadm-config", "no Pod"},
		},
		"no Pod and no control-plane node": {
			seen(func(f *Facts) { f.Pods, f.Nodes = nil, []Node{worker("v1.37.2", "x")} }), Managed, false, []string{"no Pod"},
		},
		"Pods that may not be read": {
			seen(func(f *Facts) { f.Pods, f.PodsKnown, f.Unread = nil, false, []string{"pods is forbidden"} }), Unknown, false,
			[]string{"could not be read", "pods is forbidden"},
		},
		"nodes that may not be read": {
			seen(func(f *Facts) { f.Nodes, f.NodesKnown, f.Unread = nil, false, []string{"nodes is forbidden"} }), Kubeadm, false,
			[]string{"the nodes", "nodes is forbidden"},
		},
		"kOps": {
			seen(func(f *Facts) {
				f.Nodes[0].Labels["kops.k8s.io/kops-controller-pki"] = ""
				f.Pods[0].Labels = map[string]string{"k8s-app": "kube-controller-manager"}
			}), KOps, false, []string{"node cp-1 has label kops.k8s.io/kops-controller-pki"},
		},
		"RKE2 by its kubelet": {
			seen(func(f *Facts) { f.Nodes = []Node{controlPlane(kubelet("v1.36.2+rke2r1"))} }), RKE2, false, []string{"v1.36.2+rke2r1"},
		},
		"RKE2 by its API server, with nothing else to read": {
			Facts{ServerVersion: "v1.36.2+rke2r1"}, RKE2, false, []string{"the API server is v1.36.2+rke2r1"},
		},
		"k3s": {
			seen(func(f *Facts) { f.Pods, f.Nodes = nil, []Node{controlPlane(kubelet("v1.36.2+k3s1"))} }), K3s, false, nil,
		},
		"Talos by its operating system": {
			seen(func(f *Facts) {
				f.Pods = []Pod{mirror(source("http"))}
				f.Nodes = []Node{controlPlane(func(n *Node) { n.OSImage = "Talos (v1.13.2)" })}
			}), Talos, false, []string{`node cp-1 runs "Talos (v1.13.2)"`},
		},
		"Talos by its Pod, where the nodes may not be read": {
			seen(func(f *Facts) {
				f.Nodes, f.NodesKnown = nil, false
				f.Pods = []Pod{mirror(source("http"), func(p *Pod) { p.Labels["app.kubernetes.io/managed-by"] = "Talos" })}
			}), Talos, false, nil,
		},
		"OpenShift by what it serves": {
			seen(func(f *Facts) { f.OpenShift, f.Pods = Yes, nil }), OpenShift, false, []string{"kubecontrollermanagers.operator.openshift.io"},
		},
		"OpenShift by where its Pod stands": {
			seen(func(f *Facts) { f.Pods[0].Namespace = openShiftNamespace }), OpenShift, false, []string{openShiftNamespace},
		},
		"OpenShift by its machines' annotations": {
			seen(func(f *Facts) { f.Nodes[0].Annotations["machineconfiguration.openshift.io/state"] = "Done" }), OpenShift, false, nil,
		},
		"Cluster API with kubeadm": {
			seen(func(f *Facts) { f.Kubeadm, f.Nodes = Yes, []Node{controlPlane(machine("KubeadmControlPlane"))} }), ClusterAPI, false,
			[]string{"node cp-1 is machine demo-4x7kd"},
		},
		"Cluster API with RKE2": {
			seen(func(f *Facts) {
				f.ServerVersion, f.Nodes = "v1.36.2+rke2r1", []Node{controlPlane(kubelet("v1.36.2+rke2r1"), machine("RKE2ControlPlane"))}
			}), ClusterAPI, false, nil,
		},
		"EKS whose workers are Cluster API's": {
			seen(func(f *Facts) {
				w := worker("v1.33.5-eks-113cf36", "eks.amazonaws.com/nodegroup")
				machine("MachineSet")(&w)
				f.ServerVersion, f.Pods, f.Nodes = "v1.33.5-eks-113cf36", nil, []Node{w}
			}), EKS, false, nil,
		},
		"GKE": {
			seen(func(f *Facts) {
				f.ServerVersion, f.Pods = "v1.33.5-gke.1080000", nil
				f.Nodes = []Node{worker("v1.33.5-gke.1080000", "cloud.google.com/gke-nodepool")}
			}), GKE, false, nil,
		},
		"AKS, whose versions say nothing": {
			seen(func(f *Facts) { f.Pods, f.Nodes = nil, []Node{worker("v1.33.5", "kubernetes.azure.com/cluster")} }), AKS, false, nil,
		},
		"TKE": {
			seen(func(f *Facts) { f.ServerVersion, f.Pods, f.Nodes = "v1.32.2-tke.6", nil, nil }), TKE, false, nil,
		},
		"CCE": {
			seen(func(f *Facts) {
				f.Pods, f.Nodes = nil, []Node{worker("v1.32.6-r0-32.0.6", "cce.cloud.com/cce-nodepool")}
			}), CCE, false, nil,
		},
		"Gardener": {
			seen(func(f *Facts) { f.Pods, f.Nodes = nil, []Node{worker("v1.33.5", "worker.gardener.cloud/pool")} }), Gardener, false, nil,
		},
		"two platforms at once": {
			seen(func(f *Facts) {
				f.Nodes = []Node{controlPlane(kubelet("v1.36.2+rke2r1")), controlPlane(func(n *Node) { n.OSImage = "Talos (v1.13.2)" })}
			}), Unknown, false, []string{"speaks for RKE2", "speaks for Talos Linux"},
		},
		"kubeadm's ConfigMap, and kOps' nodes": {
			seen(func(f *Facts) { f.Kubeadm = Yes; f.Nodes[0].Labels["kops.k8s.io/instancegroup"] = "cp" }), Unknown, false,
			[]string{"kubeadm-config", "speaks for kOps"},
		},
		"a cloud that shows what clouds do not": {
			seen(func(f *Facts) { f.ServerVersion = "v1.33.5-eks-113cf36" }), Unknown, false,
			[]string{"v1.33.5-eks-113cf36", "Pod kube-controller-manager-cp-1"},
		},
		"what a node says of itself does no harm": {
			seen(func(f *Facts) {
				f.Nodes = []Node{controlPlane(kubelet("v1\n+rke2\x1b[31m" + strings.Repeat("x", 500)))}
			}), RKE2, false, []string{`"v1\n+rke2\x1b[31m`},
		},
		"nothing is known": {Facts{}, Unknown, false, []string{"could not be read"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Detect(tt.facts)
			if got.Platform != tt.want || got.Patchable != tt.patchable {
				t.Errorf("Detect = %s, patchable %v (%s); want %s, %v", got.Platform, got.Patchable, got.Reason, tt.want, tt.patchable)
			}
			for _, part := range tt.reason {
				if !strings.Contains(got.Reason, part) {
					t.Errorf("Reason = %s; want it to have %q", got.Reason, part)
				}
			}
			if got.Reason == "" || len(got.Reason) > 512 || strings.ContainsAny(got.Reason, "\n\x1b") {
				t.Errorf("Reason = %q, want a sentence", got.Reason)
			}
		})
	}
}

// TestOnlyOneForeignSignTakesThePatchAway adds each sign that is known to a kubeadm cluster.
func TestOnlyOneForeignSignTakesThePatchAway(t *testing.T) {
	for _, s := range versionSigns {
		f := seen(func(f *Facts) { f.Nodes = append(f.Nodes, controlPlane(kubelet("v1.36.2"+s.text+"1"))) })
		if got := Detect(f); got.Patchable {
			t.Errorf("a kubelet with %s: %+v, want nothing to patch", s.text, got)
		}
	}
	for _, s := range imageSigns {
		f := seen(func(f *Facts) { f.Nodes = append(f.Nodes, controlPlane(func(n *Node) { n.OSImage = s.text + "1" })) })
		if got := Detect(f); got.Patchable {
			t.Errorf("an operating system %s: %+v, want nothing to patch", s.text, got)
		}
	}
	for _, s := range nodeSigns {
		f := seen(func(f *Facts) { f.Nodes[0].Annotations[s.text+"x"] = "" })
		if got := Detect(f); got.Patchable {
			t.Errorf("a node with %s: %+v, want nothing to patch", s.text, got)
		}
	}
}
