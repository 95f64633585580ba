// Command pause is the first process of every Pod's sandbox. It holds the Pod's namespaces open until it is asked to end,
// and reaps what ends in a Pod whose containers share one PID namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM)
	// A kernel reaps the children of a process that does not want to hear of them.
	signal.Ignore(syscall.SIGCHLD)
	<-asked
}
