package session

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reinstall is an app that lost all it knew and logs in anew with the same
// device.
func (w *world) reinstall() {
	if w.swap != nil || !w.client.on {
		return
	}
	w.note("REINSTALL")
	w.client.flow.dead, w.stream.dead = true, w.s.State() == Orphan || w.stream.dead
	w.s.Retire(w.now)
	for range 100 {
		if st := w.s.State(); st == Retired || st == Ended {
			break
		}
		w.pass()
		w.land(true)
		if !w.stream.dead && w.s.State() != Orphan {
			w.toServer()
		}
	}
	// What the core acknowledged before it closed the stream arrives.
	for _, raw := range w.stream.up {
		w.server.hear(raw)
	}
	for _, raw := range w.server.queue { // to its offline store
		if strings.HasPrefix(raw, "<message") {
			w.server.kept = append(w.server.kept, raw)
		}
	}
	w.server.absent = true
	w.server.queue, w.server.out, w.server.in = nil, 0, 0
	w.flow, w.stream = &wire{}, &wire{}
	w.client.flow = w.flow
	c := Config{ID: "prev-2", JID: "a@example.com/m", ServerSM: true, Pushable: w.rnd.IntN(2) == 0}
	switch st := w.s.State(); st {
	case Retired:
		w.s.Relogin(w.now, c)
	case Ended:
		w.s = New(w.now, c, &w.policy, w)
	default:
		w.t.Fatalf("%s after Retire", st)
	}
	w.client.in, w.client.acked, w.client.queue, w.client.on, w.client.inactive = 0, 0, nil, false, false
	early := w.rnd.IntN(2) == 0
	if early {
		w.s.FromClient(w.now, element(w.t, "<presence/>"))
	}
	for try := 0; !w.client.on; try++ {
		if try > 100 {
			w.t.Fatalf("no login:\n%s", strings.Join(w.log[max(0, len(w.log)-400):], "\n"))
		}
		w.pass()
		w.toServer()
		w.fromServer()
		w.s.FromClient(w.now, element(w.t, "<enable xmlns='urn:xmpp:sm:3' resume='1'/>"))
		for range 8 {
			w.land(true)
			w.toServer()
			w.fromServer()
			w.read()
		}
		for !w.client.on && len(w.flow.down) > 0 {
			raw, _ := take(&w.flow.down)
			// Before it counts, a client takes what comes as it is.
			was := w.client.in
			if w.client.hear(raw); !w.client.on {
				w.client.in = was
			}
		}
	}
	w.client.in = 0
	if !early {
		w.client.say("<presence/>")
	}
}

// What was told to be safe is told to another login of the device; nothing is
// lost, whatever breaks, and first comes first.
func TestTXM14NothingIsLostByLoggingInAnew(t *testing.T) {
	first, n := seeds(600)
	for seed := first; seed < first+n; seed++ {
		w := newWorld(t, seed)
		w.login()
		for range 40 + int(seed%200) {
			switch n := w.rnd.IntN(60); {
			case n == 0:
				w.reinstall()
			case n < 12:
				id := strconv.Itoa(w.server.n)
				w.server.n++
				w.server.sent = append(w.server.sent, id)
				w.server.say("<message from='b@example.com/x' id='" + id + "'><body>x</body></message>")
			default:
				w.step2()
			}
		}
		w.note("END")
		w.settle()
		if w.client.inactive {
			w.flipCSI()
		}
		w.settle()
		var first []string
		for _, id := range w.client.got {
			if !slices.Contains(first, id) {
				first = append(first, id)
			}
		}
		if !slices.Equal(first, w.server.sent) {
			t.Fatalf("seed %d: the client got  %v\nthe server sent %v\n%s", seed, w.client.got, w.server.sent, strings.Join(w.log[max(0, len(w.log)-300):], "\n"))
		}
	}
}

// step2 is a step in which nobody speaks.
func (w *world) step2() {
	moves := []func(*world){
		(*world).fromServer, (*world).toServer, (*world).toClient, (*world).fromClient,
		func(w *world) { w.land(w.rnd.IntN(20) > 0) }, (*world).read, (*world).pass, (*world).comeBack, (*world).goOnSwap,
		(*world).fromServer, (*world).toServer, (*world).toClient, (*world).fromClient, (*world).comeBack,
	}
	rare := []func(*world){(*world).loseFlow, (*world).loseStream, (*world).restart, (*world).flipCSI}
	if w.rnd.IntN(12) == 0 {
		moves = rare
	}
	moves[w.rnd.IntN(len(moves))](w)
}
