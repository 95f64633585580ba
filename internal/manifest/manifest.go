// Package manifest gives allow-listed kube-controller-manager flags their values in the text of a static Pod manifest
// and leaves every other byte alone: bytes and settings in, bytes out. What it cannot prove to have understood it
// refuses with a reason. It reads and writes no files, and does not judge whether a setting is wise.
package manifest

import (
	"fmt"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

// MaxBytes is the size of the largest manifest that is read or produced. kubeadm writes about 4 KiB.
const MaxBytes = yamltext.MaxBytes

// RefusedError says why a manifest or a setting was refused; nothing was done. Functions of this package return it as
// a *RefusedError.
type RefusedError struct {
	Reason  string // one of the v1alpha1.Reason… constants
	Message string // what was found and what a person can do
}

// Error returns the reason and the message.
func (e *RefusedError) Error() string { return e.Reason + ": " + e.Message }

func unsupported(format string, args ...any) error {
	return &RefusedError{Reason: v1alpha1.ReasonUnsupportedManifest, Message: fmt.Sprintf(format, args...)}
}

func outOfBounds(format string, args ...any) error {
	return &RefusedError{Reason: v1alpha1.ReasonOutOfBounds, Message: fmt.Sprintf(format, args...)}
}

// Read returns the four allow-listed flags as they stand in the manifest's effective command, in canonical order,
// Absent where not given. A value is returned as it is written, whether or not the operator could write it.
func Read(manifest []byte) ([]Setting, error) {
	t, err := parse(manifest)
	if err != nil {
		return nil, err
	}
	return t.settings(), nil
}

// Edit returns the manifest with the settings made, in a slice of its own. Every byte outside the edited flags is the
// same, and a second Edit with the same settings changes nothing. A flag that is missing is inserted as a line of its
// own at the end of the command, several in canonical order, as kubeadm appends them; removing an inserted flag, or
// setting a replaced value back, gives the original bytes back. For that reason a value that the operator could not
// write again is refused rather than replaced or removed. A setting that the manifest has already is always accepted.
//
// The result was parsed again the way the kubelet does: it differs from the manifest in the given flags only.
func Edit(manifest []byte, set []Setting) ([]byte, error) {
	wanted, err := Canonical(set)
	if err != nil {
		return nil, err
	}
	t, parseErr := parse(manifest)
	for _, s := range wanted {
		if parseErr == nil && s == t.setting(s.Name) {
			continue
		}
		if err = s.Check(); err != nil {
			return nil, err
		}
	}
	if parseErr != nil {
		return nil, parseErr
	}
	e := newEdit(t)
	for _, s := range wanted {
		if err = e.plan(s); err != nil {
			return nil, err
		}
	}
	return e.proven()
}

// edit is what is to happen to the text of a target, and to its arguments.
type edit struct {
	*target
	changes *yamltext.Edit
	newArgv map[int]string // index in argv → the argument's new text
	dropped map[int]bool   // index in argv → the argument goes
	added   []string       // new arguments at the end
}

func newEdit(t *target) *edit {
	return &edit{target: t, changes: yamltext.NewEdit(t.Lines), newArgv: map[int]string{}, dropped: map[int]bool{}}
}

// plan plans one setting, or refuses it.
func (e *edit) plan(s Setting) error {
	now := e.setting(s.Name)
	switch {
	case s == now:
		return nil
	case now.Absent:
		return e.planInsert(s)
	}
	if err := now.Check(); err != nil {
		return &RefusedError{Reason: reasonOf(err), Message: fmt.Sprintf(
			"--%s has the value %q, which the operator could not put back later: change it by hand", s.Name, now.Value)}
	}
	if s.Absent {
		return e.planRemove(e.flags[s.Name])
	}
	return e.planReplace(e.flags[s.Name], s.Value)
}

func (e *edit) planReplace(index int, value string) error {
	place, ok := e.locate(index)
	if !ok {
		return unsupported("line %d: %q is not written on one line as it is meant: write it plainly", e.argv[index].node.Line, e.argv[index].text)
	}
	text := e.argv[index].text
	name := text[:strings.IndexByte(text, '=')+1]
	e.changes.Replace(place.Line, place.Start+len(name), place.End, value)
	e.newArgv[index] = name + value
	return nil
}

func (e *edit) planRemove(index int) error {
	place, ok := e.locate(index)
	if !ok || !place.ownLine || place.comment {
		return unsupported("line %d: %q cannot be removed without touching something else: it is not alone on a line of a block list",
			e.argv[index].node.Line, e.argv[index].text)
	}
	e.changes.Remove(place.Line)
	e.dropped[index] = true
	return nil
}

func (e *edit) planInsert(s Setting) error {
	last := e.argv[len(e.argv)-1]
	place, ok := e.locate(len(e.argv) - 1)
	if !ok || !place.ownLine {
		return unsupported("line %d: cannot insert after %q: it is not on one line of its own in a block list", last.node.Line, last.text)
	}
	if e.openEnd {
		return unsupported("line %d: cannot insert after %q: the flag may take the next argument as its value: write it as --flag=value",
			last.node.Line, last.text)
	}
	arg := "--" + s.Name + "=" + s.Value
	e.changes.InsertAfter(place.Line, e.Before(place.Place)+arg)
	e.added = append(e.added, arg)
	return nil
}

// proven applies the plan and returns the text if it decodes to exactly what was planned.
func (e *edit) proven() ([]byte, error) {
	text := e.changes.Bytes()
	after, err := parse(text)
	if err != nil {
		return nil, unsupported("the edited manifest would not be understood: %v", err)
	}
	if !e.leadsTo(after) {
		return nil, unsupported("the edit cannot be proven to change the given flags only")
	}
	return text, nil
}

// leadsTo says whether after is the target with the planned changes of its arguments and nothing else.
func (e *edit) leadsTo(after *target) bool {
	lists := map[string][]any{fieldCommand: {}, fieldArgs: {}}
	for i, a := range e.argv {
		text, replaced := e.newArgv[i]
		if !replaced {
			text = a.text
		}
		if !e.dropped[i] {
			lists[a.field] = append(lists[a.field], text)
		}
	}
	end := e.argv[len(e.argv)-1].field
	for _, arg := range e.added {
		lists[end] = append(lists[end], arg)
	}
	return after.container == e.container && after.equals(e.withLists(lists))
}
