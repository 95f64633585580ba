package watch

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestQueueHandsOverInTheOrderOfStamps(t *testing.T) {
	q, zero := newQueue(), time.Unix(0, 0)
	for _, second := range []int{3, 1, 2, 2, 5, 4} {
		if !q.push(item{at: zero.Add(time.Duration(second) * time.Second), late: time.Duration(second)}) {
			t.Fatal("push() = false, want true")
		}
	}
	for _, want := range []time.Duration{1, 2, 2, 3, 4, 5} {
		if i, ok := q.pop(); !ok || i.late != want {
			t.Fatalf("pop() = %v, %v, want %v, true", i.late, ok, want)
		}
	}
}

func TestQueueHoldsProducersUpWhenItIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, pushed := newQueue(), 0
		go func() {
			for q.push(item{data: q.buffer(queueBytes / 4)}) {
				pushed++
			}
		}()
		synctest.Wait()
		if pushed != 4 {
			t.Errorf("pushed %d items of a quarter each, want 4", pushed)
		}
		for range 3 {
			i, _ := q.pop()
			q.done(i)
		}
		synctest.Wait()
		if pushed != 7 {
			t.Errorf("pushed %d items after three were done, want 7", pushed)
		}
		q.close()
		synctest.Wait()
		if _, ok := q.pop(); ok || pushed != 7 {
			t.Errorf("pop() of a closed queue = %v after %d items, want false after 7", ok, pushed)
		}
	})
}

func TestQueueTakesOneItemOfAnySize(t *testing.T) {
	q := newQueue()
	if !q.push(item{data: make([]byte, 2*queueBytes)}) {
		t.Error("push() of an item above the bound = false, want true")
	}
}
