package platform

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// kubeadmMaps is the last version of kubeadm's configuration whose extraArgs are a map.
const kubeadmMaps = "kubeadm.k8s.io/v1beta3"

// Title is what people call the platform, with where its Snippet goes if the snippet itself does not say that.
func (f Finding) Title() string {
	switch f.Platform {
	case Kubeadm, "":
		return "kubeadm (ConfigMap kube-system/kubeadm-config, and the same flags in each static Pod manifest)"
	case StaticPod:
		return "a static Pod that no platform renders"
	case KOps:
		return "kOps"
	case Talos:
		return "Talos Linux"
	case ClusterAPI:
		return "Cluster API"
	case Managed:
		return "a managed control plane"
	case Unknown:
		return "a platform that was not recognised"
	case RKE2, K3s, OpenShift, Gardener, EKS, GKE, AKS, TKE, CCE:
	}
	return string(f.Platform)
}

// Snippet returns the flags as the platform takes them: YAML to commit, which says in comments where it goes and how it
// is applied, or only comments where the flags cannot be set. Absent flags are left out; no flag at all gives the empty
// string. It has less than 2,048 bytes.
//
// kubeadm's has no comments. kubeadm appends extraArgs to the command in this order, so that its next upgrade finds the
// manifest as the operator left it.
func (f Finding) Snippet(flags v1alpha1.Flags) string {
	set := slices.DeleteFunc(flags.List(), func(v v1alpha1.FlagValue) bool { return v.Value <= 0 })
	if len(set) == 0 {
		return ""
	}
	switch f.Platform {
	case Kubeadm, "":
		return f.form.kubeadm(set)
	case KOps:
		return kOps(set)
	case RKE2:
		return rancher("rke2", "rke2-server", set)
	case K3s:
		return rancher("k3s", "k3s", set)
	case Talos:
		return f.form.talos(set)
	case OpenShift:
		return openShift(set)
	case ClusterAPI:
		return f.form.clusterAPI(set)
	case TKE, CCE:
		return comments("Set these in the cloud's console, in the configuration of the cluster; it restarts kube-controller-manager:\n" +
			lines("  %s=%d\n", set))
	case Gardener, EKS, GKE, AKS, Managed:
		return comments(f.Title() + " gives no way to set these flags; ask for them by this list:\n" + lines("  --%s=%d\n", set) + f.instead())
	case StaticPod:
		return comments("Append to the command of kube-controller-manager in its manifest on each node, the leader last; if a\n"+
			"program writes the manifest, put them there instead:\n") + lines("- --%s=%d\n", set)
	case Unknown:
	}
	return comments("It was not recognised what renders kube-controller-manager's command line here. Put these there:\n") +
		lines("- --%s=%d\n", set)
}

// kubeadm is a ClusterConfiguration.
func (f form) kubeadm(set []v1alpha1.FlagValue) string {
	version := cmp.Or(f.kubeadmVersion, kubeadmVersion)
	text := "apiVersion: " + version + "\nkind: ClusterConfiguration\ncontrollerManager:\n  extraArgs:\n"
	if version == kubeadmMaps {
		return text + lines("    %s: \"%d\"\n", set)
	}
	return text + lines("  - name: %s\n    value: \"%d\"\n", set)
}

// kOps has fields of its own names for three of the flags.
func kOps(set []v1alpha1.FlagValue) string {
	var fields, without strings.Builder
	for _, v := range set {
		switch v.Name {
		case v1alpha1.FlagKubeAPIQPS:
			fmt.Fprintf(&fields, "    kubeAPIQPS: \"%d\"\n", v.Value)
		case v1alpha1.FlagKubeAPIBurst:
			fmt.Fprintf(&fields, "    kubeAPIBurst: %d\n", v.Value)
		case v1alpha1.FlagConcurrentEndpointSyncs:
			fmt.Fprintf(&fields, "    concurrentEndpointSyncs: %d\n", v.Value)
		default:
			fmt.Fprintf(&without, "kOps has no field for --%s=%d.\n", v.Name, v.Value)
		}
	}
	text := comments("With kops edit cluster; then kops update cluster --yes and kops rolling-update cluster --yes, which replaces\n" +
		"the control-plane machines.\n" + without.String())
	if fields.Len() == 0 {
		return text
	}
	return text + "spec:\n  kubeControllerManager:\n" + fields.String()
}

// rancher is the configuration file of RKE2 and k3s.
func rancher(name, service string, set []v1alpha1.FlagValue) string {
	return comments("In /etc/rancher/"+name+"/config.yaml on every server, added to the list if it is there; then restart\n"+
		service+" on one server after the other. With Rancher: in the cluster's machineGlobalConfig.\n") +
		"kube-controller-manager-arg:\n" + lines("- %s=%d\n", set)
}

// talos is a patch of the machine configuration.
func (f form) talos(set []v1alpha1.FlagValue) string {
	text := comments("A patch of the machine configuration of every control-plane node, one node after the other:\n" +
		"talosctl patch machineconfig --nodes NODE --patch @FILE\n")
	if f.talosDocument {
		return text + "apiVersion: v1alpha1\nkind: KubeControllerManagerConfig\nextraArgs:\n" + lines("  %s: \"%d\"\n", set)
	}
	return text + "cluster:\n  controllerManager:\n    extraArgs:\n" + lines("      %s: \"%d\"\n", set)
}

// openShift is the operator's object.
func openShift(set []v1alpha1.FlagValue) string {
	return comments("Unsupported: Red Hat does not support a cluster with unsupportedConfigOverrides, and it cannot be upgraded to the\n"+
		"next minor version until they are removed. OpenShift sets QPS 150 and burst 300 by itself: ask its support first.\n"+
		"With hosted control planes this object has no effect.\n") +
		"apiVersion: operator.openshift.io/v1\nkind: KubeControllerManager\nmetadata:\n  name: cluster\nspec:\n" +
		"  unsupportedConfigOverrides:\n    extendedArguments:\n" + lines("      %s:\n      - \"%d\"\n", set)
}

// clusterAPI is the control plane's object in the management cluster. Providers other than kubeadm's have other fields.
func (f form) clusterAPI(set []v1alpha1.FlagValue) string {
	const kind = "KubeadmControlPlane"
	if f.owner.kind != "" && f.owner.kind != kind {
		return comments("In the management cluster, where "+strings.TrimSpace(f.owner.kind+" "+f.owner.name)+" takes arguments of\n"+
			"kube-controller-manager. Cluster API replaces the control-plane machines one by one.\n") + lines("- %s=%d\n", set)
	}
	return comments("In the management cluster. Cluster API replaces the control-plane machines one by one.\n") +
		"apiVersion: controlplane.cluster.x-k8s.io/v1beta2\nkind: " + kind + "\nmetadata:\n  name: " + cmp.Or(f.owner.name, "NAME") +
		"\nspec:\n  kubeadmConfigSpec:\n    clusterConfiguration:\n      controllerManager:\n        extraArgs:\n" +
		lines("        - name: %s\n          value: \"%d\"\n", set)
}

// instead is what people can do where the flags cannot be set.
func (f Finding) instead() string {
	text := "What helps without them: a preStop sleep that outlasts the lag of removals (measure says how long), and fewer\n" +
		"changes at once (maxSurge and maxUnavailable of Deployments, rollouts one after the other).\n"
	switch f.Platform {
	case EKS:
		return "A larger tier of the provisioned control plane may come with higher ones.\n" + text
	case Gardener:
		return "Gardener runs 15 workers of each kind, and has no field for the rest.\n" + text
	case GKE, AKS, Managed, Kubeadm, StaticPod, KOps, RKE2, K3s, Talos, OpenShift, ClusterAPI, TKE, CCE, Unknown:
	}
	return text
}

// lines formats each flag's name and value.
func lines(format string, set []v1alpha1.FlagValue) string {
	var text strings.Builder
	for _, v := range set {
		fmt.Fprintf(&text, format, v.Name, v.Value)
	}
	return text.String()
}

// comments makes each line of a text a comment of YAML.
func comments(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString("# " + line)
	}
	return out.String()
}
