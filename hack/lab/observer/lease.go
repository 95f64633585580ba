package observer

import "time"

// leadership holds what the kube-controller-manager Lease went through, by receipt of its updates.
type leadership struct {
	holder string
	seen   time.Time // Last renewal.
	gaps   []gap
}

// gap is the time between two renewals.
type gap struct {
	ended   time.Time
	length  time.Duration
	changed bool // By another holder than before.
}

func (l *leadership) renewed(holder string, now time.Time) {
	if !l.seen.IsZero() {
		l.gaps = append(l.gaps, gap{ended: now, length: now.Sub(l.seen), changed: holder != l.holder})
	}
	l.holder, l.seen = holder, now
}

// released notes that the holder gives the Lease up, which it does when it is told to end: until then it led.
func (l *leadership) released(now time.Time) {
	if !l.seen.IsZero() {
		l.renewed(l.holder, now)
	}
}

// in returns what ended in the window; a gap that lasts still counts in the window that lasts still.
func (l *leadership) in(w window, now time.Time) Leadership {
	out := Leadership{Holder: l.holder}
	for _, g := range l.gaps {
		if !w.has(g.ended) {
			continue
		}
		out.LongestGap = max(out.LongestGap, g.length)
		if g.changed {
			out.HolderChanges++
			out.Handover = max(out.Handover, g.length)
		}
	}
	if w.to.IsZero() && !l.seen.IsZero() {
		out.LongestGap = max(out.LongestGap, now.Sub(l.seen))
	}
	return out
}
