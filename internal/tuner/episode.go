package tuner

import (
	"cmp"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// maxEpisodes is how many episodes are remembered: the worst of each day of the look-back, and one more.
const maxEpisodes = 8

// Remember returns the book of the worst episodes, newest first, with those that the evidence shows. An episode ends
// where nothing changed for five seconds. Of two that overlap the one that needs the higher rate stays: an episode in
// progress replaces what was known of its beginning. Kept are at most eight, none older than a week: the one that needs
// the highest rate, the one with the longest lag, the worst of each day, and then the worst of the rest.
func Remember(book []Episode, e Evidence, o Objective) []Episode {
	candidates := make([]rated, 0, len(book))
	for _, known := range book {
		if e.Now.Sub(known.Start) < lookBack {
			candidates = append(candidates, rate(known, o))
		}
	}
	if complete(e.Flags) {
		model := Calibrate(e).Parameters
		for _, changes := range episodesOf(usable(e.Demand.Changes)) {
			seen := compact(e.Demand.Start, changes)
			seen.Flags, seen.Model, seen.Lag = e.Flags, model, lagOf(changes, o.Percentile)
			candidates = insert(candidates, rate(seen, o))
		}
	}
	return worst(candidates)
}

// rated is an episode with the rate that it needs, in changes per second.
type rated struct {
	Episode
	needs float64
}

func rate(e Episode, o Objective) rated {
	return rated{e, neededRate(e.Demand.Changes, o.MaxLag)}
}

func (r rated) end() time.Time {
	if len(r.Demand.Changes) == 0 {
		return r.Start
	}
	return r.Start.Add(r.Demand.Changes[len(r.Demand.Changes)-1].At)
}

// insert adds an episode, unless one that it overlaps needs at least as high a rate and is at least as long.
func insert(all []rated, added rated) []rated {
	overlaps := func(r rated) bool { return !r.Start.After(added.end()) && !added.Start.After(r.end()) }
	better := func(r rated) bool {
		return overlaps(r) && r.needs >= added.needs && len(r.Demand.Changes) >= len(added.Demand.Changes)
	}
	if slices.ContainsFunc(all, better) {
		return all
	}
	all = slices.DeleteFunc(all, func(r rated) bool { return overlaps(r) && r.needs <= added.needs })
	if slices.ContainsFunc(all, overlaps) {
		return all
	}
	return append(all, added)
}

// worst keeps maxEpisodes, newest first.
func worst(all []rated) []Episode {
	slices.SortFunc(all, func(a, b rated) int {
		return cmp.Or(cmp.Compare(b.needs, a.needs), b.Start.Compare(a.Start))
	})
	order := slices.Clone(all[:min(1, len(all))])
	if len(all) > 0 {
		order = append(order, slices.MaxFunc(all, func(a, b rated) int { return cmp.Compare(a.Lag, b.Lag) }))
	}
	order = append(order, worstOfDays(all)...)
	order = append(order, all...)
	var kept []Episode
	for _, r := range order {
		known := slices.ContainsFunc(kept, func(k Episode) bool { return k.Start.Equal(r.Start) })
		if !known && len(kept) < maxEpisodes {
			kept = append(kept, r.Episode)
		}
	}
	slices.SortFunc(kept, func(a, b Episode) int { return b.Start.Compare(a.Start) })
	return kept
}

// worstOfDays returns the first episode of each day (UTC), the newest day first.
func worstOfDays(all []rated) []rated {
	days := map[int64]bool{}
	var out []rated
	for _, r := range all {
		if d := r.Start.Unix() / int64(day/time.Second); !days[d] {
			days[d] = true
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b rated) int { return b.Start.Compare(a.Start) })
	return out
}

// compact keeps of changes what a replay takes: when which Service changed, in which direction, and which APIs that
// concerned, to the millisecond. Of more than maxSearched, the run of them that took the least time.
func compact(start time.Time, changes []lag.Change) Episode {
	changes = densest(changes, maxSearched)
	first := changes[0].At.Truncate(time.Millisecond)
	e := Episode{Start: start.Add(first)}
	e.Demand.Start = e.Start
	numbers := map[int32]int32{}
	for _, c := range changes {
		n, known := numbers[c.Service]
		if !known {
			n = int32(len(numbers)) //nolint:gosec // bounded by maxSearched
			numbers[c.Service] = n
		}
		e.Demand.Changes = append(e.Demand.Changes, lag.Change{
			At: (c.At - first).Truncate(time.Millisecond), Service: n, Direction: c.Direction,
			SliceClass: kept(c.SliceClass), EndpointsClass: kept(c.EndpointsClass),
		})
	}
	sortChanges(e.Demand.Changes)
	return e
}

// kept is what a replay must know of an outcome: whether the API was concerned, whether it counts, and whether it took
// back a change that was not published.
func kept(c lag.Class) lag.Class {
	switch c {
	case 0:
		return 0
	case lag.Closed, lag.Open:
		return lag.Closed
	case lag.NotNeeded:
		return lag.NotNeeded
	case lag.Superseded, lag.Startup, lag.Gap, lag.HandOver, lag.OverCapacity, lag.Unacted, lag.Drift:
	}
	return lag.Superseded
}

func sortChanges(changes []lag.Change) {
	slices.SortStableFunc(changes, func(a, b lag.Change) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Service, b.Service))
	})
}

// lagOf is the lag at the percentile in the worst row.
func lagOf(changes []lag.Change, percentile float64) time.Duration {
	var rows [2][kcm.APIs][]float64
	for _, c := range changes {
		row := &rows[0]
		if c.Direction == lag.DirectionRemoval {
			row = &rows[1]
		}
		if kept(c.SliceClass) == lag.Closed {
			row[kcm.EndpointSlices] = append(row[kcm.EndpointSlices], c.SliceLag.Seconds())
		}
		if kept(c.EndpointsClass) == lag.Closed {
			row[kcm.Endpoints] = append(row[kcm.Endpoints], c.EndpointsLag.Seconds())
		}
	}
	longest := 0.0
	for _, row := range rows {
		longest = max(longest, quantile(row[kcm.EndpointSlices], percentile), quantile(row[kcm.Endpoints], percentile))
	}
	return seconds(longest)
}

// neededRate is the least steady rate at which no change waits longer than maxLag, in changes per second, on an empty
// bucket: the supremum over all τ of A(τ)/(τ + maxLag), where A(τ) is the most changes in τ (the arrival curve of
// network calculus). It is found by Dinkelbach's method: each round takes the run of changes that exceeds the rate so far
// by most, and its rate next.
func neededRate(changes []lag.Change, maxLag time.Duration) float64 {
	x := maxLag.Seconds()
	if len(changes) == 0 || x <= 0 {
		return 0
	}
	rate := 1 / x
	for range 64 { // It takes a handful.
		first, from, to, most := 0, 0, 0, 0.0
		for i, c := range changes {
			at := c.At.Seconds()
			if float64(first)-rate*changes[first].At.Seconds() > float64(i)-rate*at {
				first = i
			}
			if excess := float64(i-first+1) - rate*(at-changes[first].At.Seconds()+x); excess > most {
				from, to, most = first, i, excess
			}
		}
		if most <= 1e-9 {
			break
		}
		rate = float64(to-from+1) / ((changes[to].At - changes[from].At).Seconds() + x)
	}
	return rate
}
