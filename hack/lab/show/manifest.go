package show

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// anchor is the first argument of the lab's own manifest; flags go before it.
const anchor = "    - kube-controller-manager\n"

// withFlags gives the lab's own manifest flags. It shares no code with the operator's edits.
func withFlags(manifest []byte, flags v1alpha1.Flags) []byte {
	var args bytes.Buffer
	for _, f := range flags.List() {
		if f.Value > 0 {
			fmt.Fprintf(&args, "    - --%s=%d\n", f.Name, f.Value)
		}
	}
	return bytes.Replace(manifest, []byte(anchor), append([]byte(anchor), args.Bytes()...), 1)
}

// writeManifest puts a manifest in place by rename, as the kubelet wants it.
func writeManifest(dir string, manifest []byte) error {
	temp := filepath.Join(dir, ".lab-"+manifestName)
	if err := os.WriteFile(temp, manifest, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, manifestName))
}
