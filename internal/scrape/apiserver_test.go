package scrape

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// server recorded from a v1.37.2 after 200 Services and Pods were made, with the series of some resources.
const serverRecording = "apiserver-v1.37.2.txt"

func TestParseServer(t *testing.T) {
	got, err := ParseServer(strings.NewReader(recorded(t, serverRecording)))
	if err != nil {
		t.Fatal(err)
	}
	// The sums are those of the recording's lines, added up apart from this code.
	check := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %d, want %d", what, got, want)
		}
	}
	check("Writes", got.Writes, 534)
	check("WriteTime in ms", got.WriteTime.Milliseconds(), 9282)
	check("PodWrites", got.PodWrites, 403)
	check("EndpointWrites", got.EndpointWrites, 118)
	check("EndpointWriteTime in ms", got.EndpointWriteTime.Milliseconds(), 401)
	check("Requests", got.Requests, 1629)
	check("Refused", got.Refused, 0)
	check("QueueWaits", got.QueueWaits, 407)
	check("QueueWait in µs", got.QueueWait.Microseconds(), 27977)
	check("EtcdWrites", got.EtcdWrites, 532)
	check("EtcdTime in ms", got.EtcdTime.Milliseconds(), 5171)
	check("writes of 50 ms at most", got.WriteBuckets[0].Count, 525)
	check("writes of any length", got.WriteBuckets[len(got.WriteBuckets)-1].Count, got.Writes)
	if want := time.UnixMilli(1795479751720).UTC(); !got.ProcessStart.Equal(want) {
		t.Errorf("ProcessStart = %v, want %v", got.ProcessStart, want)
	}
}

func TestParseServerTakesOnlyWhatCounts(t *testing.T) {
	const refused = "# TYPE apiserver_request_total counter\napiserver_request_total{code=\"200\",verb=\"GET\"} 90\n" +
		"apiserver_request_total{code=\"429\",verb=\"GET\"} 4\napiserver_request_total{code=\"429\",verb=\"PUT\"} 6\n"
	const queues = "# TYPE apiserver_flowcontrol_current_inqueue_requests gauge\n" +
		"apiserver_flowcontrol_current_inqueue_requests{flow_schema=\"a\",priority_level=\"workload-high\"} 3\n" +
		"apiserver_flowcontrol_current_inqueue_requests{flow_schema=\"b\",priority_level=\"workload-low\"} 7\n" +
		"# TYPE apiserver_flowcontrol_rejected_requests_total counter\n" +
		"apiserver_flowcontrol_rejected_requests_total{flow_schema=\"a\",priority_level=\"workload-high\",reason=\"queue-full\"} 2\n"
	got, err := ParseServer(strings.NewReader(refused + queues + "process_start_time_seconds 5\n"))
	want := tuner.ServerSample{Requests: 100, Refused: 10, Queued: 3, Rejected: 2}
	if err != nil || got.Requests != want.Requests || got.Refused != want.Refused || got.Queued != want.Queued || got.Rejected != want.Rejected {
		t.Errorf("ParseServer() = %+v, %v, want %+v", got, err, want)
	}
}

func TestAServerSampleWithAHoleIsUnusable(t *testing.T) {
	good := recorded(t, serverRecording)
	const start = "process_start_time_seconds 1.79547975172e+09"
	replace := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("the recording has no %q", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	tests := map[string]string{
		"no start of the process":   replace(start, ""),
		"a counter that is nothing": good + "apiserver_request_total{code=\"200\",verb=\"X\"} NaN\n",
		"a negative counter":        good + "apiserver_request_total{code=\"200\",verb=\"X\"} -1\n",
		"a counter given twice":     good + "apiserver_request_total{code=\"1\"} 1\napiserver_request_total{code=\"1\"} 1\n",
		"an endless one":            good + "apiserver_request_total{code=\"1\"} +Inf\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseServer(strings.NewReader(text)); err == nil || got.Writes != 0 {
				t.Errorf("ParseServer() = %+v, %v, want nothing and an error", got, err)
			}
		})
	}
}

// endless is a metrics text without an end.
type endless struct{ line string }

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n+len(e.line) <= len(p) {
		n += copy(p[n:], e.line)
	}
	return n, nil
}

func TestTheAPIServersAnswerIsBounded(t *testing.T) {
	for name, line := range map[string]string{
		"lines of no use": "other_metric{a=\"b\"} 1\n",
		"lines of use":    "apiserver_request_total{code=\"200\"} 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseServer(endless{line}); err == nil || !strings.Contains(err.Error(), "longer than") {
				t.Errorf("ParseServer() of an endless text = %v, want that it is too long", err)
			}
		})
	}
	if _, err := ParseServer(io.LimitReader(endless{"x"}, 1<<20)); err == nil {
		t.Error("ParseServer() takes a line of a megabyte")
	}
}

func TestAPIServerSample(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prefix/metrics" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, recorded(t, serverRecording))
	}))
	t.Cleanup(server.Close)
	a, err := NewAPIServer(&rest.Config{Host: server.URL + "/prefix"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Sample(t.Context()); err != nil || got.Writes != 534 {
		t.Errorf("Sample() = %+v, %v, want 534 writes", got, err)
	}
	status = http.StatusForbidden
	if _, err := a.Sample(t.Context()); err == nil || !strings.Contains(err.Error(), "grant get") {
		t.Errorf("Sample() = %v, want what to grant", err)
	}
	var dropped *SampleError
	if _, err := ParseServer(strings.NewReader("")); !errors.As(err, &dropped) {
		t.Errorf("ParseServer() of nothing = %v, want a *SampleError", err)
	}
}
