package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// T-XM-10: the server forgot the session; what it was told is safe comes from
// the core at the next login, the rest is the server's to tell.
func TestTXM10AServerThatForgotLeavesWhatWasSafe(t *testing.T) {
	w := story(t)
	w.s.ClientLost(w.now)
	w.drain()
	w.serverSays(msg("1"), "<r xmlns='urn:xmpp:sm:3'/>", msg("2"))
	w.stream.dead = true
	w.s.ServerLost(w.now)
	w.drain()
	if got := strings.Join(w.said, ","); strings.Count(got, "alert 0") != 1 {
		t.Errorf("said: %s", got)
	}
	w.swap = &swapping{}
	if err := w.s.PrepareSwap(w.now, 0); err != nil || !w.swap.ready {
		t.Fatalf("%v, ready %t", err, w.swap.ready)
	}
	w.s.Refused(w.now)
	w.drain()
	if w.s.State() != Retired {
		t.Fatalf("state %s", w.s.State())
	}
	if w.server.out != 1 {
		t.Fatalf("the server was told %d are safe, it asked about 1", w.server.out)
	}
	w.flow, w.stream = &wire{}, &wire{}
	w.s.Relogin(w.now, Config{ID: "prev-2", JID: "a@example.com/m", ServerSM: true})
	w.drain()
	w.clientSays("<presence/>")
	if got := ids(w.got()); got != "1" {
		t.Errorf("the client got %q", got)
	}
}

func TestTXM15PingsAreAnsweredAndOtherRequestsWait(t *testing.T) {
	w := story(t)
	w.clientSays(inactive)
	w.serverSays("<iq type='get' from='room@muc.example.com/o&apos;neil' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
	if w.toldServer("<iq type='result' to='room@muc.example.com/o&apos;neil' id='1'/>") != 1 {
		t.Errorf("the ping was not answered: %v", w.log)
	}
	w.serverSays("<iq type='get' from='b@example.com/x' id='2'><query xmlns='jabber:iq:version'/></iq>",
		"<iq type='set' from='a@example.com' id='3'><query xmlns='jabber:iq:roster'/></iq>", msg("4"))
	w.later(29 * time.Second)
	if w.toldServer("service-unavailable") != 0 {
		t.Error("refused before its time")
	}
	w.later(2 * time.Second)
	if w.toldServer("<iq type='error' to='b@example.com/x' id='2'><error type='cancel'><service-unavailable") != 1 || w.toldServer("service-unavailable") != 1 {
		t.Errorf("refused otherwise: %v", w.log)
	}
	w.clientSays(active)
	if got := ids(w.got()); got != "3 4" {
		t.Errorf("the client got %s", got)
	}
}

func TestTXM16WhatTheCoreSaysOfTheClient(t *testing.T) {
	for name, c := range map[string]struct {
		policy    Presence
		said      string
		shown     string // "": nothing
		unchanged bool
	}{
		"nothing said":        {ShowAway, "<presence id='q'/>", "<presence id='sallyport-away'><show>away</show><idle", false},
		"chatty":              {ShowAway, "<presence id='q'><show>chat</show></presence>", "<show>away</show>", false},
		"busy stays":          {ShowAway, "<presence id='q'><show>dnd</show></presence>", "", true},
		"away stays":          {ShowAway, "<presence id='q'><show>xa</show></presence>", "", true},
		"gone stays":          {ShowAway, "<presence id='q' type='unavailable'/>", "", true},
		"idle since":          {ShowAway, "<presence id='q'><idle xmlns='urn:xmpp:idle:1' since='2026-01-01T00:00:00Z'/></presence>", "since='2026-01-01T00:00:00Z'/><show>away</show></presence>", false},
		"kept by policy":      {KeepPresence, "<presence id='q'/>", "", true},
		"offline by policy":   {ShowUnavailable, "<presence id='q'/>", "<presence type='unavailable' id='sallyport-away'/>", false},
		"to one is no matter": {ShowAway, "<presence id='q' to='c@example.com'><show>dnd</show></presence>", "<status>here</status>", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := story(t)
			w.policy.Presence = c.policy
			w.clientSays(c.said)
			w.log = nil
			w.clientSays(inactive)
			if c.unchanged != (w.toldServer("<presence") == 0) || w.toldServer(c.shown) == 0 && c.shown != "" {
				t.Errorf("told: %v", w.log)
			}
			w.serverSays("<presence from='a@example.com/m' to='a@example.com/m' id='sallyport-away'><show>away</show></presence>")
			w.clientSays(active)
			if got := w.got(); len(got) > 0 {
				t.Errorf("the client got %v", got)
			}
			if back := w.toldServer("<presence") == 2; back == c.unchanged {
				t.Errorf("restored: %t", back)
			}
		})
	}
}

func TestTXM18AClientThatCannotBeReachedIsNotKept(t *testing.T) {
	for _, pushable := range []bool{false, true} {
		w := newWorld(t, 1)
		w.server.answers = map[string]bool{}
		w.flow, w.stream = &wire{}, &wire{}
		w.s = New(w.now, Config{ID: "prev", JID: "a@example.com/m", ServerSM: true, Pushable: pushable}, &w.policy, w)
		w.drain()
		w.clientSays("<presence/>")
		w.serverSays(msg("1"))
		w.s.ClientLost(w.now)
		w.drain()
		want := Ended
		if pushable {
			want = Away
		}
		if w.s.State() != want || (want == Ended) != strings.Contains(strings.Join(w.said, ","), "close server true") {
			t.Errorf("pushable %t: %s, said %v", pushable, w.s.State(), w.said)
		}
	}
}

func TestTXM19AClientThatDoesNotCountAnswers(t *testing.T) {
	w := story(t)
	w.policy.Undercount = true
	h := 0
	say := func(raw string, counts bool) {
		w.serverSays(raw)
		if counts {
			h++
		}
		w.clientSays(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", h))
	}
	answer := "<iq type='result' from='example.com' id='x'/>"
	say(answer, false)
	say(msg("1"), true)
	say(msg("2"), true)
	if !w.s.Undercounts() {
		t.Fatal("three acknowledgements did not show it")
	}
	say(answer, false)
	say(msg("3"), true)
	if w.s.Held() != 0 {
		t.Errorf("%d are not taken as acknowledged", w.s.Held())
	}
	w.serverSays(msg("4"))
	w.s.ClientLost(w.now)
	w.drain()
	w.got()
	if err := w.s.Resume(w.now, uint32(h+1)); err != nil {
		t.Fatal(err)
	}
	w.drain()
	if got := ids(w.got()); got != "" {
		t.Errorf("sent again: %s", got)
	}
}

// im.md B.5: where it is not corrected it is told all the same, and what the
// client did not count comes once more.
func TestTXM19AClientThatDoesNotCountAnswersIsToldOf(t *testing.T) {
	w := story(t)
	w.serverSays("<iq type='result' from='example.com' id='x'/>")
	for h := range 3 {
		w.serverSays(msg(fmt.Sprint(h + 1)))
		w.clientSays(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", h+1))
	}
	if !w.s.Undercounts() {
		t.Error("three acknowledgements did not show it")
	}
	w.s.ClientLost(w.now)
	w.drain()
	w.got()
	if err := w.s.Resume(w.now, 3); err != nil {
		t.Fatal(err)
	}
	w.drain()
	if got := ids(w.got()); got != "3" {
		t.Errorf("sent again: %q, want the one that it did not count", got)
	}
}

// Product: nothing at all within 2 s of a request sent.
func TestAClientThatDoesNotAnswerIsSilent(t *testing.T) {
	w := story(t)
	w.serverSays(msg("1"))
	w.later(1900 * time.Millisecond)
	if w.s.State() != Active {
		t.Fatalf("%s after 1.9 s", w.s.State())
	}
	w.later(200 * time.Millisecond)
	if w.s.State() != Silent || w.pushes() != 1 {
		t.Fatalf("%s after 2.1 s, %d pushes", w.s.State(), w.pushes())
	}
	w.serverSays(msg("2"))
	if got := ids(w.got()); got != "1" || w.pushes() != 2 {
		t.Errorf("got %s, %d pushes", got, w.pushes())
	}
	if w.toldServer("<show>away") != 0 {
		t.Error("away at once")
	}
	w.later(10 * time.Second)
	if w.toldServer("<show>away") != 1 {
		t.Error("not away after the delay")
	}
	w.s.Heard(w.now)
	w.drain()
	if got := ids(w.got()); got != "2" || w.s.State() != Active || w.pushes() != 2 {
		t.Errorf("got %s, %s", got, w.s.State())
	}
}

func TestAClientThatAnswersWritesNothing(t *testing.T) {
	w := story(t)
	for i := range 300 {
		w.serverSays(msg(fmt.Sprint(i)), "<r xmlns='urn:xmpp:sm:3'/>")
		w.clientSays(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", i+1))
		w.clientSays("<message to='b@example.com' id='m'><body>y</body></message>")
		w.later(10 * time.Millisecond)
	}
	for _, l := range w.log {
		if l == "write" {
			t.Fatal("something was written")
		}
	}
	if len(w.server.queue) != 0 {
		t.Errorf("the server was not told of %d", len(w.server.queue))
	}
}

func TestWhatIsNotAcknowledgedGetsToDisk(t *testing.T) {
	w := story(t)
	w.serverSays(msg("1"))
	w.s.Heard(w.now.Add(time.Second)) // it lives, and answers no <r/>
	w.later(2 * time.Second)
	if len(w.disk.entries) != 1 {
		t.Errorf("%d entries after 2 s", len(w.disk.entries))
	}
	for i := range 70 {
		w.serverSays(msg(fmt.Sprint(i)))
	}
	if len(w.disk.entries) != 2 {
		t.Errorf("%d entries after 70 stanzas", len(w.disk.entries))
	}
}

// The server's <r/> is answered at once with what is safe, and again when all
// that it asked about is.
func TestTheServerIsToldWhatIsSafe(t *testing.T) {
	w := story(t)
	w.serverSays(msg("1"), msg("2"), "<r xmlns='urn:xmpp:sm:3'/>")
	if w.toldServer("<a xmlns='urn:xmpp:sm:3' h='0'/>") != 1 {
		t.Errorf("told: %v", w.log)
	}
	w.clientSays("<a xmlns='urn:xmpp:sm:3' h='1'/>")
	w.clientSays("<a xmlns='urn:xmpp:sm:3' h='2'/>")
	if w.toldServer("<a ") != 2 || w.toldServer("h='2'/>") != 1 {
		t.Errorf("told: %v", w.log)
	}
}

// The client's <r/> is answered with what the server has.
func TestTheClientIsToldWhatTheServerHas(t *testing.T) {
	w := story(t)
	w.got()
	w.s.FromClient(w.now, element(t, "<message to='b@example.com' id='m'><body>y</body></message>"))
	w.s.FromClient(w.now, element(t, "<r xmlns='urn:xmpp:sm:3'/>"))
	if got := w.got(); len(got) != 0 {
		t.Fatalf("told %v before the server said so", got)
	}
	w.drain()
	if got := w.got(); len(got) != 1 || got[0] != "<a xmlns='urn:xmpp:sm:3' h='2'/>" {
		t.Errorf("told %v", got)
	}
	w.s.FromClient(w.now, element(t, "<message to='b@example.com' id='n'><body>y</body></message>"))
	w.s.FromClient(w.now, element(t, "<r xmlns='urn:xmpp:sm:3'/>"))
	w.now = w.now.Add(time.Second) // the server is slow
	w.s.Tick(w.now)
	if got := w.got(); len(got) != 1 || got[0] != "<a xmlns='urn:xmpp:sm:3' h='2'/>" {
		t.Errorf("told %v", got)
	}
}

func TestWhatIsNewsReplacesWhatIsOld(t *testing.T) {
	pep := func(id, node, inside string) string {
		return "<message from='b@example.com' type='headline' id='" + id + "'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='" + node + "'>" + inside + "</items></event></message>"
	}
	w := story(t)
	w.clientSays(inactive)
	w.serverSays(
		"<presence from='b@example.com/x' id='1'/>", "<presence from='b@example.com/y' id='2'/>", msg("3"),
		"<presence from='b@example.com/x' type='unavailable' id='4'/>", "<presence from='b@example.com' type='subscribe' id='5'/>",
		pep("6", "mood", "<item id='a'/>"), pep("7", "tune", "<item id='a'/>"), pep("8", "mood", "<item id='b'/>"),
		pep("9", "urn:xmpp:bookmarks:1", "<item id='r'/>"), pep("10", "urn:xmpp:bookmarks:1", "<item id='s'/>"), pep("11", "mood", "<retract id='b'/>"),
		"<message from='b@example.com/x' id='12'><paused xmlns='http://jabber.org/protocol/chatstates'/><no-store xmlns='urn:xmpp:hints'/></message>",
		"<message from='b@example.com/x' id='13'><gone xmlns='http://jabber.org/protocol/chatstates'/><body>x</body></message>",
	)
	w.clientSays(active)
	got := w.got()
	if got := ids(got); got != "2 3 4 5 7 8 9 10 11 13" {
		t.Errorf("got %s", got)
	}
	if n := strings.Count(strings.Join(got, ""), "<delay xmlns='urn:xmpp:delay' from='a@example.com' stamp='"); n != 5 {
		t.Errorf("%d are dated: %v", n, got)
	}
}

func TestADateIsNotGivenTwice(t *testing.T) {
	w := story(t)
	w.clientSays(inactive)
	w.serverSays("<message from='b@example.com' id='1'><body>x</body><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/></message>")
	w.clientSays(active)
	if got := strings.Join(w.got(), ""); strings.Count(got, "<delay") != 1 {
		t.Error(got)
	}
}

func TestAWaitHasAnEnd(t *testing.T) {
	w := story(t)
	w.policy.ResumeMax, w.policy.Keep = time.Hour, 3*time.Hour
	w.s.Registered(w.now, true)
	w.s.ClientLost(w.now)
	w.drain()
	w.serverSays(msg("1"))
	w.later(61 * time.Minute)
	if got := strings.Join(w.said, ","); w.s.State() != Retired || !strings.Contains(got, "close server false") || !strings.Contains(got, "alert 0") {
		t.Errorf("%s, said %s", w.s.State(), got)
	}
	if err := w.s.Resume(w.now, 0); !errors.Is(err, ErrNoResume) {
		t.Errorf("resumed: %v", err)
	}
	w.later(3 * time.Hour)
	if w.s.State() != Ended || w.disk.record != nil {
		t.Errorf("%s", w.s.State())
	}
}

func TestWhoCannotBePushedIsNotWaitedForLong(t *testing.T) {
	w := story(t)
	w.policy.Unpushable = 10 * time.Minute
	w.s.ClientLost(w.now)
	w.drain()
	w.later(11 * time.Minute)
	if w.s.State() != Ended {
		t.Errorf("%s", w.s.State())
	}
}

func TestAGoodbyeIsAGoodbye(t *testing.T) {
	w := story(t)
	w.serverSays(msg("1"))
	w.s.ClientClosed(w.now)
	w.drain()
	if got := strings.Join(w.said, ","); w.s.State() != Ended || !strings.Contains(got, "close server true") {
		t.Errorf("%s, said %s", w.s.State(), got)
	}
	w = story(t)
	w.clientSays(inactive)
	w.serverSays(msg("1"))
	w.s.ClientClosed(w.now)
	w.drain()
	if w.s.State() != Retired || w.s.Held() != 1 {
		t.Errorf("%s holds %d: what it was never sent is lost", w.s.State(), w.s.Held())
	}
}
