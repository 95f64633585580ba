package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"
)

// system is the part of a machine's control group that its units are in; the kubelet makes others for Pods. With version
// 2 a group with parts may hold no process itself.
const system = "system"

// hierarchies are the mount points of the control groups: one for each controller of version 1, and one of version 2.
type hierarchies struct{ first, second []string }

// findHierarchies returns those that are mounted.
func findHierarchies() (hierarchies, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return hierarchies{}, fmt.Errorf("find control groups: %w", err)
	}
	defer func() { _ = file.Close() }()
	var found hierarchies
	for lines := bufio.NewScanner(file); lines.Scan(); {
		point, kind := parseMount(lines.Text())
		switch kind {
		case "cgroup":
			found.first = append(found.first, point)
		case "cgroup2":
			found.second = append(found.second, point)
		}
	}
	return found, nil
}

// withControllers are those that a machine needs a group in. Where both versions are mounted, version 1 has the
// controllers.
func (h hierarchies) withControllers() ([]string, error) {
	switch {
	case len(h.first) > 0:
		return h.first, nil
	case len(h.second) > 0:
		return h.second[:1], nil
	default:
		return nil, errors.New("find control groups: none are mounted")
	}
}

// parseMount returns the mount point and the file system's type of a line of mountinfo.
func parseMount(line string) (point, kind string) {
	mount, rest, _ := strings.Cut(line, " - ")
	fields := strings.Fields(mount)
	kind, _, _ = strings.Cut(rest, " ")
	if len(fields) < 5 {
		return "", ""
	}
	return fields[4], kind
}

// makeCgroups makes a group for a machine in each hierarchy and returns the parts for its units.
func makeCgroups(name string) ([]string, error) {
	found, err := findHierarchies()
	if err != nil {
		return nil, err
	}
	roots, err := found.withControllers()
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, root := range roots {
		for _, dir := range []string{filepath.Join(root, name), filepath.Join(root, name, system)} {
			if err = makeCgroup(dir); err != nil {
				return nil, fmt.Errorf("make control group: %w", err)
			}
		}
		if err = outweigh(filepath.Join(root, name)); err != nil {
			return nil, fmt.Errorf("make control group: %w", err)
		}
		parts = append(parts, filepath.Join(root, name, system))
	}
	return parts, nil
}

// weights are four times what a usual process weighs: a machine is many of them, and has a processor of its own where it is
// no lab. The first file is version 1's, the second version 2's.
var weights = map[string]string{"cpu.shares": "4096", "cpu.weight": "400"}

// outweigh gives a group its weight, where the processor's controller has it.
func outweigh(dir string) error {
	for file, weight := range weights {
		path := filepath.Join(dir, file)
		if _, err := os.Stat(path); os.IsNotExist(err) {
			continue
		}
		if err := os.WriteFile(path, []byte(weight), 0); err != nil {
			return err
		}
	}
	return nil
}

// makeCgroup makes one group. One of version 1's cpuset takes no process before it has processors and memory.
func makeCgroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if os.IsNotExist(err) {
			continue // Not this controller, or version 2.
		}
		if err != nil {
			return err
		}
		if err = os.WriteFile(filepath.Join(dir, file), value, 0); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// findCgroups returns the groups with a name (a pattern of filepath.Match) in every hierarchy: runc makes some also where
// there is no controller.
func findCgroups(name string) ([]string, error) {
	h, err := findHierarchies()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, root := range slices.Concat(h.first, h.second) {
		groups, err := filepath.Glob(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		found = append(found, groups...)
	}
	return found, nil
}

// removeCgroups kills every process in the groups with a name, until none is left, and removes the groups.
func removeCgroups(ctx context.Context, name string) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, poll, true, func(context.Context) (bool, error) {
		groups, err := findCgroups(name)
		if err != nil {
			return false, err
		}
		last = nil
		for _, group := range groups {
			last = errors.Join(last, removeCgroup(group))
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("remove control groups: %w", errors.Join(err, last))
	}
	return nil
}

// removeCgroup kills what is in a group and its parts and removes those that are empty; the error says what is left.
func removeCgroup(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	var errs []error
	for _, dir := range slices.Backward(dirs) { // Parts before the whole.
		for pid := range strings.Lines(readLines(filepath.Join(dir, "cgroup.procs"))) {
			if number, err := strconv.Atoi(strings.TrimSpace(pid)); err == nil && number > 0 {
				_ = unix.Kill(number, unix.SIGKILL) // It fails only if the process is gone.
			}
		}
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// readLines returns what a small file holds, and nothing if it does not exist.
func readLines(file string) string {
	text, _ := os.ReadFile(filepath.Clean(file))
	return string(text)
}

func readLine(file string) string { return strings.TrimSpace(readLines(file)) }
