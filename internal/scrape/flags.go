package scrape

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Configuration is what a process says it runs with. What it does not say, or what makes no sense, is absent.
type Configuration struct {
	Flags    v1alpha1.Flags
	Settings v1alpha1.KCMSettings
}

// The flags that Settings come from; Kubernetes v1.37.2, cmd/kube-controller-manager/app/options.
const (
	flagSliceBatch     = "endpointslice-updates-batch-period"
	flagEndpointsBatch = "endpoint-updates-batch-period"
	flagControllers    = "controllers"
	flagFeatureGates   = "feature-gates"

	// releaseGate lets a process that ends give up its leadership at once (alpha and off in v1.37.2).
	releaseGate = "ControllerManagerReleaseLeaderElectionLockOnExit"
)

// The names that --controllers knows the Endpoints controller by: the one of today, and the one of before v1.28.
var endpointsControllers = []string{"endpoints-controller", "endpoint"}

// longestBatch is the longest batch period that is believed.
const longestBatch = time.Hour

// parseFlagz reads config.k8s.io/v1beta1 Flagz as JSON.
func parseFlagz(body []byte) (Configuration, error) {
	var answer struct {
		Kind  string            `json:"kind"`
		Flags map[string]string `json:"flags"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Configuration{}, fmt.Errorf("parse /flagz: %w", err)
	}
	if answer.Kind != "Flagz" {
		return Configuration{}, fmt.Errorf("parse /flagz: kind is %.64q, want Flagz", answer.Kind)
	}
	var c Configuration
	for _, f := range c.Flags.List() {
		value, err := strconv.ParseFloat(answer.Flags[f.Name], 64)
		if err == nil {
			c.Flags.Set(f.Name, positive(value))
		}
	}
	c.Settings.EndpointSliceBatchPeriod = period(answer.Flags[flagSliceBatch])
	c.Settings.EndpointsBatchPeriod = period(answer.Flags[flagEndpointsBatch])
	if list, known := answer.Flags[flagControllers]; known {
		c.Settings.EndpointsController = runsEndpoints(strings.Split(strings.Trim(list, "[]"), ","))
	}
	if gates, known := answer.Flags[flagFeatureGates]; known {
		c.Settings.ReleaseOnExit = gate(gates, releaseGate)
	}
	return c, nil
}

// parseConfigz reads the part of kubecontrollermanager.config.k8s.io that holds our flags.
func parseConfigz(body []byte) (Configuration, error) {
	type configuration struct {
		Generic struct {
			ClientConnection struct {
				QPS   float64 `json:"qps"`
				Burst float64 `json:"burst"`
			}
			Controllers []string
		}
		EndpointController struct {
			ConcurrentEndpointSyncs    float64
			EndpointUpdatesBatchPeriod string
		}
		EndpointSliceController struct {
			ConcurrentServiceEndpointSyncs float64
			EndpointUpdatesBatchPeriod     string
		}
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(body, &answer); err != nil {
		return Configuration{}, fmt.Errorf("parse /configz: %w", err)
	}
	section, ok := answer["kubecontrollermanager.config.k8s.io"]
	if !ok {
		return Configuration{}, errors.New("parse /configz: no section kubecontrollermanager.config.k8s.io")
	}
	var c configuration
	if err := json.Unmarshal(section, &c); err != nil {
		return Configuration{}, fmt.Errorf("parse /configz: %w", err)
	}
	out := Configuration{
		Flags: v1alpha1.Flags{
			KubeAPIQPS:                     positive(c.Generic.ClientConnection.QPS),
			KubeAPIBurst:                   positive(c.Generic.ClientConnection.Burst),
			ConcurrentEndpointSyncs:        positive(c.EndpointController.ConcurrentEndpointSyncs),
			ConcurrentServiceEndpointSyncs: positive(c.EndpointSliceController.ConcurrentServiceEndpointSyncs),
		},
		Settings: v1alpha1.KCMSettings{
			EndpointSliceBatchPeriod: period(c.EndpointSliceController.EndpointUpdatesBatchPeriod),
			EndpointsBatchPeriod:     period(c.EndpointController.EndpointUpdatesBatchPeriod),
		},
	}
	if len(c.Generic.Controllers) > 0 {
		out.Settings.EndpointsController = runsEndpoints(c.Generic.Controllers)
	}
	return out, nil
}

// period returns a batch period as the API writes durations, or "" if it is none that can be believed.
func period(text string) v1alpha1.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > longestBatch {
		return ""
	}
	return v1alpha1.Duration(d.Round(time.Millisecond).String())
}

// runsEndpoints reads --controllers as kube-controller-manager does: a name settles it, else "*" does (Kubernetes
// v1.37.2, staging/src/k8s.io/controller-manager/pkg/app/helper.go).
func runsEndpoints(list []string) *bool {
	all := false
	for _, entry := range list {
		entry = strings.TrimSpace(entry)
		switch name, off := strings.CutPrefix(entry, "-"); {
		case slices.Contains(endpointsControllers, name):
			return new(!off)
		case entry == "*":
			all = true
		}
	}
	return &all
}

// gate reads one feature gate from --feature-gates, "component:Name=true" or "Name=true" separated by commas; nil if it is
// not among them, for then the version decides.
func gate(list, name string) *bool {
	var found *bool
	for entry := range strings.SplitSeq(strings.Trim(list, "[]"), ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if i := strings.LastIndexByte(key, ':'); i >= 0 {
			key = key[i+1:]
		}
		if on, err := strconv.ParseBool(value); ok && err == nil && key == name {
			found = &on
		}
	}
	return found
}

// positive returns value if it is a positive whole number that fits, else 0, which stands for "absent".
func positive(value float64) int32 {
	if value < 1 || value > math.MaxInt32 || value != math.Trunc(value) {
		return 0
	}
	return int32(value)
}
