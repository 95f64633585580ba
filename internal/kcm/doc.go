// Package kcm is a model of the two controllers of kube-controller-manager (KCM) that publish endpoints: what other flags
// would have done to the changes that were really seen.
//
// It is a discrete-event simulation: deterministic, without clock, chance or I/O. The same trace, flags and parameters
// give the same lags.
//
//	trace ─▶ Pods change ─▶ Pod queue ─▶ batch period ─▶ work queue ─▶ worker ─▶ token ─▶ API server ─▶ published
//	                                                        ▲                               │
//	                                                        └──── retry, if the cache does not show the last write yet
//
// Each of the two controllers has a token bucket of its own (one client, one limiter; cmd/kube-controller-manager/app
// discovery.go and core.go, v1.37.2), a queue that holds a Service once however often it changes, and workers that take
// Services in order. A worker reads the Service's state when it starts, waits for a token for each write, and writes one
// after the other. A Service that changes while a worker has it is queued again when that worker is done, so that no
// Service is ever in two hands (k8s.io/client-go/util/workqueue: dirty and processing sets).
//
// The writes of both controllers share one API server (server.go) with those that change the Pods in the first place.
// So Pods change later in the simulation than they did in the recording if the server has more to do, and where those
// who change Pods were waiting for the server, they will again.
//
// What it leaves out: writes of other controllers, the mirroring controller, more than one API server, and what an etcd
// with a slow disk does to the order of writes.
package kcm
