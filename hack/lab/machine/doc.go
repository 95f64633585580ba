// Package machine runs machines for Kubernetes nodes on one Linux host, as root: each is a network, mount, UTS and PID
// namespace with a containerd and a kubelet that are kept running as an init system would, its own state below one
// directory, and nothing of the host's that it could change.
//
// A machine shares the host's kernel, clock and /proc/sys/kernel/random/boot_id; a reboot changes none of them. Control
// groups of version 1 are what it was made and tested with; for version 2 it does what the kernel's documentation asks
// for, untested.
package machine
