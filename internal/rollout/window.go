package rollout

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Windows are the times at which a node may be started on. The zero value has none, and is always open.
type Windows struct{ all []window }

// window opens at each hit of its schedule for a duration.
type window struct {
	name     string
	schedule *cron.SpecSchedule // nil: never opens
	duration time.Duration
}

// Opening is how windows stand at a time.
type Opening struct {
	Open  bool
	Name  string    // of the window that is open the longest or, if none is, that opens next; empty: there is none
	Until time.Time // when that window closes, unless it opens again before; zero if none is open, or there are no windows
	Next  time.Time // when it opens, in its time zone; zero if one is open, or none ever opens
}

// NewWindows returns the windows of a policy. One whose schedule, time zone or duration cannot be used never opens, and
// the error says what is wanted instead, for each of them.
func NewWindows(written []v1alpha1.MaintenanceWindow) (Windows, error) {
	var w Windows
	var wrong []string
	for _, m := range written {
		parsed, err := newWindow(m)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("window %.63q: %v", m.Name, err))
		}
		w.all = append(w.all, parsed)
	}
	if len(wrong) > 0 {
		return w, errors.New(strings.Join(wrong, "; "))
	}
	return w, nil
}

func newWindow(m v1alpha1.MaintenanceWindow) (window, error) {
	closed := window{name: m.Name}
	zone, err := location(m.TimeZone)
	if err != nil {
		return closed, err
	}
	duration, ok := m.Duration.Value()
	if !ok {
		return closed, fmt.Errorf("duration is %.64q, want 1m to 168h, such as 30m or 1h30m", m.Duration)
	}
	schedule, err := parseSchedule(m.Schedule)
	if err != nil {
		return closed, fmt.Errorf("schedule is %.64q, want five fields of cron that a time can match, such as \"0 2 * * 1-5\": %w",
			m.Schedule, err)
	}
	schedule.Location = zone
	return window{name: m.Name, schedule: schedule, duration: duration}, nil
}

// location returns a zone of the IANA database, which stands on the host or in the binary.
func location(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // It would be that of wherever the operator runs.
		return nil, fmt.Errorf("timeZone is %.64q, want a name of the IANA database, such as Europe/Madrid", name)
	}
	return zone, nil
}

// parseSchedule takes the five fields of cron, and neither descriptors (@daily, @every 1h) nor a time zone in front.
func parseSchedule(text string) (*cron.SpecSchedule, error) {
	if strings.ContainsAny(text, "=@") {
		return nil, errors.New("the time zone has a field of its own, and @ is not supported")
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(text)
	if err != nil {
		return nil, err
	}
	schedule, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("read as a %T", parsed)
	}
	if schedule.Minute == 0 || schedule.Hour == 0 || schedule.Dom == 0 || schedule.Month == 0 || schedule.Dow == 0 {
		return nil, errors.New("a field is empty")
	}
	// The calendar of the next five years decides, which have the same days whenever they begin.
	if schedule.Next(time.Unix(0, 0).UTC()).IsZero() {
		return nil, errors.New("no day of any year matches")
	}
	return schedule, nil
}

// At says how the windows stand. Each is open from a hit of its schedule, inclusive, until its duration has passed.
// Its time zone decides what daylight saving does to it: a hit that the clock jumps over is left out, and one that comes
// twice opens it twice.
func (w Windows) At(now time.Time) Opening {
	if len(w.all) == 0 {
		return Opening{Open: true}
	}
	var open, closed Opening
	for _, one := range w.all {
		if one.schedule == nil {
			continue
		}
		if hit := one.lastHit(now); !hit.IsZero() {
			if until := hit.Add(one.duration); until.After(open.Until) {
				open = Opening{Open: true, Name: one.name, Until: until}
			}
			continue
		}
		next := one.schedule.Next(now.In(one.schedule.Location))
		if !next.IsZero() && (closed.Next.IsZero() || next.Before(closed.Next)) {
			closed = Opening{Name: one.name, Next: next}
		}
	}
	if open.Open {
		return open
	}
	return closed
}

// lastHit returns the last hit of an open window's schedule, zero if the window is closed. A schedule only looks
// forward: whether it hits after a time and by now is found out for ever later times.
func (w window) lastHit(now time.Time) time.Time {
	hits := func(after time.Time) bool {
		next := w.schedule.Next(after)
		return !next.IsZero() && !next.After(now)
	}
	from, to := now.Add(-w.duration), now
	if !hits(from) {
		return time.Time{}
	}
	for to.Sub(from) > time.Second { // Schedules know no shorter time.
		if middle := from.Add(to.Sub(from) / 2); hits(middle) {
			from = middle
		} else {
			to = middle
		}
	}
	return w.schedule.Next(from.In(w.schedule.Location))
}

// outside holds while no window is open. Every start costs a restart, so that it holds for each node of a rollout, and
// for one that gets back what it has lost; a step back and a restore do not wait.
func outside(p Plan, now time.Time) (Step, bool) {
	at := p.Windows.At(now)
	if at.Open || p.Target.Exempt || p.Target.Action == v1alpha1.ActionRestore {
		return Step{}, false
	}
	if at.Next.IsZero() {
		return hold("", v1alpha1.ReasonOutsideMaintenanceWindow, "no maintenance window ever opens (spec.rollout.maintenanceWindows)"), true
	}
	s := hold("", v1alpha1.ReasonOutsideMaintenanceWindow, fmt.Sprintf(
		"no maintenance window is open; %q opens at %s (spec.rollout.maintenanceWindows)", at.Name, at.Next.Format(time.RFC3339)))
	s.Again = at.Next.Sub(now)
	return s, true
}
