package tuner

import (
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// drained is n Services that all change at once and are published at a rate after a burst, in both APIs, as seen after
// the given time.
func drained(n int, rate float64, burst int, after time.Duration) lag.Demand {
	d := lag.Demand{Start: start}
	for i := range n {
		late := 5 * time.Millisecond
		if i >= burst {
			late += time.Duration(float64(i-burst) / rate * float64(time.Second))
		}
		c := lag.Change{Service: int32(i), Direction: lag.DirectionRemoval, SliceClass: lag.Closed, SliceLag: late}
		if late > after {
			c.SliceClass, c.SliceLag, c.SliceOpen = lag.Open, after, true
		}
		c.EndpointsClass, c.EndpointsLag, c.EndpointsOpen = c.SliceClass, c.SliceLag, c.SliceOpen
		d.Changes = append(d.Changes, c)
	}
	return d
}

func TestPaceTellsTheLimitFromOtherLimits(t *testing.T) {
	defaults := v1alpha1.DefaultFlags()
	tests := map[string]struct {
		demand lag.Demand
		after  time.Duration
		flags  v1alpha1.Flags
		// seen, limited and beyond are what is said.
		seen, limited, beyond bool
		says                  string
	}{
		"a backlog at the rate limit":          {drained(640, 20, 30, time.Minute), time.Minute, defaults, true, true, false, "20.0 writes/s in EndpointSlice against 20 allowed (kube-api-qps)"},
		"while it drains":                      {drained(2000, 20, 30, 20*time.Second), 20 * time.Second, defaults, true, true, false, "20.0 writes/s"},
		"at a high limit":                      {drained(6000, 300, 1000, time.Minute), time.Minute, flagsOf(300, 1000, 50, 50), true, true, false, "300.0 writes/s"},
		"at a low limit":                       {drained(200, 5, 10, time.Minute), time.Minute, flagsOf(5, 10, 5, 5), true, true, false, "5.0 writes/s"},
		"below the limit":                      {drained(640, 12, 0, time.Minute), time.Minute, defaults, true, false, false, "12.0 writes/s"},
		"above the limit that is known":        {drained(2000, 57, 30, time.Minute), time.Minute, defaults, true, false, true, "57.0 writes/s"},
		"a burst above the limit is no pace":   {drained(900, 500, 0, time.Minute), time.Minute, flagsOf(300, 1000, 50, 50), false, false, false, ""},
		"a backlog that is soon over":          {drained(100, 20, 30, time.Minute), time.Minute, defaults, false, false, false, ""},
		"the flags are not known":              {drained(640, 20, 30, time.Minute), time.Minute, v1alpha1.Flags{}, true, false, false, "20.0 writes/s in EndpointSlice for"},
		"no change at all":                     {lag.Demand{Start: start}, time.Minute, defaults, false, false, false, ""},
		"nothing is published: nobody acts":    {drained(640, 0.001, 0, time.Minute), time.Minute, defaults, false, false, false, ""},
		"few wait, so that no queue is behind": {incident(1000, time.Minute), time.Minute, defaults, false, false, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := pacesOf(Evidence{Now: start.Add(tt.after), Flags: tt.flags, Demand: tt.demand})
			if len(got) > 0 != tt.seen || got.limited() != tt.limited || got.beyond() != tt.beyond {
				t.Errorf("paces %q: seen %t, limited %t, beyond %t, want %t, %t, %t",
					got, len(got) > 0, got.limited(), got.beyond(), tt.seen, tt.limited, tt.beyond)
			}
			if !strings.Contains(got.String(), tt.says) {
				t.Errorf("paces = %q, want %q", got, tt.says)
			}
		})
	}
}

// startup makes every change one that stood when the recording began.
func startup(d lag.Demand) lag.Demand {
	for i := range d.Changes {
		c := &d.Changes[i]
		c.Startup, c.SliceClass, c.EndpointsClass = true, lag.Startup, lag.Startup
	}
	return d
}

func TestDiagnoseByThePaceAlone(t *testing.T) {
	standing := func(stat time.Duration) lag.Summary {
		return lag.Summary{Stats: []lag.Stat{{Resource: lag.ResourceEndpoints, Direction: lag.DirectionAny, Startup: 640, OldestStartup: stat}}}
	}
	late := startup(drained(640, 20, 0, time.Minute))
	tests := map[string]struct {
		evidence Evidence
		want     v1alpha1.BottleneckType
		says     string
	}{
		"the incident began before the measurement": {
			Evidence{Flags: v1alpha1.DefaultFlags(), Demand: late, Lag: standing(32 * time.Second)},
			v1alpha1.BottleneckClientRateLimit, "stayed so for at least 32s; no metrics for that time, judged by what was published; 20.0 writes/s",
		},
		"what stood then went soon": {
			Evidence{Flags: v1alpha1.DefaultFlags(), Demand: late, Lag: standing(time.Second)}, v1alpha1.BottleneckNone, "",
		},
		"the flags are not what they are thought to be": {
			Evidence{Flags: flagsOf(5, 10, 5, 5), Demand: late, Lag: standing(32 * time.Second)},
			v1alpha1.BottleneckUnknown, "runs with a higher rate limit than is known here",
		},
		"the flags are not known": {
			Evidence{Demand: late, Lag: standing(32 * time.Second)}, v1alpha1.BottleneckUnknown, "the running flags are not known; 20.0 writes/s",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.evidence.Now, tt.evidence.Leader = start.Add(time.Minute), Led
			got := Diagnose(tt.evidence, objectiveOf(2*time.Second))
			if got.Type != tt.want || !strings.Contains(got.Message, tt.says) {
				t.Errorf("Diagnose = %s: %s\nwant %s with %q", got.Type, got.Message, tt.want, tt.says)
			}
		})
	}
}

// TestDiagnoseBelowTheLimitSaysWhatWasSeen is of a backlog that the model does not reproduce.
func TestDiagnoseBelowTheLimitSaysWhatWasSeen(t *testing.T) {
	e := Evidence{Now: start.Add(time.Minute), Flags: v1alpha1.DefaultFlags(), Leader: Led, Demand: drained(640, 12, 0, time.Minute)}
	e.Lag = summaryOf(e.Demand)
	got := Diagnose(e, objectiveOf(2*time.Second))
	if got.Type != v1alpha1.BottleneckUnknown || !strings.Contains(got.Message, "12.0 writes/s in EndpointSlice against 20 allowed") ||
		!strings.Contains(got.Message, "cannot be told apart") {
		t.Errorf("Diagnose = %s: %s\nwant Unknown with the pace", got.Type, got.Message)
	}
}

func TestConfidenceIn(t *testing.T) {
	o := objectiveOf(time.Second)
	tests := map[string]struct {
		changes, episodes int
		want              Trust
		says              string
	}{
		"nothing":                     {0, 0, TrustLow, "no change was measured"},
		"too few":                     {29, 4, TrustLow, "from 29 changes in 4 episodes: fewer than 30"},
		"one episode, not conclusive": {298, 1, TrustLow, "from 298 changes in 1 episode: p99 takes 299"},
		"two episodes":                {30, 2, TrustMedium, "from 30 changes in 2 episodes: p99 takes 299"},
		"one episode, conclusive":     {2000, 1, TrustMedium, "from 2,000 changes in 1 episode: enough for p99 of what happened"},
		"three episodes":              {299, 3, TrustHigh, "from 299 changes in 3 episodes: enough for p99"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ConfidenceIn(lag.Stat{Closed: tt.changes - tt.changes/3, Open: tt.changes / 3, Episodes: tt.episodes}, o)
			if got.Level != tt.want || !strings.HasPrefix(got.Message, tt.says) || got.Changes != tt.changes || got.Episodes != tt.episodes {
				t.Errorf("ConfidenceIn = %+v, want %s with %q", got, tt.want, tt.says)
			}
		})
	}
}
