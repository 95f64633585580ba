// Package platform knows how flags of kube-controller-manager are set on each platform, for people to do it where the
// operator may not. It changes nothing.
package platform

import (
	"fmt"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// KubeadmSnippet returns the flags as kubeadm's ClusterConfiguration (v1beta4) takes them, ready to commit. kubeadm
// appends extraArgs to the command in this order, so that its next upgrade finds the manifest as the operator left it.
// Absent flags are left out; no flag at all gives the empty string.
func KubeadmSnippet(flags v1alpha1.Flags) string {
	var args strings.Builder
	for _, f := range flags.List() {
		if f.Value > 0 {
			fmt.Fprintf(&args, "  - name: %s\n    value: \"%d\"\n", f.Name, f.Value)
		}
	}
	if args.Len() == 0 {
		return ""
	}
	return "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrollerManager:\n  extraArgs:\n" + args.String()
}
