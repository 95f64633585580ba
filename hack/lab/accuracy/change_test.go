package accuracy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func start() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// at is a published addition of Pod a that began so long after the start.
func at(from, lag time.Duration) Change {
	return Change{Resource: "Endpoints", Service: "web", Pod: "a", Added: true, Class: classClosed, From: start().Add(from), Lag: lag}
}

func (c Change) removed() Change {
	c.Added = false
	return c
}

func (c Change) as(class string) Change {
	c.Class = class
	return c
}

func TestCompare(t *testing.T) {
	const second, ms = time.Second, time.Millisecond
	type counts struct{ Pairs, Superseded, Disputed, OnlySubject, OnlyTruth int }
	tests := map[string]struct {
		subject, truth []Change
		want           counts
	}{
		"the same change, stamped a little later": {
			[]Change{at(5*ms, second)}, []Change{at(0, second)}, counts{Pairs: 1},
		},
		"another direction is another change": {
			[]Change{at(0, second)}, []Change{at(0, second).removed()}, counts{OnlySubject: 1, OnlyTruth: 1},
		},
		"one that is missing in between shifts no other": {
			[]Change{at(0, second), at(60*second, second)},
			[]Change{at(0, second), at(30*second, second).removed(), at(60*second, second)},
			counts{Pairs: 2, OnlyTruth: 1},
		},
		"one that was invented in between shifts no other": {
			[]Change{at(0, second), at(30*second, second), at(60*second, second)},
			[]Change{at(60*second, second), at(0, second)},
			counts{Pairs: 2, OnlySubject: 1},
		},
		"too far apart to be the same": {
			[]Change{at(3*second, second)}, []Change{at(0, second)}, counts{OnlySubject: 1, OnlyTruth: 1},
		},
		"overtaken, say both": {
			[]Change{at(0, second).as(classSuperseded)}, []Change{at(0, second).as(classSuperseded)}, counts{Superseded: 1},
		},
		"overtaken, says one": {
			[]Change{at(0, second)}, []Change{at(0, second).as(classSuperseded)}, counts{Disputed: 1},
		},
		"a class that the truth does not know is no sample": {
			[]Change{at(0, 0).as("NotNeeded"), at(0, 0).as("Startup")}, nil, counts{},
		},
		"another Pod": {
			[]Change{at(0, second)},
			[]Change{{Resource: "Endpoints", Service: "web", Pod: "b", Added: true, Class: classClosed, From: start()}},
			counts{OnlySubject: 1, OnlyTruth: 1},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := Compare(test.subject, test.truth)
			got := counts{len(c.Pairs), c.Superseded, len(c.Disputed), len(c.OnlySubject), len(c.OnlyTruth)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Compare() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsArePositiveWhenTheSubjectIsLate(t *testing.T) {
	p := Pair{Subject: at(2*time.Millisecond, 1005*time.Millisecond), Truth: at(0, time.Second)}
	got := []time.Duration{p.OpeningError(), p.EndingError(), p.LagError()}
	if diff := cmp.Diff([]time.Duration{2e6, 7e6, 5e6}, got); diff != "" {
		t.Errorf("opening, ending and lag error (-want +got):\n%s", diff)
	}
}
