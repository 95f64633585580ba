// Command picky stands in front of kube-controller-manager on one node: it exits with a message, as
// kube-controller-manager does with flags that it refuses, when the burst is 900 or more, and else becomes it.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	behind = "/usr/local/bin/kube-controller-manager.real"
	most   = 899
)

func main() {
	fmt.Fprintln(os.Stderr, "error:", run())
	os.Exit(1)
}

// run returns only where it does not become kube-controller-manager.
func run() error {
	for _, arg := range os.Args[1:] {
		text, ok := strings.CutPrefix(arg, "--kube-api-burst=")
		if burst, err := strconv.Atoi(text); ok && err == nil && burst > most {
			return fmt.Errorf("invalid argument %q: this kube-controller-manager takes at most %d", arg, most)
		}
	}
	return syscall.Exec(behind, append([]string{"kube-controller-manager"}, os.Args[1:]...), os.Environ())
}
