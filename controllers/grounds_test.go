package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func TestAVerdictSaysWhatItRestsOn(t *testing.T) {
	window := func(from, to time.Duration) lag.Blindness {
		return lag.Blindness{Kind: lag.KindPod, From: now.Add(from), To: now.Add(to)}
	}
	tests := map[string]struct {
		row     lag.Stat
		summary lag.Summary
		want    string
	}{
		"nothing":                    {lag.Stat{}, lag.Summary{BoundKnown: true}, ""},
		"one change":                 {lag.Stat{Closed: 1, Episodes: 1}, lag.Summary{}, "; from 1 change in 1 episode"},
		"open changes count as well": {lag.Stat{Closed: 400, Open: 3, Episodes: 2}, lag.Summary{}, "; from 403 changes in 2 episodes"},
		"a known error bound": {
			lag.Stat{Closed: 400, Episodes: 2},
			lag.Summary{BoundKnown: true, ErrorBound: 2100 * time.Microsecond},
			"; from 400 changes in 2 episodes, each right to 3ms",
		},
		"gaps, cut to the window": {
			lag.Stat{Closed: 2, Episodes: 1, Gap: 4, Marked: 1},
			lag.Summary{From: now.Add(-time.Minute), To: now, Blind: []lag.Blindness{
				window(-61*time.Second, -58*time.Second), window(-10*time.Second, -9*time.Second),
				{Kind: lag.KindSlice, From: now.Add(-1500 * time.Millisecond)},
			}},
			"; from 2 changes in 1 episode; the window rests on a gap: not watched were pods for 3s, endpointslices for 1.5s" +
				"; 4 changes began unseen and count for nothing; 1 lag may be too long by a gap",
		},
		"a gap that nothing happened in": {
			lag.Stat{},
			lag.Summary{From: now.Add(-time.Minute), To: now, Blind: []lag.Blindness{window(-10*time.Second, -8*time.Second)}},
			"; the window rests on a gap: not watched were pods for 2s",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := grounds(test.row, test.summary); got != test.want {
				t.Errorf("grounds() = %q, want %q", got, test.want)
			}
		})
	}
}

func TestLagStatusShowsHowWellItIsKnown(t *testing.T) {
	summary := lag.Summary{
		BoundKnown: true, ErrorBound: 4 * time.Millisecond,
		Stats: []lag.Stat{
			{
				Resource: lag.ResourceEndpointSlice, Direction: lag.DirectionAddition, Closed: 8, Open: 2, Episodes: 3, Startup: 5, Gap: 1, HandOver: 4,
				P50: lag.Quantile{Value: time.Second}, P99: lag.Quantile{Value: 2 * time.Second, LowerBound: true},
			},
			{Resource: lag.ResourceEndpoints, Direction: lag.DirectionRemoval, Startup: 7},
		},
	}
	want := []v1alpha1.Lag{
		{
			Resource: v1alpha1.ResourceEndpointSlice, Direction: v1alpha1.DirectionAddition, Changes: new(int64(10)), Open: new(int64(2)),
			P50: "1s", P99: ">=2s", ErrorBound: "4ms", Episodes: new(int64(3)), Startup: new(int64(5)), Unseen: new(int64(1)),
			HandOver: new(int64(4)),
		},
		{
			Resource: v1alpha1.ResourceEndpoints, Direction: v1alpha1.DirectionRemoval, Changes: new(int64(0)), Open: new(int64(0)),
			Episodes: new(int64(0)), Startup: new(int64(7)), Unseen: new(int64(0)),
			HandOver: new(int64(0)),
		},
	}
	if diff := cmp.Diff(want, LagStatus(summary)); diff != "" {
		t.Errorf("LagStatus() (-want +got):\n%s", diff)
	}
	summary.BoundKnown = false
	if got := LagStatus(summary)[0].ErrorBound; got != "" {
		t.Errorf("error bound %q where it is not known, want none", got)
	}
}
