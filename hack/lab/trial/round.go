package trial

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
)

// Round is one incident under some flags: what was observed, and what the operator would have known.
type Round struct {
	Flags    v1alpha1.Flags `json:"flags"`
	Workload string         `json:"workload"`
	Services int            `json:"services"`
	Pods     int            `json:"pods"`
	Round    int            `json:"round"`
	// FlipSeconds is how long it took to change the Pods.
	FlipSeconds float64 `json:"flipSeconds"`
	// Slices and Endpoints are the observer's figures.
	Slices    Figures `json:"slices"`
	Endpoints Figures `json:"endpoints"`
	// Evidence is the operator's: its tracker's demand and lags, and the counters.
	Evidence tuner.Evidence `json:"evidence"`
}

// Figures are the lag of all changes in one API, in seconds.
type Figures struct {
	Changes int     `json:"changes"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
}

func figuresOf(r observer.Resource) Figures {
	return Figures{Changes: r.Changes, P50: r.P50.Seconds(), P99: r.P99.Seconds(), Max: r.Max.Seconds()}
}

// P50 is the median lag in the worse API, in seconds.
func (r Round) P50() float64 { return max(r.Slices.P50, r.Endpoints.P50) }

// P99 is the 99th percentile of the lag in the worse API, in seconds.
func (r Round) P99() float64 { return max(r.Slices.P99, r.Endpoints.P99) }

// SettingName names flags shortly: qps-burst-endpointWorkers-sliceWorkers.
func SettingName(f v1alpha1.Flags) string {
	return fmt.Sprintf("%d-%d-%d-%d", f.KubeAPIQPS, f.KubeAPIBurst, f.ConcurrentEndpointSyncs, f.ConcurrentServiceEndpointSyncs)
}

// Write keeps a value as compressed JSON.
func Write(path string, v any) (err error) {
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	compressed := gzip.NewWriter(f)
	if err = json.NewEncoder(compressed).Encode(v); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return compressed.Close()
}

// Read reads what Write wrote.
func Read(path string, v any) (err error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err = json.NewDecoder(plain).Decode(v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// Span is a length of time, for plans of how long something takes.
func Span(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
