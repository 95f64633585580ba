package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

const (
	// Version of the format that Write writes and Read reads.
	Version = 1
	// MaxBytes is how much JSON a trace may hold, inflated: several times what lag.MaxDemand changes and a day of scrapes
	// take, and no burden to read.
	MaxBytes = 64 << 20

	kind = "EndpointSyncTrace"
	// maxHeader is how long the first line may be.
	maxHeader = 4 << 10
)

// ErrNotTrace is what Read returns for a file of another kind.
var ErrNotTrace = errors.New("it is not a trace (measure --record writes one)")

// Trace is a recording.
type Trace struct {
	// Recorded is when it was written.
	Recorded time.Time
	// Tool is the version of the program that wrote it.
	Tool string
	// Scope is what the recording covers.
	Scope Scope
	// Objective that the lag was held against; zero if none was given.
	Objective tuner.Objective
	// Evidence is what deciding rests on. The names in Lag.Worst are left out.
	Evidence tuner.Evidence
	// FlagsFrom is how Evidence.Flags are known.
	FlagsFrom FlagsFrom
	// Assumed says that at least one of Evidence.Flags was not read.
	Assumed bool
	// FlagsBefore are the flags when the recording began, if those are not Evidence.Flags; else zero.
	FlagsBefore v1alpha1.Flags
}

// Scope is what a recording covers.
type Scope struct {
	// Selected says that Evidence.Lag is that of some Services only; Evidence.Demand is of all.
	Selected bool
	// Narrow says that only one namespace was watched: the demand of the others is missing.
	Narrow bool
	// Unread is what could not be read beside the watches, by short names that have no meaning here.
	Unread []string
}

// FlagsFrom says how the flags of kube-controller-manager are known.
type FlagsFrom string

// The ways to know the flags. The zero value is FromDefault.
const (
	FromDefault FlagsFrom = ""        // they are not: upstream's defaults are assumed
	FromGiven   FlagsFrom = "Given"   // a person said so
	FromAgent   FlagsFrom = "Agent"   // the operator's agent read them on the leader's node
	FromProcess FlagsFrom = "Process" // the process says so (/flagz)
	FromPod     FlagsFrom = "Pod"     // they are in the command of its Pod
)

// header is the first line.
type header struct {
	Kind     string    `json:"kind"`
	Version  int       `json:"version"`
	Tool     string    `json:"tool,omitempty"`
	Recorded time.Time `json:"recorded"`
}

// Write writes a trace. Equal traces are equal bytes.
func Write(w io.Writer, t Trace) error {
	if err := t.check(); err != nil {
		return fmt.Errorf("write a trace: %w", err)
	}
	head, err := json.Marshal(header{Kind: kind, Version: Version, Tool: t.Tool, Recorded: t.Recorded.UTC()})
	if err != nil {
		return fmt.Errorf("write a trace: %w", err)
	}
	body, err := json.Marshal(toWire(t))
	if err != nil {
		return fmt.Errorf("write a trace: %w", err)
	}
	if len(head) >= maxHeader || len(head)+len(body)+2 > MaxBytes {
		return fmt.Errorf("write a trace: %d bytes are more than the %d that may be read back", len(head)+len(body), MaxBytes)
	}
	zipped := gzip.NewWriter(w)
	if _, err := zipped.Write(bytes.Join([][]byte{head, body, nil}, []byte{'\n'})); err != nil {
		return fmt.Errorf("write a trace: %w", err)
	}
	if err := zipped.Close(); err != nil {
		return fmt.Errorf("write a trace: %w", err)
	}
	return nil
}

// Read reads a trace to its end, MaxBytes inflated at most. What it returns can be replayed: it is complete, its figures
// are possible and its demand is in order.
func Read(r io.Reader) (Trace, error) {
	t, err := read(r)
	if err != nil {
		return Trace{}, fmt.Errorf("read a trace: %w", err)
	}
	return t, nil
}

func read(r io.Reader) (Trace, error) {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		if errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Trace{}, fmt.Errorf("%w: not gzip", ErrNotTrace)
		}
		return Trace{}, err
	}
	bounded := &io.LimitedReader{R: zipped, N: MaxBytes + 1}
	lines := bufio.NewReaderSize(bounded, maxHeader)
	head, err := readHeader(lines)
	if err != nil {
		return Trace{}, err
	}
	body, err := io.ReadAll(lines) // to the end, where the checksum is
	switch {
	case err != nil:
		return Trace{}, damage(err)
	case bounded.N <= 0:
		return Trace{}, fmt.Errorf("it inflates to more than %d MiB, which no recording does", MaxBytes>>20)
	}
	var in wire
	if err = json.Unmarshal(body, &in); err != nil {
		return Trace{}, fmt.Errorf("it is damaged: %w", err)
	}
	t, err := fromWire(in)
	if err != nil {
		return Trace{}, err
	}
	t.Tool, t.Recorded = head.Tool, head.Recorded
	return t, t.check()
}

// readHeader reads the first line and says whether the rest can be read.
func readHeader(lines *bufio.Reader) (header, error) {
	var head header
	line, err := lines.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF):
		return head, fmt.Errorf("%w: it does not begin with a header", ErrNotTrace)
	case err != nil:
		return head, damage(err)
	}
	if json.Unmarshal(line, &head) != nil || head.Kind != kind {
		return head, fmt.Errorf("%w: it does not begin with a header", ErrNotTrace)
	}
	if head.Version != Version {
		return head, fmt.Errorf("it is of format version %d and this program reads version %d: take the release that wrote it (%s) or a later one",
			head.Version, Version, orUnknown(head.Tool))
	}
	return head, nil
}

func damage(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut short; copy it again: %w", err)
	}
	return fmt.Errorf("it is damaged; copy it again: %w", err)
}

func orUnknown(tool string) string {
	if tool == "" {
		return "unknown"
	}
	return fmt.Sprintf("%q", tool)
}
