package accuracy

import (
	"slices"
	"strings"
	"time"
)

// The classes of a change that two parties are compared in. What else a party knows of is counted by its own name.
const (
	classClosed     = "Closed"
	classSuperseded = "Superseded"
	classOpen       = "Open"
)

// Change is one change of a Pod's membership in one API as one party saw it.
type Change struct {
	// Resource is the API: EndpointSlice or Endpoints.
	Resource string `json:"resource"`
	// Service is the Service's name, and Pod the Pod's UID in lower-case hexadecimal digits without dashes.
	Service string `json:"service"`
	Pod     string `json:"pod"`
	// Added tells a Pod to be shown from one not to be shown any more.
	Added bool   `json:"added"`
	Class string `json:"class"`
	// From is when it began and Lag how long it took until it was published, or until it was overtaken.
	From time.Time     `json:"from"`
	Lag  time.Duration `json:"lag"`
	// Spread is how uncertain the party's own stamps are together; zero where it does not say.
	Spread time.Duration `json:"spread,omitempty"`
	// Marked says that the party itself warns of this one: it lies next to a gap.
	Marked bool `json:"marked,omitempty"`
}

// Until is when it ended.
func (c Change) Until() time.Time { return c.From.Add(c.Lag) }

// plainUID makes UIDs comparable however they were written.
func plainUID(text string) string { return strings.ToLower(strings.ReplaceAll(text, "-", "")) }

// Pair is one change as two parties saw it.
type Pair struct{ Subject, Truth Change }

// OpeningError is how much later the subject says that it began.
func (p Pair) OpeningError() time.Duration { return p.Subject.From.Sub(p.Truth.From) }

// EndingError is how much later the subject says that it ended.
func (p Pair) EndingError() time.Duration { return p.Subject.Until().Sub(p.Truth.Until()) }

// LagError is how much longer the subject says that it took.
func (p Pair) LagError() time.Duration { return p.Subject.Lag - p.Truth.Lag }

// Comparison is what became of two parties' changes.
type Comparison struct {
	// Pairs were published, say both.
	Pairs []Pair
	// Superseded were overtaken, say both.
	Superseded int
	// Disputed were published, says one, and overtaken, says the other.
	Disputed []Pair
	// OnlySubject and OnlyTruth were seen by one of the two.
	OnlySubject, OnlyTruth []Change
}

// sameChange is how far apart two parties may stamp the beginning of one change. The workload leaves each Pod alone for
// many times that long, so that no other change of the same Pod in the same direction can be mistaken for it.
const sameChange = 2 * time.Second

// series tells which changes come one after another.
type series struct{ resource, service, pod string }

// Compare matches changes by resource, Service, Pod, direction and order.
func Compare(subject, truth []Change) Comparison {
	var out Comparison
	bySeries := split(truth)
	for key, ours := range split(subject) {
		out.match(ours, bySeries[key])
		delete(bySeries, key)
	}
	for _, theirs := range bySeries {
		out.OnlyTruth = append(out.OnlyTruth, theirs...)
	}
	slices.SortFunc(out.Pairs, func(a, b Pair) int { return a.Truth.From.Compare(b.Truth.From) })
	return out
}

// split sorts the changes of each series by time, leaving out classes that only one party knows.
func split(changes []Change) map[series][]Change {
	out := map[series][]Change{}
	for _, c := range changes {
		if c.Class == classClosed || c.Class == classSuperseded {
			key := series{c.Resource, c.Service, c.Pod}
			out[key] = append(out[key], c)
		}
	}
	for _, s := range out {
		slices.SortStableFunc(s, func(a, b Change) int { return a.From.Compare(b.From) })
	}
	return out
}

// match walks through one series of both.
func (r *Comparison) match(ours, theirs []Change) {
	for len(ours) > 0 && len(theirs) > 0 {
		p := Pair{ours[0], theirs[0]}
		switch apart := p.OpeningError(); {
		case apart.Abs() <= sameChange && p.Subject.Added == p.Truth.Added:
			r.judge(p)
			ours, theirs = ours[1:], theirs[1:]
		case apart <= 0:
			r.OnlySubject, ours = append(r.OnlySubject, p.Subject), ours[1:]
		default:
			r.OnlyTruth, theirs = append(r.OnlyTruth, p.Truth), theirs[1:]
		}
	}
	r.OnlySubject = append(r.OnlySubject, ours...)
	r.OnlyTruth = append(r.OnlyTruth, theirs...)
}

func (r *Comparison) judge(p Pair) {
	switch {
	case p.Subject.Class != p.Truth.Class:
		r.Disputed = append(r.Disputed, p)
	case p.Subject.Class == classSuperseded:
		r.Superseded++
	default:
		r.Pairs = append(r.Pairs, p)
	}
}
