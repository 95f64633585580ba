package agent

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// touched are the events that say that a name now means another file or other bytes.
const touched = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE

// witness sees who touches one name in a directory, from its creation on.
type witness struct {
	fd   int
	name string
}

func newWitness(d *directory, name string) (*witness, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, ioFailure("watch "+d.path, err)
	}
	w := &witness{fd: fd, name: name}
	if _, err := unix.InotifyAddWatch(fd, d.path, touched|unix.IN_ONLYDIR|unix.IN_DONT_FOLLOW); err != nil {
		return nil, errors.Join(ioFailure("watch "+d.path, err), w.Close())
	}
	return w, nil
}

// Close ends the watch.
func (w *witness) Close() error { return unix.Close(w.fd) }

// foreign returns how many events there were on the name until now that do not come from renaming ours over it.
func (w *witness) foreign(ours string) (int, error) {
	var cookie uint32
	count := 0
	buffer := make([]byte, 64<<10)
	for {
		n, err := retry(func() (int, error) { return unix.Read(w.fd, buffer) })
		if errors.Is(err, unix.EAGAIN) || err == nil && n == 0 {
			return count, nil
		}
		if err != nil {
			return count, ioFailure("read what happened to "+w.name, err)
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			mask, link := binary.NativeEndian.Uint32(rest[4:]), binary.NativeEndian.Uint32(rest[8:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name := string(bytes.TrimRight(rest[unix.SizeofInotifyEvent:size], "\x00"))
			rest = rest[size:]
			switch {
			case name == ours && mask&unix.IN_MOVED_FROM != 0:
				cookie = link
			case name == w.name && (cookie == 0 || link != cookie || mask&unix.IN_MOVED_TO == 0):
				count++
			}
		}
	}
}
