package scrape

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func recorded(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// idle is what the recording of a fresh v1.37.2 says.
func idle() Signals {
	return Signals{
		KCM: v1alpha1.KCMSignals{
			ProcessStartTime:        metav1.MicroTime{Time: time.UnixMicro(1795453159010000).UTC()},
			Writes:                  new(int64(72)),
			LimiterWaitMilliseconds: new(int64(2610)),
			RequestMilliseconds:     new(int64(5216)),
			Endpoints:               v1alpha1.QueueSignals{Depth: new(int64(0)), Syncs: new(int64(1)), WaitMilliseconds: new(int64(12)), WorkMilliseconds: new(int64(0))},
			EndpointSlices:          v1alpha1.QueueSignals{Depth: new(int64(0)), Syncs: new(int64(1)), WaitMilliseconds: new(int64(21)), WorkMilliseconds: new(int64(0))},
		},
		Leader:        new(true),
		Version:       "v1.37.2",
		ReleaseOnExit: new(false),
	}
}

func TestParseSignals(t *testing.T) {
	metrics := recorded(t, "metrics-v1.37.2.txt")
	replace := func(from, to string) string {
		if !strings.Contains(metrics, from) {
			t.Fatalf("the recording has no %q", from)
		}
		return strings.Replace(metrics, from, to, 1)
	}
	const start = "process_start_time_seconds 1.79545315901e+09"
	const depth = `workqueue_depth{name="endpoint"} 0`
	const wait = `rest_client_rate_limiter_duration_seconds_sum{host="127.0.0.1:21443",verb="POST"} 2.6097375130000007`
	tests := map[string]struct {
		text    string
		change  func(*Signals)
		dropped int
	}{
		"the recording":                       {metrics, func(*Signals) {}, 0},
		"a standby":                           {replace(`status{name="kube-controller-manager"} 1`, `status{name="kube-controller-manager"} 0`), func(s *Signals) { s.Leader = new(false) }, 0},
		"another Lease says nothing":          {replace(`status{name="kube-controller-manager"} 1`, `status{name="other"} 1`), func(s *Signals) { s.Leader = nil }, 0},
		"not a number is absent":              {replace(depth, `workqueue_depth{name="endpoint"} NaN`), func(s *Signals) { s.KCM.Endpoints.Depth = nil }, 1},
		"infinity is absent":                  {replace(depth, `workqueue_depth{name="endpoint"} +Inf`), func(s *Signals) { s.KCM.Endpoints.Depth = nil }, 1},
		"a negative number is absent":         {replace(depth, `workqueue_depth{name="endpoint"} -1`), func(s *Signals) { s.KCM.Endpoints.Depth = nil }, 1},
		"a huge number is absent":             {replace(depth, `workqueue_depth{name="endpoint"} 1e308`), func(s *Signals) { s.KCM.Endpoints.Depth = nil }, 1},
		"a sample given twice is absent":      {replace(depth, depth+"\n"+depth), func(s *Signals) { s.KCM.Endpoints.Depth = nil }, 1},
		"one bad series makes the sum absent": {replace(wait, strings.Replace(wait, "2.6", "-2.6", 1)), func(s *Signals) { s.KCM.LimiterWaitMilliseconds = nil }, 1},
		"a sum that is not a number":          {replace(wait, strings.Replace(wait, "2.6097375130000007", "NaN", 1)), func(s *Signals) { s.KCM.LimiterWaitMilliseconds = nil }, 1},
		"no start time":                       {replace(start, ""), func(s *Signals) { s.KCM.ProcessStartTime = metav1.MicroTime{} }, 0},
		"a negative start time":               {replace(start, "process_start_time_seconds -1"), func(s *Signals) { s.KCM.ProcessStartTime = metav1.MicroTime{} }, 1},
		"stale and failed syncs": {
			metrics + "# TYPE endpoint_slice_controller_syncs counter\nendpoint_slice_controller_syncs{result=\"success\"} 90\n" +
				"endpoint_slice_controller_syncs{result=\"stale\"} 7\nendpoint_slice_controller_syncs{result=\"error\"} 3\n",
			func(s *Signals) { s.KCM.StaleSyncs, s.KCM.FailedSyncs = new(int64(7)), new(int64(3)) }, 0,
		},
		"syncs without a stale one": {
			metrics + "# TYPE endpoint_slice_controller_syncs counter\nendpoint_slice_controller_syncs{result=\"success\"} 90\n",
			func(s *Signals) { s.KCM.StaleSyncs, s.KCM.FailedSyncs = new(int64(0)), new(int64(0)) }, 0,
		},
		"stale syncs that make no sense": {
			metrics + "# TYPE endpoint_slice_controller_syncs counter\nendpoint_slice_controller_syncs{result=\"stale\"} -7\n",
			func(s *Signals) { s.KCM.FailedSyncs = new(int64(0)) }, 1,
		},
		"release on exit":        {replace(`OnExit",stage="ALPHA"} 0`, `OnExit",stage="ALPHA"} 1`), func(s *Signals) { s.ReleaseOnExit = new(true) }, 0},
		"a gate of another name": {replace("LockOnExit", "LockNever"), func(s *Signals) { s.ReleaseOnExit = nil }, 0},
		"nothing at all":         {"", func(s *Signals) { *s = Signals{} }, 0},
		"reads only have written nothing": {
			`# TYPE rest_client_request_duration_seconds histogram
rest_client_request_duration_seconds_bucket{host="h",verb="GET",le="+Inf"} 3
rest_client_request_duration_seconds_sum{host="h",verb="GET"} 1
rest_client_request_duration_seconds_count{host="h",verb="GET"} 3
`, func(s *Signals) {
				*s = Signals{KCM: v1alpha1.KCMSignals{Writes: new(int64(0)), RequestMilliseconds: new(int64(0))}}
			}, 0,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := idle()
			tt.change(&want)
			got, err := ParseSignals([]byte(tt.text))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ParseSignals(), want -, got +:\n%s", diff)
			}
			dropped := 0
			if e, ok := errors.AsType[*SampleError](err); ok {
				dropped = len(e.Dropped)
			} else if err != nil {
				t.Fatal(err)
			}
			if dropped != tt.dropped {
				t.Errorf("%d samples dropped (%v), want %d", dropped, err, tt.dropped)
			}
		})
	}
}

func FuzzParseSignals(f *testing.F) {
	f.Add([]byte("process_start_time_seconds 1\nworkqueue_depth{name=\"endpoint\"} NaN\n"))
	f.Add([]byte("# TYPE workqueue_work_duration_seconds histogram\nworkqueue_work_duration_seconds_sum{name=\"endpoint\"} -1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, _ := ParseSignals(text)
		for _, n := range []*int64{s.KCM.Writes, s.KCM.LimiterWaitMilliseconds, s.KCM.RequestMilliseconds, s.KCM.Endpoints.Depth, s.KCM.EndpointSlices.WorkMilliseconds} {
			if n != nil && *n < 0 {
				t.Errorf("a signal is %d", *n)
			}
		}
		if len(s.Version) > 64 {
			t.Errorf("the version has %d bytes", len(s.Version))
		}
	})
}

// kcm serves recorded answers; a path that is not among them is not found.
func kcm(t *testing.T, answers map[string]http.HandlerFunc) *KCM {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" && r.Header.Get("Authorization") != "Bearer right" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handle, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("right"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := NewKCM(server.URL, &rest.Config{BearerTokenFile: token}, "")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func TestConfiguration(t *testing.T) {
	defaults := Configuration{Flags: v1alpha1.DefaultFlags(), Settings: v1alpha1.KCMSettings{
		EndpointSliceBatchPeriod: "0s", EndpointsBatchPeriod: "0s", EndpointsController: new(true),
	}}
	flagz := func(flags string) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{"/flagz": says(`{"kind":"Flagz","flags":{` + flags + `}}`)}
	}
	settings := func(s v1alpha1.KCMSettings) Configuration { return Configuration{Settings: s} }
	configz := strings.NewReplacer(`"Controllers":["*"]`, `"Controllers":["*","-endpoints-controller"]`,
		`"MaxEndpointsPerSlice":100,"EndpointUpdatesBatchPeriod":"0s"`, `"MaxEndpointsPerSlice":100,"EndpointUpdatesBatchPeriod":"500ms"`,
	).Replace(recorded(t, "configz-v1.37.2.json"))
	tests := map[string]struct {
		answers map[string]http.HandlerFunc
		want    Configuration
		fails   string
	}{
		"flagz as JSON":          {map[string]http.HandlerFunc{"/flagz": says(recorded(t, "flagz-v1.37.2.json"))}, defaults, ""},
		"configz where no flagz": {map[string]http.HandlerFunc{"/configz": says(recorded(t, "configz-v1.37.2.json"))}, defaults, ""},
		"configz with a batch period and without the Endpoints controller": {
			map[string]http.HandlerFunc{"/configz": says(configz)}, Configuration{Flags: v1alpha1.DefaultFlags(), Settings: v1alpha1.KCMSettings{
				EndpointSliceBatchPeriod: "500ms", EndpointsBatchPeriod: "0s", EndpointsController: new(false),
			}}, "",
		},
		"a rate that is no whole":                   {flagz(`"kube-api-qps":"20.5","kube-api-burst":"30"`), Configuration{Flags: v1alpha1.Flags{KubeAPIBurst: 30}}, ""},
		"a batch period":                            {flagz(`"endpointslice-updates-batch-period":"500ms","endpoint-updates-batch-period":"1m0s"`), settings(v1alpha1.KCMSettings{EndpointSliceBatchPeriod: "500ms", EndpointsBatchPeriod: "1m0s"}), ""},
		"a batch period that is none":               {flagz(`"endpointslice-updates-batch-period":"-1s","endpoint-updates-batch-period":"soon"`), Configuration{}, ""},
		"a batch period that nobody believes":       {flagz(`"endpointslice-updates-batch-period":"999999h0m0s"`), Configuration{}, ""},
		"the Endpoints controller off":              {flagz(`"controllers":"[*,-endpoints-controller]"`), settings(v1alpha1.KCMSettings{EndpointsController: new(false)}), ""},
		"the Endpoints controller off, by old name": {flagz(`"controllers":"[*,-endpoint]"`), settings(v1alpha1.KCMSettings{EndpointsController: new(false)}), ""},
		"only named controllers":                    {flagz(`"controllers":"[endpointslice-controller]"`), settings(v1alpha1.KCMSettings{EndpointsController: new(false)}), ""},
		"only the Endpoints controller":             {flagz(`"controllers":"[endpoints-controller]"`), settings(v1alpha1.KCMSettings{EndpointsController: new(true)}), ""},
		"release on exit":                           {flagz(`"feature-gates":"kube:AllAlpha=false,kube:ControllerManagerReleaseLeaderElectionLockOnExit=true"`), settings(v1alpha1.KCMSettings{ReleaseOnExit: new(true)}), ""},
		"no release on exit":                        {flagz(`"feature-gates":"ControllerManagerReleaseLeaderElectionLockOnExit=false"`), settings(v1alpha1.KCMSettings{ReleaseOnExit: new(false)}), ""},
		"other gates":                               {flagz(`"feature-gates":"kube:WatchList=true"`), Configuration{}, ""},
		"text instead of JSON":                      {map[string]http.HandlerFunc{"/flagz": says("kube-api-qps=20")}, Configuration{}, "parse /flagz"},
		"another kind":                              {map[string]http.HandlerFunc{"/flagz": says(`{"kind":"Status"}`)}, Configuration{}, "want Flagz"},
		"neither":                                   {nil, Configuration{}, "404"},
		"too much":                                  {map[string]http.HandlerFunc{"/flagz": says(strings.Repeat("x", maxBody+1))}, Configuration{}, "more than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := kcm(t, tt.answers).Configuration(t.Context())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Configuration(), want -, got +:\n%s", diff)
			}
			if (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("Configuration() fails with %v, want %q", err, tt.fails)
			}
		})
	}
}

func TestHealthy(t *testing.T) {
	tests := map[string]struct {
		answer http.HandlerFunc
		want   bool
	}{
		"ok":              {says("ok"), true},
		"200 but not ok":  {says("soon"), false},
		"an inner error":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, false},
		"a body too long": {says(strings.Repeat("ok", maxBody)), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k := kcm(t, map[string]http.HandlerFunc{"/healthz": tt.answer})
			fingerprint, err := k.Probe(t.Context())
			if (err == nil) != tt.want || len(fingerprint) != 64 {
				t.Errorf("Probe() = %q, %v, want healthy %t and a fingerprint", fingerprint, err, tt.want)
			}
		})
	}
}

func TestATokenThatIsRefusedIsNamed(t *testing.T) {
	k := kcm(t, map[string]http.HandlerFunc{"/metrics": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }})
	_, err := k.Signals(t.Context())
	if e, ok := errors.AsType[*StatusError](err); !ok || e.Code != http.StatusForbidden || !strings.Contains(err.Error(), "grant get") {
		t.Errorf("Signals() = %v, want a *StatusError that says what to grant", err)
	}
}

func TestATokenIsSentOnlyToThisMachineOrToAVerifiedServer(t *testing.T) {
	authority := filepath.Join(t.TempDir(), "ca.crt")
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(authority, block, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		url, caFile string
		want        bool
	}{
		"loopback":                             {"https://127.0.0.1:10257", "", true},
		"loopback of IPv6":                     {"https://[::1]:10257", "", true},
		"another loopback address":             {"https://127.8.8.8:10257/", "", true},
		"IPv4 within IPv6":                     {"https://[::ffff:127.0.0.1]:10257", "", true},
		"loopback in the clear":                {"http://127.0.0.1:10252", "", true},
		"another machine, verified":            {"https://192.0.2.1:10257", authority, true},
		"a name, verified":                     {"https://cp-1:10257", authority, true},
		"another machine":                      {"https://192.0.2.1:10257", "", false},
		"another machine in the clear":         {"http://192.0.2.1:10252", authority, false},
		"a name":                               {"https://localhost:10257", "", false},
		"a name that looks like an address":    {"https://127.0.0.1.example.com:10257", "", false},
		"a user name that looks like a host":   {"https://127.0.0.1:10257@192.0.2.1", "", false},
		"any address of this machine":          {"https://0.0.0.0:10257", "", false},
		"no scheme":                            {"127.0.0.1:10257", authority, false},
		"nothing":                              {"", authority, false},
		"certificates that are not to be read": {"https://192.0.2.1:10257", authority + "x", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := NewKCM(tt.url, &rest.Config{BearerToken: "right"}, tt.caFile); (err == nil) != tt.want {
				t.Errorf("NewKCM(%q, %q) = %v, want accepted %t", tt.url, tt.caFile, err, tt.want)
			}
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked for %s with Authorization %q", r.URL, r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	k := kcm(t, map[string]http.HandlerFunc{"/metrics": http.RedirectHandler(elsewhere.URL+"/metrics", http.StatusFound).ServeHTTP})
	_, err := k.Signals(t.Context())
	if e, ok := errors.AsType[*StatusError](err); !ok || e.Code != http.StatusFound {
		t.Errorf("Signals() = %v, want status 302 as an error", err)
	}
}
