// Package agent runs on one control-plane node: it edits that node's kube-controller-manager manifest when its
// EndpointSyncNode says so, proves that the new process runs with the new flags, and puts the old manifest back when
// that fails, with the API server dead if need be. It reports what it sees in the EndpointSyncNode's status.
//
// It does not decide which flags are good: it takes an instruction, checks it against the policy and against limits
// that are compiled in, and carries it out so that a crash at any instant leaves the manifest whole.
//
// One change is a sequence of durable steps: backup, journal "intent", temporary file, rename, journal "applied",
// proof, journal "committed"; or journal "rollingback", rename, proof, journal "rolledback". After a crash the journal's
// phase and the manifest's hash say what to do next (recovery.go). Decisions are pure functions over values (decide.go,
// proof.go, recovery.go); files are touched in dir.go, store.go and swap.go alone.
package agent
