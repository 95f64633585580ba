// Package v1alpha1 holds the endpointsync.io/v1alpha1 API: what people ask of the operator, and what it tells its
// agents. It is data only: types, condition types, reasons and defaults; it calls no client and decides nothing.
//
// +kubebuilder:object:generate=true
// +groupName=endpointsync.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "endpointsync.io", Version: "v1alpha1"}

// AddToScheme registers the types of this package with a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&EndpointSyncPolicy{}, &EndpointSyncPolicyList{},
		&EndpointSyncNode{}, &EndpointSyncNodeList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
