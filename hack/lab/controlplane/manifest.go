package controlplane

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
)

//go:embed kube-controller-manager.yaml.tmpl
var manifestTemplate string

// KCMManifest returns kube-controller-manager's static Pod manifest as kubeadm writes it, with this control plane's
// paths and port: none of --kube-api-qps, --kube-api-burst and --concurrent-*-syncs. command[0] is
// "kube-controller-manager"; whoever runs it puts Binaries.ControllerManager in its place.
func (cp *ControlPlane) KCMManifest() ([]byte, error) {
	parsed, err := template.New("manifest").Option("missingkey=error").Parse(manifestTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse manifest template: %w", err)
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]any{
		"Kubeconfig": cp.KCMKubeconfig,
		"PKI":        cp.pki.dir,
		"Port":       cp.ports.controllerManager,
		"Version":    KubernetesVersion,
	})
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return out.Bytes(), nil
}
