package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	journalName  = "journal"
	originalName = "original"
	backupPrefix = "backup-"
	lockName     = "lock"
	pauseName    = "PAUSE"

	// journalFormat is the format that we write. Of a later one we cannot know what it means, so it stops us.
	journalFormat = 2
	// oldestFormat is the oldest that we read: what it lacks is empty, and that is what it means there.
	oldestFormat = 1

	// maxState is the largest file of ours that is read back, in bytes.
	maxState = 1 << 20

	// keptBackups besides the original and those that an open change names.
	keptBackups = 5

	maxFailed   = 8  // EndpointSyncNodeStatus.Failed
	maxRestarts = 32 // EndpointSyncNodeStatus.Restarts
)

// phase of the change in the journal.
type phase string

const (
	phaseNone        phase = ""            // nothing was ever begun
	phaseIntent      phase = "intent"      // about to rename the new manifest into place
	phaseApplied     phase = "applied"     // the new manifest is in place and is being proven
	phaseRollingBack phase = "rollingback" // the old manifest is being put back and proven
	phaseCommitted   phase = "committed"   // the change ended well
	phaseRolledBack  phase = "rolledback"  // the change ended with the old manifest, or could not end so
)

// open reports whether a change is under way.
func (p phase) open() bool {
	switch p {
	case phaseIntent, phaseApplied, phaseRollingBack:
		return true
	case phaseNone, phaseCommitted, phaseRolledBack:
	}
	return false
}

// journal is all that must survive a crash, in one file that is replaced as a whole.
type journal struct {
	Phase  phase  `json:"phase"`
	Change change `json:"change,omitzero"`

	ObservedRevision int64                    `json:"observedRevision"`
	Last             v1alpha1.ChangeResult    `json:"last,omitzero"`
	Failed           []v1alpha1.FailedSetting `json:"failed,omitempty"`
	Restarts         []metav1.Time            `json:"restarts,omitempty"`

	// Contest is about the setting that was last written.
	Contest contest `json:"contest,omitzero"`

	// LastChange is when the manifest was last swapped on behalf of an instruction.
	LastChange moment `json:"lastChange,omitzero"`

	// Originals are the flags that our changes have set, as they were written before the first of them. A restore puts
	// these back and touches no other. With none, nothing in the manifest is ours, and the next change pins it anew.
	Originals []written `json:"originals,omitempty"`
	// Lost says that the manifest has values of ours, and that what was there before them is not known any more.
	Lost bool `json:"lost,omitempty"`
}

// swapped notes that the manifest is the new one.
func (j journal) swapped(at moment) journal {
	j.Phase, j.LastChange = phaseApplied, at
	j.Restarts = prepend(j.Restarts, metaTime(at.Wall), maxRestarts)
	j.Contest = j.Contest.begun(j.Change, at.Wall)
	return j
}

// written is a flag as a manifest has it: a manifest.Setting in the journal.
type written struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Absent bool   `json:"absent,omitempty"`
}

// change is one instruction being carried out.
type change struct {
	Revision         int64           `json:"revision"`
	Action           v1alpha1.Action `json:"action"`
	Flags            v1alpha1.Flags  `json:"flags,omitzero"`
	Proven           v1alpha1.Flags  `json:"proven,omitzero"`    // what the new process must run with
	Replaced         []written       `json:"replaced,omitempty"` // the flags that an Apply gives other values, as they were
	PolicyGeneration int64           `json:"policyGeneration"`
	KCMVersion       string          `json:"kcmVersion,omitempty"`
	MinReady         nanoseconds     `json:"minReady"`
	HealthTimeout    nanoseconds     `json:"healthTimeout"`

	H0   hash   `json:"h0"`
	H1   hash   `json:"h1"`
	Mode uint32 `json:"mode"`
	GID  int    `json:"gid"`

	Exempt  bool    `json:"exempt,omitempty"` // it takes the change before it back, which need not wait
	Began   moment  `json:"began"`            // when the phase intent was written
	Old     process `json:"old"`              // the process before the change
	OldUp   bool    `json:"oldUp"`            // whether it answered
	Led     bool    `json:"led"`              // whether it led
	Holder  string  `json:"holder,omitempty"` // of the Lease then, if it led and that is known
	New     process `json:"new"`              // the process that was rejected
	Verdict verdict `json:"verdict"`          // why the change is rolled back
	Note    string  `json:"note,omitempty"`
}

// oldFile and newFile are the names of the temporary files of a change.
func (c change) oldFile() string { return tempPrefix + "old-" + string(c.H0[:16]) }
func (c change) newFile() string { return tempPrefix + "new-" + string(c.H1[:16]) }

// store is the agent's own directory: lock, journal and backups.
type store struct {
	dir  *directory
	lock *os.File // locked for as long as it is open
}

// Close gives the lock back.
func (s *store) Close() error { return errors.Join(s.lock.Close(), s.dir.Close()) }

// openStore opens the state directory, which it creates if need be, and locks it: one agent per node.
func openStore(path string) (*store, error) {
	//nolint:gosec // G703: the path is a flag of whoever runs the agent, never a field of an object.
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, ioFailure("create state directory "+path, err)
	}
	// The kubelet makes a missing hostPath directory 0755.
	//nolint:gosec // G302: a directory needs its execute bit; the path is a flag, as above.
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, ioFailure("close state directory "+path+" to others", err)
	}
	dir, err := openDirectory(path)
	if err != nil {
		return nil, err
	}
	lock, err := dir.open(lockName, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return nil, errors.Join(ioFailure("open the lock in "+path, err), dir.Close())
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w: another agent runs on this node", path, err), lock.Close(), dir.Close())
	}
	s := &store{dir: dir, lock: lock}
	if err := dir.removeTemps(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// loadJournal returns the journal, an empty one if there is none, or a failure with reason JournalUnreadable.
func (s *store) loadJournal() (journal, error) {
	file, err := s.dir.read(journalName, maxState)
	if errors.Is(err, unix.ENOENT) {
		return journal{}, nil
	}
	if err != nil {
		return journal{}, unreadable(s.dir.path, err)
	}
	j, err := parseJournal(file.Content)
	if err != nil {
		return journal{}, unreadable(s.dir.path, err)
	}
	return j, nil
}

func unreadable(path string, err error) *failure {
	return &failure{
		Reason:  v1alpha1.ReasonJournalUnreadable,
		Message: "read " + path + "/" + journalName + " (nothing is written until a person has looked at it)",
		cause:   err,
	}
}

// header is the first line of a journal file, without its end.
func header(format int, sum hash) string {
	return fmt.Sprintf("endpoint-sync-journal %d sha256:%s", format, sum)
}

func parseJournal(content []byte) (journal, error) {
	line, body, _ := bytes.Cut(content, []byte("\n"))
	var j journal
	format, sum := journalFormat, hashOf(body)
	for format > oldestFormat && string(line) != header(format, sum) {
		format--
	}
	if string(line) != header(format, sum) {
		return j, fmt.Errorf("its first line is %.80q, want %q, or a format from %d on", line, header(journalFormat, sum), oldestFormat)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&j); err != nil {
		return j, err
	}
	return j, j.check()
}

func (j journal) check() error {
	switch j.Phase {
	case phaseNone, phaseCommitted, phaseRolledBack:
		return nil
	case phaseIntent, phaseApplied, phaseRollingBack:
		if len(j.Change.H0) != 64 || len(j.Change.H1) != 64 || j.Change.Revision < 1 {
			return fmt.Errorf("the open change of revision %d lacks its hashes", j.Change.Revision)
		}
		return nil
	default:
		return fmt.Errorf("its phase is %.32q", j.Phase)
	}
}

func (s *store) saveJournal(j journal) error {
	body, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("encode the journal: %w", err)
	}
	return s.write(journalName, append([]byte(header(journalFormat, hashOf(body))+"\n"), body...))
}

// write puts a file of ours in place, whole or not at all.
func (s *store) write(name string, content []byte) error {
	temp := tempPrefix + name
	if err := s.dir.remove(temp); err != nil {
		return err
	}
	if err := s.dir.writeNew(temp, content, 0o600, os.Getegid()); err != nil {
		return err
	}
	return s.dir.replace(temp, name)
}

// backup keeps content under its hash.
func (s *store) backup(content []byte) error {
	name := backupPrefix + string(hashOf(content))
	if have, err := s.dir.read(name, maxManifest); err == nil && have.Hash == hashOf(content) {
		return nil
	}
	return s.write(name, content)
}

// pin makes the backup of content the original: the manifest before we changed anything in it, for people to turn to.
// It is kept until the next one is pinned.
func (s *store) pin(content []byte) error {
	return s.write(originalName, []byte(hashOf(content)+"\n"))
}

// load returns a backup whose content has the hash that it is named after.
func (s *store) load(h hash) ([]byte, error) {
	file, err := s.dir.read(backupPrefix+string(h), maxManifest)
	if err != nil { // whatever is wrong with it, it is not the manifest that is absent
		return nil, &failure{Reason: v1alpha1.ReasonIOError, Message: "load the backup of the manifest", cause: err}
	}
	if file.Hash != h {
		return nil, failf(v1alpha1.ReasonIOError, "backup %s in %s has other content than its name says", h, s.dir.path)
	}
	return file.Content, nil
}

// prune removes the oldest backups. The original, and those that are named, stay.
func (s *store) prune(named ...hash) error {
	names, err := s.dir.names()
	if err != nil {
		return err
	}
	if file, missing := s.dir.read(originalName, maxState); missing == nil {
		named = append(named, hash(strings.TrimSpace(string(file.Content))))
	}
	type aged struct {
		name string
		time unix.Timespec
	}
	var backups []aged
	for _, name := range names {
		h, ok := strings.CutPrefix(name, backupPrefix)
		var stat unix.Stat_t
		if !ok || slices.Contains(named, hash(h)) || unix.Fstatat(s.dir.fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		backups = append(backups, aged{name, stat.Mtim})
	}
	slices.SortFunc(backups, func(a, b aged) int { return int(b.time.Nano() - a.time.Nano()) })
	for _, b := range backups[min(keptBackups, len(backups)):] {
		err = errors.Join(err, s.dir.remove(b.name))
	}
	return err
}

// paused reports whether a person has put a file named PAUSE into the state directory. Anything but a plain "no such
// file" counts as yes.
func (s *store) paused() bool {
	var stat unix.Stat_t
	err := unix.Fstatat(s.dir.fd, pauseName, &stat, unix.AT_SYMLINK_NOFOLLOW)
	return !errors.Is(err, unix.ENOENT)
}
