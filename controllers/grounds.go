package controllers

import (
	"fmt"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// grounds says what a verdict rests on, to be read after it: how many changes in how many episodes, how well they are
// known, and what could not be seen.
func grounds(row lag.Stat, s lag.Summary) string {
	var text strings.Builder
	if row.Samples() > 0 {
		fmt.Fprintf(&text, "; from %s in %s", counted(row.Samples(), "change"), counted(row.Episodes, "episode"))
		if s.BoundKnown {
			fmt.Fprintf(&text, ", each right to %s", errorBound(s))
		}
	}
	if blind := unwatched(s); blind != "" {
		fmt.Fprintf(&text, "; the window rests on a gap: not watched were %s", blind)
	}
	if row.Gap > 0 {
		fmt.Fprintf(&text, "; %s began unseen and count for nothing", counted(row.Gap, "change"))
	}
	if row.Marked > 0 {
		fmt.Fprintf(&text, "; %s may be too long by a gap", counted(row.Marked, "lag"))
	}
	return text.String()
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// unwatched lists the kinds whose watch did not tell what happened, and for how long within the window.
func unwatched(s lag.Summary) string {
	var missed [lag.KindNamespace + 1]time.Duration
	for _, b := range s.Blind {
		from, to := later(b.From, s.From), b.To
		if to.IsZero() || to.After(s.To) {
			to = s.To
		}
		missed[b.Kind] += max(to.Sub(from), 0)
	}
	var parts []string
	for k, d := range missed {
		if d > 0 {
			parts = append(parts, fmt.Sprintf("%s for %s", lag.Kind(k), max(d.Round(time.Millisecond), time.Millisecond)))
		}
	}
	return strings.Join(parts, ", ")
}
