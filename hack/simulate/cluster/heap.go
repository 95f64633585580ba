package cluster

// ordered is what a heap holds.
type ordered[T any] interface{ before(o T) bool }

// heap is a binary heap with the first item at 0.
type heap[T ordered[T]] struct{ items []T }

func (h *heap[T]) len() int { return len(h.items) }

func (h *heap[T]) push(v T) {
	h.items = append(h.items, v)
	i := len(h.items) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].before(h.items[parent]) {
			return
		}
		h.items[i], h.items[parent] = h.items[parent], h.items[i]
		i = parent
	}
}

// pop removes the first item, which must exist.
func (h *heap[T]) pop() T {
	first, last := h.items[0], len(h.items)-1
	var zero T
	h.items[0], h.items[last] = h.items[last], zero
	h.items = h.items[:last]
	h.sink(0)
	return first
}

// fix restores the order of all items.
func (h *heap[T]) fix() {
	for i := len(h.items)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}

func (h *heap[T]) sink(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.items); child++ {
			if h.items[child].before(h.items[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.items[i], h.items[least] = h.items[least], h.items[i]
		i = least
	}
}
