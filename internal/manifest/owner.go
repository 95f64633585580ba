package manifest

import "strings"

// renderer says which platform writes the Pod's manifest again by itself, and where its flags are set instead; empty if
// none is known to. Manifests that were written by hand or by kubeadm have none of what is looked for.
func renderer(pod, container any) string {
	object, _ := container.(map[string]any)
	if image, _ := object["image"].(string); imageName(image) == "hardened-kubernetes" {
		return "RKE2 writes this manifest at each start: set kube-controller-manager-arg in /etc/rancher/rke2/config.yaml"
	}
	object, _ = pod.(map[string]any)
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	for key := range annotations {
		if strings.HasPrefix(key, "talos.dev/") {
			return "Talos serves this Pod by itself: set cluster.controllerManager.extraArgs in the machine configuration"
		}
	}
	return ""
}
