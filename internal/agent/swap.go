package agent

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

// place is where the manifest lives.
type place struct {
	dir  string
	name string
}

// open opens the directory. Each operation opens it anew and works beneath that descriptor: a directory that was
// replaced in the meantime is then found, and one that is replaced during the operation does no harm.
func (p place) open() (*directory, error) { return openDirectory(p.dir) }

// look says what the path holds, compared with a change's hashes.
func (p place) look(c change) (found, snapshot, error) {
	dir, err := p.open()
	if err != nil {
		return foundUnreadable, snapshot{}, err
	}
	s, err := dir.read(p.name, maxManifest)
	err = errors.Join(err, dir.Close())
	switch {
	case errors.Is(err, unix.ENOENT):
		return foundAbsent, snapshot{}, err
	case err != nil:
		return foundUnreadable, snapshot{}, err
	case s.Hash == c.H0:
		return foundH0, s, nil
	case s.Hash == c.H1:
		return foundH1, s, nil
	case len(s.Content) == 0:
		return foundEmpty, s, nil
	}
	return foundOther, s, nil
}

// plan is an edit that has been worked out and not yet made.
type plan struct {
	before snapshot
	after  []byte
	proven v1alpha1.Flags // what the new process must run with

	replaced []written // the flags that get other values, as they are before
}

// unchanged reports whether the edit would not make another Pod, so that nothing would restart.
func (p plan) unchanged() bool {
	return string(p.after) == string(p.before.Content) || manifest.SamePod(p.before.Content, p.after)
}

// plan reads the manifest and works out the edit. It writes nothing.
func (a *Agent) plan(spec v1alpha1.EndpointSyncNodeSpec) (p plan, err error) {
	dir, err := a.place.open()
	if err != nil {
		return plan{}, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if p.before, err = dir.read(a.place.name, maxManifest); err != nil {
		return plan{}, err
	}
	if len(p.before.Content) == 0 {
		return plan{}, failf(v1alpha1.ReasonUnsupportedManifest, "%s/%s is empty", a.place.dir, a.place.name)
	}
	if err = onlyDefinition(dir, a.place.name, p.before.Content); err != nil {
		return plan{}, err
	}
	settings := a.settings(spec)
	p.proven = flagsOf(settings)
	if p.after, err = manifest.Edit(p.before.Content, settings); err != nil {
		return p, refusalOf(err)
	}
	p.replaced, err = replaced(p.before.Content, p.after)
	return p, refusalOf(err)
}

// settings are what an instruction comes down to: the values given, or those that were there before ours.
func (a *Agent) settings(spec v1alpha1.EndpointSyncNodeSpec) []manifest.Setting {
	if spec.Action == v1alpha1.ActionApply {
		return manifest.Settings(spec.Flags)
	}
	var settings []manifest.Setting
	for _, w := range a.journal.Originals {
		settings = append(settings, manifest.Setting(w))
	}
	return settings
}

// replaced returns the flags that an edit gives other values, as they were before.
func replaced(before, after []byte) ([]written, error) {
	olds, err := manifest.Read(before)
	if err != nil {
		return nil, err
	}
	news, err := manifest.Read(after)
	if err != nil {
		return nil, err
	}
	var changed []written
	for i, old := range olds { // both are in canonical order
		if old != news[i] {
			changed = append(changed, written(old))
		}
	}
	return changed, nil
}

// originals returns what a restore has to put back once the change has been made: the values before our first change
// of each flag. A restore leaves nothing to put back.
func (c change) originals(already []written) []written {
	if c.Action == v1alpha1.ActionRestore {
		return nil
	}
	all := slices.Clone(already)
	for _, w := range c.Replaced {
		if !slices.ContainsFunc(all, func(have written) bool { return have.Name == w.Name }) {
			all = append(all, w)
		}
	}
	return all
}

// flagsOf returns the settings that a process can be held to: whole numbers.
func flagsOf(settings []manifest.Setting) v1alpha1.Flags {
	var flags v1alpha1.Flags
	for _, s := range settings {
		if n, err := strconv.ParseInt(s.Value, 10, 32); err == nil && n > 0 && !s.Absent {
			flags.Set(s.Name, int32(n))
		}
	}
	return flags
}

func refusalOf(err error) error {
	if refused, ok := errors.AsType[*manifest.RefusedError](err); ok {
		return &failure{Reason: refused.Reason, Message: refused.Message}
	}
	return err
}

// onlyDefinition makes sure that no other file that the kubelet reads defines kube-controller-manager: of two, the
// lexically last would win.
func onlyDefinition(dir *directory, name string, content []byte) error {
	if !manifest.DefinesKCM(content) {
		return failf(v1alpha1.ReasonUnsupportedManifest, "%s/%s does not define the kube-controller-manager Pod", dir.path, name)
	}
	names, err := dir.names()
	if err != nil {
		return err
	}
	for _, other := range names {
		if other == name || strings.HasPrefix(other, ".") {
			continue
		}
		defines, err := definesKCM(dir, other)
		if err != nil {
			return err
		}
		if defines {
			return failf(v1alpha1.ReasonDuplicateManifest,
				"%s/%.128q defines kube-controller-manager too, and the kubelet reads every file there: move it out of the directory",
				dir.path, other)
		}
	}
	return nil
}

// definesKCM looks into a file that is not ours to judge otherwise. The kubelet follows symbolic links and we do not,
// so one is refused; directories, pipes and devices are nothing to the kubelet.
func definesKCM(dir *directory, name string) (bool, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(dir.fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, ioFailure("look at "+dir.path+"/"+name, err)
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		return false, failf(v1alpha1.ReasonUnsupportedLayout,
			"%s/%.128q is a symbolic link: whether it leads to a second kube-controller-manager cannot be told", dir.path, name)
	default:
		return false, nil
	}
	content, err := dir.readForeign(name)
	if err != nil {
		return false, err
	}
	return manifest.DefinesKCM(content), nil
}

// swap carries out S3 to S7: after it returns nil the new manifest is in place and the journal says so.
func (a *Agent) swap(j journal, p plan) (err error) {
	dir, err := a.place.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	c := j.Change
	if err = a.store.backup(p.before.Content); err != nil {
		return err
	}
	if len(j.Originals) == 0 { // nothing in the manifest is ours
		if err = a.store.pin(p.before.Content); err != nil {
			return err
		}
	}
	j.Phase = phaseIntent
	if err = a.save(j); err != nil {
		return err
	}
	displaced, err := a.rename(dir, c, p)
	if err != nil {
		return errors.Join(err, dir.removeTemps())
	}
	j.Change.Note = displaced
	return a.save(j.swapped(a.clock.now()))
}

// rename carries out S5 to S7 but for the journal. It returns what it displaced if somebody else's edit fell between
// the last check and the rename.
func (a *Agent) rename(dir *directory, c change, p plan) (note string, err error) {
	if err = dir.removeTemps(); err != nil {
		return "", err
	}
	if err = dir.writeNew(c.newFile(), p.after, c.Mode, c.GID); err != nil {
		return "", err
	}
	if err = dir.writeNew(c.oldFile(), p.before.Content, c.Mode, c.GID); err != nil {
		return "", err
	}
	if err = dir.sync(); err != nil {
		return "", ioFailure("fsync directory "+dir.path, err)
	}
	watch, err := newWitness(dir, a.place.name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, watch.Close()) }()
	last, err := dir.read(a.place.name, maxManifest)
	if err != nil {
		return "", err
	}
	if !last.same(p.before) {
		return "", failf(v1alpha1.ReasonConflictingEdit, "%s/%s was changed by somebody else while the change was prepared", dir.path, a.place.name)
	}
	if err := dir.replace(c.newFile(), a.place.name); err != nil {
		return "", err
	}
	if n, err := watch.foreign(c.newFile()); err != nil || n > 0 {
		return fmt.Sprintf("somebody else wrote %s in the instant before it was replaced; that edit was displaced", a.place.name), nil
	}
	return "", nil
}

// putOld puts the old manifest back. With over it replaces the new manifest, which is checked to be still there;
// otherwise it fills the place where there is nothing, or nothing but an empty file.
func (a *Agent) putOld(c change, at found) (err error) {
	dir, err := a.place.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err = a.prepareOld(dir, c); err != nil {
		return err
	}
	now, _, err := a.place.look(c)
	if now == foundUnreadable { // Nobody knows whose it is. Look again.
		return err
	}
	if now != at {
		return &failure{Reason: v1alpha1.ReasonConflictingEdit, Message: fmt.Sprintf(
			"%s/%s was changed by somebody else before the old manifest could be put back", dir.path, a.place.name), cause: err}
	}
	if at == foundAbsent {
		return dir.place(c.oldFile(), a.place.name)
	}
	return dir.replace(c.oldFile(), a.place.name)
}

// prepareOld makes sure that the file for a roll-back lies ready; if it is missing or damaged it is made from the
// backup.
func (a *Agent) prepareOld(dir *directory, c change) error {
	if have, err := dir.read(c.oldFile(), maxManifest); err == nil && have.Hash == c.H0 {
		return nil
	}
	content, err := a.store.load(c.H0)
	if err != nil {
		return err
	}
	if err := dir.remove(c.oldFile()); err != nil {
		return err
	}
	return dir.writeNew(c.oldFile(), content, c.Mode, c.GID)
}

// tidy removes what a change left in the manifests directory, and backups beyond those that are kept.
func (a *Agent) tidy() error {
	dir, err := a.place.open()
	if err != nil {
		return err
	}
	err = dir.removeTemps()
	return errors.Join(err, dir.Close())
}

// prepend puts an element first and drops the last ones beyond the limit. The slice given stays as it is.
func prepend[T any](list []T, first T, limit int) []T {
	return append([]T{first}, list[:min(len(list), limit-1)]...)
}
