package lag

import "time"

// Stratum is in which state of kube-controller-manager a change fell.
type Stratum uint8

// The strata.
const (
	// StratumNormal is everything else.
	StratumNormal Stratum = iota
	// StratumHandOver changes were open while nobody led.
	StratumHandOver
	// StratumAfterRestart changes began within afterRestart after a leader appeared: it begins with full token buckets and
	// with a sync of every Service.
	StratumAfterRestart
	strataCount
)

var strataNames = [strataCount]string{"Normal", "HandOver", "AfterRestart"}

// String returns the name of the stratum.
func (s Stratum) String() string { return strataNames[s] }

// afterRestart is how long a new leader is not yet in its usual state. At 20 requests a second it writes 1,200 times in
// it, which is a backlog of the size that a restart leaves.
const afterRestart = time.Minute

// Ended is one outcome that ended, for those who count as it happens.
type Ended struct {
	Resource  Resource
	Direction Direction
	Stratum   Stratum
	Class     Class
	// Namespace and Service name the Service, Pod the member.
	Namespace, Service string
	Pod                UID
	// Began is when it began, and Lag for how long it stood.
	Began time.Time
	Lag   time.Duration
	// Marked says that the lag rests on a gap of a watch.
	Marked bool
}

// tell reports an outcome that ended to Options.Ended, as far as is known now: what SetLeader or SetReceiving say later
// of the past is not in it.
func (t *Tracker) tell(m *member, in api, r *record) {
	if t.ended == nil {
		return
	}
	w := window{to: r.at + r.lags[in], leaderless: t.leaderless, gaps: &t.gaps}
	as := w.see(r, in)
	t.ended(Ended{
		Resource: resources[in], Direction: directions[r.way], Stratum: w.stratum(r, as), Class: as.class,
		Namespace: r.service.Namespace, Service: r.service.Name, Pod: m.uid,
		Began: t.records.base.Add(r.at), Lag: as.lag, Marked: as.marked,
	})
}

// total counts what stands in one API and one direction.
type total struct {
	// changes is how many of them are open changes.
	changes, standing int
	// since is the sum of the times at which what stands began, and stood how long the rest did. Milliseconds: 300,000
	// differences over a hundred years fit.
	since, stood int64
}

func (t *total) open(at time.Duration, c Class) {
	if c == Open {
		t.changes++
	}
	t.standing++
	t.since += at.Milliseconds()
}

func (t *total) end(at, lag time.Duration, c Class) {
	if c == Open {
		t.changes--
	}
	t.standing--
	t.since -= at.Milliseconds()
	t.stood += (at + lag).Milliseconds() - at.Milliseconds() // As it was counted while it stood.
}

// wrong is for how long all differences stood until now.
func (t *total) wrong(now time.Duration) time.Duration {
	return time.Duration(max(0, t.stood+int64(t.standing)*now.Milliseconds()-t.since)) * time.Millisecond
}

// Total is what stands in one Resource and Direction, and what ever stood.
type Total struct {
	Resource  Resource
	Direction Direction
	// Open is the number of changes that are not published, and OldestOpen the age of the oldest of them.
	Open       int
	OldestOpen time.Duration
	// WrongEndpointSeconds adds up for how long each difference stood since the tracker began: ready but missing, or gone
	// but present. What still stands counts until now. It grows, but for the milliseconds by which an end that was stamped
	// before the last call and told after it takes back what was counted.
	WrongEndpointSeconds float64
}

// Totals returns one Total for each Resource and Direction, additions and removals apart.
func (t *Tracker) Totals(now time.Time) []Total {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.records.since(now)
	var oldest [apiCount][wayCount]time.Duration
	t.records.each(func(r *record) {
		for in := range apiCount {
			if r.classes[in] == Open {
				oldest[in][r.way] = max(oldest[in][r.way], at-r.at)
			}
		}
	})
	var out []Total
	for in := range apiCount {
		for d := range wayCount {
			out = append(out, Total{
				Resource: resources[in], Direction: directions[d],
				Open: t.totals[in][d].changes, OldestOpen: oldest[in][d],
				WrongEndpointSeconds: t.totals[in][d].wrong(at).Seconds(),
			})
		}
	}
	return out
}
