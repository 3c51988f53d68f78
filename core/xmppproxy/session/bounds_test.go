package session

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// A disk that stands still, and a client that sends more than may wait for it:
// what was not taken is not counted, so that the numbers stay the server's and
// the client sends it again.
func TestWhatDoesNotFitBeforeTheDiskIsNotCounted(t *testing.T) {
	w := story(t)
	w.s.FromClient(w.now, element(t, inactive)) // away is noted on disk first
	if len(w.s.up.pending) != 1 {
		t.Fatalf("%d wait for the disk", len(w.s.up.pending))
	}
	for i := range 5 {
		w.s.FromClient(w.now, element(t, "<message id='"+strconv.Itoa(i)+"'><body>"+strings.Repeat("x", 250<<10)+"</body></message>"))
	}
	w.drain()
	if w.s.State() != Away {
		t.Fatalf("state %s", w.s.State())
	}
	if counted, got := w.s.sentUp(), uint64(w.server.in); counted != got {
		t.Errorf("counted %d, the server got %d", counted, got)
	}
	w.serverSays("<iq type='get' from='c@example.com/x' id='p'><ping xmlns='urn:xmpp:ping'/></iq>") // the core's answer counts, too
	w.flow = &wire{}
	if err := w.s.Resume(w.now, 0); err != nil {
		t.Fatal(err)
	}
	w.drain()
	h, ok := "", false
	for _, p := range w.got() {
		if _, rest, found := strings.Cut(p, " h='"); found && strings.HasPrefix(p, "<resumed") {
			h, _, ok = strings.Cut(rest, "'")
		}
	}
	if want := strconv.Itoa(1 + len(w.server.got)); !ok || h != want {
		t.Errorf("the client was told %q are dealt with, it was a presence and messages: %s", h, want)
	}
}

// What the core answers itself makes the numbers deviate; a client that asks
// for it between all it sends makes neither memory nor records grow.
func TestDeviationsAreBounded(t *testing.T) {
	for name, silent := range map[string]bool{"server acknowledges": false, "server does not": true} {
		t.Run(name, func(t *testing.T) {
			w := story(t)
			most := 0
			for i := range 2000 {
				w.s.Consume(w.now, nil)
				w.s.FromClient(w.now, element(t, "<message id='"+strconv.Itoa(i)+"'/>"))
				w.land(true)
				if !silent {
					w.toServer()
					w.toServer()
					w.toServer()
					w.fromServer()
				}
				most = max(most, len(w.s.up.runs))
			}
			if most > mostRuns {
				t.Errorf("%d runs of numbers", most)
			}
			if silent == (w.s.State() == Active) {
				t.Errorf("state %s", w.s.State())
			}
		})
	}
}

// T-XM-5: a client that returns while what it sent before waits for the disk is
// answered as soon as the server has it.
func TestTXM5AReturnDoesNotWaitForAQuestionNobodyAsks(t *testing.T) {
	w := story(t)
	w.s.FromClient(w.now, element(t, inactive))
	w.s.FromClient(w.now, element(t, "<message id='m'/>")) // waits behind away
	w.s.ClientLost(w.now)
	w.flow = &wire{}
	if err := w.s.Resume(w.now, 0); err != nil {
		t.Fatal(err)
	}
	for range 4 { // the server answers before the disk does
		w.toServer()
		w.fromServer()
	}
	w.drain()
	if got := strings.Join(w.got(), ""); !strings.Contains(got, "<resumed") {
		t.Errorf("the client was told %q", got)
	}
}

// What waits for a login that does not come is kept for as long as the operator
// said, however often the core restarts meanwhile.
func TestARestartDoesNotLengthenTheWait(t *testing.T) {
	w := story(t)
	w.policy.ResumeMax, w.policy.Keep = time.Hour, 24*time.Hour
	w.s.Registered(w.now, true)
	w.s.ClientLost(w.now)
	w.drain()
	w.serverSays(msg("1"))
	w.later(61 * time.Minute)
	for range 5 {
		if w.s.State() != Retired {
			t.Fatalf("state %s", w.s.State())
		}
		w.now = w.now.Add(5 * time.Hour)
		s, err := Restore(w.now, &w.policy, w, w.disk.record, func(each func(uint64, []byte) bool) error {
			for _, e := range w.disk.entries {
				if !each(e.Pos, e.Data) {
					break
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.s = s
		w.drain()
	}
	if w.later(0); w.s.State() != Ended || w.disk.record != nil {
		t.Errorf("after more than a day: %s", w.s.State())
	}
}
