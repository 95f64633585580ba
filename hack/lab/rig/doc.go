// Package rig puts the operator on a real control plane for tests: it installs what config/default renders, runs
// kube-controller-manager or the stand-in from a static-Pod manifest, runs the operator's own binary as agent and
// controller with the rights of their ServiceAccounts, and watches the manifest from outside.
//
// It shares no code with the packages under test but the API types.
package rig
