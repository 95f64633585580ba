package watch

import (
	"sync"
	"time"
)

// queueBytes bounds what waits to be decoded. It takes the 1,000 Pods and as many slices of a large incident at once; the
// readers of a longer burst wait, which their stamps then tell (delays).
const queueBytes = 4 << 20

// keptBuffer is the largest buffer that is used again. Most Pods are smaller; 99 of 100 slices are too.
const keptBuffer = 32 << 10

// step is what an item of the queue asks for.
type step uint8

const (
	stepBegin    step = iota // a stream begins: what comes from an older one of its kind no longer counts
	stepEvent                // a frame of a watch
	stepListed               // an object of a list
	stepListEnd              // the end of a list
	stepCaughtUp             // everything until at was received
	stepEnd                  // the stream ended; what happened after at was not received
)

// item is one thing that a stream tells.
type item struct {
	from *stream
	step step
	at   time.Time
	late time.Duration // by which at may be late, of an event
	data []byte
}

// queue hands items over in the order of their stamps as far as they are still in it. Producers wait while it is full.
type queue struct {
	mu     sync.Mutex
	room   sync.Cond
	some   sync.Cond
	items  []item // from next on
	next   int
	bytes  int
	closed bool
	free   sync.Pool // of *[]byte
}

func newQueue() *queue {
	q := &queue{}
	q.room.L, q.some.L = &q.mu, &q.mu
	return q
}

// buffer returns n bytes to read a frame into.
func (q *queue) buffer(n int) []byte {
	if used, ok := q.free.Get().(*[]byte); ok && cap(*used) >= n {
		return (*used)[:n]
	}
	return make([]byte, n)
}

// push adds an item; false if the queue is closed.
func (q *queue) push(i item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes > 0 && q.bytes+cap(i.data) > queueBytes && !q.closed {
		q.room.Wait()
	}
	if q.closed {
		return false
	}
	q.bytes += cap(i.data)
	q.items = append(q.items, i)
	// Two readers may come in another order than they stamped.
	for n := len(q.items) - 1; n > q.next && i.at.Before(q.items[n-1].at); n-- {
		q.items[n], q.items[n-1] = q.items[n-1], q.items[n]
	}
	q.some.Signal()
	return true
}

// pop waits for the next item; false once the queue is closed. The item's data is given back with done.
func (q *queue) pop() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.next == len(q.items) && !q.closed {
		q.items, q.next = q.items[:0], 0
		q.some.Wait()
	}
	if q.closed {
		return item{}, false
	}
	i := q.items[q.next]
	q.items[q.next] = item{}
	if q.next++; q.next > len(q.items)/2 {
		q.items, q.next = q.items[:copy(q.items, q.items[q.next:])], 0
	}
	return i, true
}

// done gives the bytes of an item back.
func (q *queue) done(i item) {
	if i.data == nil {
		return
	}
	if cap(i.data) <= keptBuffer {
		q.free.Put(&i.data)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= cap(i.data)
	q.room.Broadcast()
}

// close ends the queue for everybody.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.room.Broadcast()
	q.some.Broadcast()
}
