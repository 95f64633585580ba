package kcm

// ring is a queue that keeps its memory.
type ring[T any] struct {
	items []T // a power of two of them
	head  int
	n     int
}

func (r *ring[T]) len() int { return r.n }

func (r *ring[T]) clear() { r.head, r.n = 0, 0 }

// front returns the oldest item, which must exist; it stays in the queue.
func (r *ring[T]) front() *T { return &r.items[r.head] }

// at returns the i-th oldest item, which must exist.
func (r *ring[T]) at(i int) *T { return &r.items[(r.head+i)&(len(r.items)-1)] }

func (r *ring[T]) push(v T) {
	if r.n == len(r.items) {
		r.grow()
	}
	r.items[(r.head+r.n)&(len(r.items)-1)] = v
	r.n++
}

// pop removes the oldest item, which must exist.
func (r *ring[T]) pop() T {
	v := r.items[r.head]
	r.head = (r.head + 1) & (len(r.items) - 1)
	r.n--
	return v
}

func (r *ring[T]) grow() {
	items := make([]T, max(16, 2*len(r.items)))
	for i := range r.n {
		items[i] = r.items[(r.head+i)&(len(r.items)-1)]
	}
	r.items, r.head = items, 0
}
