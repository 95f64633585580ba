package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func windowOf(name, schedule string, duration v1alpha1.Duration, zone string) v1alpha1.MaintenanceWindow {
	return v1alpha1.MaintenanceWindow{Name: name, Schedule: schedule, Duration: duration, TimeZone: zone}
}

func mustWindows(t *testing.T, written ...v1alpha1.MaintenanceWindow) Windows {
	t.Helper()
	w, err := NewWindows(written)
	if err != nil {
		t.Fatalf("NewWindows(%v): %v", written, err)
	}
	return w
}

// opening is an Opening as people read it.
type opening struct{ Open, Until, Next string }

func shown(o Opening) opening {
	format := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Format(time.RFC3339)
	}
	s := opening{Until: format(o.Until), Next: format(o.Next)}
	if o.Open {
		s.Open = o.Name
	}
	return s
}

func TestWindowsAt(t *testing.T) {
	nights := windowOf("nights", "0 2 * * 1-5", "2h", "Europe/Madrid")
	early := windowOf("early", "30 1 * * *", "1h", "")
	tests := map[string]struct {
		windows []v1alpha1.MaintenanceWindow
		at      string
		want    opening
	}{
		"closed before it opens": {
			[]v1alpha1.MaintenanceWindow{nights}, "2026-01-14T01:59:59+01:00", opening{"", "", "2026-01-14T02:00:00+01:00"},
		},
		"open from the hit on": {
			[]v1alpha1.MaintenanceWindow{nights}, "2026-01-14T02:00:00+01:00", opening{"nights", "2026-01-14T04:00:00+01:00", ""},
		},
		"open to the last moment": {
			[]v1alpha1.MaintenanceWindow{nights}, "2026-01-14T03:59:59.999+01:00", opening{"nights", "2026-01-14T04:00:00+01:00", ""},
		},
		"closed when the duration has passed": {
			[]v1alpha1.MaintenanceWindow{nights}, "2026-01-14T04:00:00+01:00", opening{"", "", "2026-01-15T02:00:00+01:00"},
		},
		"closed over the weekend": {
			[]v1alpha1.MaintenanceWindow{nights}, "2026-01-16T12:00:00Z", opening{"", "", "2026-01-19T02:00:00+01:00"},
		},
		"the hour that is jumped over does not open": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "30 2 * * *", "30m", "Europe/Madrid")},
			"2026-03-29T01:15:00Z", opening{"", "", "2026-03-30T02:30:00+02:00"},
		},
		"a window over the jump keeps its length": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "30 1 * * *", "2h", "Europe/Madrid")},
			"2026-03-29T03:15:00+02:00", opening{"w", "2026-03-29T04:30:00+02:00", ""},
		},
		"the hour that comes twice opens twice, the first time": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "30 2 * * *", "20m", "Europe/Madrid")},
			"2026-10-25T02:40:00+02:00", opening{"w", "2026-10-25T02:50:00+02:00", ""},
		},
		"the hour that comes twice opens twice, in between": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "30 2 * * *", "20m", "Europe/Madrid")},
			"2026-10-25T02:50:00+02:00", opening{"", "", "2026-10-25T02:30:00+01:00"},
		},
		"the hour that comes twice opens twice, the second time": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "30 2 * * *", "20m", "Europe/Madrid")},
			"2026-10-25T02:40:00+01:00", opening{"w", "2026-10-25T02:50:00+01:00", ""},
		},
		"of two open windows the longer counts": {
			[]v1alpha1.MaintenanceWindow{nights, early}, "2026-01-14T01:45:00Z", opening{"nights", "2026-01-14T04:00:00+01:00", ""},
		},
		"one open window is enough": {
			[]v1alpha1.MaintenanceWindow{early, nights}, "2026-01-14T01:00:00Z", opening{"nights", "2026-01-14T04:00:00+01:00", ""},
		},
		"of two closed windows the next counts": {
			[]v1alpha1.MaintenanceWindow{nights, early}, "2026-01-14T04:00:00Z", opening{"", "", "2026-01-15T02:00:00+01:00"},
		},
		"openings that overlap follow the last": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "0 */2 * * *", "3h", "")},
			"2026-01-14T04:30:00Z", opening{"w", "2026-01-14T07:00:00Z", ""},
		},
		"a week, every week": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "0 0 * * 0", "168h", "")},
			"2026-01-17T23:59:59Z", opening{"w", "2026-01-18T00:00:00Z", ""},
		},
		"a week, every minute": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "* * * * *", "168h", "")},
			"2026-01-14T12:34:56Z", opening{"w", "2026-01-21T12:34:00Z", ""},
		},
		"a day that comes every four years": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "0 0 29 2 *", "1h", "")}, "2026-01-14T00:00:00Z", opening{"", "", "2028-02-29T00:00:00Z"},
		},
		"days of the month or of the week": {
			[]v1alpha1.MaintenanceWindow{windowOf("w", "0 0 13 * FRI", "1h", "")}, "2026-01-14T00:00:00Z", opening{"", "", "2026-01-16T00:00:00Z"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, shown(mustWindows(t, tt.windows...).At(at))); diff != "" {
				t.Errorf("At(%s) (-want +got):\n%s", tt.at, diff)
			}
		})
	}
}

func TestNoWindowsAreAlwaysOpen(t *testing.T) {
	for _, w := range []Windows{{}, mustWindows(t)} {
		if got := w.At(start); got != (Opening{Open: true}) {
			t.Errorf("At = %+v, want open", got)
		}
	}
}

func TestWindowsThatCannotBeUsed(t *testing.T) {
	tests := map[string]struct {
		window v1alpha1.MaintenanceWindow
		want   []string
	}{
		"a word":                  {windowOf("w", "every night at two", "2h", ""), []string{`"every night at two"`, "want five fields"}},
		"a sixth field":           {windowOf("w", "0 0 2 * * 1-5", "2h", ""), []string{"0 0 2 * * 1-5", "want five fields"}},
		"an hour too late":        {windowOf("w", "0 24 * * *", "2h", ""), []string{"0 24 * * *", "above maximum (23)"}},
		"a descriptor":            {windowOf("w", "@every 1h", "2h", ""), []string{"@every 1h", "want five fields"}},
		"a zone in the schedule":  {windowOf("w", "TZ=UTC 0 2 * * *", "2h", ""), []string{"TZ=UTC", "a field of its own"}},
		"a zone and nothing else": {windowOf("w", "CRON_TZ=UTC", "2h", ""), []string{"CRON_TZ=UTC", "a field of its own"}},
		"a field of commas":       {windowOf("w", ", 2 * * *", "2h", ""), []string{"a field is empty"}},
		"a day that never comes":  {windowOf("w", "0 2 30 2 *", "2h", ""), []string{"0 2 30 2 *", "no day of any year"}},
		"nothing":                 {windowOf("w", "", "2h", ""), []string{`schedule is ""`}},
		"an unknown zone":         {windowOf("w", "0 2 * * *", "2h", "Europe/Springfield"), []string{"Europe/Springfield", "IANA", "Europe/Madrid"}},
		"the zone of the host":    {windowOf("w", "0 2 * * *", "2h", "Local"), []string{`timeZone is "Local"`}},
		"a path as a zone":        {windowOf("w", "0 2 * * *", "2h", "../../etc/passwd"), []string{"IANA"}},
		"no time":                 {windowOf("w", "0 2 * * *", "0s", ""), []string{`duration is "0s"`, "want 1m to 168h"}},
	}
	good := windowOf("good", "0 2 * * *", "2h", "")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, err := NewWindows([]v1alpha1.MaintenanceWindow{tt.window})
			if err == nil {
				t.Fatal("NewWindows took it")
			}
			for _, want := range append(tt.want, `window "w"`) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("NewWindows: %v, want it to say %s", err, want)
				}
			}
			if got := w.At(start); got != (Opening{}) {
				t.Errorf("At = %+v, want never open", got)
			}
			both, err := NewWindows([]v1alpha1.MaintenanceWindow{tt.window, good})
			if at := both.At(start); err == nil || at.Name != "good" {
				t.Errorf("with a good one: %v, %+v; want the error and the good one", err, at)
			}
		})
	}
}

// TestWindowsMatchTheClock compares with an implementation that looks at the clock on the wall, minute by minute.
func TestWindowsMatchTheClock(t *testing.T) {
	// Days on which the clocks of these zones change, days around a new year, and an ordinary one.
	days := []string{"2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2025-12-31", "2026-07-15"}
	zones := []string{"", "Europe/Madrid", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"}
	property := func(t *rapid.T) {
		field := func(name string, low, high int) string {
			one := rapid.IntRange(low, high)
			switch rapid.IntRange(0, 3).Draw(t, name+" form") {
			case 0:
				return strconv.Itoa(one.Draw(t, name))
			case 1:
				a, b := one.Draw(t, name), one.Draw(t, name)
				return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
			case 2:
				return fmt.Sprintf("*/%d", rapid.IntRange(2, 9).Draw(t, name))
			}
			return "*"
		}
		schedule := strings.Join([]string{field("minute", 0, 59), field("hour", 0, 23), "*", "*", field("weekday", 0, 6)}, " ")
		minutes := rapid.SampledFrom([]int{1, 7, 30, 60, 90, 24 * 60}).Draw(t, "minutes")
		written := windowOf("w", schedule, v1alpha1.DurationOf(time.Duration(minutes)*time.Minute), rapid.SampledFrom(zones).Draw(t, "zone"))
		windows, err := NewWindows([]v1alpha1.MaintenanceWindow{written})
		if err != nil {
			t.Fatal(err)
		}
		zone, err := time.LoadLocation(written.TimeZone)
		if err != nil {
			t.Fatal(err)
		}
		day, err := time.ParseInLocation(time.DateOnly, rapid.SampledFrom(days).Draw(t, "day"), zone)
		if err != nil {
			t.Fatal(err)
		}
		at := day.Add(time.Duration(rapid.IntRange(0, 26*3600).Draw(t, "second")) * time.Second)
		want := opensUntil(schedule, at, minutes)
		got := windows.At(at)
		if got.Open == want.IsZero() || !got.Until.Equal(want) {
			t.Fatalf("%v at %s: %+v, want open until %s", written, at, got, want)
		}
		if got.Open {
			return
		}
		if next := windows.At(got.Next); !got.Next.After(at) || !next.Open || windows.At(got.Next.Add(-time.Second)).Open {
			t.Fatalf("%v at %s: opens next at %s: %+v", written, at, got.Next, next)
		}
	}
	for range 5 {
		rapid.Check(t, property)
	}
}

// opensUntil returns when a window closes that opened less than its minutes before, zero if none did.
func opensUntil(schedule string, at time.Time, minutes int) time.Time {
	fields := strings.Fields(schedule)
	for back := range minutes {
		m := at.Truncate(time.Minute).Add(-time.Duration(back) * time.Minute)
		if matches(fields[0], m.Minute()) && matches(fields[1], m.Hour()) && matches(fields[4], int(m.Weekday())) {
			return m.Add(time.Duration(minutes) * time.Minute)
		}
	}
	return time.Time{}
}

func matches(field string, value int) bool {
	if step, stepped := strings.CutPrefix(field, "*/"); stepped {
		every, err := strconv.Atoi(step)
		return err == nil && value%every == 0
	}
	if field == "*" {
		return true
	}
	low, high, isRange := strings.Cut(field, "-")
	if !isRange {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, alsoErr := strconv.Atoi(high)
	return err == nil && alsoErr == nil && from <= value && value <= to
}

func TestRolloutsStartInWindowsOnly(t *testing.T) {
	closed := mustWindows(t, windowOf("nights", "0 2 * * *", "2h", "Europe/Madrid"))
	tests := map[string]struct {
		change func(*Plan)
		want   StepKind
		reason string
	}{
		"outside of it nothing starts": {func(p *Plan) { p.Windows = closed }, Hold, v1alpha1.ReasonOutsideMaintenanceWindow},
		"within it a node starts": {
			func(p *Plan) { p.Windows = mustWindows(t, windowOf("always", "* * * * *", "1h", "")) }, Start, v1alpha1.ReasonRolloutStarted,
		},
		"a window that cannot be used keeps everything from starting": {
			func(p *Plan) {
				p.Windows, _ = NewWindows([]v1alpha1.MaintenanceWindow{windowOf("w", "x", "1h", "")})
			}, Hold, v1alpha1.ReasonOutsideMaintenanceWindow,
		},
		"a node that lost its flags waits too": {
			func(p *Plan) {
				for i := range p.Nodes {
					told(&p.Nodes[i], v1alpha1.OutcomeCommitted)
				}
				lost(p, 0, start.Add(-time.Hour))
				p.Windows = closed
			}, Hold, v1alpha1.ReasonOutsideMaintenanceWindow,
		},
		"a step back may start": {
			func(p *Plan) { p.Windows, p.Target.Exempt = closed, true }, Start, v1alpha1.ReasonRolloutStarted,
		},
		"a restore may start": {
			func(p *Plan) { p.Windows, p.Target = closed, Target{Action: v1alpha1.ActionRestore} }, Start, v1alpha1.ReasonRolloutStarted,
		},
		"a node in hand ends": {
			func(p *Plan) { p.Windows = closed; p.Nodes[0].Revision++ }, Wait, v1alpha1.ReasonProgressing,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := valid()
			tt.change(&p)
			got := Next(p, start)
			if got.Kind != tt.want || got.Reason != tt.reason {
				t.Errorf("Next = %+v, want %s, %s", got, tt.want, tt.reason)
			}
			held := tt.reason == v1alpha1.ReasonOutsideMaintenanceWindow
			if opens := slices.ContainsFunc(p.Windows.all, func(w window) bool { return w.schedule != nil }); held && opens &&
				got.Again != p.Windows.At(start).Next.Sub(start) {
				t.Errorf("looked at again in %s, want when it opens", got.Again)
			}
		})
	}
}
