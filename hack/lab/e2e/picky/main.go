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

func main() { os.Exit(run()) }

func run() int {
	for _, arg := range os.Args[1:] {
		text, ok := strings.CutPrefix(arg, "--kube-api-burst=")
		if burst, err := strconv.Atoi(text); ok && err == nil && burst > most {
			fmt.Fprintf(os.Stderr, "invalid argument %q: this kube-controller-manager takes at most %d\n", arg, most)
			return 1
		}
	}
	if err := syscall.Exec(behind, append([]string{"kube-controller-manager"}, os.Args[1:]...), os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, "exec:", err)
	}
	return 1
}
