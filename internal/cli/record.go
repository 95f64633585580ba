package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/trace"
)

// recording is a file that a trace goes to, whole or not at all. The nil recording goes nowhere.
type recording struct {
	path string
	temp *os.File
	// replace says that a file of that name may be there.
	replace bool
}

// recording checks at the beginning that a trace can be written at the end: an incident does not come back. The caller
// must end it with discard.
func (o *measureOptions) recording() (*recording, error) {
	if o.record == "" {
		return nil, nil
	}
	r := &recording{path: o.record, replace: o.force}
	if err := r.free(); err != nil {
		return nil, fmt.Errorf("--record: %w", err)
	}
	temp, err := beside(o.record)
	if err != nil {
		return nil, fmt.Errorf("--record: %w", err)
	}
	r.temp = temp
	return r, nil
}

// free says why the file may not be written.
func (r *recording) free() error {
	there, err := os.Lstat(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !there.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", r.path)
	case !r.replace:
		return fmt.Errorf("%s is there already: give another name, or --force to replace it", r.path)
	}
	return nil
}

// save writes the trace. If something stands in the way by now, the trace is kept under the name of the error.
func (r *recording) save(t trace.Trace) error {
	if r == nil {
		return nil
	}
	temp := r.temp
	r.temp = nil
	err := trace.Write(temp, t)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return errors.Join(fmt.Errorf("record: %w", err), os.Remove(temp.Name()))
	}
	if err = r.free(); err == nil {
		err = os.Rename(temp.Name(), r.path)
	}
	if err != nil {
		return fmt.Errorf("record: the trace is in %s, because: %w", temp.Name(), err)
	}
	return nil
}

// discard removes what was not saved.
func (r *recording) discard() error {
	if r == nil || r.temp == nil {
		return nil
	}
	return errors.Join(r.temp.Close(), os.Remove(r.temp.Name()))
}

// trace is what the session has measured, without a name in it.
func (s *session) trace() trace.Trace {
	l := s.limits()
	t := trace.Trace{
		Recorded: s.until, Tool: version(), Objective: s.view.objective, Evidence: s.evidence(s.until, s.view.measured),
		FlagsFrom: l.now.from, Assumed: l.now.assumed,
		Scope: trace.Scope{Selected: s.view.measured != nil, Narrow: s.narrow != ""},
	}
	if l.first.flags != l.now.flags {
		t.FlagsBefore = l.first.flags
	}
	for what := range maps.Keys(l.unread) {
		t.Scope.Unread = append(t.Scope.Unread, sourceNames[what])
	}
	slices.Sort(t.Scope.Unread)
	return t
}

// limitsOf is what bounds what a recording can know.
func limitsOf(t trace.Trace, current v1alpha1.Flags) limits {
	l := limits{unread: make(unreadable)}
	if t.Scope.Narrow {
		l.narrow = "other namespaces than the one that was watched"
	}
	for what, name := range sourceNames {
		if slices.Contains(t.Scope.Unread, name) {
			l.unread[what] = "it could not be read when this was recorded"
		}
	}
	l.now = recordedFlags(t, current)
	l.first = l.now
	if t.FlagsBefore != (v1alpha1.Flags{}) {
		l.first.flags = t.FlagsBefore
	}
	return l
}

// recordedFlags is what kube-controller-manager ran with when a trace was recorded.
func recordedFlags(t trace.Trace, current v1alpha1.Flags) running {
	sources := map[trace.FlagsFrom]string{
		trace.FromGiven:   "given with --current when this was recorded",
		trace.FromAgent:   "read by the agent on the leader's node",
		trace.FromProcess: "read from the process (/flagz)",
		trace.FromPod:     "the command of its Pod",
		trace.FromDefault: "upstream's defaults, assumed: no kube-controller-manager could be read",
	}
	r := running{flags: t.Evidence.Flags, source: sources[t.FlagsFrom], from: t.FlagsFrom, assumed: t.Assumed}
	if r.source == "" {
		r.source = "recorded"
	}
	if current != (v1alpha1.Flags{}) {
		r = running{current.Or(r.flags), "given with --current", trace.FromGiven, true}
	}
	return r
}
