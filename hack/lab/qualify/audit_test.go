package qualify

import (
	"testing"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// told is a node's object: told a revision, and with another ended.
func told(name string, revision, ended int64, phase v1alpha1.ChangePhase) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"revision": revision},
		"status":   map[string]any{"observedRevision": ended, "phase": string(phase)},
	}}
}

func newNodeFeed() (*audit, *feed) {
	a := &audit{nodes: map[string]v1alpha1.EndpointSyncNode{}, moved: make(chan struct{})}
	return a, &feed{audit: a, see: a.seeNodes, listed: make(chan struct{})}
}

func TestTheAuditSeesTwoInFlight(t *testing.T) {
	const idle = v1alpha1.PhaseIdle
	tests := map[string]struct {
		events []*unstructured.Unstructured
		want   []string
	}{
		"one after the other": {
			[]*unstructured.Unstructured{
				told("a", 2, 1, idle), told("a", 2, 1, v1alpha1.PhaseApplied), told("a", 2, 2, idle), told("b", 2, 1, idle),
			}, nil,
		},
		"one told before the other has ended": {
			[]*unstructured.Unstructured{told("a", 2, 1, v1alpha1.PhaseApplied), told("b", 2, 1, idle)},
			[]string{"a (revision 2, ended 1, phase Applied) and b (revision 2, ended 1, phase Idle)"},
		},
		"one that changes although nobody told it to": {
			[]*unstructured.Unstructured{told("a", 2, 1, idle), told("b", 1, 1, v1alpha1.PhaseRollingBack)},
			[]string{"a (revision 2, ended 1, phase Idle) and b (revision 1, ended 1, phase RollingBack)"},
		},
		"an object that is no node": {
			[]*unstructured.Unstructured{told("a", 2, 1, idle), told(v1alpha1.IsolationProbe, 2, 1, idle)}, nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, f := newNodeFeed()
			if err := f.Replace([]any{told("a", 1, 1, idle), told("b", 1, 1, idle)}, ""); err != nil {
				t.Fatal(err)
			}
			_, _, was := a.now()
			for _, e := range tt.events {
				if err := f.Update(e); err != nil {
					t.Fatal(err)
				}
			}
			_, _, is := a.now()
			if diff := cmp.Diff(tt.want, is.since(was).inFlight); diff != "" {
				t.Errorf("in flight (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheAuditKnowsWhatItHasMissed(t *testing.T) {
	a, f := newNodeFeed()
	lists := [][]any{
		{told("a", 1, 1, v1alpha1.PhaseIdle), told("b", 1, 1, v1alpha1.PhaseIdle)},
		{told("a", 3, 3, v1alpha1.PhaseIdle)},
	}
	for _, list := range lists {
		if err := f.Replace(list, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Delete(told("a", 3, 3, v1alpha1.PhaseIdle)); err != nil {
		t.Fatal(err)
	}
	nodes, _, log := a.now()
	if len(nodes) != 0 || log.relists != 1 {
		t.Errorf("%d nodes and %d lists again, want none and 1", len(nodes), log.relists)
	}
	if diff := cmp.Diff([]handing{{"a", 1}, {"b", 1}, {"a", 3}}, log.handed, cmp.AllowUnexported(handing{})); diff != "" {
		t.Errorf("handed (-want +got):\n%s", diff)
	}
}
