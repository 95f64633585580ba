package scrape

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// parseFlagz reads config.k8s.io/v1beta1 Flagz as JSON.
func parseFlagz(body []byte) (v1alpha1.Flags, error) {
	var answer struct {
		Kind  string            `json:"kind"`
		Flags map[string]string `json:"flags"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return v1alpha1.Flags{}, fmt.Errorf("parse /flagz: %w", err)
	}
	if answer.Kind != "Flagz" {
		return v1alpha1.Flags{}, fmt.Errorf("parse /flagz: kind is %.64q, want Flagz", answer.Kind)
	}
	var flags v1alpha1.Flags
	for _, f := range flags.List() {
		value, err := strconv.ParseFloat(answer.Flags[f.Name], 64)
		if err == nil {
			flags.Set(f.Name, positive(value))
		}
	}
	return flags, nil
}

// parseConfigz reads the part of kubecontrollermanager.config.k8s.io that holds our flags.
func parseConfigz(body []byte) (v1alpha1.Flags, error) {
	type configuration struct {
		Generic struct {
			ClientConnection struct {
				QPS   float64 `json:"qps"`
				Burst float64 `json:"burst"`
			}
		}
		EndpointController      struct{ ConcurrentEndpointSyncs float64 }
		EndpointSliceController struct{ ConcurrentServiceEndpointSyncs float64 }
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(body, &answer); err != nil {
		return v1alpha1.Flags{}, fmt.Errorf("parse /configz: %w", err)
	}
	section, ok := answer["kubecontrollermanager.config.k8s.io"]
	if !ok {
		return v1alpha1.Flags{}, errors.New("parse /configz: no section kubecontrollermanager.config.k8s.io")
	}
	var c configuration
	if err := json.Unmarshal(section, &c); err != nil {
		return v1alpha1.Flags{}, fmt.Errorf("parse /configz: %w", err)
	}
	return v1alpha1.Flags{
		KubeAPIQPS:                     positive(c.Generic.ClientConnection.QPS),
		KubeAPIBurst:                   positive(c.Generic.ClientConnection.Burst),
		ConcurrentEndpointSyncs:        positive(c.EndpointController.ConcurrentEndpointSyncs),
		ConcurrentServiceEndpointSyncs: positive(c.EndpointSliceController.ConcurrentServiceEndpointSyncs),
	}, nil
}

// positive returns value if it is a positive whole number that fits, else 0, which stands for "absent".
func positive(value float64) int32 {
	if value < 1 || value > math.MaxInt32 || value != math.Trunc(value) {
		return 0
	}
	return int32(value)
}
