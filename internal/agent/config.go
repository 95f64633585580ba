package agent

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Config is where the agent works and how patient it is.
type Config struct {
	NodeName     string        // the agent's own node, and the name of its EndpointSyncNode
	ManifestDir  string        // the kubelet's directory of static Pods; empty means /etc/kubernetes/manifests
	ManifestName string        // kube-controller-manager's file there; empty means kube-controller-manager.yaml
	StateDir     string        // journal and backups; empty means /var/lib/endpoint-sync-agent
	KCMURL       string        // empty means https://127.0.0.1:10257
	KCMCAFile    string        // verifies KCM's serving certificate; empty means not verified, so KCMURL must be on this machine
	DownTimeout  time.Duration // how long no process may answer after a swap; more than 0
	MinInterval  time.Duration // between two changes of values; 0 means no limit
}

// Defaults of Config. Empty strings mean them; durations mean what they say.
const (
	DefaultManifestDir  = "/etc/kubernetes/manifests"
	DefaultManifestName = "kube-controller-manager.yaml"
	DefaultStateDir     = "/var/lib/endpoint-sync-agent"
	DefaultKCMURL       = "https://127.0.0.1:10257"

	// DefaultDownTimeout leaves a kubelet almost three times what a healthy one takes, 10.5 to 15 s. The verdict on a
	// process that exits at once must fall within 45 s of the swap, also on a busy machine: one look may be 0.25 s
	// after the time is over (probeEvery) and take 1 s (probeTimeout), which leaves 0.75 s for late timers and for
	// reading the manifest.
	DefaultDownTimeout = 43 * time.Second

	// DefaultMinInterval keeps a controller that has gone mad from restarting kube-controller-manager all the time.
	DefaultMinInterval = 10 * time.Minute
)

// withDefaults fills in what is omitted, or says what is wrong.
func (c Config) withDefaults() (Config, error) {
	c.ManifestDir = cmp.Or(c.ManifestDir, DefaultManifestDir)
	c.ManifestName = cmp.Or(c.ManifestName, DefaultManifestName)
	c.StateDir = cmp.Or(c.StateDir, DefaultStateDir)
	c.KCMURL = cmp.Or(c.KCMURL, DefaultKCMURL)
	state, manifests := filepath.Clean(c.StateDir)+"/", filepath.Clean(c.ManifestDir)+"/"
	switch {
	case c.NodeName == "":
		return c, errors.New("the node name is empty: set --node-name or NODE_NAME")
	case c.NodeName == v1alpha1.IsolationProbe:
		return c, fmt.Errorf("the node name %s is reserved for the agents' isolation self-test: give the node another one", c.NodeName)
	case strings.Contains(c.ManifestName, "/") || strings.HasPrefix(c.ManifestName, "."):
		return c, fmt.Errorf("the manifest name is %q, want a name that the kubelet reads: no slash, no leading dot", c.ManifestName)
	case strings.HasPrefix(state, manifests):
		return c, fmt.Errorf("the state directory %s lies in the manifests directory, whose files the kubelet reads: choose another", c.StateDir)
	case c.DownTimeout <= 0:
		return c, fmt.Errorf("--down-timeout=%s would roll every change back at once: want more than 0s, such as %s", c.DownTimeout, DefaultDownTimeout)
	case c.MinInterval < 0:
		return c, fmt.Errorf("--min-interval=%s is negative: want 0s for no limit, or more, such as %s", c.MinInterval, DefaultMinInterval)
	}
	return c, nil
}
