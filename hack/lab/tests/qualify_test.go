package tests

import (
	"testing"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/qualify"
)

// TestQualify plays a little of what make qualify-rollout plays: three nodes, a controller that is killed at some of its
// writes, two controllers at once, and values that end kube-controller-manager.
func TestQualify(t *testing.T) {
	t.Parallel()
	result, err := qualify.Play(t.Context(), environment, qualify.Options{
		Only:   []string{qualify.KilledController, qualify.TwoControllers, qualify.BadValues},
		Points: 2, Runs: 5, RollBacks: 1, Lanes: 1, Progress: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range result.Problems() {
		t.Error(p)
	}
	for _, s := range result.Scenarios {
		if s.Runs == s.NotReached {
			t.Errorf("scenario %s: no fault came in %d runs", s.Name, s.Runs)
		}
	}
}
