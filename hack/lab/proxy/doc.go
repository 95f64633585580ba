// Package proxy stands between one client and the lab's API server: a Link can be cut and healed, as a network can, and a
// Gate sees each request that changes something before and after the API server does.
//
// It knows nothing of the operator, and changes no request.
package proxy

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
)

// Kubeconfig writes a copy of a kubeconfig, next to it, that goes through the address of a Link or a Gate, and returns
// its path.
func Kubeconfig(path, address string) (string, error) {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return "", fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	for _, cluster := range config.Clusters {
		cluster.Server = "https://" + address
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("copy kubeconfig %s: %w", path, err)
	}
	through := strings.TrimSuffix(path, filepath.Ext(path)) + "-" + port + filepath.Ext(path)
	if err = clientcmd.WriteToFile(*config, through); err != nil {
		return "", fmt.Errorf("write kubeconfig %s: %w", through, err)
	}
	return through, nil
}
