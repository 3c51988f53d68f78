package session

import "testing"

// A server that ends may not have heard what is safe, and keeps it, too: the
// copy does not reach the client, which has it from here.
func TestTXM10_WhatTheServerKeptAsWellIsNotToldTwice(t *testing.T) {
	for _, sm := range []bool{true, false} {
		w := story(t)
		w.s.ClientLost(w.now)
		w.drain()
		kept := "<stanza-id xmlns='urn:xmpp:sid:0' by='a@example.com' id='s2'/>"
		late := "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>"
		say := func(id, more string) string {
			return "<message from='b@example.com/x' id='" + id + "'><body>x</body>" + more + "</message>"
		}
		w.serverSays(say("1", ""), say("2", kept), "<r xmlns='urn:xmpp:sm:3'/>")
		w.stream.dead = true
		w.s.ServerLost(w.now)
		w.drain()
		w.swap = &swapping{}
		if err := w.s.PrepareSwap(w.now, 0); err != nil {
			t.Fatal(err)
		}
		w.s.Refused(w.now)
		w.drain()
		w.flow, w.stream = &wire{}, &wire{}
		w.s.Relogin(w.now, Config{ID: "prev-2", JID: "a@example.com/m", ServerSM: true})
		w.drain()
		if sm {
			w.clientSays("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
			w.got()
		}
		w.clientSays("<presence/>")
		w.serverSays(say("1", late), say("2a", kept+late), say("3", late), say("1", ""))
		if got := ids(w.got()); got != "1 2 3 1" {
			t.Errorf("stream management %t: the client got %q, want 1 2 3, and the 1 that is new", sm, got)
		}
	}
}
