package accuracy

import (
	"path/filepath"
	"strconv"
	"syscall"
)

// truthNice is the scheduling priority that the observer asks for: a truth that waits for a CPU is a poor one. What is
// measured, and what it is measured with, stay as they are.
const truthNice = -10

// prefer raises the priority of all threads of this process, if it may, and returns what it got.
func prefer(nice int) int {
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return 0
	}
	for _, path := range threads {
		id, err := strconv.Atoi(filepath.Base(path))
		if err != nil || syscall.Setpriority(syscall.PRIO_PROCESS, id, nice) != nil {
			return 0
		}
	}
	return nice
}
