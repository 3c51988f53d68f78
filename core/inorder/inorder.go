// Package inorder keeps what is to be done in order of time, each thing knowing its
// place, so that it can be moved or taken out. It is the plumbing of
// container/heap, written once; what is ordered, its owner knows, and locks.
package inorder

import "container/heap"

// Item is a thing that has its place in one heap at most.
type Item[T any] interface {
	// Before reports whether it comes before o.
	Before(o T) bool
	// Slot is where its index in the heap is kept; [Nowhere] when it is in none.
	Slot() *int
}

// Nowhere is the slot of an item that is in no heap.
const Nowhere = -1

// Heap implements heap.Interface: its first item is the one that comes first. It
// is changed by Put, Take and Remove alone.
type Heap[T Item[T]] []T

// Len implements heap.Interface.
func (h Heap[T]) Len() int { return len(h) }

// Less implements heap.Interface.
func (h Heap[T]) Less(i, j int) bool { return h[i].Before(h[j]) }

// Swap implements heap.Interface.
func (h Heap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].Slot(), *h[j].Slot() = i, j
}

// Push implements heap.Interface.
func (h *Heap[T]) Push(x any) {
	item := x.(T)
	*item.Slot() = len(*h)
	*h = append(*h, item)
}

// Pop implements heap.Interface.
func (h *Heap[T]) Pop() any {
	last := len(*h) - 1
	item := (*h)[last]
	var none T
	(*h)[last] = none
	*h = (*h)[:last]
	*item.Slot() = Nowhere
	return item
}

// Put brings an item to where it belongs, from another place or from
// [Nowhere].
func (h *Heap[T]) Put(item T) {
	if slot := *item.Slot(); slot != Nowhere {
		heap.Fix(h, slot)
		return
	}
	heap.Push(h, item)
}

// Take takes the first item out. The heap must not be empty.
func (h *Heap[T]) Take() T { return heap.Pop(h).(T) }

// Remove takes an item out, and reports whether it was there.
func (h *Heap[T]) Remove(item T) bool {
	slot := *item.Slot()
	if slot == Nowhere {
		return false
	}
	heap.Remove(h, slot)
	return true
}
