package tuner

import "github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"

const (
	// sustainedClients is how many times --kube-api-qps all clients of a kube-controller-manager can send together,
	// sustained: 52 clients at the flag's value, the garbage collector's metadata client at twice, and two clients of
	// the namespace controller and four of the storage version migrator at 20 times (cmd/kube-controller-manager/app,
	// v1.37.2: 52 + 2 + 6·20).
	sustainedClients = 174

	// burstClients is the same for --kube-api-burst, which those six clients multiply by 100: 52 + 2·1 + 6·100, rounded.
	burstClients = 650

	// stormSeconds is the length of the storm that Cost prices: the renewDeadline of the leader's Lease. An API server
	// that is swamped for as long costs kube-controller-manager its leadership.
	stormSeconds = 10

	// workerCost is what one more worker adds. A worker holds at most one request in flight, and only the endpoint
	// controllers have these: small against one unit of QPS or burst, enough that a worker without use is not taken.
	workerCost = 5
)

// Cost is the most requests that all clients of kube-controller-manager together could send in ten seconds under these
// flags, from full buckets, plus a small term for each worker. It does not measure what they do send: it prices what a
// mass deletion or a garbage collection right after the change could do to the API server. Absent flags cost nothing.
func Cost(f v1alpha1.Flags) int64 {
	return sustainedClients*stormSeconds*int64(f.KubeAPIQPS) +
		burstClients*int64(f.KubeAPIBurst) +
		workerCost*(int64(f.ConcurrentEndpointSyncs)+int64(f.ConcurrentServiceEndpointSyncs))
}
