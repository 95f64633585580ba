package watch

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// sink is the store of one reflector: it hands every object to the tracker and keeps only the names. The reflector calls
// it from one goroutine.
type sink struct {
	name    string
	example runtime.Object
	source  cache.ListerWatcher
	// trim drops what set does not read, for the objects the reflector holds during a list.
	trim cache.TransformFunc
	// set hands an object over; false means that it is of no interest, or no longer.
	set func(object any, at time.Time) bool
	// remove tells that an object is gone.
	remove func(namespace, name string, at time.Time)
	// optional sinks do not hold up the others when they may not list.
	optional bool

	clock  clock.PassiveClock
	listed func()
	known  map[types.NamespacedName]struct{}

	mu   sync.Mutex
	done bool  // listed was called
	err  error // of the latest list or watch; nil when it worked
}

var _ cache.TransformingStore = (*sink)(nil)

// Transformer returns the transform that spares memory while the reflector collects the first list.
func (s *sink) Transformer() cache.TransformFunc { return s.trim }

// Add hands over an object that is new.
func (s *sink) Add(object any) error { return s.Update(object) }

// Update hands over an object, stamped before anything is done with it.
func (s *sink) Update(object any) error { return s.update(object, s.clock.Now()) }

func (s *sink) update(object any, at time.Time) error {
	key, err := keyOf(object)
	if err != nil {
		return err
	}
	if s.set(object, at) {
		s.known[key] = struct{}{}
	} else if _, was := s.known[key]; was {
		s.drop(key, at)
	}
	return nil
}

// Delete tells that an object is gone.
func (s *sink) Delete(object any) error {
	at := s.clock.Now()
	key, err := keyOf(object)
	if err != nil {
		return err
	}
	s.drop(key, at)
	return nil
}

func (s *sink) drop(key types.NamespacedName, at time.Time) {
	delete(s.known, key)
	s.remove(key.Namespace, key.Name, at)
}

// Replace hands over a list: what is not in it is gone.
func (s *sink) Replace(list []any, _ string) error {
	at := s.clock.Now()
	gone := s.known
	s.known = make(map[types.NamespacedName]struct{}, len(list))
	for _, object := range list {
		key, err := keyOf(object)
		if err != nil {
			return err
		}
		if s.set(object, at) {
			s.known[key] = struct{}{}
			delete(gone, key)
		}
	}
	for key := range gone {
		s.remove(key.Namespace, key.Name, at)
	}
	s.finish()
	return nil
}

// Resync does nothing: nothing is kept that could be told again.
func (s *sink) Resync() error { return nil }

func keyOf(object any) (types.NamespacedName, error) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return types.NamespacedName{}, fmt.Errorf("read the name of a %T: %w", object, err)
	}
	return types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}, nil
}

// finish tells once that the first list is in.
func (s *sink) finish() {
	s.mu.Lock()
	first := !s.done
	s.done = true
	s.mu.Unlock()
	if first {
		s.listed()
	}
}

// note keeps what the latest request came to.
func (s *sink) note(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	if s.optional && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)) {
		s.finish()
	}
}

// missing says why the first list is not in; nil if it is.
func (s *sink) missing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.done:
		return nil
	case s.err != nil:
		return fmt.Errorf("list %s: %w", s.name, s.err)
	default:
		return fmt.Errorf("list %s: no answer yet", s.name)
	}
}

// endpoint is the part of a typed client that a reflector needs; L is the kind's list.
type endpoint[L runtime.Object] interface {
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error)
}

// listWatch reads from a client, narrowed by the given selectors, and keeps errors with the sink. The owner of the
// client says whether it can stream a list.
func listWatch[L runtime.Object](s *sink, from endpoint[L], narrow metav1.ListOptions, owner any) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector, options.FieldSelector = narrow.LabelSelector, narrow.FieldSelector
			list, err := from.List(ctx, options)
			s.note(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			options.LabelSelector, options.FieldSelector = narrow.LabelSelector, narrow.FieldSelector
			watch, err := from.Watch(ctx, options)
			s.note(err)
			return watch, err
		},
	}, owner)
}
