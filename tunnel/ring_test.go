package tunnel

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"sallyport/tunnel/frame"
)

// The ring against the plainest model of it: all bytes there ever were.
func TestRingGivesWhatWasPutAndKeepsWhatIsNotAcknowledged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var r ring
	var all []byte
	limit := 1 << 10
	starts := []uint64{0}
	// handled is what an honest peer may have: whole frames, at least those it
	// acknowledged.
	handled := func() uint64 {
		i, _ := slices.BinarySearch(starts, r.acked)
		j, _ := slices.BinarySearch(starts, r.sent)
		return starts[i+random.IntN(j-i+1)]
	}
	for step := range 20_000 {
		switch random.IntN(6) {
		case 0, 1:
			if r.held() < 200<<10 {
				p := frame.Append(nil, frame.TypeData, uint32(step+1), bytes.Repeat([]byte{byte(step)}, random.IntN(3000)))
				r.put(p)
				all = append(all, p...)
				starts = append(starts, r.end)
			}
		case 2, 3:
			from := r.sent
			head, tail := r.next(limit)
			got := append(bytes.Clone(head), tail...)
			if want := all[from:r.sent]; !bytes.Equal(got, want) {
				t.Fatalf("step %d: %d bytes from %d are not what was put", step, len(got), from)
			}
			if len(got) > limit && cut(got, limit) != len(got) || cut(got, len(got)) != len(got) {
				t.Fatalf("step %d: %d bytes with a limit of %d, or no whole frames", step, len(got), limit)
			}
			r.written()
		case 4:
			if err := r.ack(handled()); err != nil {
				t.Fatal(err)
			}
		case 5:
			r.shrink(r.end)
			if random.IntN(50) == 0 {
				to := handled()
				if !r.knows(to) {
					t.Fatalf("step %d: %d is not known of %d to %d", step, to, r.base, r.sent)
				}
				r.rewind(to)
			}
		}
		if r.held() > len(r.buf) || uint64(len(all)) != r.end {
			t.Fatalf("step %d: %+v", step, r)
		}
	}
	if err := r.ack(r.sent + 1); !errors.Is(err, errProtocol) {
		t.Errorf("an ACK of what was not sent: %v", err)
	}
	r.base = r.end
	if r.shrink(r.end); len(r.buf) > keptRing {
		t.Errorf("%d bytes are kept for nothing", len(r.buf))
	}
}

// What is being written is not overwritten, though the peer says already that
// it has it.
func TestRingKeepsWhatIsBeingWritten(t *testing.T) {
	var r ring
	first := frame.Append(nil, frame.TypeData, 1, make([]byte, minRing-frame.HeaderLen))
	r.put(first)
	head, _ := r.next(maxPiece)
	if err := r.ack(r.sent); err != nil {
		t.Fatal(err)
	}
	r.put(frame.Append(nil, frame.TypeData, 2, bytes.Repeat([]byte{1}, 100)))
	if !bytes.Equal(head, first) {
		t.Error("the bytes under way were changed")
	}
	if r.written(); r.base != uint64(len(first)) {
		t.Errorf("%d bytes are kept that nobody needs", uint64(len(first))-r.base)
	}
}
