package v1alpha1

import (
	"fmt"
	"strconv"
)

// Flags are the kube-controller-manager flags that the operator may set, and no others. A zero field means "absent":
// not bounded, not set, or not known, by context. Flags are comparable with ==.
//
// The limits are compiled in and hold whatever a policy says: worker counts are those that kube-controller-manager
// accepts (pkg/controller/endpointslice/config, validation 1..50, Kubernetes v1.37.2); QPS and burst are the highest
// that we have measured to be of use.
// +kubebuilder:validation:MinProperties=1
type Flags struct {
	// kubeAPIQPS is --kube-api-qps, in requests per second of each controller's client.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	KubeAPIQPS int32 `json:"kubeAPIQPS,omitempty"`

	// kubeAPIBurst is --kube-api-burst, in requests.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2000
	KubeAPIBurst int32 `json:"kubeAPIBurst,omitempty"`

	// concurrentEndpointSyncs is --concurrent-endpoint-syncs: workers of the Endpoints controller.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	ConcurrentEndpointSyncs int32 `json:"concurrentEndpointSyncs,omitempty"`

	// concurrentServiceEndpointSyncs is --concurrent-service-endpoint-syncs: workers of the EndpointSlice controller.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	ConcurrentServiceEndpointSyncs int32 `json:"concurrentServiceEndpointSyncs,omitempty"`
}

// The names of the flags, without dashes, in the order in which the operator writes them.
const (
	FlagKubeAPIQPS                     = "kube-api-qps"
	FlagKubeAPIBurst                   = "kube-api-burst"
	FlagConcurrentEndpointSyncs        = "concurrent-endpoint-syncs"
	FlagConcurrentServiceEndpointSyncs = "concurrent-service-endpoint-syncs"
)

// Compiled-in limits of each flag: what the operator may ever write.
const (
	MaxKubeAPIQPS   = 1000
	MaxKubeAPIBurst = 2000
	MaxWorkers      = 50
)

// DefaultFlags are what kube-controller-manager runs with when a flag is not given
// (cmd/kube-controller-manager/app/options and pkg/controller/{endpoint,endpointslice}/config, Kubernetes v1.37.2).
func DefaultFlags() Flags {
	return Flags{KubeAPIQPS: 20, KubeAPIBurst: 30, ConcurrentEndpointSyncs: 5, ConcurrentServiceEndpointSyncs: 5}
}

// FlagValue is one flag with its value and the largest value that may ever be written.
type FlagValue struct {
	Name  string
	Value int32
	Max   int32
}

// List returns all four flags in the order in which the operator writes them, absent ones with Value 0.
func (f Flags) List() []FlagValue {
	return []FlagValue{
		{FlagKubeAPIQPS, f.KubeAPIQPS, MaxKubeAPIQPS},
		{FlagKubeAPIBurst, f.KubeAPIBurst, MaxKubeAPIBurst},
		{FlagConcurrentEndpointSyncs, f.ConcurrentEndpointSyncs, MaxWorkers},
		{FlagConcurrentServiceEndpointSyncs, f.ConcurrentServiceEndpointSyncs, MaxWorkers},
	}
}

// Set gives the named flag a value and reports whether the name is one of ours.
func (f *Flags) Set(name string, value int32) bool {
	switch name {
	case FlagKubeAPIQPS:
		f.KubeAPIQPS = value
	case FlagKubeAPIBurst:
		f.KubeAPIBurst = value
	case FlagConcurrentEndpointSyncs:
		f.ConcurrentEndpointSyncs = value
	case FlagConcurrentServiceEndpointSyncs:
		f.ConcurrentServiceEndpointSyncs = value
	default:
		return false
	}
	return true
}

// Or returns f with every absent flag taken from other.
func (f Flags) Or(other Flags) Flags {
	for _, o := range other.List() {
		if f.get(o.Name) == 0 {
			f.Set(o.Name, o.Value)
		}
	}
	return f
}

// Within reports whether every flag that f sets has that value in other.
func (f Flags) Within(other Flags) bool { return f.Or(other) == other }

// String returns the flags as arguments, as they would stand on a command line.
func (f Flags) String() string {
	s := ""
	for _, v := range f.List() {
		if v.Value == 0 {
			continue
		}
		if s != "" {
			s += " "
		}
		s += "--" + v.Name + "=" + strconv.Itoa(int(v.Value))
	}
	return s
}

func (f Flags) get(name string) int32 {
	for _, v := range f.List() {
		if v.Name == name {
			return v.Value
		}
	}
	return 0
}

// Reject says why the bounds of a policy of that name do not admit a setting, by the first flag that lies outside its bound
// or has none; an absent flag lies inside. It returns the empty string for a setting that they admit.
func (b Bounds) Reject(f Flags, policy string) string {
	low := Flags{b.KubeAPIQPS.Min, b.KubeAPIBurst.Min, b.ConcurrentEndpointSyncs.Min, b.ConcurrentServiceEndpointSyncs.Min}.List()
	high := Flags{b.KubeAPIQPS.Max, b.KubeAPIBurst.Max, b.ConcurrentEndpointSyncs.Max, b.ConcurrentServiceEndpointSyncs.Max}.List()
	for i, v := range f.List() {
		switch {
		case v.Value == 0:
		case high[i].Value == 0:
			return fmt.Sprintf("--%s has no bound in policy %s, so it is never touched", v.Name, policy)
		case v.Value < low[i].Value || v.Value > high[i].Value:
			return fmt.Sprintf("--%s=%d is outside %d to %d, the bounds of policy %s", v.Name, v.Value, low[i].Value, high[i].Value, policy)
		}
	}
	return ""
}
