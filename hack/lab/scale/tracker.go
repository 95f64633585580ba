package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
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

// benchmark runs the tracker's benchmark on one core.
func benchmark(ctx context.Context, root string) (Tracker, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "BenchmarkTracker", "-benchmem", "-cpu", "1", "./internal/lag")
	cmd.Dir, cmd.Env = root, environment()
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return Tracker{}, fmt.Errorf("run the tracker's benchmark in %s: %w\n%s%s", root, err, out, failed.Bytes())
	}
	return parseBenchmark(bytes.NewReader(out))
}

// parseBenchmark reads what the benchmark printed. The sizes come in order, the largest last.
func parseBenchmark(out io.Reader) (Tracker, error) {
	var t Tracker
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
			t.Sizes = append(t.Sizes, size)
		}
	}
	if err := reader.Err(); err != nil {
		return t, fmt.Errorf("read the tracker's benchmark: %w", err)
	}
	if len(t.Sizes) == 0 {
		return t, errors.New("the tracker's benchmark printed no result: is there a BenchmarkTracker in internal/lag?")
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
