// Package qualify holds the rollout over three control-plane nodes against faults, on a real etcd and kube-apiserver: the
// controller killed at each of its writes, agents killed in each phase of a change, networks cut, two controllers at once,
// values that kube-controller-manager does not take. Who watches is independent of what is watched: the manifests
// themselves, and a watch of the objects.
//
// It drives the operator's own binary and shares no code with it but the API types. It measures no lag: a stand-in plays
// kube-controller-manager.
package qualify
