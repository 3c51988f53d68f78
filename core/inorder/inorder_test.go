package inorder

import (
	"math/rand/v2"
	"testing"
	"time"
)

type job struct {
	at   time.Time
	slot int
}

func (j *job) Before(o *job) bool { return j.at.Before(o.at) }
func (j *job) Slot() *int         { return &j.slot }

// Whatever is put in, moved and taken out, what is left comes in order of time,
// and each knows its place.
func TestWhatIsDueComesInOrderWhateverWasMoved(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	start := time.Unix(1_000_000, 0)
	var h Heap[*job]
	var all []*job
	for range 2000 {
		j := &job{at: start.Add(time.Duration(random.IntN(10_000))), slot: Nowhere}
		all = append(all, j)
		h.Put(j)
		switch o := all[random.IntN(len(all))]; {
		case o.slot == Nowhere:
		case random.IntN(2) == 0:
			o.at = start.Add(time.Duration(random.IntN(10_000)))
			h.Put(o)
		case random.IntN(3) == 0:
			if !h.Remove(o) || h.Remove(o) {
				t.Fatal("an item is not taken out once")
			}
		}
	}
	in := 0
	for _, j := range all {
		if j.slot == Nowhere {
			continue
		}
		if in++; h[j.slot] != j {
			t.Fatal("an item does not know its place")
		}
	}
	if in != h.Len() || in == 0 {
		t.Fatalf("%d know a place, %d are there", in, h.Len())
	}
	for last := start; h.Len() > 0; {
		j := h.Take()
		if j.at.Before(last) || j.slot != Nowhere {
			t.Fatalf("%v after %v, at place %d", j.at, last, j.slot)
		}
		last = j.at
	}
}
