package accuracy

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// pressureThreshold is the share of a window for which some task that could run waited for a CPU, above which the window
// is left out of the percentiles of the error (never out of what must lie within the stated bound). It was fixed before
// any error was looked at, from a run with --pressure-only on two cores: 0.03 to 0.08 with the trickle alone, 0.08 to 0.23
// while kube-controller-manager publishes a burst at the default flags, 0.23 to 0.38 in the windows in which 1,000 Pods
// change within three seconds, 0.7 while somebody compiles. Above a quarter, the machine decides what is measured; with
// five bursts in a hundred windows that leaves out less than a tenth of them.
const pressureThreshold = 0.25

// The targets.
const (
	targetP99Error    = 10 * time.Millisecond
	targetWithinBound = 0.99
	targetMedianBound = 10 * time.Millisecond
	targetP95Bound    = 50 * time.Millisecond
	targetLeftOut     = 0.10
	targetChanges     = 5000
)

// figures are how the subject compares with one truth.
type figures struct {
	// Changes are the Pod changes that both saw published, and Lags their lags: one in each API.
	Changes int `json:"changes"`
	Lags    int `json:"lags"`
	// The errors of the lags: those that began in windows under the threshold, and all.
	P99ErrorSeconds    float64 `json:"p99ErrorSeconds"`
	MaxErrorSeconds    float64 `json:"maxErrorSeconds"`
	P99ErrorAllSeconds float64 `json:"p99ErrorAllSeconds"`
	MaxErrorAllSeconds float64 `json:"maxErrorAllSeconds"`
	// Windows are those in which changes began; a bound must be stated to be held.
	Windows              int     `json:"windows"`
	WindowsWithinBound   int     `json:"windowsWithinBound"`
	WindowsLeftOut       int     `json:"windowsLeftOut"`
	CPUPressureThreshold float64 `json:"cpuPressureThreshold"`
	// The stated bounds; null when that window stated none.
	MedianBoundSeconds *float64 `json:"medianBoundSeconds"`
	P95BoundSeconds    *float64 `json:"p95BoundSeconds"`
	// Superseded were overtaken, say both; Disputed were published, says one, and overtaken, says the other; the last two
	// were seen by one party only.
	Superseded  int `json:"superseded"`
	Disputed    int `json:"disputed"`
	OnlySubject int `json:"onlySubject"`
	OnlyTruth   int `json:"onlyTruth"`
	// TruthSpread is how uncertain the truth itself is: how long its writes took, of which it has the end.
	TruthSpreadP50Seconds float64 `json:"truthSpreadP50Seconds,omitempty"`
	TruthSpreadP99Seconds float64 `json:"truthSpreadP99Seconds,omitempty"`
	// The signed errors, positive when the subject says later or longer: of the lags and of the two stamps of each.
	LagErrors     []bucket `json:"lagErrors"`
	OpeningErrors []bucket `json:"openingErrors"`
	EndingErrors  []bucket `json:"endingErrors"`
}

// Result is out/accuracy/result.json: against the observer and, apart, against the audit log.
type Result struct {
	figures

	Audit figures `json:"audit"`
	// SubjectClasses counts what the subject says about the changes that began in the windows, in both APIs.
	SubjectClasses map[string]int `json:"subjectClasses"`
	Marked         int            `json:"marked"`
	Gaps           int            `json:"gaps"`

	// ObserverNice is the scheduling priority that the observer ran at: below 0 if it was allowed to raise it.
	ObserverNice      int          `json:"observerNice"`
	KubernetesVersion string       `json:"kubernetesVersion"`
	Began             time.Time    `json:"began"`
	WindowSeconds     float64      `json:"windowSeconds"`
	PerWindow         []windowFigs `json:"perWindow"`
}

// windowFigs are one window.
type windowFigs struct {
	AtSeconds   float64 `json:"atSeconds"`
	Phase       string  `json:"phase"`
	CPUPressure float64 `json:"cpuPressure"`
	LeftOut     bool    `json:"leftOut"`
	// BoundSeconds was stated at the window's end; null if none was.
	BoundSeconds *float64    `json:"boundSeconds"`
	Observer     windowError `json:"observer"`
	Audit        windowError `json:"audit"`
}

// windowError is what the lags that began in one window are wrong by.
type windowError struct {
	Changes         int     `json:"changes"`
	P99ErrorSeconds float64 `json:"p99ErrorSeconds"`
	MaxErrorSeconds float64 `json:"maxErrorSeconds"`
	WithinBound     bool    `json:"withinBound"`
	Unmatched       int     `json:"unmatched"`

	errors []time.Duration
	pods   map[podChange]bool
}

// podChange is one change of a Pod, whatever the API.
type podChange struct {
	service, pod string
	from         int64
}

// bucket counts the errors from From up to, not including, To.
type bucket struct {
	FromSeconds float64 `json:"fromSeconds"`
	ToSeconds   float64 `json:"toSeconds"`
	Count       int     `json:"count"`
}

// observations are what a run is judged from.
type observations struct {
	began    time.Time
	pressure []float64 // of each window
	phases   []string  // of each window
	subject  recording
	observer recording
	audit    []Change
}

// judge compares.
func judge(o observations) Result {
	o.subject.Changes = since(o.subject.Changes, o.began)
	out := Result{
		SubjectClasses: map[string]int{}, Gaps: o.subject.Gaps, ObserverNice: o.observer.Nice, Began: o.began, WindowSeconds: windowLength.Seconds(),
	}
	for i, p := range o.pressure {
		w := windowFigs{AtSeconds: (time.Duration(i) * windowLength).Seconds(), Phase: o.phases[i], CPUPressure: p, LeftOut: p > pressureThreshold}
		if i < len(o.subject.Stated) {
			w.BoundSeconds = o.subject.Stated[i].Bound.seconds()
		}
		out.PerWindow = append(out.PerWindow, w)
	}
	for _, c := range o.subject.Changes {
		out.SubjectClasses[c.Class]++
		if c.Marked {
			out.Marked++
		}
	}
	out.figures = o.against(o.observer.Changes, out.PerWindow, func(w *windowFigs) *windowError { return &w.Observer })
	out.Audit = o.against(o.audit, out.PerWindow, func(w *windowFigs) *windowError { return &w.Audit })
	return out
}

func since(changes []Change, t time.Time) []Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.From.Before(t) })
}

func (b bound) seconds() *float64 {
	if !b.Known {
		return nil
	}
	return new(b.Error.Seconds())
}

// against fills in one truth's part of the windows and sums it up.
func (o observations) against(truth []Change, windows []windowFigs, part func(*windowFigs) *windowError) figures {
	c := Compare(o.subject.Changes, since(truth, o.began))
	for i := range windows {
		w := part(&windows[i])
		w.WithinBound, w.pods = windows[i].BoundSeconds != nil, map[podChange]bool{}
	}
	var spreads, openings, endings []time.Duration
	for _, p := range c.Pairs {
		w := part(&windows[o.window(p.Subject.From)])
		w.errors = append(w.errors, p.LagError())
		w.pods[podChange{p.Subject.Service, p.Subject.Pod, p.Subject.From.UnixNano()}] = true
		w.WithinBound = w.WithinBound && o.holds(p)
		spreads, openings, endings = append(spreads, p.Truth.Spread), append(openings, p.OpeningError()), append(endings, p.EndingError())
	}
	for _, p := range c.Disputed {
		part(&windows[o.window(p.Subject.From)]).unmatched()
	}
	for _, one := range slices.Concat(c.OnlySubject, c.OnlyTruth) {
		part(&windows[o.window(one.From)]).unmatched()
	}
	out := sum(windows, part)
	out.Superseded, out.Disputed, out.OnlySubject, out.OnlyTruth = c.Superseded, len(c.Disputed), len(c.OnlySubject), len(c.OnlyTruth)
	out.OpeningErrors, out.EndingErrors = histogram(openings), histogram(endings)
	slices.Sort(spreads)
	out.TruthSpreadP50Seconds, out.TruthSpreadP99Seconds = percentile(spreads, 0.50).Seconds(), percentile(spreads, 0.99).Seconds()
	return out
}

// unmatched notes a change that the parties do not agree on: no bound covers that.
func (w *windowError) unmatched() {
	w.Unmatched++
	w.WithinBound = false
}

// window is the number of the window in which a time lies.
func (o observations) window(t time.Time) int {
	return min(max(0, int(t.Sub(o.began)/windowLength)), len(o.pressure)-1)
}

// holds says whether what the subject stated about a change is true: at the end of the window in which it began, when it
// was a sample if published by then and otherwise an age that rests on its beginning alone; and when it was published.
func (o observations) holds(p Pair) bool {
	began, ended := o.window(p.Subject.From), o.window(p.Subject.Until())
	if began >= len(o.subject.Stated) {
		return false
	}
	s := o.subject.Stated[began]
	if began == ended {
		return s.Bound.covers(p.LagError())
	}
	later := ended - began - 1
	return s.Bound.covers(p.OpeningError()) && later < len(s.Later) && s.Later[later].covers(p.LagError())
}

func (b bound) covers(e time.Duration) bool { return b.Known && e.Abs() <= b.Error }

// sum adds the windows up.
func sum(windows []windowFigs, part func(*windowFigs) *windowError) figures {
	out := figures{CPUPressureThreshold: pressureThreshold}
	var kept, all []time.Duration
	var signed []time.Duration
	var bounds []float64
	for i := range windows {
		w := part(&windows[i])
		if len(w.errors)+w.Unmatched == 0 {
			w.WithinBound = true
			continue
		}
		w.Changes = len(w.pods)
		signed = append(signed, w.errors...)
		absolute := absoluteOf(w.errors)
		w.P99ErrorSeconds, w.MaxErrorSeconds = percentile(absolute, 0.99).Seconds(), percentile(absolute, 1).Seconds()
		out.Changes, out.Lags, out.Windows = out.Changes+w.Changes, out.Lags+len(w.errors), out.Windows+1
		all = append(all, absolute...)
		if windows[i].LeftOut {
			out.WindowsLeftOut++
		} else {
			kept = append(kept, absolute...)
		}
		if w.WithinBound {
			out.WindowsWithinBound++
		}
		if b := windows[i].BoundSeconds; b != nil {
			bounds = append(bounds, *b)
		} else {
			bounds = append(bounds, math.Inf(1))
		}
	}
	slices.Sort(kept)
	slices.Sort(all)
	slices.Sort(bounds)
	out.P99ErrorSeconds, out.MaxErrorSeconds = percentile(kept, 0.99).Seconds(), percentile(kept, 1).Seconds()
	out.P99ErrorAllSeconds, out.MaxErrorAllSeconds = percentile(all, 0.99).Seconds(), percentile(all, 1).Seconds()
	out.MedianBoundSeconds, out.P95BoundSeconds = finite(percentile(bounds, 0.50)), finite(percentile(bounds, 0.95))
	out.LagErrors = histogram(signed)
	return out
}

func absoluteOf(errors []time.Duration) []time.Duration {
	out := make([]time.Duration, 0, len(errors))
	for _, e := range errors {
		out = append(out, e.Abs())
	}
	slices.Sort(out)
	return out
}

func finite(v float64) *float64 {
	if math.IsInf(v, 1) {
		return nil
	}
	return &v
}

// percentile is the nearest-rank percentile of sorted values; zero of none.
func percentile[T time.Duration | float64](sorted []T, p float64) T {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// edges are where the histograms' buckets meet, on both sides of zero.
func edges() []time.Duration {
	const us, ms = time.Microsecond, time.Millisecond
	positive := []time.Duration{
		100 * us, 200 * us, 500 * us, ms, 2 * ms, 5 * ms, 10 * ms, 20 * ms, 50 * ms, 100 * ms, 200 * ms, 500 * ms, time.Second, time.Minute,
	}
	out := []time.Duration{0}
	for _, e := range positive {
		out = append(out, e, -e)
	}
	slices.Sort(out)
	return out
}

// histogram counts, without the buckets that stay empty.
func histogram(errors []time.Duration) []bucket {
	at := edges()
	counts := make([]int, len(at))
	for _, e := range errors {
		i, found := slices.BinarySearch(at, e)
		if !found {
			i--
		}
		counts[min(max(0, i), len(at)-2)]++
	}
	var out []bucket
	for i, n := range counts {
		if n > 0 {
			out = append(out, bucket{at[i].Seconds(), at[i+1].Seconds(), n})
		}
	}
	return out
}

// Missed lists the targets that the run did not reach.
func (r *Result) Missed() []string {
	var out []string
	check := func(met bool, format string, args ...any) {
		if !met {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	for _, t := range []struct {
		name string
		figures
	}{{"observer", r.figures}, {"audit log", r.Audit}} {
		check(t.Changes >= targetChanges, "%s: %d changes, want %d", t.name, t.Changes, targetChanges)
		check(t.P99ErrorSeconds <= targetP99Error.Seconds(), "%s: error %.4f s at p99, want %s", t.name, t.P99ErrorSeconds, targetP99Error)
		check(float64(t.WindowsLeftOut) <= targetLeftOut*float64(t.Windows), "%s: %d of %d windows left out, want %.0f %%",
			t.name, t.WindowsLeftOut, t.Windows, 100*targetLeftOut)
		check(float64(t.WindowsWithinBound) >= targetWithinBound*float64(t.Windows), "%s: %d of %d windows within their bound, want %.0f %%",
			t.name, t.WindowsWithinBound, t.Windows, 100*targetWithinBound)
	}
	within := func(b *float64, target time.Duration) bool { return b != nil && *b <= target.Seconds() }
	check(within(r.MedianBoundSeconds, targetMedianBound), "the median bound is over %s or not stated", targetMedianBound)
	check(within(r.P95BoundSeconds, targetP95Bound), "the bounds' 95th percentile is over %s or not stated", targetP95Bound)
	return out
}
