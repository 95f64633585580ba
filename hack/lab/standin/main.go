// Command standin plays kube-controller-manager where only its process matters: it starts within milliseconds, takes
// the same flags and ignores most, serves /healthz, /metrics, /flagz and /configz as kube-controller-manager v1.37.2
// does, asks the API server about callers, and renews the Lease. It controls nothing.
//
// A behaviour file, named by --standin-behaviour-file, may hold one word that says how the process misbehaves when any
// of the four flags that the operator tunes has a value other than its default, so that an old manifest works and a
// new one fails: "exit" (ends at once), "unhealthy" (/healthz never answers 200) or "ignore-flags" (/flagz and /configz
// report the defaults). A second word, "--name=value", narrows that to commands with just this argument.
//
// Several stand-ins share the Lease, and one after another leads, with --standin-lease=elect.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/utils/clock"
)

// version is what the stand-in says it is.
const version = "v1.37.2"

// Flags of the stand-in's own.
const (
	flagBehaviour = "standin-behaviour-file"
	// flagLease says what to do with the Lease: "at-once" (default) takes it over whoever holds it, "elect" waits until it
	// has run out and ends the process when it is lost, as kube-controller-manager does, "none" leaves it alone, as does
	// --leader-elect=false.
	flagLease = "standin-lease"
	// flagHost is the host name in the Lease. Absent means this machine's.
	flagHost = "standin-host"
	// flagDepth is how many keys each work queue says it holds. Absent means 0.
	flagDepth = "standin-queue-depth"
)

// behaviour is how the process misbehaves.
type behaviour string

const (
	behave      behaviour = ""
	exitAtOnce  behaviour = "exit"
	unhealthy   behaviour = "unhealthy"
	ignoreFlags behaviour = "ignore-flags"
)

// tuned returns the flags that the operator tunes, with their defaults.
func tuned() map[string]string {
	return map[string]string{
		"kube-api-qps":                      "20",
		"kube-api-burst":                    "30",
		"concurrent-endpoint-syncs":         "5",
		"concurrent-service-endpoint-syncs": "5",
	}
}

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	flags := parse(os.Args[1:])
	how, err := behaviourOf(flags)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if how == exitAtOnce {
		fmt.Fprintln(os.Stderr, "told to exit")
		return 1
	}
	if err = play(ctx, flags, how); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// play serves until ctx ends.
func play(ctx context.Context, flags map[string]string, how behaviour) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &server{flags: effective(flags, how), healthy: how != unhealthy, depth: cmp.Or(flags[flagDepth], "0"), clock: clock.RealClock{}}
	s.started = s.clock.Now()
	if path := flags["kubeconfig"]; path != "" {
		api, err := newAPI(path)
		if err != nil {
			return err
		}
		s.callers = &callers{api: api, clock: s.clock}
		if flags["leader-elect"] != "false" && flags[flagLease] != "none" {
			s.lease = newLease(api, s.clock, flags)
			go func() { end(s.lease.keep(ctx)) }()
		}
	}
	err := s.serve(ctx, flags["secure-port"])
	if lost := context.Cause(ctx); errors.Is(lost, errLeaseLost) {
		return lost
	}
	return err
}

// parse returns flags by name; a flag without a value is "true" and the last of several counts.
func parse(args []string) map[string]string {
	flags := map[string]string{}
	for _, arg := range args {
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !given {
			value = "true"
		}
		flags[name] = value
	}
	return flags
}

// behaviourOf reads the behaviour file, if there is one and it applies.
func behaviourOf(flags map[string]string) (behaviour, error) {
	path, given := flags[flagBehaviour]
	if !given {
		return behave, nil
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return behave, nil
	}
	if err != nil {
		return behave, fmt.Errorf("read behaviour: %w", err)
	}
	how, condition, _ := strings.Cut(strings.TrimSpace(string(content)), " ")
	if !applies(flags, condition) {
		return behave, nil
	}
	switch b := behaviour(how); b {
	case behave, exitAtOnce, unhealthy, ignoreFlags:
		return b, nil
	default:
		return behave, fmt.Errorf("%s says %q, want exit, unhealthy, ignore-flags or nothing", path, b)
	}
}

// applies reports whether the command has the argument of the condition or, without one, any tuned flag with a value
// other than its default.
func applies(flags map[string]string, condition string) bool {
	if condition == "" {
		return changed(flags)
	}
	name, value, _ := strings.Cut(strings.TrimLeft(condition, "-"), "=")
	given, ok := flags[name]
	return ok && given == value
}

// changed reports whether a tuned flag has a value other than its default.
func changed(flags map[string]string) bool {
	for name, value := range tuned() {
		if given, ok := flags[name]; ok && given != value {
			return true
		}
	}
	return false
}

// effective returns the flags that the process says it runs with.
func effective(flags map[string]string, how behaviour) map[string]string {
	all := tuned()
	for name, value := range flags {
		if _, ours := all[name]; ours && how == ignoreFlags {
			continue
		}
		all[name] = value
	}
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasPrefix(name, "standin-") })
	return all
}
