package platform

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What the kubelet says in a mirror Pod of where the static Pod comes from (pkg/kubelet/types, Kubernetes v1.37.2).
const (
	annotationMirror = "kubernetes.io/config.mirror"
	annotationSource = "kubernetes.io/config.source"
	sourceFile       = "file"
)

// What Cluster API writes on the Nodes of its machines (api/core/v1beta2, Cluster API v1.14.2).
const (
	annotationMachine   = "cluster.x-k8s.io/machine"
	annotationOwnerKind = "cluster.x-k8s.io/owner-kind"
	annotationOwnerName = "cluster.x-k8s.io/owner-name"
)

// openShiftNamespace is where OpenShift shows kube-controller-manager.
const openShiftNamespace = "openshift-kube-controller-manager"

// sign is something that only one platform writes.
type sign struct {
	text     string
	platform Platform
}

// Signs in versions, of the API server and of kubelets; anywhere in them.
var versionSigns = []sign{
	{"+rke2", RKE2}, {"+k3s", K3s}, {"-eks-", EKS}, {"-gke.", GKE}, {"-tke.", TKE},
}

// Signs in the names of operating systems; at the start.
var imageSigns = []sign{
	{"Talos (", Talos}, {"Red Hat Enterprise Linux CoreOS", OpenShift},
}

// Signs in the keys of a Node's labels and annotations; at the start.
var nodeSigns = []sign{
	{"kops.k8s.io/", KOps},
	{"rke2.io/", RKE2},
	{"k3s.io/", K3s},
	{"talos.dev/", Talos},
	{"machineconfiguration.openshift.io/", OpenShift},
	{"worker.gardener.cloud/", Gardener},
	{"eks.amazonaws.com/", EKS},
	{"cloud.google.com/gke-", GKE},
	{"kubernetes.azure.com/", AKS},
	{"cce.cloud.com/", CCE},
}

// claim is a piece of evidence that speaks for a platform.
type claim struct {
	platform Platform
	evidence string
}

// Detect says which platform the facts speak for. Where they speak for two, or against the one, it is Unknown: nothing
// is patched on a guess. A platform that builds on another is no contradiction: Cluster API's machines run kubeadm, or
// something else.
func Detect(f Facts) Finding {
	found := f.find()
	found.form = f.form()
	return found
}

func (f Facts) find() Finding {
	claims := underOwner(f.claims())
	switch len(claims) {
	case 0:
		return f.byPods("")
	case 1:
		return f.confirm(claims[0])
	}
	return contradiction(claims...)
}

// claims are the first piece of evidence for each platform that any speaks for, in the order of trust: what the platform
// itself says first.
func (f Facts) claims() []claim {
	var all []claim
	if f.OpenShift == Yes {
		all = append(all, claim{OpenShift, "the API server serves kubecontrollermanagers.operator.openshift.io"})
	}
	if f.Kubeadm == Yes {
		all = append(all, claim{Kubeadm, "ConfigMap kube-system/kubeadm-config exists"})
	}
	all = append(all, signed(f.ServerVersion, versionSigns, "the API server is %s")...)
	for _, n := range f.Nodes {
		all = append(all, n.claims()...)
	}
	for _, p := range f.Pods {
		all = append(all, p.claims()...)
	}
	var first []claim
	for _, c := range all {
		if !slices.ContainsFunc(first, func(other claim) bool { return other.platform == c.platform }) {
			first = append(first, c)
		}
	}
	return first
}

func (n Node) claims() []claim {
	all := signed(n.KubeletVersion, versionSigns, "the kubelet of node "+n.Name+" is %s")
	for _, s := range imageSigns {
		if strings.HasPrefix(n.OSImage, s.text) {
			all = append(all, claim{s.platform, fmt.Sprintf("node %s runs %s", n.Name, quoted(n.OSImage))})
		}
	}
	if machine, ok := n.Annotations[annotationMachine]; ok && n.ControlPlane {
		all = append(all, claim{ClusterAPI, fmt.Sprintf("node %s is machine %s", n.Name, quoted(machine))})
	}
	for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
		all = append(all, keyed(key, "node "+n.Name+" has label %s")...)
	}
	for _, key := range slices.Sorted(maps.Keys(n.Annotations)) {
		all = append(all, keyed(key, "node "+n.Name+" has annotation %s")...)
	}
	return all
}

func (p Pod) claims() []claim {
	switch {
	case p.Namespace == openShiftNamespace:
		return []claim{{OpenShift, fmt.Sprintf("Pod %s stands in namespace %s", p.Name, p.Namespace)}}
	case p.Labels["app.kubernetes.io/managed-by"] == "Talos":
		return []claim{{Talos, fmt.Sprintf("Pod %s is labelled as managed by Talos", p.Name)}}
	}
	return nil
}

// signed returns what a version speaks for.
func signed(version string, signs []sign, evidence string) []claim {
	for _, s := range signs {
		if strings.Contains(version, s.text) {
			return []claim{{s.platform, fmt.Sprintf(evidence, quoted(version))}}
		}
	}
	return nil
}

// keyed returns what the key of a label or an annotation speaks for.
func keyed(key, evidence string) []claim {
	for _, s := range nodeSigns {
		if strings.HasPrefix(key, s.text) {
			return []claim{{s.platform, fmt.Sprintf(evidence, key)}}
		}
	}
	return nil
}

// maxQuoted is how much of a text that a node says of itself is repeated, in bytes: more is no version.
const maxQuoted = 64

// quoted is a text that a node says of itself, made harmless for logs and terminals.
func quoted(text string) string {
	if len(text) > maxQuoted {
		text = text[:maxQuoted] + "..."
	}
	if safe := strconv.QuoteToASCII(text); safe[1:len(safe)-1] != text || strings.Contains(text, " ") {
		return safe
	}
	return text
}

// underOwner leaves out what Cluster API's machines run: their owner renders it.
func underOwner(claims []claim) []claim {
	if !slices.ContainsFunc(claims, func(c claim) bool { return c.platform == ClusterAPI }) {
		return claims
	}
	return slices.DeleteFunc(claims, func(c claim) bool {
		return slices.Contains([]Platform{Kubeadm, RKE2, K3s, Talos}, c.platform)
	})
}

// confirm holds the only claim against the Pods that are visible.
func (f Facts) confirm(c claim) Finding {
	switch c.platform {
	case Kubeadm:
		return f.byPods(c.evidence)
	case Gardener, EKS, GKE, AKS, TKE, CCE, K3s:
		if len(f.Pods) > 0 { // These show none.
			return contradiction(c, claim{StaticPod, fmt.Sprintf("Pod %s runs kube-controller-manager in the cluster", f.Pods[0].Name)})
		}
	case KOps, RKE2, Talos, OpenShift, ClusterAPI:
	case StaticPod, Managed, Unknown: // Nothing claims these.
	}
	return Finding{Platform: c.platform, Reason: c.evidence}
}

// byPods tells by the Pods alone, besides what speaks for kubeadm, if anything does.
func (f Facts) byPods(kubeadm string) Finding {
	no := Finding{Platform: Unknown}
	switch {
	case !f.PodsKnown:
		no.Reason = joined(kubeadm, "kube-controller-manager's Pods could not be read", strings.Join(f.Unread, "; "))
		return no
	case len(f.Pods) == 0:
		return f.invisible(kubeadm)
	}
	for _, p := range f.Pods {
		if source, mirrored := p.source(); !mirrored || source != sourceFile {
			no.Reason = joined(kubeadm, fmt.Sprintf("Pod %s does not come from a file: %s", p.Name, source))
			return no
		}
	}
	from := fmt.Sprintf("Pod %s comes from a file", f.Pods[0].Name)
	found := Finding{Platform: StaticPod, Patchable: f.NodesKnown}
	if kubeadm != "" || (f.Kubeadm == NotKnown && !slices.ContainsFunc(f.Pods, Pod.unlike)) {
		found.Platform = Kubeadm
	}
	switch {
	case !f.NodesKnown:
		found.Reason = joined(kubeadm, from, "the nodes, which tell who else may write it, could not be read", strings.Join(f.Unread, "; "))
	case found.Platform == Kubeadm:
		found.Reason = joined(cmp.Or(kubeadm, "it has kubeadm's labels"), from)
	default:
		found.Reason = joined(from, "nothing speaks for a platform that writes it again")
	}
	return found
}

// invisible tells without a Pod.
func (f Facts) invisible(kubeadm string) Finding {
	const none = "no Pod of kube-controller-manager is visible"
	for _, n := range f.Nodes {
		if n.ControlPlane {
			return Finding{Platform: Unknown, Reason: joined(kubeadm, none,
				fmt.Sprintf("node %s is labelled as a control-plane node: it restarts just now, or runs outside of Pods", n.Name))}
		}
	}
	if kubeadm != "" {
		return Finding{Platform: Unknown, Reason: joined(kubeadm, none)}
	}
	return Finding{Platform: Managed, Reason: joined(none, "no node is labelled as a control-plane node")}
}

// source is where a static Pod comes from, and whether the Pod mirrors a static one.
func (p Pod) source() (from string, mirrored bool) {
	if _, mirrored = p.Annotations[annotationMirror]; !mirrored {
		return "it is no static Pod", false
	}
	source := p.Annotations[annotationSource]
	if source == "" {
		return "its source is not known", true
	}
	return source, true
}

// unlike says that a Pod has not the labels that kubeadm gives it.
func (p Pod) unlike() bool {
	return p.Labels["component"] != "kube-controller-manager" || p.Labels["tier"] != "control-plane"
}

// contradiction says all sides.
func contradiction(claims ...claim) Finding {
	sides := make([]string, 0, len(claims))
	for _, c := range claims {
		sides = append(sides, fmt.Sprintf("%s speaks for %s", c.evidence, Finding{Platform: c.platform}.Title()))
	}
	return Finding{Platform: Unknown, Reason: "the evidence contradicts itself: " + strings.Join(sides, ", but ")}
}

// joined puts parts of evidence together and leaves out empty ones.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", and ")
}

// form is what the facts say of how the flags are written.
func (f Facts) form() form {
	var out form
	if minor, known := minorOf(f.ServerVersion, kubernetesVersion); known && minor < firstWithLists {
		out.kubeadmVersion = kubeadmMaps
	}
	if configVersion.MatchString(f.KubeadmVersion) {
		out.kubeadmVersion = f.KubeadmVersion
	}
	for _, n := range f.Nodes {
		if minor, known := minorOf(n.OSImage, talosVersion); known && minor >= firstWithDocument {
			out.talosDocument = true
		}
		if _, machine := n.Annotations[annotationMachine]; machine && n.ControlPlane && out.owner == (owner{}) {
			out.owner = owner{kind: named(n.Annotations[annotationOwnerKind]), name: named(n.Annotations[annotationOwnerName])}
		}
	}
	return out
}

const (
	// firstWithLists is the minor version of the first kubeadm whose ClusterConfiguration has extraArgs as a list
	// (v1beta4, Kubernetes v1.31).
	firstWithLists = 31
	// firstWithDocument is the minor version of the first Talos with KubeControllerManagerConfig (v1.14).
	firstWithDocument = 14
)

// The minor version in what the API server, and the operating system of a Talos node, say of themselves; and what the
// apiVersion of a ClusterConfiguration looks like.
var (
	configVersion     = regexp.MustCompile(`^kubeadm\.k8s\.io/v[0-9a-z]{1,16}$`)
	kubernetesVersion = regexp.MustCompile(`^v1\.([0-9]{1,4})\.`)
	talosVersion      = regexp.MustCompile(`^Talos \(v1\.([0-9]{1,4})\.`)
)

func minorOf(text string, form *regexp.Regexp) (minor int, known bool) {
	match := form.FindStringSubmatch(text)
	if match == nil {
		return 0, false
	}
	minor, err := strconv.Atoi(match[1])
	return minor, err == nil
}

// objectName is what a kind or the name of an object looks like. Others, which a kubelet may write on its Node, are not
// put into a snippet.
var objectName = regexp.MustCompile(`^[A-Za-z0-9]([-.A-Za-z0-9]{0,251}[A-Za-z0-9])?$`)

func named(text string) string {
	if objectName.MatchString(text) {
		return text
	}
	return ""
}
