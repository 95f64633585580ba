package agent

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
)

// moment is an instant on two clocks. Deadlines are counted on the boot clock, which no one can set and which goes on
// while the machine sleeps; it starts anew with each boot. The wall clock is for people.
type moment struct {
	BootID string      `json:"bootID"`
	Boot   nanoseconds `json:"boot"`
	Wall   time.Time   `json:"wall"`
}

// nanoseconds is a duration that is written as a plain number.
type nanoseconds = time.Duration

// since returns how long ago t was at m, at least. Across a reboot that is how long this boot has lasted.
func (m moment) since(t moment) time.Duration {
	if t.BootID == m.BootID {
		return m.Boot - t.Boot
	}
	return m.Boot
}

// bootClock tells the time on both clocks.
type bootClock struct {
	bootID string
	boot   func() time.Duration // since this boot
	wall   clock.Clock
}

// newBootClock reads which boot this is.
func newBootClock() (bootClock, error) {
	const path = "/proc/sys/kernel/random/boot_id"
	id, err := os.ReadFile(path)
	if err != nil {
		return bootClock{}, fmt.Errorf("read which boot this is: %w", err)
	}
	return bootClock{bootID: strings.TrimSpace(string(id)), boot: sinceBoot, wall: clock.RealClock{}}, nil
}

func sinceBoot() time.Duration {
	var t unix.Timespec
	// CLOCK_BOOTTIME exists since Linux 2.6.39 and openat2 since 5.6: where the agent runs, this cannot fail.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return time.Duration(t.Nano())
}

// now returns the present moment.
func (c bootClock) now() moment {
	return moment{BootID: c.bootID, Boot: c.boot(), Wall: c.wall.Now().UTC().Round(0)}
}
