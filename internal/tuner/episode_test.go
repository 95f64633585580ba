package tuner

import (
	"bytes"
	"compress/gzip"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// shown is evidence of incidents of so many changes at these times.
func shown(now time.Time, sizes map[time.Duration]int) Evidence {
	e := Evidence{Now: now, Flags: flagsOf(300, 600, 20, 20), Leader: Led, Demand: lag.Demand{Start: now.Add(-10 * time.Minute)}}
	for ago, n := range sizes {
		for _, c := range incident(n, 2*time.Second).Changes {
			c.At += 10*time.Minute - ago
			c.SliceLag, c.EndpointsLag = time.Second, 2*time.Second
			e.Demand.Changes = append(e.Demand.Changes, c)
		}
	}
	slices.SortFunc(e.Demand.Changes, func(a, b lag.Change) int { return int(a.At - b.At) })
	return e
}

func sizesOf(book []Episode) []int {
	var out []int
	for _, e := range book {
		out = append(out, len(e.Demand.Changes))
	}
	return out
}

func TestRemember(t *testing.T) {
	o := objectiveOf(2 * time.Second)
	minute := time.Minute
	now := time.Unix(1_700_000_000, 0)
	first := Remember(nil, shown(now, map[time.Duration]int{5 * minute: 100, minute: 40}), o)
	tests := map[string]struct {
		book []Episode
		e    Evidence
		want []int // changes of the episodes, newest first
	}{
		"two bursts are two episodes":             {nil, shown(now, map[time.Duration]int{5 * minute: 100, minute: 40}), []int{40, 100}},
		"the same again changes nothing":          {first, shown(now, map[time.Duration]int{5 * minute: 100, minute: 40}), []int{40, 100}},
		"one in progress grows":                   {first, shown(now, map[time.Duration]int{5 * minute: 100, minute: 80}), []int{80, 100}},
		"a window that shows the end of one only": {first, cutFrom(shown(now, map[time.Duration]int{5 * minute: 100, minute: 40}), 5*minute-time.Second), []int{40, 100}},
		"nothing new":                             {first, shown(now, nil), []int{40, 100}},
		"after a week they are forgotten":         {first, shown(now.Add(8*day), nil), nil},
		"without flags nothing is learned":        {first, Evidence{Now: now, Demand: shown(now, map[time.Duration]int{3 * minute: 500}).Demand}, []int{40, 100}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Remember(tt.book, tt.e, o)
			if diff := cmp.Diff(tt.want, sizesOf(got)); diff != "" {
				t.Errorf("episodes (-want +got):\n%s", diff)
			}
		})
	}
	if got := first[0]; got.Lag != 2*time.Second || got.Flags != flagsOf(300, 600, 20, 20) || !got.Start.Equal(now.Add(-minute)) {
		t.Errorf("episode %v, %v, %v; want the flags that ran, the worst lag and its start", got.Flags, got.Lag, got.Start)
	}
}

func cutFrom(e Evidence, ago time.Duration) Evidence {
	from := e.Now.Add(-ago)
	skip := from.Sub(e.Demand.Start)
	e.Demand.Changes = slices.DeleteFunc(slices.Clone(e.Demand.Changes), func(c lag.Change) bool { return c.At < skip })
	return e
}

// TestTheWorstOfEachDayIsKept fills a week with random episodes: the book has at most eight, none overlap, and it has
// the one that needs the highest rate and one of each day.
func TestTheWorstOfEachDayIsKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := objectiveOf(2 * time.Second)
		var book []Episode
		most, days := 0, map[int64]bool{}
		from := time.Unix(1_700_000_000, 0).Truncate(day)
		hours := rapid.IntRange(1, 6*24).Draw(rt, "hours")
		for hour := range hours {
			n := rapid.IntRange(1, 60).Draw(rt, "changes")
			now := from.Add(time.Duration(hour)*time.Hour + 10*time.Minute)
			most, days[now.Unix()/86400] = max(most, n), true
			book = Remember(book, shown(now, map[time.Duration]int{time.Minute: n}), o)
		}
		kept := map[int64]bool{}
		for i, e := range book {
			kept[e.Start.Unix()/86400] = true
			if i > 0 && !e.Start.Before(book[i-1].Start) {
				rt.Fatalf("episode %d starts at %v, after the one before it", i, e.Start)
			}
		}
		if len(book) > maxEpisodes || len(kept) != len(days) || slices.Max(sizesOf(book)) != most {
			rt.Fatalf("%d episodes of %d days, the largest of %d; want at most %d of %d days, the largest of %d",
				len(book), len(kept), slices.Max(sizesOf(book)), maxEpisodes, len(days), most)
		}
	})
}

// anyBook draws remembered episodes of any kind.
func anyBook(rt *rapid.T) []Episode {
	var book []Episode
	for i := range rapid.IntRange(0, 4).Draw(rt, "episodes") {
		n := rapid.IntRange(1, 300).Draw(rt, "changes")
		d := scattered(rapid.Uint64().Draw(rt, "seed"), n, rapid.IntRange(1, n).Draw(rt, "services"), time.Minute)
		classes := rapid.SampledFrom([]lag.Class{0, lag.Closed, lag.Open, lag.Superseded})
		for j := range d.Changes {
			d.Changes[j].SliceClass, d.Changes[j].EndpointsClass = classes.Draw(rt, "slice"), classes.Draw(rt, "endpoints")
		}
		e := compact(start.Add(time.Duration(-i)*time.Hour), d.Changes)
		e.Flags, e.Lag, e.Model = flagsOf(20, 30, 5, 5), time.Duration(n), Parameters{Base: time.Duration(n), Capacity: float64(n) / 7}
		book = append(book, e)
	}
	return book
}

func TestABookIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		book := anyBook(rt)
		packed, err := EncodeBook(book)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := DecodeBook(packed)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(book, got); diff != "" && len(book) > 0 {
			rt.Fatalf("book (-written +read):\n%s", diff)
		}
	})
}

func TestAFullBookFits(t *testing.T) {
	var book []Episode
	for i := range maxEpisodes {
		d := scattered(uint64(i), 2*maxSearched, 7000, 10*time.Minute)
		e := compact(start.Add(time.Duration(-i)*time.Hour), d.Changes)
		e.Flags = flagsOf(20, 30, 5, 5)
		book = append(book, e)
	}
	packed, err := EncodeBook(book)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBook(packed)
	if err != nil || len(packed) > MaxBook || len(got) < maxEpisodes/2 {
		t.Errorf("%d episodes of %d in %d bytes (%v), want most of them in %d", len(got), len(book), len(packed), err, MaxBook)
	}
	t.Logf("%d episodes of %d changes each in %d KiB", len(got), maxSearched, len(packed)>>10)
}

func TestDecodeBookRefuses(t *testing.T) {
	zipped := func(text string) []byte {
		var out bytes.Buffer
		zip := gzip.NewWriter(&out)
		if _, err := zip.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := zip.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	const flags = `"flags":{"kubeAPIQPS":20,"kubeAPIBurst":30,"concurrentEndpointSyncs":5,"concurrentServiceEndpointSyncs":5}`
	whole, err := EncodeBook([]Episode{remembered(100, 0)})
	if err != nil {
		t.Fatal(err)
	}
	episode := func(services string) []byte {
		return zipped(`{"version":1,"episodes":[{"start":1,` + flags + `,"services":` + services + `}]}`)
	}
	tests := map[string]struct {
		packed []byte
		want   string
	}{
		"nothing":                       {nil, "unpack"},
		"text":                          {[]byte("a book"), "unpack"},
		"one that is cut short":         {whole[:len(whole)/2], "unpack"},
		"one with a byte flipped":       {append(slices.Clone(whole[:len(whole)-8]), make([]byte, 8)...), "unpack"},
		"no JSON":                       {zipped("a book"), "decode the book"},
		"a later version":               {zipped(`{"version":2}`), "version 2, want 1"},
		"no version":                    {zipped(`{}`), "version 0, want 1"},
		"too many episodes":             {zipped(`{"version":1,"episodes":[` + strings.Repeat("{},", 8) + `{}]}`), "9 episodes"},
		"an episode without flags":      {zipped(`{"version":1,"episodes":[{"services":[[0,0]]}]}`), "episode 0"},
		"an episode without changes":    {episode(`[]`), "episode 0"},
		"a Service without changes":     {episode(`[[0,4],[]]`), "episode 0"},
		"half a change":                 {episode(`[[0]]`), "episode 0"},
		"a change before the start":     {episode(`[[-1,4]]`), "episode 0"},
		"a change of no kind":           {episode(`[[0,32]]`), "episode 0"},
		"changes over more than a week": {episode(`[[604800000,4,1,4]]`), "episode 0"},
		"a bomb":                        {zipped(strings.Repeat(" ", maxUnpacked+1)), "more than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if book, err := DecodeBook(tt.packed); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("DecodeBook = %d episodes, %v; want an error with %q", len(book), err, tt.want)
			}
		})
	}
}

// TestWhatIsRememberedReplaysAlike: the model gives the same lag for a compacted episode as for the recording.
func TestWhatIsRememberedReplaysAlike(t *testing.T) {
	for name, w := range clusters() {
		d := w.demand
		e := compact(d.Start, d.Changes)
		was, is := worstOf(Predict(d, w.flags, w.truth)), worstOf(Predict(e.Demand, w.flags, w.truth))
		if math.Abs((was - is).Seconds()) > 0.01 {
			t.Errorf("%s: %v for the recording, %v for what is remembered of it", name, was, is)
		}
	}
}

func FuzzDecodeBook(f *testing.F) {
	whole, err := EncodeBook([]Episode{remembered(100, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, packed []byte) {
		book, err := DecodeBook(packed)
		if err != nil {
			return
		}
		again, err := EncodeBook(book)
		if err != nil || len(again) > MaxBook {
			t.Errorf("a book that was read cannot be written: %v", err)
		}
	})
}
