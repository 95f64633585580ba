package tuner

import (
	"fmt"
	"strconv"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// Trust is how far a lag that was measured may be taken for that of the next incident.
type Trust string

// The levels of trust.
const (
	TrustLow    Trust = "Low"
	TrustMedium Trust = "Medium"
	TrustHigh   Trust = "High"
)

const (
	// fewChanges is how many changes say next to nothing about a high percentile: of 30, all but one are below the 97th.
	fewChanges = 30
	// enoughEpisodes is how many episodes show more than the chance of one.
	enoughEpisodes = 3
)

// Confidence is how much a row of a summary is worth, and why.
type Confidence struct {
	Level Trust
	// Changes and Episodes are those of the row.
	Changes, Episodes int
	// Message is the reason for a person: "from 2,000 changes in 1 episode: ...".
	Message string
}

// ConfidenceIn judges a row by its samples and by the episodes that they came in. High takes as many changes as are
// conclusive about the objective's percentile (299 for 99 %), in three episodes; Low is fewer than 30 changes, or fewer
// than are conclusive and all of them from one episode.
func ConfidenceIn(row lag.Stat, o Objective) Confidence {
	n, enough := row.Samples(), conclusive(o.Percentile)
	c := Confidence{Level: TrustMedium, Changes: n, Episodes: row.Episodes}
	percentile := strconv.FormatFloat(o.Percentile*100, 'g', 4, 64)
	var why string
	switch {
	case n == 0:
		c.Level, c.Message = TrustLow, "no change was measured"
		return c
	case n < fewChanges:
		c.Level, why = TrustLow, fmt.Sprintf("fewer than %d say little about the slowest", fewChanges)
	case n < enough && row.Episodes <= 1:
		c.Level, why = TrustLow, fmt.Sprintf("p%s takes %d, and the next episode may be another", percentile, enough)
	case n < enough:
		why = fmt.Sprintf("p%s takes %d", percentile, enough)
	case row.Episodes < enoughEpisodes:
		why = fmt.Sprintf("enough for p%s of what happened, but the next episode may be another", percentile)
	default:
		c.Level, why = TrustHigh, fmt.Sprintf("enough for p%s, and more than one episode's luck", percentile)
	}
	c.Message = fmt.Sprintf("from %s in %s: %s", counted(n, "change"), counted(row.Episodes, "episode"), why)
	return c
}

// busiest is the row of a summary with the most samples, both directions together.
func busiest(s lag.Summary) lag.Stat {
	var most lag.Stat
	for _, row := range s.Stats {
		if row.Direction == lag.DirectionAny && row.Samples() > most.Samples() {
			most = row
		}
	}
	return most
}

// Deciding is the row that a verdict rests on; where none did, the one with the most changes.
func Deciding(j Judgement, s lag.Summary) lag.Stat {
	if j.Row.Samples() > 0 {
		return j.Row
	}
	return busiest(s)
}

// counted is a number of things for a person: "2,000 changes".
func counted(n int, what string) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	if n != 1 {
		what += "s"
	}
	return text + " " + what
}
