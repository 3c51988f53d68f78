package im_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/im"
)

const (
	phone  = "sip:alice@example.com <urn:uuid:1>"
	laptop = "sip:alice@example.com <urn:uuid:2>"
	bobs   = "sip:bob@example.com <urn:uuid:3>"
)

func TestWhatIsHeldComesInOrderAndTheNextAfterTheAnswerToTheOneBefore(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "a b c", "fresh")
		h.comes(bobs, "x", "fresh")
		h.slow[phone] = true
		h.looks(phone, im.Itself)
		h.hears(phone + ": a")
		h.comes(phone, "d", "fresh") // while one is out
		h.slow[phone] = false
		h.late[0](im.Delivered)
		h.hears(phone+": b", phone+": c", phone+": d")
		h.comes(phone, "e", "sent")
		h.hears(phone + ": e")
		if n := h.s.Held(bobs); n != 1 || h.s.Held(phone) != 0 {
			t.Errorf("%d are held for bob, %d for alice", n, h.s.Held(phone))
		}
	})
}

func TestAMessageIsAcknowledgedOnceItIsStoredAndOneThatCannotBeIsRefused(t *testing.T) {
	st := &moody{Store: &im.Memory{}}
	inHouse(t, im.Config{}, st, func(h *house) {
		st.err = errors.New("disk full")
		h.comes(phone, "a", "lost: disk full")
		st.err = im.ErrFull
		h.comes(phone, "b", "lost: "+im.ErrFull.Error())
		st.err = nil
		h.comes(phone, "c", "lost: "+im.ErrTooBig.Error(), func(m *im.Message) { m.Data = make([]byte, im.MaxSize+1) })
		h.comes(phone, "a", "fresh")
		h.looks(phone, im.Itself)
		h.hears(phone + ": a")
		if !h.s.Empty() {
			t.Error("something is held")
		}
	})
}

func TestARepeatedMessageIsNotDeliveredTwice(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "a", "fresh")
		h.comes(phone, "a", "again")
		h.looks(phone, im.Itself)
		h.hears(phone + ": a")
		h.comes(phone, "a", "over")
		h.comes(phone, "b", "sent")
		h.comes(phone, "b", "over")
		h.hears(phone + ": b")
		h.looks(phone, im.Nobody)
		h.comes(phone, "b", "over")
		if !h.s.Empty() {
			t.Error("something is held")
		}
	})
}

// The client took it, and said so while it was being stored, or after.
func TestAnAnswerThatComesLateEndsTheMessage(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "a b", "fresh")
		h.s.Delivered(phone, "a")
		if !h.s.Had(phone, "a") || h.s.Had(phone, "b") {
			t.Error("it is not known what the phone had")
		}
		h.looks(phone, im.Itself)
		h.hears(phone + ": b")
	})
	st := &moody{Store: &im.Memory{}}
	inHouse(t, im.Config{}, st, func(h *house) {
		st.during = func() { h.s.Delivered(phone, "a") }
		h.comes(phone, "a", "over")
		st.during = nil
		h.looks(phone, im.Itself)
		h.hears()
		h.restarts()
		if !h.s.Empty() {
			t.Error("it is in the store still")
		}
	})
}

func TestBounds(t *testing.T) {
	full := "lost: " + im.ErrFull.Error()
	t.Run("per device and per user", func(t *testing.T) {
		inHouse(t, im.Config{PerAOR: 5, PerDevice: 3, PerSender: 3}, &im.Memory{}, func(h *house) {
			h.comes(phone, "a b c", "fresh")
			h.comes(phone, "d", full)
			h.comes(laptop, "e f", "fresh")
			h.comes(laptop, "g", full)
			h.comes(bobs, "h", "fresh")
			h.looks(phone, im.Itself)
			h.looks(phone, im.Nobody)
			h.comes(laptop, "g", "fresh")
			h.hears(phone+": a", phone+": b", phone+": c")
		})
	})
	t.Run("per sender, after a restart too", func(t *testing.T) {
		inHouse(t, im.Config{PerAOR: 8, PerDevice: 8}, &im.Memory{}, func(h *house) {
			h.comes(phone, "a b", "fresh", from("mallory"))
			h.restarts()
			h.comes(phone, "c d", "fresh", from("mallory"))
			h.comes(phone, "e", full, from("mallory"))
			h.comes(phone, "f", "fresh", from("carol"))
		})
	})
	t.Run("copies that another device had make room", func(t *testing.T) {
		inHouse(t, im.Config{PerAOR: 3, PerDevice: 3, PerSender: 3}, &im.Memory{}, func(h *house) {
			h.looks(phone, im.Itself)
			h.comes(laptop, "a b c", "fresh")
			h.comes(phone, "b", "sent") // its own copy
			h.comes(laptop, "d", "fresh")
			h.comes(laptop, "e", full)
			h.looks(laptop, im.Itself)
			h.hears(phone+": b", laptop+": a", laptop+": c", laptop+": d")
		})
	})
	t.Run("a line", func(t *testing.T) {
		inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
			h.slow[phone] = true
			h.looks(phone, im.Itself)
			h.comes(phone, "a", "waiting")
			for i := range 256 {
				if err := h.s.Submit(phone, h.message(phone, fmt.Sprint(i))); err != nil {
					t.Fatal(i, err)
				}
			}
			if err := h.s.Submit(phone, h.message(phone, "one more")); !errors.Is(err, im.ErrBusy) {
				t.Errorf("%v, want %v", err, im.ErrBusy)
			}
			h.late[0](im.Delivered)
			synctest.Wait()
			h.late[1](im.Delivered)
		})
	})
}

func TestWhatHasExpiredIsNotDeliveredAndSaidOnce(t *testing.T) {
	inHouse(t, im.Config{Keep: time.Hour}, &im.Memory{}, func(h *house) {
		in := func(d time.Duration) func(*im.Message) { return func(m *im.Message) { m.Expires = time.Now().Add(d) } }
		h.comes(phone, "short", "fresh", in(30*time.Second))
		h.comes(phone, "long", "fresh", in(1000*time.Hour)) // longer than any is kept
		h.comes(phone, "default", "fresh")
		time.Sleep(31 * time.Second)
		h.looks(phone, im.Itself)
		h.hears(phone+": long", phone+": default")
		h.looks(phone, im.Nobody)
		h.comes(phone, "later", "fresh")
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		want := []string{phone + ": short 0", phone + ": later 0"}
		if !h.s.Empty() || !slices.Equal(h.ended, want) {
			t.Errorf("ended %q, want %q", h.ended, want)
		}
	})
}

func TestADeviceThatDoesNotTakeAMessageRests(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "a", "fresh")
		h.say[phone] = im.Kept
		h.looks(phone, im.Itself)
		h.hears(phone + ": a")
		for _, rest := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
			h.s.Look(phone) // that it may look is no news
			time.Sleep(rest*time.Second - 1)
			h.hears()
			time.Sleep(time.Nanosecond)
			h.hears(phone + ": a")
		}
		h.s.Flush(phone) // that it has come back is
		h.hears(phone + ": a")
		h.say[phone] = im.Refused
		h.s.Flush(phone)
		h.hears(phone + ": a")
		if want := []string{phone + ": a 2"}; !h.s.Empty() || !slices.Equal(h.ended, want) {
			t.Errorf("ended %q, want %q", h.ended, want)
		}
	})
}

// A device may look, and still nothing can be sent to it: its contact is one that
// cannot be written into a request.
func TestADeviceThatLooksAndCannotBeSentToRests(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "a", "fresh")
		h.isDeaf(50)
		h.looks(phone, im.Itself)
		if left := h.isDeaf(0); left != 49 {
			t.Errorf("it was tried %d times in no time", 50-left)
		}
		time.Sleep(5 * time.Second)
		h.hears(phone + ": a")
	})
}

func TestADeviceThatComesBackWhileAMessageIsOutIsSentItAtOnce(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "a", "fresh")
		h.slow[phone] = true
		h.looks(phone, im.Itself)
		h.hears(phone + ": a")
		h.looks(phone, im.Itself) // on a new flow; the old one says nothing any more
		h.slow[phone] = false
		h.late[0](im.Kept)
		h.hears(phone + ": a")
	})
}

func TestR15_TheHeirsOfADeviceThatIsGone(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "both mine", "fresh")
		h.comes(laptop, "both", "fresh")
		h.looks(laptop, im.Itself) // had its copy
		h.hears(laptop + ": both")
		h.looks(phone, im.Another)
		h.hears(phone + ": mine") // goes to the laptop; the other waits for the phone
		h.looks(phone, im.Itself)
		h.hears(phone + ": both")
	})
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) { // the courier knows better
		h.comes(phone, "a b", "fresh")
		h.say[phone] = im.Elsewhere
		h.looks(phone, im.Another)
		h.hears(phone+": a", phone+": b")
		h.looks(phone, im.Another)
		h.hears()
		h.say[phone] = im.Delivered
		h.looks(phone, im.Itself)
		h.hears(phone+": a", phone+": b")
	})
}

func TestB21_ARestartKeepsWhatIsHeldInItsOrder(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.comes(phone, "a b", "fresh")
		h.comes(bobs, "x", "fresh")
		h.comes(phone, "c", "fresh")
		h.restarts()
		if got := h.s.Boxes("sip:alice@example.com"); !slices.Equal(got, []string{phone}) || h.s.Held(phone) != 3 {
			t.Errorf("boxes %q with %d", got, h.s.Held(phone))
		}
		h.comes(phone, "a", "again")
		h.looks(phone, im.Itself)
		h.hears(phone+": a", phone+": b", phone+": c")
	})
}

func TestAtTheEndWhoWaitsIsTold(t *testing.T) {
	inHouse(t, im.Config{}, &im.Memory{}, func(h *house) {
		h.slow[phone] = true
		h.looks(phone, im.Itself)
		h.comes(phone, "a b", "waiting")
		it := h.message(phone, "c")
		if err := h.s.Submit(phone, it); err != nil {
			t.Fatal(err)
		}
		h.stop()
		if got := <-it.got; got != "lost: "+im.ErrStopped.Error() {
			t.Errorf("c is %s", got)
		}
		if err := h.s.Submit(phone, h.message(phone, "d")); !errors.Is(err, im.ErrStopped) {
			t.Errorf("%v, want %v", err, im.ErrStopped)
		}
		h.starts() // a, which was out, is held
		h.slow[phone] = false
		h.looks(phone, im.Itself)
		h.hears(phone+": a", phone+": a")
	})
}
