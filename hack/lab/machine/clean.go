package machine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cleanTimeout bounds a clean-up, which waits for killed processes to be gone.
const cleanTimeout = time.Minute

// Clean ends every process of the lab and removes its control groups, network namespaces and links, and the directory
// that they were made for. What is not there is no error, so it may be called again and after any failure. It refuses to
// touch what was made for another directory that still exists.
func Clean(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, cleanTimeout, fmt.Errorf("not clean within %s", cleanTimeout))
	defer cancel()
	if made := owner(); made != "" && made != dir {
		if _, err := os.Stat(made); err == nil {
			return fmt.Errorf("the machines that run were made in %s: end those first", made)
		}
	}
	err := removeCgroups(ctx, Prefix+"*")
	if err == nil {
		err = deleteHostLink(ctx)
	}
	if err == nil {
		err = deleteNamespaces(ctx, Prefix+"*")
	}
	if err != nil {
		return err
	}
	return removeDir(dir)
}

// removeDir removes a directory, and never what may be mounted in it.
func removeDir(dir string) error {
	mounted, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(mounted) {
		if err = unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	if err = os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove directory: %w", err)
	}
	return nil
}

// mountsBelow returns the mount points in a directory, in the order in which they were mounted.
func mountsBelow(dir string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer func() { _ = file.Close() }()
	var found []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if point, _ := parseMount(lines.Text()); point == dir || strings.HasPrefix(point, filepath.Clean(dir)+"/") {
			found = append(found, point)
		}
	}
	return found, lines.Err()
}
