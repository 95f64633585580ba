package watch

import (
	"fmt"
	"hash/maphash"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// apply takes items out of the queue and tells the tracker, until the queue is closed.
func (f *Feed) apply() {
	d, seed := newDecoder(), maphash.MakeSeed()
	a := &applier{feed: f, decoder: d, seed: seed}
	for {
		i, ok := f.queue.pop()
		if !ok {
			return
		}
		a.take(i)
		f.queue.done(i)
	}
}

// applier tells the tracker what the streams say. It serves one goroutine.
type applier struct {
	feed    *Feed
	decoder *decoder
	seed    maphash.Seed
}

func (a *applier) take(i item) {
	s, k := i.from, i.from.kind
	if i.step == stepBegin {
		k.current = s
		if s.first {
			k.seen = map[uint64]struct{}{}
		}
		return
	}
	if k.current != s {
		if i.step == stepListEnd {
			s.finish()
		}
		return // A newer stream of the kind has begun.
	}
	switch i.step {
	case stepEvent:
		a.event(i)
	case stepListed:
		if err := a.set(k, i); err != nil {
			s.fail(err)
		}
	case stepListEnd:
		if s.last {
			a.complete(k, i.at)
			a.lose(k, s.asked)
		}
		s.finish()
	case stepCaughtUp:
		a.regain(k, i.at)
	case stepEnd:
		a.lose(k, i.at)
		s.finish()
	case stepBegin:
	}
}

// event applies one frame of a watch.
func (a *applier) event(i item) {
	s, k := i.from, i.from.kind
	first := s.first
	e, err := readEvent(i.data)
	if err == nil {
		i.data = e.object
		err = a.apply(e.is, i)
	}
	if err != nil {
		a.lose(k, i.at)
		a.feed.note(k, err)
		s.fail(err)
		return
	}
	if first {
		return // The first objects come in no order of versions, and their stamps mean nothing.
	}
	s.advance(a.decoder.meta.version)
	if !k.lost {
		k.good = i.at
	}
	a.feed.delays.stamp(i.at, i.late)
	if a.feed.options.Processed != nil && e.is != string(apiwatch.Bookmark) {
		a.feed.options.Processed(k.of, a.feed.clock.Since(i.at))
	}
}

func (a *applier) apply(is string, i item) error {
	k := i.from.kind
	switch apiwatch.EventType(is) {
	case apiwatch.Added, apiwatch.Modified:
		return a.set(k, i)
	case apiwatch.Deleted:
		return a.remove(k, i)
	case apiwatch.Bookmark:
		return a.bookmark(k, i)
	case apiwatch.Error:
		return refusal(i.data)
	default:
		return fmt.Errorf("a watch event of the unknown type %q", is)
	}
}

func (a *applier) set(k *kind, i item) error {
	if err := k.set(a.decoder, i.data, i.at); err != nil {
		return err
	}
	if k.seen != nil {
		k.seen[a.key()] = struct{}{}
	}
	return nil
}

func (a *applier) remove(k *kind, i item) error {
	d := a.decoder
	if err := d.object(i.data); err != nil {
		return err
	}
	if k.seen != nil {
		delete(k.seen, a.key())
	}
	k.remove(d.intern(d.meta.namespace), string(d.meta.name), i.at)
	return nil
}

// bookmark reads a version that everything was sent up to, and whether the first state is complete with it.
func (a *applier) bookmark(k *kind, i item) error {
	if err := a.decoder.object(i.data); err != nil {
		return err
	}
	if i.from.first && a.decoder.meta.initialEventsEnd {
		i.from.first = false
		a.complete(k, i.at)
		a.regain(k, i.at)
		i.from.complete(a.decoder.meta.version)
	}
	return nil
}

// refusal is the error that the server sends.
func refusal(raw []byte) error {
	var status metav1.Status
	if err := status.Unmarshal(raw); err != nil {
		return err
	}
	return apierrors.FromObject(&status)
}

// complete tells the tracker that a first state is complete: what was not in it is gone.
func (a *applier) complete(k *kind, at time.Time) {
	seen := k.seen
	a.feed.tracker.Retain(k.of, func(namespace, name string) bool {
		_, kept := seen[a.hash([]byte(namespace), []byte(name))]
		return kept
	}, at)
	k.seen, k.synced = nil, true
	a.feed.listed(k)
}

// key is the name of the object that was read last.
func (a *applier) key() uint64 { return a.hash(a.decoder.meta.namespace, a.decoder.meta.name) }

// hash stands for a name in a list under way: of 150,000 names and as many kept ones, two share a hash with a
// probability below 10⁻⁸, and then an object that is gone is noticed at the next list.
func (a *applier) hash(namespace, name []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(a.seed)
	_, _ = h.Write(namespace)
	_ = h.WriteByte('/')
	_, _ = h.Write(name)
	return h.Sum64()
}

// lose tells the tracker that the kind was last received at the given time, or later if it is known better.
func (a *applier) lose(k *kind, at time.Time) {
	if k.synced && !k.lost {
		k.lost, k.good = true, latest(at, k.good)
		a.feed.tracker.SetReceiving(k.of, false, k.good)
	}
}

// regain tells the tracker that the kind is received again.
func (a *applier) regain(k *kind, at time.Time) {
	k.good = latest(at, k.good)
	if k.lost {
		k.lost = false
		a.feed.tracker.SetReceiving(k.of, true, k.good)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
