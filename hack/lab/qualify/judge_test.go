package qualify

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	oldHash = "old"
	newHash = "new"
)

func at(seconds float64) time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

// changed is a node whose manifest became these contents, one every so often.
func changed(when float64, contents ...string) seenNode {
	n := seenNode{target: newHash, sightings: []rig.Sighting{{Hash: oldHash, At: at(0)}}, swaps: len(contents)}
	for i, c := range contents {
		n.sightings = append(n.sightings, rig.Sighting{Hash: c, At: at(when + float64(i))})
	}
	return n
}

// good is a rollout without a fault: a and b, then c, which leads, and from then on a.
func good() seen {
	return seen{
		nodes: map[string]seenNode{"a": changed(10, newHash), "b": changed(20, newHash), "c": changed(30, newHash)},
		log: auditLog{
			handed:  []handing{{"a", 1}, {"b", 1}, {"c", 1}},
			leaders: []leadership{{"c", at(-100)}, {"a", at(33)}},
		},
	}
}

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		change func(*seen)
		want   []string
	}{
		"a rollout without a fault": {func(*seen) {}, nil},
		"two in flight": {
			func(s *seen) { s.log.inFlight = []string{"a and b"} },
			[]string{"a and b"},
		},
		"the leader first": {
			func(s *seen) { s.nodes["c"] = changed(5, newHash) },
			[]string{"c led and was changed before a", "c led and was changed before b"},
		},
		"the leader second": {
			func(s *seen) { s.nodes["c"] = changed(15, newHash) },
			[]string{"c led and was changed before b"},
		},
		"a node that began to lead a moment ago": {
			func(s *seen) { s.log.leaders = []leadership{{"c", at(-100)}, {"a", at(9.5)}} },
			nil,
		},
		"a node that began to lead long ago": {
			func(s *seen) { s.log.leaders = []leadership{{"c", at(-100)}, {"a", at(8.5)}} },
			[]string{"a led and was changed before b", "a led and was changed before c"},
		},
		"the leader before a node that has nothing to change": {
			func(s *seen) {
				n := changed(20)
				n.target = oldHash
				s.nodes["b"] = n
				s.nodes["c"] = changed(15, newHash)
			},
			nil,
		},
		"a roll-back and another try under a higher revision": {
			func(s *seen) {
				s.nodes["b"] = changed(20, newHash, oldHash, newHash)
				s.log.handed = append(s.log.handed, handing{"b", 2})
			},
			nil,
		},
		"another try under the same revision": {
			func(s *seen) { s.nodes["b"] = changed(20, newHash, oldHash, newHash) },
			[]string{"b: changed 2 times for 1 revisions"},
		},
		"a change that nobody asked for": {
			func(s *seen) { s.log.handed = s.log.handed[1:] },
			[]string{"a: changed 1 times for 0 revisions"},
		},
		"the same content written twice": {
			func(s *seen) {
				n := changed(20, newHash)
				n.swaps++
				s.nodes["b"] = n
			},
			[]string{"b: its manifest was replaced 2 times, and changed 1 times"},
		},
		"a torn manifest": {
			func(s *seen) {
				n := s.nodes["a"]
				n.problems = []string{"the manifest is absent"}
				s.nodes["a"] = n
			},
			[]string{"a: the manifest is absent"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := good()
			tt.change(&s)
			if diff := cmp.Diff(strings.Join(tt.want, "\n"), strings.Join(judge(s).all(), "\n")); diff != "" {
				t.Errorf("judge (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALogSinceAnother(t *testing.T) {
	was := auditLog{inFlight: []string{"x"}, handed: []handing{{"a", 1}}, leaders: []leadership{{"a", at(0)}}, relists: 1}
	is := auditLog{
		inFlight: []string{"x", "y"}, handed: []handing{{"a", 1}, {"b", 1}},
		leaders: []leadership{{"a", at(0)}, {"b", at(1)}}, relists: 3,
	}
	want := auditLog{
		inFlight: []string{"y"}, handed: []handing{{"b", 1}}, leaders: []leadership{{"a", at(0)}, {"b", at(1)}}, relists: 2,
	}
	if diff := cmp.Diff(want, is.since(was), cmp.AllowUnexported(auditLog{}, handing{}, leadership{})); diff != "" {
		t.Errorf("since (-want +got):\n%s", diff)
	}
}
