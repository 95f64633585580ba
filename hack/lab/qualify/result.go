package qualify

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// How a run ended; empty if it did not.
const (
	endDesired = "desired"
	endStopped = "stopped"
)

// Rollout is one rollout with its fault, and what came of it.
type Rollout struct {
	Scenario  string `json:"scenario"`
	Direction string `json:"direction"` // apply or restore
	Fault     string `json:"fault,omitempty"`
	// Reached says whether the fault came: a rollout may be over before its twentieth write.
	Reached bool `json:"reached"`
	// Ended is desired or stopped; a stop has the reason and the message of the policy's condition Stalled.
	Ended   string  `json:"ended"`
	Reason  string  `json:"reason,omitempty"`
	Message string  `json:"message,omitempty"`
	Seconds float64 `json:"seconds"`
	// Changes of manifests, and changes of the node that leads kube-controller-manager.
	Changes   int `json:"changes"`
	HandOvers int `json:"handOvers"`
	// What may never be.
	TwoInFlight   int `json:"twoInFlight"`
	LeaderNotLast int `json:"leaderNotLast"`
	ChangedTwice  int `json:"changedTwice"`
	// Relists are how often the audit could not see what happened between two looks: the API server was away.
	Relists int `json:"relists,omitempty"`
	// RollBackSeconds are from the swap to a healthy process of the old manifest, with the API server up or stopped.
	RollBackSeconds float64 `json:"rollBackSeconds,omitempty"`
	APIServer       string  `json:"apiServer,omitempty"`
	// Problems are all that was wrong, in words.
	Problems []string `json:"problems,omitempty"`
}

// Scenario is what came of all runs of one kind.
type Scenario struct {
	Name          string  `json:"name"`
	What          string  `json:"what"`
	Runs          int     `json:"runs"`
	NotReached    int     `json:"notReached"` // of Runs: the rollout was over before the fault
	Desired       int     `json:"desired"`
	Stopped       int     `json:"stopped"`
	TwoInFlight   int     `json:"twoInFlight"`
	LeaderNotLast int     `json:"leaderNotLast"`
	ChangedTwice  int     `json:"changedTwice"`
	Failed        int     `json:"failed"` // runs with a problem
	LongestRun    float64 `json:"longestRunSeconds"`
}

// RollBack is how long a node was without a healthy kube-controller-manager whose values it did not take: from the swap to
// a healthy process of the old manifest.
type RollBack struct {
	APIServer     string    `json:"apiServer"` // up or stopped
	Seconds       []float64 `json:"seconds"`
	MedianSeconds float64   `json:"medianSeconds"`
	MaxSeconds    float64   `json:"maxSeconds"`
}

// Observation is what came of faults while the policy only observed.
type Observation struct {
	Faults []string `json:"faults"`
	Writes []string `json:"writes"` // names in any manifests directory
}

// Result is what the qualification writes.
type Result struct {
	Nodes     int        `json:"nodes"`
	Minutes   float64    `json:"minutes"`
	Scenarios []Scenario `json:"scenarios"`
	RollBacks []RollBack `json:"rollBacks"`
	// Writes are what the controller writes in a rollout of each direction without a fault.
	Writes  map[string][]string `json:"writes,omitempty"`
	Observe *Observation        `json:"observe,omitempty"`
	Runs    []Rollout           `json:"runs"`
}

// Problems are what was wrong, in words, with the run that each belongs to.
func (r Result) Problems() []string {
	var all []string
	for _, run := range r.Runs {
		for _, p := range run.Problems {
			all = append(all, fmt.Sprintf("%s: %s, %s: %s", run.Scenario, run.Direction, run.Fault, p))
		}
	}
	return all
}

// summed fills in what follows from the runs.
func (r Result) summed(scenarios []Scenario) Result {
	for _, s := range scenarios {
		for _, run := range r.Runs {
			if run.Scenario == s.Name {
				s = s.with(run)
			}
		}
		if s.Runs > 0 {
			r.Scenarios = append(r.Scenarios, s)
		}
	}
	for _, apiServer := range []string{apiUp, apiGone} {
		b := RollBack{APIServer: apiServer}
		for _, run := range r.Runs {
			if run.APIServer == apiServer {
				b.Seconds = append(b.Seconds, run.RollBackSeconds)
			}
		}
		if n := len(b.Seconds); n > 0 {
			slices.Sort(b.Seconds)
			b.MedianSeconds, b.MaxSeconds = (b.Seconds[(n-1)/2]+b.Seconds[n/2])/2, b.Seconds[n-1]
			r.RollBacks = append(r.RollBacks, b)
		}
	}
	return r
}

func (s Scenario) with(r Rollout) Scenario {
	s.Runs++
	s.TwoInFlight += r.TwoInFlight
	s.LeaderNotLast += r.LeaderNotLast
	s.ChangedTwice += r.ChangedTwice
	s.LongestRun = max(s.LongestRun, r.Seconds)
	switch r.Ended {
	case endDesired:
		s.Desired++
	case endStopped:
		s.Stopped++
	}
	if !r.Reached {
		s.NotReached++
	}
	if len(r.Problems) > 0 {
		s.Failed++
	}
	return s
}

// print writes the result as a table.
func (r Result) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SCENARIO\tRUNS\tDESIRED\tSTOPPED\tTWO IN FLIGHT\tLEADER NOT LAST\tCHANGED TWICE\tFAILED\tLONGEST")
	for _, s := range r.Scenarios {
		_, _ = fmt.Fprintf(table, "%s: %s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f s\n",
			s.Name, s.What, s.Runs, s.Desired, s.Stopped, s.TwoInFlight, s.LeaderNotLast, s.ChangedTwice, s.Failed, s.LongestRun)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, b := range r.RollBacks {
		_, _ = fmt.Fprintf(w, "roll-back with the API server %s: %d times, median %.1f s, at most %.1f s from the swap to a healthy old manifest\n",
			b.APIServer, len(b.Seconds), b.MedianSeconds, b.MaxSeconds)
	}
	if r.Observe != nil {
		_, _ = fmt.Fprintf(w, "Observe: %d faults, %d writes in a manifests directory\n", len(r.Observe.Faults), len(r.Observe.Writes))
	}
	for _, p := range r.Problems() {
		_, _ = fmt.Fprintln(w, "PROBLEM", p)
	}
	_, err := fmt.Fprintf(w, "%.0f minutes\n", r.Minutes)
	return err
}

// seconds are rounded to hundredths: the watchers look every 10 ms.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*100) / 100 }

// byCase orders runs so that a result of today can be held against one of yesterday.
func byCase(a, b Rollout) int {
	return cmp.Or(cmp.Compare(a.Scenario, b.Scenario), cmp.Compare(a.Fault, b.Fault), cmp.Compare(a.Direction, b.Direction))
}
