package tunnel_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel/frame"
)

// What an edge wants its operator to know is told to each core: now, when it
// comes later, and when it comes back.
func TestNoticesReachEveryCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t)
		a, d := pair(t, r, edge("core1"), r.core("core1", (&pbx{}).open))
		synctest.Wait()
		told := func() []string { synctest.Wait(); return d.Sessions()[0].Notices }
		if got := told(); got != nil {
			t.Errorf("%q before there is any", got)
		}
		a.SetNotices([]string{"ends in 9 days\n", "", "other"})
		if got := told(); !slices.Equal(got, []string{"ends in 9 days", "other"}) {
			t.Errorf("told %q", got)
		}
		many := make([]string, 20)
		for i := range many {
			many[i] = strings.Repeat("x", 1000)
		}
		a.SetNotices(many)
		if got := told(); len(got) != 8 || len(got[0]) != 255 {
			t.Errorf("told %d", len(got))
		}
		a.SetNotices([]string{"ends in 8 days"})
		time.Sleep(time.Minute)
		r.last().cut()
		time.Sleep(time.Second)
		if got := told(); !slices.Equal(got, []string{"ends in 8 days"}) {
			t.Errorf("told %q after a cut", got)
		}
		a.SetNotices(nil)
		if got := told(); len(got) != 0 {
			t.Errorf("%q was not taken back", got)
		}
	})
}

// A core shows what an edge says, and lets it say neither much nor harm.
func TestHostileNoticesAreBoundedAndClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, d := badEdge(t, nil)
		for range 10_000 {
			w.write(frame.AppendNotice(nil, []string{"\x1b]0;owned\x07", "fine"}))
		}
		synctest.Wait()
		if got := d.Sessions()[0].Notices; !slices.Equal(got, []string{"]0;owned", "fine"}) {
			t.Errorf("shown as %q", got)
		}
		w.try(frame.Append(nil, frame.TypeNotice, 0, make([]byte, 9)))
		w.expectGoAway(frame.GoAwayProtocol, "more than 8 notes")
	})
}
