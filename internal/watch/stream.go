package watch

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// frameBytes bounds one frame; client-go's decoder has the same bound (apimachinery's runtime/serializer/streaming).
const frameBytes = 16 << 20

// readBytes is how much is read from a stream at once; larger frames are read straight into their buffers.
const readBytes = 16 << 10

// A resumed watch has caught up when its reader has waited this long for more: the server sends what was missed as soon
// as it has sent the headers. One that never waits is taken to have caught up after longestCatchUp.
const (
	quiet          = 50 * time.Millisecond
	longestCatchUp = time.Second
)

// stream is one answer of the API server, a watch or a page of a list. To the Reflector it is a watch that tells how far
// the tracker has got, in bookmarks.
type stream struct {
	feed   *Feed
	kind   *kind
	cancel context.CancelFunc
	body   io.ReadCloser
	times  *reads // of the stream
	line   *reads // of the connection below it; nil if unknown
	base   time.Time

	// first says that the stream sends all objects before it tells changes; the applying goroutine's.
	first bool
	asked time.Time // the request was sent
	last  bool      // of a list: no page follows

	results chan apiwatch.Event
	stopped chan struct{}
	wake    chan struct{}

	mu      sync.Mutex
	version []byte // up to which everything was applied
	told    bool   // the Reflector knows that version
	listed  bool   // the first state is complete, and the Reflector does not know
	failure *metav1.Status
	ended   bool // nothing more comes
	stop    bool // Stop was called
}

var _ apiwatch.Interface = (*stream)(nil)

func (f *Feed) newStream(k *kind, body io.ReadCloser, cancel context.CancelFunc) *stream {
	now := f.clock.Now()
	return &stream{
		feed: f, kind: k, cancel: cancel, body: body, times: newReads(f.clock), base: now,
		results: make(chan apiwatch.Event), stopped: make(chan struct{}), wake: make(chan struct{}, 1), told: true,
	}
}

// ResultChan yields bookmarks: the version up to which the tracker knows everything. It is closed after the last.
func (s *stream) ResultChan() <-chan apiwatch.Event { return s.results }

// Stop ends the request.
func (s *stream) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stop {
		s.stop = true
		close(s.stopped)
		s.cancel()
	}
}

// Read reads from the server.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.times.read(s.body, p)
	if idle := s.times.time(&s.times.idle); idle.After(s.base) {
		// Whatever comes from now on was not there before; as far as the connection had been read by then.
		s.base = idle
		if s.line != nil {
			s.base = s.line.time(&s.line.idle)
		}
	}
	return n, err
}

// receive takes frames off the stream until that ends.
func (s *stream) receive() {
	defer s.close()
	from := bufio.NewReaderSize(s, readBytes)
	for {
		data, err := s.frame(from)
		if err != nil {
			s.end(err)
			return
		}
		at := s.feed.clock.Now()
		if !s.feed.queue.push(item{from: s, step: stepEvent, at: at, late: at.Sub(s.base), data: data}) {
			return
		}
	}
}

func (s *stream) close() {
	s.cancel()
	_ = s.body.Close() // Nothing more is wanted of it.
}

// frame reads one frame: its length in four bytes, big-endian, and its bytes (LengthDelimitedFramer in
// k8s.io/apimachinery/pkg/util/framer). io.EOF means that the stream ended between two frames.
func (s *stream) frame(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > frameBytes {
		return nil, fmt.Errorf("%w: a frame of %d bytes, more than %d", errFrame, n, frameBytes)
	}
	data := s.feed.queue.buffer(int(n))
	if _, err := io.ReadFull(from, data); err != nil {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return data, nil
}

var errFrame = errors.New("not a watch")

// ended says whether an error of a read is the end that was to come.
func ended(err error) bool { return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }

// end tells that nothing more comes. A stream that the server ended was good until then; of one that broke nobody knows
// since when it was not, so that the last bytes of its connection count (the probes bring some every two seconds).
func (s *stream) end(err error) {
	at := s.feed.clock.Now()
	if !ended(err) && !errors.Is(err, context.Canceled) {
		at = s.times.time(&s.times.last)
		if s.line != nil {
			at = s.line.time(&s.line.last)
		}
	}
	if errors.Is(err, errFrame) {
		s.fail(err)
	}
	s.feed.queue.push(item{from: s, step: stepEnd, at: at})
}

// catchUp waits until the stream has caught up, and tells.
func (s *stream) catchUp() {
	began := s.feed.clock.Now()
	timer := s.feed.clock.NewTimer(quiet)
	defer timer.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-timer.C():
		}
		now := s.feed.clock.Now()
		since := s.times.since.Load()
		wait := s.times.start.Add(time.Duration(since))
		switch {
		case since >= 0 && now.Sub(wait) >= quiet:
			s.feed.queue.push(item{from: s, step: stepCaughtUp, at: wait})
			return
		case now.Sub(began) >= longestCatchUp:
			s.feed.queue.push(item{from: s, step: stepCaughtUp, at: now})
			return
		}
		timer.Reset(quiet / 5) // often enough to see a wait of that length between two frames
	}
}

// advance keeps the version up to which everything was applied.
func (s *stream) advance(version []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reach(version)
}

// reach is advance for those who hold the lock.
func (s *stream) reach(version []byte) {
	if s.failure == nil && len(version) > 0 {
		s.version, s.told = append(s.version[:0], version...), false
		s.ring()
	}
}

// complete tells the Reflector that the first state is complete, together with its version: told apart, the version may
// be on its way before anybody knows that the state is complete.
func (s *stream) complete(version []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = true
	s.reach(version)
}

// fail ends the stream with what the Reflector is to make of it.
func (s *stream) fail(err error) {
	status := apierrors.NewInternalError(err).ErrStatus
	if known, ok := errors.AsType[*apierrors.StatusError](err); ok {
		status = known.Status()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = &status
		s.ring()
	}
}

// finish tells that everything of the stream was applied.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.ring()
}

func (s *stream) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell tells the Reflector what there is to tell, until the stream ends.
func (s *stream) tell() {
	defer close(s.results)
	for {
		select {
		case <-s.stopped:
			return
		case <-s.wake:
		}
		news, last := s.news()
		for _, n := range news {
			select {
			case <-s.stopped:
				return
			case s.results <- n:
			}
		}
		if last {
			return
		}
	}
}

// news are what the Reflector does not know, and whether that is all there will be.
func (s *stream) news() (news []apiwatch.Event, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.told {
		s.told = true
		mark := &bookmark{}
		mark.ResourceVersion = string(s.version)
		if s.listed {
			s.listed = false
			mark.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
		}
		news = append(news, apiwatch.Event{Type: apiwatch.Bookmark, Object: mark})
	}
	if s.failure != nil {
		news = append(news, apiwatch.Event{Type: apiwatch.Error, Object: s.failure})
	}
	return news, s.failure != nil || s.ended
}

// bookmark is an object that has nothing but its version.
type bookmark struct{ metav1.ObjectMeta }

var _ runtime.Object = (*bookmark)(nil)

// GetObjectKind says that the kind does not matter.
func (b *bookmark) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns a copy.
func (b *bookmark) DeepCopyObject() runtime.Object {
	return &bookmark{ObjectMeta: *b.DeepCopy()}
}
