package tuner

import (
	"fmt"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// advice is what a person can do about a cause and what that would bring; empty where our levers are the cure.
func (s *situation) advice(cause v1alpha1.BottleneckType) string {
	switch cause {
	case v1alpha1.BottleneckNoLeader:
		return s.adviseLeader()
	case v1alpha1.BottleneckAPIServer:
		return s.adviseServer()
	case v1alpha1.BottleneckStaleRetries:
		return s.adviseStale()
	case v1alpha1.BottleneckBatching:
		return s.adviseBatching()
	case v1alpha1.BottleneckHotService:
		return s.adviseHot()
	case v1alpha1.BottleneckDropped:
		return s.adviseDropped()
	case v1alpha1.BottleneckUnknown:
		return s.adviseUnknown()
	case v1alpha1.BottleneckNone, v1alpha1.BottleneckClientRateLimit, v1alpha1.BottleneckWorkers:
	}
	return ""
}

func (s *situation) adviseLeader() string {
	text := "look at the Pods of kube-controller-manager and at the Lease kube-system/kube-controller-manager"
	if !s.e.Settings.ReleaseOnExit {
		text += "; with the feature gate ControllerManagerReleaseLeaderElectionLockOnExit on all nodes a planned restart " +
			"leaves about 1 s without a leader instead of about 16 s"
	}
	return text
}

func (s *situation) adviseServer() string {
	texts := []string{"higher limits would press the API server harder: leave them"}
	if s.server.etcd > 0 {
		texts = append(texts, fmt.Sprintf("look at etcd, which took %v per request (disk, CPU, size)", rounded(s.server.etcd)))
	} else {
		texts = append(texts, "look at the latency of etcd (disk, CPU, size)")
	}
	if s.server.wait >= queueWait || s.server.rejected > 0 || s.server.refused >= refusedShare {
		texts = append(texts, "give the priority level workload-high more shares, or find who fills it "+
			"(apiserver_flowcontrol_current_inqueue_requests)")
	}
	if share := s.endpointsShare(); share > 0 {
		texts = append(texts, fmt.Sprintf("where nothing reads Endpoints, --controllers=*,-endpoints-controller saves %.0f %% of "+
			"the endpoint writes", 100*share))
	}
	return strings.Join(texts, "; ")
}

// endpointsShare is the part of the writes that were seen that went into Endpoints.
func (s *situation) endpointsShare() float64 {
	if s.e.Settings.EndpointsOff {
		return 0
	}
	var writes [kcm.APIs]int
	for _, c := range s.e.Demand.Changes {
		for in := range kcm.APIs {
			if class, _ := outcomeIn(c, in); class == lag.Closed {
				writes[in]++
			}
		}
	}
	return float64(writes[kcm.Endpoints]) / float64(max(1, writes[kcm.Endpoints]+writes[kcm.EndpointSlices]))
}

// usualBatch is the batch period that others run with (kOps' scale jobs), long enough for a cache to show a write.
const usualBatch = 500 * time.Millisecond

func (s *situation) adviseStale() string {
	if period := s.e.Settings.SliceBatch; period >= usualBatch {
		return fmt.Sprintf("--endpointslice-updates-batch-period is %v and does not keep syncs from overtaking the cache: find out why "+
			"watches of the API server are late", period)
	}
	return fmt.Sprintf("--endpointslice-updates-batch-period=%v lets the cache show a write before the next sync: it costs each change "+
		"%v and saves the %d that had to be tried again a second and more; find out why watches of the API server are late",
		usualBatch, usualBatch, s.use.stale)
}

func (s *situation) adviseBatching() string {
	var texts []string
	add := func(in kcm.API, flag string, period time.Duration) {
		if lagThere := s.late[in].at(s.o.Percentile); period > 0 && s.isLate(in) {
			texts = append(texts, fmt.Sprintf("without --%s=%v the lag of %s falls from %v to about %v", flag, period, names[in],
				rounded(lagThere), rounded(max(0, lagThere-period))))
		}
	}
	add(kcm.EndpointSlices, "endpointslice-updates-batch-period", s.e.Settings.SliceBatch)
	add(kcm.Endpoints, "endpoint-updates-batch-period", s.e.Settings.EndpointsBatch)
	return strings.Join(append(texts, "it pays only where one Service changes many times within it"), "; ")
}

// adviseHot says what is known of the hottest Service, and what batching would make of it.
func (s *situation) adviseHot() string {
	text := "one worker has a Service at a time, so more workers do not help it: let its Pods change less often, or split it"
	in := kcm.EndpointSlices
	if !s.isLate(in) {
		in = kcm.Endpoints
	}
	if len(s.late[in].services) == 0 {
		return text
	}
	hot := s.late[in].services[0]
	if len(s.e.Lag.Worst) > 0 {
		w := s.e.Lag.Worst[0]
		text += fmt.Sprintf(" (the worst is %s/%s)", w.Namespace, w.Name)
	}
	if over := (hot.last - hot.first).Seconds(); over > 0 && s.e.Settings.SliceBatch < usualBatch {
		if rate := float64(hot.changes) / over; rate*usualBatch.Seconds() > 2 {
			text += fmt.Sprintf("; --endpointslice-updates-batch-period=%v would make one sync of about %.0f of its changes",
				usualBatch, rate*usualBatch.Seconds())
		}
	}
	return text
}

func (s *situation) adviseDropped() string {
	return "look for \"Retry budget exceeded, dropping service out of the queue\" in kube-controller-manager's log and cure the error " +
		"that it names; any event of the Service, such as an annotation, has it synced again at once, and so does another leader"
}

func (s *situation) adviseUnknown() string {
	switch {
	case !s.use.scraped:
		return "run the agent on the control-plane nodes, or measure with --kcm-url: kube-controller-manager's metrics tell tokens, " +
			"workers and the API server apart"
	case s.use.writes == 0:
		return "the endpoint controllers keep up: look at readiness probes, at the kubelets, and at the watches of the API server"
	}
	return ""
}
