// Package e2e proves the operator on a real, highly available control plane: three kubeadm nodes with real kubelets and
// containerd, the operator installed from config/default as an image, and an incident on 1,000 Services beside a
// Deployment whose users are counted.
//
// Every stage checks what the issue of its name promises and fails with what it saw; what it measured stands in
// result.json. A stage leaves the cluster so that the next one can run.
package e2e
