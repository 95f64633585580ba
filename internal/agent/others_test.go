package agent

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// TestWhoIsSilent: a report counts if this machine's clock dates it so, or if it was seen to come.
func TestWhoIsSilent(t *testing.T) {
	began := moment{Wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Boot: time.Hour, BootID: "b"}
	type look struct {
		after  time.Duration // since the beginning
		report time.Duration // ahead of this machine's clock at the beginning
		silent bool
	}
	tests := map[string][]look{
		"clocks that agree":                   {{0, -5 * time.Second, false}, {10 * time.Second, 5 * time.Second, false}},
		"a machine that has died":             {{0, -5 * time.Second, false}, {time.Minute, -5 * time.Second, true}},
		"one that had died before":            {{0, -time.Hour, true}, {2 * time.Second, -time.Hour, true}, {time.Minute, -time.Hour, true}},
		"a clock that is late":                {{0, -time.Hour, true}, {2 * time.Second, -time.Hour, true}, {4 * time.Second, -time.Hour + 10*time.Second, false}},
		"a clock that is early":               {{0, time.Hour, true}, {4 * time.Second, time.Hour + 10*time.Second, false}, {time.Minute, time.Hour + 10*time.Second, true}},
		"a new report that nobody waited for": {{0, -time.Hour, true}, {time.Hour, -time.Hour + time.Minute, true}},
	}
	for name, looks := range tests {
		t.Run(name, func(t *testing.T) {
			h := hearings{}
			for i, l := range looks {
				n := anotherNode()
				n.Status.ReportTime = metav1.NewTime(began.Wall.Add(l.report))
				now := moment{Wall: began.Wall.Add(l.after), Boot: began.Boot + l.after, BootID: "b"}
				if got := slices.Contains(h.silent([]v1alpha1.EndpointSyncNode{n}, now), n.Name); got != l.silent {
					t.Errorf("look %d: silent %v, want %v", i, got, l.silent)
				}
			}
		})
	}
}
