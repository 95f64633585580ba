package workload

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTurns(t *testing.T) {
	const half = 500 * time.Millisecond
	tests := map[string]struct {
		pace           Pace
		services, pods int
		want           []turn
	}{
		"without a pace all are due at once, Service by Service": {
			services: 2, pods: 2, want: []turn{{0, 0}, {1, 0}, {2, 0}, {3, 0}},
		},
		"Services begin at equal distances": {
			pace: Pace{Over: time.Second}, services: 4, pods: 1,
			want: []turn{{0, 0}, {1, half / 2}, {2, half}, {3, 3 * half / 2}},
		},
		"the Pods of a Service come one after another, between those of others": {
			pace: Pace{Over: time.Second, Step: 2 * half}, services: 2, pods: 2,
			want: []turn{{0, 0}, {2, half}, {1, 2 * half}, {3, 3 * half}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := tt.pace.turns(tt.services, tt.pods)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(turn{})); diff != "" {
				t.Errorf("turns (-want +got):\n%s", diff)
			}
		})
	}
}
