package watch

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// source is what the Reflector of a kind reads from, and its store: the objects take the way by the queue, so that it
// only drives.
type source struct {
	feed *Feed
	kind *kind
	// relisted says that the next watch follows a list.
	relisted bool
}

var (
	_ cache.ListerWatcherWithContext = (*source)(nil)
	_ cache.ReflectorStore           = (*source)(nil)
)

// Watch is WatchWithContext without a context.
func (s *source) Watch(options metav1.ListOptions) (apiwatch.Interface, error) {
	return s.WatchWithContext(context.Background(), options)
}

// WatchWithContext begins a watch.
func (s *source) WatchWithContext(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
	options.Watch = true
	first := options.SendInitialEvents != nil && *options.SendInitialEvents
	stream, err := s.open(ctx, options, first)
	if err != nil {
		if first && errors.Is(err, syscall.ECONNREFUSED) {
			// The Reflector would wait before it tries the same again, and not hear that its context ends. By this error
			// it tries a list, which fails too, and waits then.
			err = errors.New(err.Error())
		}
		return nil, err
	}
	f := s.feed
	if f.options.Watched != nil {
		f.options.Watched(s.kind.of, first || s.relisted)
	}
	s.relisted = false
	f.streams.Go(stream.receive)
	f.streams.Go(stream.tell)
	if !first {
		f.streams.Go(stream.catchUp)
	}
	return stream, nil
}

// List is ListWithContext without a context.
func (s *source) List(options metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), options)
}

// ListWithContext reads a list, or a page of one, for API servers that do not stream the first state of a watch. It
// returns when the tracker knows all of it.
func (s *source) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	s.relisted = true
	answer := &list{}
	stream, err := s.open(ctx, options, options.Continue == "")
	if err != nil {
		return nil, err
	}
	defer stream.close()
	if err = stream.receiveList(answer); err != nil {
		s.feed.note(s.kind, err)
		return nil, err
	}
	stream.last = answer.Continue == ""
	if !s.feed.queue.push(item{from: stream, step: stepListEnd, at: s.feed.clock.Now()}) {
		return nil, errClosed
	}
	if err = stream.applied(ctx); err != nil {
		s.feed.note(s.kind, err)
		return nil, fmt.Errorf("read a list of %s: %w", s.kind.name, err)
	}
	return answer, nil
}

// open sends a request and begins the stream of its answer.
func (s *source) open(ctx context.Context, options metav1.ListOptions, first bool) (*stream, error) {
	f, asked := s.feed, s.feed.clock.Now()
	ctx, cancel := context.WithCancel(ctx)
	ctx, line := traced(ctx)
	answer, err := f.get(ctx, s.kind, options)
	f.note(s.kind, err)
	if err != nil {
		cancel()
		return nil, err
	}
	stream := f.newStream(s.kind, answer, cancel)
	stream.line, stream.first, stream.asked = line(), first, asked
	if !f.queue.push(item{from: stream, step: stepBegin, at: f.clock.Now()}) {
		cancel()
		return nil, errClosed
	}
	return stream, nil
}

// The Reflector's store is never told anything but that a list is complete, which the tracker knows by then.

// Add does nothing.
func (s *source) Add(any) error { return nil }

// Update does nothing.
func (s *source) Update(any) error { return nil }

// Delete does nothing.
func (s *source) Delete(any) error { return nil }

// Replace does nothing.
func (s *source) Replace([]any, string) error { return nil }

// Resync does nothing.
func (s *source) Resync() error { return nil }

// applied waits until the list was applied.
func (s *stream) applied(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		s.mu.Lock()
		failure, ended := s.failure, s.ended
		s.mu.Unlock()
		switch {
		case failure != nil:
			return errors.New(failure.Message)
		case ended:
			return nil
		}
	}
}
