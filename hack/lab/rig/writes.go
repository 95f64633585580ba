package rig

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Writes asks the kernel for every write, creation, rename, deletion, change of attributes and close of a file that was
// open for writing in a directory, and returns how to learn which names they were of since it was last asked.
func Writes(t T, dir string) func() []string {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closed := unix.Close(fd); closed != nil {
			t.Error(closed)
		}
	})
	const mask = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_MOVE | unix.IN_DELETE | unix.IN_ATTRIB
	if _, err = unix.InotifyAddWatch(fd, dir, mask); err != nil {
		t.Fatal(err)
	}
	return func() []string {
		var seen []string
		buffer := make([]byte, 64*1024)
		for {
			n, err := unix.Read(fd, buffer)
			if err != nil || n <= 0 {
				return seen
			}
			for at := 0; at < n; {
				event := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[at])) // The kernel's own layout.
				name := buffer[at+unix.SizeofInotifyEvent : at+unix.SizeofInotifyEvent+int(event.Len)]
				seen = append(seen, string(bytes.TrimRight(name, "\x00")))
				at += unix.SizeofInotifyEvent + int(event.Len)
			}
		}
	}
}
