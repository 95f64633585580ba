package rig

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// T is what the rig needs of whoever uses it: a *testing.T, or a Scope where there is no test.
type T interface {
	lifetime
	judge
	narrator
}

// lifetime is for how long a T lasts, and what ends with it.
type lifetime interface {
	Context() context.Context
	Cleanup(end func())
	TempDir() string
}

// judge says what went wrong; Fatal and Fatalf also end the function that runs.
type judge interface {
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
}

// narrator says what happens.
type narrator interface {
	Helper()
	Logf(format string, args ...any)
}

// Scope plays a test's part in a program that is none: what fails becomes a problem that End returns. Its methods may be
// called from any goroutine, but for Fatal and Fatalf, which belong into a function that Do runs.
type Scope struct {
	name   string
	ctx    context.Context //nolint:containedctx // As a test's, it ends with the scope.
	cancel context.CancelFunc
	log    io.Writer

	mu       sync.Mutex
	cleanups []func()
	problems []string
}

// NewScope returns a scope that ends with End, or with ctx. What it has to say goes to log, line by line.
func NewScope(ctx context.Context, name string, log io.Writer) *Scope {
	s := &Scope{name: name, log: log}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// Do runs f and reports whether nothing has failed in this scope until now. Fatal ends f.
func (s *Scope) Do(f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	return !s.Failed()
}

// End does what was registered with Cleanup, the last first, and returns what went wrong.
func (s *Scope) End() []string {
	s.cancel()
	for {
		s.mu.Lock()
		n := len(s.cleanups)
		if n == 0 {
			defer s.mu.Unlock()
			return slices.Clone(s.problems)
		}
		end := s.cleanups[n-1]
		s.cleanups = s.cleanups[:n-1]
		s.mu.Unlock()
		s.Do(end)
	}
}

// Context ends when the scope does, before what was registered with Cleanup.
func (s *Scope) Context() context.Context { return s.ctx }

// Cleanup has something done when the scope ends.
func (s *Scope) Cleanup(end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, end)
}

// TempDir returns a new directory that goes with the scope.
func (s *Scope) TempDir() string {
	dir, err := os.MkdirTemp("", "endpoint-sync-rig-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.Error(err)
		}
	})
	return dir
}

// Error notes a problem.
func (s *Scope) Error(args ...any) { s.note(strings.TrimSuffix(fmt.Sprintln(args...), "\n")) }

// Errorf notes a problem.
func (s *Scope) Errorf(format string, args ...any) { s.note(fmt.Sprintf(format, args...)) }

// Fatal notes a problem and ends the function that runs.
func (s *Scope) Fatal(args ...any) {
	s.Error(args...)
	runtime.Goexit()
}

// Fatalf notes a problem and ends the function that runs.
func (s *Scope) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

// Failed reports whether there is a problem.
func (s *Scope) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.problems) > 0
}

// Helper does nothing; a test needs it.
func (*Scope) Helper() {}

// Logf writes to the log.
func (s *Scope) Logf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A log that cannot be written must not end what it tells of.
	_, _ = fmt.Fprintf(s.log, "%s: %s\n", s.name, fmt.Sprintf(format, args...))
}

func (s *Scope) note(problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, problem)
}
