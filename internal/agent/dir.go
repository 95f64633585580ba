package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// maxManifest is the largest manifest that is edited, in bytes. A kubeadm manifest has 4 KiB.
	maxManifest = 256 << 10

	// maxForeign is the largest file that the kubelet reads from its manifests directory, in bytes
	// (pkg/kubelet/config/file.go, Kubernetes v1.37.2).
	maxForeign = 10 << 20

	// beneath keeps every path below the directory that was opened and on its file system, whatever links say.
	beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

	// tempPrefix starts the name of every file that we create in the manifests directory. The leading dot keeps the
	// kubelet from reading it.
	tempPrefix = ".endpoint-sync-agent-"
)

// hash is the sha256 of a file, in hex.
type hash string

func hashOf(content []byte) hash {
	sum := sha256.Sum256(content)
	return hash(hex.EncodeToString(sum[:]))
}

// directory is an open directory. Files in it are reached through its descriptor only, by names without a slash.
type directory struct {
	path string
	fd   int
}

// openDirectory opens a directory that belongs to us and that nobody else may write to.
func openDirectory(path string) (*directory, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, ioFailure("open directory "+path, err)
	}
	d := &directory{path: path, fd: fd}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, errors.Join(ioFailure("look at directory "+path, err), d.Close())
	}
	if int(stat.Uid) != os.Geteuid() || stat.Mode&0o022 != 0 {
		return nil, errors.Join(failf(v1alpha1.ReasonUnsupportedLayout,
			"directory %s has owner %d and mode %04o: it must belong to user %d and be writable by nobody else",
			path, stat.Uid, stat.Mode&0o7777, os.Geteuid()), d.Close())
	}
	return d, nil
}

// Close closes the descriptor.
func (d *directory) Close() error { return unix.Close(d.fd) }

func (d *directory) sync() error {
	_, err := retry(func() (int, error) { return 0, unix.Fsync(d.fd) })
	return err
}

func (d *directory) open(name string, flags, mode uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Mode: mode, Resolve: beneath}
	fd, err := retry(func() (int, error) { return unix.Openat2(d.fd, name, &how) })
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), d.path+"/"+name), nil
}

// snapshot is a file's content together with what tells it from any other file.
type snapshot struct {
	Content []byte
	Hash    hash
	changed time.Time // of the inode, which a rename changes too, and no writer can set
	inode   uint64
	mode    uint32
	gid     int
}

// same reports whether s and t are the same file with the same content.
func (s snapshot) same(t snapshot) bool { return s.inode == t.inode && s.Hash == t.Hash }

// read returns a file that is regular, ours, not writable by others, with one link and at most limit bytes. It never
// blocks, whatever is in the file's place.
func (d *directory) read(name string, limit int) (snapshot, error) {
	file, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return snapshot{}, ioFailure("open "+d.path+"/"+name, err)
	}
	s, err := readOpen(file, limit)
	return s, errors.Join(err, file.Close())
}

func readOpen(file *os.File, limit int) (snapshot, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return snapshot{}, ioFailure("look at "+file.Name(), err)
	}
	if err := checkStat(file.Name(), &stat, limit); err != nil {
		return snapshot{}, err
	}
	content, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return snapshot{}, ioFailure("read "+file.Name(), err)
	}
	if len(content) > limit {
		return snapshot{}, failf(v1alpha1.ReasonUnsupportedManifest, "%s is larger than %d bytes", file.Name(), limit)
	}
	return snapshot{
		Content: content, Hash: hashOf(content), changed: time.Unix(stat.Ctim.Unix()), inode: stat.Ino, mode: stat.Mode & 0o7777, gid: int(stat.Gid),
	}, nil
}

func checkStat(name string, stat *unix.Stat_t, limit int) error {
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return failf(v1alpha1.ReasonUnsupportedLayout, "%s is not a regular file", name)
	case int(stat.Uid) != os.Geteuid():
		return failf(v1alpha1.ReasonUnsupportedLayout, "%s belongs to user %d, not to user %d", name, stat.Uid, os.Geteuid())
	case stat.Mode&0o022 != 0:
		return failf(v1alpha1.ReasonUnsupportedLayout, "%s is writable by others (mode %04o)", name, stat.Mode&0o7777)
	case stat.Nlink != 1:
		return failf(v1alpha1.ReasonUnsupportedLayout, "%s has %d links, want one", name, stat.Nlink)
	case stat.Size > int64(limit):
		return failf(v1alpha1.ReasonUnsupportedManifest, "%s has %d bytes, more than %d", name, stat.Size, limit)
	}
	return nil
}

// names returns the names in the directory, sorted.
func (d *directory) names() ([]string, error) {
	file, err := d.open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, ioFailure("open "+d.path, err)
	}
	names, err := file.Readdirnames(-1)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, ioFailure("list "+d.path, err)
	}
	slices.Sort(names)
	return names, nil
}

// writeNew creates a file that must not exist, with the content, mode and group given, and makes it durable. On any
// error the file is removed: what an fsync has failed on is not to be trusted again.
func (d *directory) writeNew(name string, content []byte, mode uint32, gid int) (err error) {
	file, err := d.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return ioFailure("create "+d.path+"/"+name, err)
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			err = errors.Join(err, d.remove(name))
		}
	}()
	if _, err = file.Write(content); err != nil {
		return ioFailure("write "+file.Name(), err)
	}
	var stat unix.Stat_t
	if err = unix.Fstat(int(file.Fd()), &stat); err != nil {
		return ioFailure("look at "+file.Name(), err)
	}
	if int(stat.Gid) != gid {
		if err = unix.Fchown(int(file.Fd()), -1, gid); err != nil {
			return ioFailure("set the group of "+file.Name(), err)
		}
	}
	if err = unix.Fchmod(int(file.Fd()), mode); err != nil {
		return ioFailure("set the mode of "+file.Name(), err)
	}
	if err = file.Sync(); err != nil {
		return ioFailure("fsync "+file.Name(), err)
	}
	return d.verify(name, hashOf(content))
}

func (d *directory) verify(name string, want hash) error {
	got, err := d.read(name, maxManifest)
	if err != nil {
		return err
	}
	if got.Hash != want {
		return failf(v1alpha1.ReasonIOError, "%s/%s reads back with other content than was written", d.path, name)
	}
	return nil
}

// replace renames one file over another and makes that durable.
func (d *directory) replace(from, to string) error {
	_, err := retry(func() (int, error) { return 0, unix.Renameat(d.fd, from, d.fd, to) })
	if err != nil {
		return ioFailure(fmt.Sprintf("rename %s to %s in %s", from, to, d.path), err)
	}
	if err := d.sync(); err != nil {
		return ioFailure("fsync directory "+d.path, err)
	}
	return nil
}

// place is replace for a name that must not exist yet.
func (d *directory) place(from, to string) error {
	_, err := retry(func() (int, error) {
		return 0, unix.Renameat2(d.fd, from, d.fd, to, unix.RENAME_NOREPLACE)
	})
	if err != nil {
		return ioFailure(fmt.Sprintf("rename %s to %s in %s", from, to, d.path), err)
	}
	if err := d.sync(); err != nil {
		return ioFailure("fsync directory "+d.path, err)
	}
	return nil
}

// remove removes a file; one that is not there is no error.
func (d *directory) remove(name string) error {
	_, err := retry(func() (int, error) { return 0, unix.Unlinkat(d.fd, name, 0) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return ioFailure("remove "+d.path+"/"+name, err)
	}
	return nil
}

// removeTemps removes what we left in the directory, by our naming and our ownership, except the names to keep.
func (d *directory) removeTemps(keep ...string) error {
	names, err := d.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, tempPrefix) || slices.Contains(keep, name) || !d.ours(name) {
			continue
		}
		err = errors.Join(err, d.remove(name))
	}
	return err
}

func (d *directory) ours(name string) bool {
	var stat unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	return stat.Mode&unix.S_IFMT == unix.S_IFREG && int(stat.Uid) == os.Geteuid()
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// readForeign returns a regular file of anybody's that the kubelet would read.
func (d *directory) readForeign(name string) (content []byte, err error) {
	file, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, ioFailure("open "+d.path+"/"+name, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if content, err = io.ReadAll(io.LimitReader(file, maxForeign)); err != nil {
		return nil, ioFailure("read "+file.Name(), err)
	}
	return content, nil
}
