// Package controlplane runs a real etcd and kube-apiserver of the pinned Kubernetes version as processes on loopback,
// without root, and describes the kube-controller-manager that belongs to them as a kubeadm-like static Pod manifest.
//
// It does not run kube-controller-manager: that is the static-Pod runner's work. It ends only processes it started, and
// on Linux none of them survives the lab.
package controlplane
