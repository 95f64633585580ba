package scale

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Tracker is what one change costs the tracker, by its own benchmark at the largest size that it has.
type Tracker struct {
	EventsPerSecond *float64 `json:"eventsPerSecond"` // on one core
	BytesPerChange  *float64 `json:"bytesPerChange"`
	AllocsPerChange *float64 `json:"allocsPerChange"`
	Benchmark       string   `json:"benchmark"`
	Sizes           []Size   `json:"sizes"`
}

// Size is one size of the tracker's benchmark.
type Size struct {
	Name            string  `json:"name"`
	EventsPerSecond float64 `json:"eventsPerSecond"`
	BytesPerChange  float64 `json:"bytesPerChange"`
	AllocsPerChange float64 `json:"allocsPerChange"`
}

// benchmarkRuns is how often the benchmark is run; the medians count.
const benchmarkRuns = 3

// benchmark runs the tracker's benchmark on one core.
func benchmark(ctx context.Context, root string) (Tracker, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "BenchmarkTracker", "-benchmem", "-cpu", "1",
		"-count", strconv.Itoa(benchmarkRuns), "./internal/lag")
	cmd.Dir, cmd.Env = root, environment()
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return Tracker{}, fmt.Errorf("run the tracker's benchmark in %s: %w\n%s%s", root, err, out, failed.Bytes())
	}
	return parseBenchmark(bytes.NewReader(out))
}

// parseBenchmark reads what the benchmark printed. The sizes come in order, the largest last; of several runs of a size
// the one in the middle by speed counts.
func parseBenchmark(out io.Reader) (Tracker, error) {
	var t Tracker
	runs := map[string][]Size{}
	reader := benchfmt.NewReader(out, "go test")
	for reader.Scan() {
		switch line := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return t, fmt.Errorf("read the tracker's benchmark: %w", line)
		case *benchfmt.Result:
			if !strings.HasPrefix(line.Name.String(), "Tracker") {
				continue
			}
			size, err := sizeOf(line)
			if err != nil {
				return t, err
			}
			if runs[size.Name] == nil {
				t.Sizes = append(t.Sizes, size)
			}
			runs[size.Name] = append(runs[size.Name], size)
		}
	}
	if err := reader.Err(); err != nil {
		return t, fmt.Errorf("read the tracker's benchmark: %w", err)
	}
	if len(t.Sizes) == 0 {
		return t, errors.New("the tracker's benchmark printed no result: is there a BenchmarkTracker in internal/lag?")
	}
	for i := range t.Sizes {
		all := runs[t.Sizes[i].Name]
		slices.SortFunc(all, func(a, b Size) int { return cmp.Compare(a.EventsPerSecond, b.EventsPerSecond) })
		t.Sizes[i] = all[len(all)/2]
	}
	largest := &t.Sizes[len(t.Sizes)-1]
	t.Benchmark, t.EventsPerSecond = largest.Name, &largest.EventsPerSecond
	t.BytesPerChange, t.AllocsPerChange = &largest.BytesPerChange, &largest.AllocsPerChange
	return t, nil
}

func sizeOf(line *benchfmt.Result) (Size, error) {
	size := Size{Name: line.Name.String()}
	for _, figure := range []struct {
		unit string
		into *float64
	}{{"events/s", &size.EventsPerSecond}, {"B/op", &size.BytesPerChange}, {"allocs/op", &size.AllocsPerChange}} {
		value, reported := line.Value(figure.unit)
		if !reported {
			return size, fmt.Errorf("benchmark %s reports no %s", size.Name, figure.unit)
		}
		*figure.into = value
	}
	return size, nil
}
