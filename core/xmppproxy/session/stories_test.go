package session

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// story is a world that is told step by step, without chance but in what is
// said at once.
func story(t testing.TB) *world {
	w := newWorld(t, 1)
	w.login()
	w.clientSays("<presence id='p'><status>here</status><c xmlns='http://jabber.org/protocol/caps' node='x'/></presence>")
	w.log, w.said = nil, nil
	return w
}

func (w *world) clientSays(raw string) {
	w.t.Helper()
	w.note("client→core %s", raw)
	w.s.FromClient(w.now, element(w.t, raw))
	w.drain()
}

func (w *world) serverSays(raws ...string) {
	w.t.Helper()
	for _, raw := range raws {
		if !strings.HasPrefix(raw, "<r ") {
			w.server.queue = append(w.server.queue, raw)
		}
		w.note("server→core %s", raw)
		w.s.FromServer(w.now, element(w.t, raw))
	}
	w.drain()
}

// drain lets the disk work and the server hear; the client's flow is read by
// the test.
func (w *world) drain() {
	for range 20 {
		w.land(true)
		w.read()
		w.toServer()
		w.fromServer()
	}
}

// pass lets time go by.
func (w *world) later(d time.Duration) {
	w.now = w.now.Add(d)
	w.s.Tick(w.now)
	w.drain()
}

// got takes what was written to the client.
func (w *world) got() []string {
	p := w.flow.down
	w.flow.down = nil
	return p
}

// ids are those of stanzas, in order.
func ids(raws []string) string {
	var out []string
	for _, raw := range raws {
		if _, id, ok := strings.Cut(raw, " id='"); ok {
			id, _, _ = strings.Cut(id, "'")
			out = append(out, id)
		}
	}
	return strings.Join(out, " ")
}

func msg(id string) string {
	return "<message from='b@example.com/x' to='a@example.com/m' type='chat' id='" + id + "'><body>hi</body></message>"
}

// toldServer are the stanzas the server got, by substring.
func (w *world) toldServer(part string) int {
	n := 0
	for _, l := range w.log {
		if strings.HasPrefix(l, "core→server ") && strings.Contains(l, part) {
			n++
		}
	}
	return n
}

func (w *world) pushes() int {
	n := 0
	for _, s := range w.said {
		if strings.HasPrefix(s, "push ") {
			n++
		}
	}
	return n
}

const (
	inactive = "<inactive xmlns='urn:xmpp:csi:0'/>"
	active   = "<active xmlns='urn:xmpp:csi:0'/>"
)

func TestTXM2AnInactiveClientIsShownAwayAndGetsNothing(t *testing.T) {
	w := story(t)
	w.clientSays(inactive)
	if w.toldServer("<show>away</show>") != 1 || w.toldServer("<c xmlns") != 1 || w.toldServer("<idle") != 1 {
		t.Errorf("the server was told: %v", w.log)
	}
	w.serverSays(msg("1"))
	if got := w.got(); len(got) != 0 {
		t.Errorf("written to the client: %v", got)
	}
	if w.pushes() != 1 || w.s.State() != Inactive {
		t.Errorf("%d pushes, %s", w.pushes(), w.s.State())
	}
}

func TestTXM3ActiveBringsWhatWasHeldBeforeAnyAnswer(t *testing.T) {
	w := story(t)
	w.clientSays(inactive)
	w.serverSays(msg("1"), msg("2"), msg("3"))
	before := w.pushes()
	w.clientSays(active)
	w.serverSays("<iq type='result' from='example.com' id='pong'/>")
	if got := ids(w.got()); got != "1 2 3 pong" {
		t.Errorf("got %s", got)
	}
	if w.toldServer("<presence id='p'><status>here</status><c xmlns='http://jabber.org/protocol/caps' node='x'/></presence>") != 1 {
		t.Errorf("the presence was not restored as it was: %v", w.log)
	}
	if w.pushes() != before {
		t.Error("a push for a client that looks")
	}
}

func TestTXM4AResetPushesWhatWasNotAcknowledged(t *testing.T) {
	w := story(t)
	w.serverSays(msg("1"), msg("2"))
	w.clientSays("<a xmlns='urn:xmpp:sm:3' h='1'/>")
	w.s.ClientLost(w.now)
	w.drain()
	w.serverSays(msg("3"))
	if got := strings.Join(w.said, ","); !strings.Contains(got, "push 2,push 3") || w.pushes() != 2 {
		t.Errorf("said: %s", got)
	}
}

func TestTXM6NumbersThatCannotBe(t *testing.T) {
	tooHigh := "<undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><handled-count-too-high xmlns='urn:xmpp:sm:3' h='"
	t.Run("an acknowledgement of more than was sent", func(t *testing.T) {
		w := story(t)
		w.serverSays(msg("1"))
		w.clientSays("<a xmlns='urn:xmpp:sm:3' h='2'/>")
		if !strings.Contains(strings.Join(w.said, ""), tooHigh+"2' send-count='1'/>") {
			t.Errorf("said: %v", w.said)
		}
	})
	t.Run("less than was acknowledged", func(t *testing.T) {
		w := story(t)
		w.serverSays(msg("1"), msg("2"))
		w.clientSays("<a xmlns='urn:xmpp:sm:3' h='2'/>")
		w.clientSays("<a xmlns='urn:xmpp:sm:3' h='1'/>")
		if !strings.Contains(strings.Join(w.said, ""), "close client <stream:error>") {
			t.Errorf("said: %v", w.said)
		}
	})
	t.Run("a resumption with too much ends the session", func(t *testing.T) {
		w := story(t)
		w.serverSays(msg("1"))
		w.s.ClientLost(w.now)
		w.drain()
		if err := w.s.Resume(w.now, 5); err == nil || !strings.Contains(strings.Join(w.said, ""), tooHigh+"5' send-count='1'/>") {
			t.Errorf("%v, said: %v", err, w.said)
		}
		if w.s.Resumable() {
			t.Error("it can be resumed")
		}
	})
}

func TestTXM8EnableCountsFromThereOnAndOnce(t *testing.T) {
	w := newWorld(t, 1)
	w.server.answers, w.server.shown = map[string]bool{}, map[string]string{}
	w.flow, w.stream = &wire{}, &wire{}
	w.s = New(w.now, Config{ID: "prev", JID: "a@example.com/m", ServerSM: true}, &w.policy, w)
	w.drain()
	w.clientSays("<presence/>")
	w.clientSays("<iq type='set' id='x'><q xmlns='y'/></iq>")
	w.serverSays(msg("0"))
	w.clientSays("<enable xmlns='urn:xmpp:sm:3' resume='1'/>")
	w.clientSays("<message to='b@example.com' id='m1'><body>y</body></message>")
	w.serverSays(msg("1"))
	w.got()
	w.clientSays("<r xmlns='urn:xmpp:sm:3'/>")
	if got := w.got(); !slices.Equal(got, []string{"<a xmlns='urn:xmpp:sm:3' h='1'/>"}) {
		t.Errorf("got %v", got)
	}
	w.clientSays("<a xmlns='urn:xmpp:sm:3' h='1'/>")
	w.clientSays("<enable xmlns='urn:xmpp:sm:3' resume='1'/>")
	if got := w.got(); len(got) != 1 || !strings.Contains(got[0], "<failed xmlns='urn:xmpp:sm:3'><unexpected-request") {
		t.Errorf("got %v", got)
	}
	if w.s.State() != Active || w.s.Held() != 0 {
		t.Errorf("%s, holds %d", w.s.State(), w.s.Held())
	}
}

func TestTXM11WhatDoesNotFitStaysWithTheServer(t *testing.T) {
	w := story(t)
	w.policy.Stanzas = 3
	w.s.ClientLost(w.now)
	w.drain()
	w.serverSays(msg("1"), msg("2"), msg("3"), msg("4"))
	if got := strings.Join(w.said, ","); strings.Count(got, "alert 1") != 1 || !strings.Contains(got, "close server false") {
		t.Errorf("said: %s", got)
	}
	if w.s.State() != Orphan || w.s.Held() != 3 || len(w.server.queue) == 0 || ids(w.server.queue[len(w.server.queue)-1:]) != "4" {
		t.Errorf("%s holds %d, the server %v", w.s.State(), w.s.Held(), w.server.queue)
	}
}
