package tuner

import "github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"

// Diagnose says what limits the endpoint controllers.
func Diagnose(e Evidence, o Objective) Bottleneck {
	return Bottleneck{Type: v1alpha1.BottleneckUnknown}
}
