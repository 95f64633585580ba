package report

import (
	"strings"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func TestPreStop(t *testing.T) {
	tests := map[string]struct {
		removal  lag.Quantile
		removals int
		sleep    int
		says     string
		not      string
	}{
		"a percentile of enough":       {lag.Quantile{Value: 4200 * time.Millisecond}, 1000, 11, "a sleep of 11 s would have covered 99.9 % of the 1,000 removals seen, 4.20s, with a quarter to spare, and leaves 5s", "at least"},
		"the longest of few":           {lag.Quantile{Value: 4 * time.Second}, 999, 10, "covered the longest of the 999 removals seen, 4.00s", "99.9"},
		"one":                          {lag.Quantile{Value: 20 * time.Millisecond}, 1, 6, "covered the only removal seen, 20ms", "99.9"},
		"removals that are still open": {lag.Quantile{Value: 30 * time.Second, LowerBound: true}, 2000, 43, "a sleep of at least 43 s would have covered 99.9 % of the 2,000 removals seen, at least 30.0s", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := preStop(lag.Summary{Removal: tt.removal, Removals: tt.removals})
			if got.SleepSeconds != tt.sleep || !strings.Contains(got.Message, tt.says) || (tt.not != "" && strings.Contains(got.Message, tt.not)) {
				t.Errorf("preStop = %+v, want %d s with %q and without %q", got, tt.sleep, tt.says, tt.not)
			}
		})
	}
	if got := preStop(lag.Summary{}); got != nil {
		t.Errorf("preStop = %+v without a removal, want nothing", got)
	}
}

func TestProgressAsALine(t *testing.T) {
	open := lag.Stat{
		Resource: lag.ResourceEndpoints, Direction: lag.DirectionAny, Closed: 3, Open: 2, OldestOpen: 1500 * time.Millisecond,
	}
	removal := open
	removal.Direction, removal.P50 = lag.DirectionRemoval, lag.Quantile{Value: time.Second}
	removal.P90, removal.P99 = lag.Quantile{Value: 2 * time.Second}, lag.Quantile{Value: 3 * time.Second, LowerBound: true}
	p := Progress{Elapsed: 12300 * time.Millisecond, Total: time.Minute, Lag: lag.Summary{Stats: []lag.Stat{open, removal}}}
	want := "Measuring: 12s of 1m0s, 48s left; EndpointSlice: 0 changes, 0 open; " +
		"Endpoints: 5 changes, 2 open (oldest 1.50s), removals p50 1.00s p90 2.00s p99 ≥3.00s"
	if got := p.Line(); got != want {
		t.Errorf("Line = %q\nwant   %q", got, want)
	}
	p.Total, p.Cause = 0, incident().Bottleneck
	if got := p.Line(); !strings.HasPrefix(got, "Measuring: 12s so far, Ctrl-C") || !strings.HasSuffix(got, "; cause so far ClientRateLimit") {
		t.Errorf("Line = %q, want no end and a cause", got)
	}
}

func TestLiveLeavesOutWhatTheTerminalIsTooLowFor(t *testing.T) {
	var out strings.Builder
	l := NewLive(&out, Style{Terminal: true, Height: 3})
	for range 2 {
		if err := l.Update("one\ntwo\nthree\nfour"); err != nil {
			t.Fatal(err)
		}
	}
	if want := "one\ntwo\n\x1b[2A\r\x1b[Jone\ntwo\n"; out.String() != want {
		t.Errorf("on three lines: %q, want %q", out.String(), want)
	}
}
