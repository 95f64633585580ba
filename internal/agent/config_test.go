package agent

import (
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func TestConfig(t *testing.T) {
	tests := map[string]struct {
		change func(*Config)
		fails  string // with this; nothing: it is sound
	}{
		"the defaults":                              {func(*Config) {}, ""},
		"no limit on changes":                       {func(c *Config) { c.MinInterval = 0 }, ""},
		"a negative time between changes":           {func(c *Config) { c.MinInterval = -time.Second }, "--min-interval=-1s is negative"},
		"no time at all for a process to come up":   {func(c *Config) { c.DownTimeout = 0 }, "--down-timeout=0s"},
		"less than no time":                         {func(c *Config) { c.DownTimeout = -time.Second }, "--down-timeout=-1s"},
		"the isolation probe's name":                {func(c *Config) { c.NodeName = v1alpha1.IsolationProbe }, "reserved"},
		"no name":                                   {func(c *Config) { c.NodeName = "" }, "--node-name"},
		"a manifest that the kubelet does not read": {func(c *Config) { c.ManifestName = ".hidden" }, ".hidden"},
		"a manifest elsewhere":                      {func(c *Config) { c.ManifestName = "../x" }, "../x"},
		"a journal among the manifests":             {func(c *Config) { c.StateDir = DefaultManifestDir + "/state" }, "manifests directory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Config{NodeName: "cp-1", DownTimeout: DefaultDownTimeout, MinInterval: DefaultMinInterval}
			tt.change(&c)
			got, err := c.withDefaults()
			if (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("withDefaults() = %v, want an error with %q", err, tt.fails)
			}
			if err == nil && got.MinInterval != c.MinInterval {
				t.Errorf("MinInterval is %s, want what was given, %s", got.MinInterval, c.MinInterval)
			}
		})
	}
}

func TestATokenIsNotSentToAnUnverifiedServerElsewhere(t *testing.T) {
	c := Config{
		NodeName: "cp-1", KCMURL: "https://192.0.2.1:10257", DownTimeout: DefaultDownTimeout,
		ManifestDir: privateDir(t), StateDir: privateDir(t),
	}
	err := Run(t.Context(), c, &rest.Config{Host: "https://127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "--kcm-url and --kcm-ca-file: https://192.0.2.1:10257 is not known to be this machine") {
		t.Errorf("Run() = %v, want a refusal of the address", err)
	}
}
