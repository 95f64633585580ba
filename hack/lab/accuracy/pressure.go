package accuracy

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// pressureFile is where Linux tells for how long some task that could run had to wait for a CPU (pressure stall
// information, kernel 4.20 and later).
const pressureFile = "/proc/pressure/cpu"

// readPressure returns for how long some task waited since the machine started.
func readPressure() (time.Duration, error) {
	text, err := os.ReadFile(pressureFile)
	if err != nil {
		return 0, fmt.Errorf("read CPU pressure, which the kernel must offer (CONFIG_PSI, psi=1): %w", err)
	}
	return parsePressure(text)
}

func parsePressure(text []byte) (time.Duration, error) {
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "some" {
			continue
		}
		for _, field := range fields[1:] {
			if total, ok := bytes.CutPrefix(field, []byte("total=")); ok {
				us, err := strconv.ParseInt(string(total), 10, 64)
				return time.Duration(us) * time.Microsecond, err
			}
		}
	}
	return 0, fmt.Errorf("read CPU pressure: no total of some in %q", text)
}
