package trial

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
	"github.com/google/go-cmp/cmp"
)

func TestParseServer(t *testing.T) {
	const text = `# HELP apiserver_request_total Counter of apiserver requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",resource="pods",verb="GET"} 7
apiserver_request_total{code="429",component="apiserver",resource="pods",verb="PUT"} 2
apiserver_request_duration_seconds_bucket{component="apiserver",resource="pods",subresource="status",verb="PUT",le="0.005"} 3
apiserver_request_duration_seconds_bucket{component="apiserver",resource="pods",subresource="status",verb="PUT",le="+Inf"} 4
apiserver_request_duration_seconds_sum{component="apiserver",resource="pods",subresource="status",verb="PUT"} 0.5
apiserver_request_duration_seconds_count{component="apiserver",resource="pods",subresource="status",verb="PUT"} 4
apiserver_request_duration_seconds_bucket{component="apiserver",resource="endpointslices",verb="POST",le="0.005"} 1
apiserver_request_duration_seconds_bucket{component="apiserver",resource="endpointslices",verb="POST",le="+Inf"} 1
apiserver_request_duration_seconds_sum{component="apiserver",resource="endpointslices",verb="POST"} 0.25
apiserver_request_duration_seconds_count{component="apiserver",resource="endpointslices",verb="POST"} 1
apiserver_request_duration_seconds_sum{component="apiserver",resource="pods",verb="LIST"} 100
apiserver_request_duration_seconds_count{component="apiserver",resource="pods",verb="LIST"} 100
apiserver_flowcontrol_current_inqueue_requests{flow_schema="kube-system-service-accounts",priority_level="workload-high"} 5
apiserver_flowcontrol_current_inqueue_requests{flow_schema="global-default",priority_level="global-default"} 9
apiserver_flowcontrol_rejected_requests_total{flow_schema="x",priority_level="workload-high",reason="queue-full"} 1
apiserver_flowcontrol_request_wait_duration_seconds_sum{execute="true",flow_schema="x",priority_level="workload-high"} 1.5
apiserver_flowcontrol_request_wait_duration_seconds_count{execute="true",flow_schema="x",priority_level="workload-high"} 6
etcd_request_duration_seconds_sum{operation="update",type="pods"} 2
etcd_request_duration_seconds_count{operation="update",type="pods"} 8
process_start_time_seconds 1.5e+09
`
	got, err := parseServer(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := tuner.ServerSample{
		ProcessStart: time.Unix(1_500_000_000, 0).UTC(), Requests: 9, Refused: 2,
		Writes: 5, WriteTime: 750 * time.Millisecond,
		WriteBuckets: []tuner.Bucket{{Bound: 5 * time.Millisecond, Count: 4}, {Bound: math.MaxInt64, Count: 5}},
		PodWrites:    4, PodWriteTime: 500 * time.Millisecond, EndpointWrites: 1, EndpointWriteTime: 250 * time.Millisecond,
		Queued: 5, Rejected: 1, QueueWait: 1500 * time.Millisecond, QueueWaits: 6, EtcdRequests: 8, EtcdTime: 2 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parseServer (-want +got):\n%s", diff)
	}
}
