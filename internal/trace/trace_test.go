package trace

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var start = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

// fill gives every field that can be reached a value of its own, so that none is forgotten when a field is added to the
// tuner's types. The value follows from the field's path: a new field changes no other's.
func fill(v reflect.Value, path string) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(path))
	n := int64(hash.Sum32()%100_000) + 1
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(start.Add(time.Duration(n) * time.Millisecond)))
		return
	case lag.Class:
		v.SetUint(1 + uint64(n)%uint64(lag.Drift))
		return
	case lag.Kind:
		v.SetUint(1 + uint64(n)%uint64(lag.KindNamespace))
		return
	case tuner.LeaderState:
		v.SetInt(int64(tuner.Leaderless))
		return
	case lag.Direction:
		v.SetString(string(lag.DirectionRemoval))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), path+strconv.Itoa(i))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d", n))
	case reflect.Float64:
		v.SetFloat(float64(n) + 0.1)
	default: // integers
		v.SetInt(n)
	}
}

// full is a trace with something in every field.
func full() Trace {
	var t Trace
	fill(reflect.ValueOf(&t).Elem(), "")
	t.Objective.Percentile = 0.99
	for i := range t.Evidence.Demand.Changes {
		t.Evidence.Demand.Changes[i].Service = int32(i)
		t.Evidence.Demand.Changes[i].At = time.Duration(i) * time.Second
	}
	return t
}

func written(t testing.TB, in Trace) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, in); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestEveryFieldComesBackButNames(t *testing.T) {
	in := full()
	raw := written(t, in)
	got, err := Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	want := in
	want.Evidence.Lag.Worst = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was read differs from what was written (-want +got):\n%s", diff)
	}
	text := inflated(t, raw)
	for _, w := range in.Evidence.Lag.Worst {
		if strings.Contains(text, w.Name) || strings.Contains(text, w.Namespace) {
			t.Errorf("the trace names the Service %s/%s", w.Namespace, w.Name)
		}
	}
	if !bytes.Equal(raw, written(t, in)) {
		t.Error("writing the same trace twice gave different bytes")
	}
}

func inflated(t testing.TB, raw []byte) string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zipped)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func deflated(text string) []byte {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	_, _ = io.WriteString(zipped, text)
	_ = zipped.Close()
	return out.Bytes()
}

func drawDuration(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, label))
}

func drawChange(t *rapid.T) lag.Change {
	return lag.Change{
		At:             drawDuration(t, "at"),
		Direction:      rapid.SampledFrom([]lag.Direction{lag.DirectionAddition, lag.DirectionRemoval}).Draw(t, "direction"),
		SliceClass:     lag.Class(rapid.IntRange(0, int(lag.Drift)).Draw(t, "class")),
		EndpointsClass: lag.Class(rapid.IntRange(0, int(lag.Drift)).Draw(t, "class")),
		SliceLag:       drawDuration(t, "lag"), EndpointsLag: drawDuration(t, "lag"),
		SliceOpen: rapid.Bool().Draw(t, "open"), EndpointsOpen: rapid.Bool().Draw(t, "open"),
		HandOver: rapid.Bool().Draw(t, "handOver"), Startup: rapid.Bool().Draw(t, "startup"),
	}
}

func drawTrace(t *rapid.T) Trace {
	changes := rapid.SliceOfN(rapid.Custom(drawChange), 0, 20).Draw(t, "changes")
	slices.SortStableFunc(changes, func(a, b lag.Change) int { return int(a.At - b.At) })
	for i := range changes {
		changes[i].Service = rapid.Int32Range(0, int32(len(changes))-1).Draw(t, "service")
	}
	if len(changes) == 0 {
		changes = nil
	}
	buckets := []tuner.Bucket{{Bound: drawDuration(t, "bound"), Count: 3}, {Bound: math.MaxInt64, Count: rapid.Int64().Draw(t, "count")}}
	return Trace{
		Recorded: start.Add(drawDuration(t, "recorded")), Tool: rapid.StringN(0, 40, 100).Draw(t, "tool"),
		FlagsFrom: rapid.SampledFrom([]FlagsFrom{FromDefault, FromGiven, FromAgent, FromProcess, FromPod}).Draw(t, "from"),
		Objective: tuner.Objective{Percentile: rapid.Float64Range(0, 0.999999).Draw(t, "percentile"), MaxLag: drawDuration(t, "maxLag")},
		Evidence: tuner.Evidence{
			Now:    start.Add(drawDuration(t, "now")),
			Leader: tuner.LeaderState(rapid.IntRange(0, 2).Draw(t, "leader")),
			Flags:  v1alpha1.Flags{KubeAPIQPS: rapid.Int32Range(0, 1000).Draw(t, "qps")},
			Server: []tuner.ServerSample{{Time: start, Writes: rapid.Int64().Draw(t, "writes"), WriteBuckets: buckets}},
			Lag: lag.Summary{Stats: []lag.Stat{{
				Resource: lag.ResourceEndpoints, Direction: lag.DirectionAny, WrongEndpointSeconds: rapid.Float64Range(0, 1e9).Draw(t, "wrong"),
			}}},
			Demand: lag.Demand{Start: start, Changes: changes},
		},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawTrace(t)
		in.Tool = strings.ToValidUTF8(in.Tool, "")
		var file bytes.Buffer
		if err := Write(&file, in); err != nil {
			t.Fatal(err)
		}
		got, err := Read(&file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, got); diff != "" {
			t.Fatalf("what was read differs from what was written (-want +got):\n%s", diff)
		}
	})
}

func TestADamagedTraceIsRefused(t *testing.T) {
	good := written(t, full())
	head := `{"kind":"EndpointSyncTrace","version":1,"tool":"v1.2.3","recorded":"2026-11-03T12:00:00Z"}` + "\n"
	broken := slices.Clone(good)
	broken[len(broken)/2] ^= 0xff
	change := func(text string) []byte {
		return deflated(head + `{"evidence":{"leader":"Led","demand":{"start":"2026-11-03T12:00:00Z","changes":[` + text + `]}}}`)
	}
	tests := map[string]struct {
		file []byte
		want string
		kind error
	}{
		"an empty file":                     {nil, "not gzip", ErrNotTrace},
		"not gzip":                          {[]byte("apiVersion: v1\nkind: Pod\n"), "not gzip", ErrNotTrace},
		"gzip of something else":            {deflated("hello\n"), "does not begin with a header", ErrNotTrace},
		"gzip of one long line":             {deflated(strings.Repeat("a", 1<<20)), "does not begin with a header", ErrNotTrace},
		"JSON of another kind":              {deflated(`{"kind":"Pod"}` + "\n{}\n"), "does not begin with a header", ErrNotTrace},
		"a later version":                   {deflated(strings.Replace(head, `"version":1`, `"version":2`, 1)), `format version 2 and this program reads version 1: take the release that wrote it ("v1.2.3")`, nil},
		"cut short":                         {good[:len(good)/2], "cut short", io.ErrUnexpectedEOF},
		"the checksum is missing":           {good[:len(good)-4], "cut short", io.ErrUnexpectedEOF},
		"a byte is another":                 {broken, "damaged", nil},
		"something follows it":              {append(slices.Clone(good), "more than a header takes"...), "damaged", nil},
		"no second line":                    {deflated(head), "damaged", nil},
		"a second line that is no JSON":     {deflated(head + "{"), "damaged", nil},
		"more than it may inflate to":       {deflated(head + strings.Repeat(" ", MaxBytes)), "more than 64 MiB", nil},
		"a leader that does not exist":      {deflated(head + `{"evidence":{"leader":"Perhaps"}}`), `leader "Perhaps"`, nil},
		"a Service that no number is for":   {change(`{"atNs":1,"service":7,"direction":"Addition"}`), "of Service 7", nil},
		"a direction that does not exist":   {change(`{"atNs":1,"service":0,"direction":"Up"}`), `"Up"`, nil},
		"a class that does not exist":       {change(`{"atNs":1,"service":0,"direction":"Addition","endpoints":{"class":"Lost"}}`), `"Lost"`, nil},
		"a lag before its change":           {change(`{"atNs":1,"service":0,"direction":"Addition","endpoints":{"class":"Closed","lagNs":-1}}`), "not possible", nil},
		"changes that are not in order":     {change(`{"atNs":2,"service":0,"direction":"Addition"},{"atNs":1,"service":0,"direction":"Addition"}`), "in order", nil},
		"a change before the world began":   {change(`{"atNs":-9223372036854775808,"service":0,"direction":"Addition"}`), "not possible", nil},
		"a flag that is not possible":       {deflated(head + `{"evidence":{"leader":"Led","flags":{"kubeAPIQPS":-1}}}`), "kube-api-qps", nil},
		"an objective that is not possible": {deflated(head + `{"objective":{"percentile":99},"evidence":{"leader":"Led"}}`), "objective", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Read(bytes.NewReader(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) || (tt.kind != nil && !errors.Is(err, tt.kind)) {
				t.Errorf("Read = %v, want an error with %q", err, tt.want)
			}
			if diff := cmp.Diff(Trace{}, got); diff != "" {
				t.Errorf("Read returned something besides the error:\n%s", diff)
			}
		})
	}
}

func TestFieldsOfALaterReleaseArePassedOver(t *testing.T) {
	text := `{"kind":"EndpointSyncTrace","version":1,"recorded":"2026-11-03T12:00:00Z","colour":"red"}` + "\n" +
		`{"evidence":{"leader":"Led","flags":{"kubeAPIQPS":20,"other":3},"weather":"fine"}}` + "\n"
	got, err := Read(bytes.NewReader(deflated(text)))
	if err != nil || got.Evidence.Flags.KubeAPIQPS != 20 || got.Evidence.Leader != tuner.Led {
		t.Errorf("Read = %+v, %v, want what it knows", got, err)
	}
}

func TestWhatCannotBeReadIsNotWritten(t *testing.T) {
	unordered := full()
	unordered.Evidence.Demand.Changes[0].At = time.Hour
	many := full()
	many.Evidence.Demand.Changes = slices.Repeat(many.Evidence.Demand.Changes[:1], lag.MaxDemand+1)
	infinite := full()
	infinite.Evidence.Lag.Stats[0].WrongEndpointSeconds = math.Inf(1)
	for name, in := range map[string]Trace{"out of order": unordered, "too many changes": many, "a figure that JSON cannot hold": infinite} {
		if err := Write(io.Discard, in); err == nil {
			t.Errorf("%s: Write took it", name)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAFullDiskIsAnError(t *testing.T) {
	if err := Write(fullDisk{}, full()); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("Write = %v, want the disk's error", err)
	}
}

// TestTheFormatStays reads a file that this version wrote once: what old recordings say does not change.
func TestTheFormatStays(t *testing.T) {
	path := filepath.Join("testdata", "v1.trace.gz")
	want := full()
	if *update {
		if err := os.WriteFile(path, written(t, want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	want.Evidence.Lag.Worst = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s reads differently; a field that was added may differ (rewrite it with -update), a field that was there may not (-want +got):\n%s", path, diff)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(written(f, full()))
	f.Add(written(f, Trace{}))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := Read(bytes.NewReader(file))
		if err != nil {
			return
		}
		again, err := Read(bytes.NewReader(written(t, got)))
		if err != nil {
			t.Fatalf("what was read and written cannot be read: %v", err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("what was read, written and read differs:\n%s", diff)
		}
	})
}
