// Command server is what the story's Pods run: it answers every connection once and closes it.
//
// At SIGTERM it stops at once, connections and all, as a server does that nobody taught better; with --linger it first
// goes on for a while, as one does behind a preStop sleep.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// headerTimeout ends connections that ask for nothing.
const headerTimeout = 5 * time.Second

// answer is what clients read. /healthz answers the same.
const answer = "ok\n"

func main() { os.Exit(run()) }

func run() int {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	address := flags.String("address", ":8080", "where to listen")
	linger := flags.Duration("linger", 0, "for how long to go on after SIGTERM")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return 2 // The flag set has said why.
	}
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(terminated, *address, *linger); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// serve answers until it is terminated and has lingered.
func serve(terminated context.Context, address string, linger time.Duration) error {
	listener, err := (&net.ListenConfig{}).Listen(terminated, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen at %s: %w", address, err)
	}
	server := &http.Server{
		ReadHeaderTimeout: headerTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, answer) // A client that has gone is no matter of ours.
		}),
	}
	server.SetKeepAlivesEnabled(false)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(os.Stderr, "serving at %s\n", listener.Addr())
	select {
	case err = <-served:
		return fmt.Errorf("serve at %s: %w", address, err)
	case <-terminated.Done():
	}
	fmt.Fprintf(os.Stderr, "terminated; going on for %s\n", linger)
	if linger > 0 {
		<-time.After(linger)
	}
	if err = server.Close(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err = <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve at %s: %w", address, err)
	}
	return nil
}
