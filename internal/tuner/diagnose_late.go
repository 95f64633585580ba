package tuner

import (
	"cmp"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/kcm"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// lateness is which changes of one API missed the objective.
type lateness struct {
	// changes that count, and those of them that are later than the objective; open are those of the late ones that are
	// not published yet.
	changes, late, open int
	// lags of all that count, sorted; of an open change, its age.
	lags []time.Duration
	// services with late changes, those with most of them first, and how many Services changed.
	services []serviceLateness
	changed  int
	// all are the changes that count, in order.
	all []lag.Change
}

// serviceLateness is how one Service fared.
type serviceLateness struct {
	service       int32
	changes, late int
	worst         time.Duration
	first, last   time.Duration // change
}

func latenessOf(e Evidence, in kcm.API, o Objective) lateness {
	var l lateness
	of := map[int32]*serviceLateness{}
	for _, c := range e.Demand.Changes {
		class, late := outcomeIn(c, in)
		if c.Startup || c.HandOver || (class != lag.Closed && class != lag.Open) {
			continue
		}
		s := of[c.Service]
		if s == nil {
			s = &serviceLateness{service: c.Service, first: c.At}
			of[c.Service] = s
		}
		l.changes++
		s.changes++
		s.last = c.At
		s.worst = max(s.worst, late)
		l.lags = append(l.lags, late)
		l.all = append(l.all, c)
		if late <= o.MaxLag {
			continue
		}
		l.late++
		s.late++
		if class == lag.Open {
			l.open++
		}
	}
	l.changed = len(of)
	for _, s := range of {
		if s.late > 0 {
			l.services = append(l.services, *s)
		}
	}
	slices.SortFunc(l.services, func(a, b serviceLateness) int {
		return cmp.Or(cmp.Compare(b.late, a.late), cmp.Compare(a.service, b.service))
	})
	slices.Sort(l.lags)
	return l
}

// allowed is how many of so many changes may be late.
func allowed(o Objective, n int) int { return max(0, n-rank(o.Percentile, n)) }

// misses reports whether more are late than the objective allows.
func (l lateness) misses(o Objective) bool { return l.late > allowed(o, l.changes) }

// at is a percentile of the lags; 0 without any.
func (l lateness) at(p float64) time.Duration {
	if len(l.lags) == 0 {
		return 0
	}
	return l.lags[max(1, rank(p, len(l.lags)))-1]
}

// above is how many lags are longer than a limit.
func (l lateness) above(limit time.Duration) int {
	first, _ := slices.BinarySearch(l.lags, limit+1)
	return len(l.lags) - first
}

// culprits is the least number of Services, those with most late changes, without which the others meet the objective,
// and how many changes those others had.
func (l lateness) culprits(o Objective) (hot []serviceLateness, others int) {
	late, changes, n := l.late, l.changes, 0
	for n < len(l.services) && late > allowed(o, changes) {
		late -= l.services[n].late
		changes -= l.services[n].changes
		n++
	}
	return l.services[:n], changes
}
