package agent

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// othersView are all nodes but this one as they were read.
type othersView struct {
	Unreachable error
	Nodes       []v1alpha1.EndpointSyncNode
	Silent      []string // names of those whose agents have not reported lately, as far as this one knows
}

// hearings are what this agent knows of when others reported, by their names.
type hearings map[string]hearing

// hearing is the newest report of another agent.
type hearing struct {
	sent   metav1.Time   // by its own clock
	looked time.Duration // when it was last looked for, on the boot clock
	came   time.Duration // when it was seen to be a new one, on the boot clock; 0: it was there at the first look
}

// silent looks at the nodes' reports and returns the names of those that none is known to have come from for
// rollout.MaxReportAge: neither does this machine's clock date it so, nor was it seen to come. Clocks that agree cost no
// time; one that is off costs a start the time until the next report.
func (h hearings) silent(nodes []v1alpha1.EndpointSyncNode, now moment) []string {
	var names []string
	for _, n := range nodes {
		sent, last := n.Status.ReportTime, h[n.Name]
		if !sent.Equal(&last.sent) {
			fresh := last.looked > 0 && now.Boot-last.looked <= rollout.MaxReportAge
			if last.sent, last.came = sent, 0; fresh {
				last.came = now.Boot
			}
		}
		last.looked = now.Boot
		h[n.Name] = last
		dated := now.Wall.Sub(sent.Time).Abs() <= rollout.MaxReportAge
		seen := last.came > 0 && now.Boot-last.came <= rollout.MaxReportAge
		if !dated && !seen {
			names = append(names, n.Name)
		}
	}
	return names
}
