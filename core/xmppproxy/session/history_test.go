package session

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// login brings a world to the point where both legs count.
func (w *world) login() {
	w.server.answers, w.server.shown = map[string]bool{}, map[string]string{}
	w.client.seen = map[string]string{}
	w.flow, w.stream = &wire{}, &wire{}
	w.client.flow = w.flow
	w.s = New(w.now, Config{ID: "prev-1", JID: "a@example.com/m", ServerSM: true}, &w.policy, w)
	w.stream.up = nil
	w.s.FromServer(w.now, element(w.t, "<enabled xmlns='urn:xmpp:sm:3' id='up-1' resume='true' max='86400'/>"))
	w.s.FromClient(w.now, element(w.t, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"))
	w.land(true)
	w.settle()
	if !w.client.on {
		w.t.Fatal("not enabled")
	}
}

// shift moves all numbers, so that they wrap.
func (w *world) shift() {
	by := func() uint64 { return 1<<32 - w.rnd.Uint64N(40) }
	s, v, c := w.s, w.server, w.client
	d, u, in, out := by(), by(), by(), by()
	s.down.acked, s.askedFor, c.in = d, d, uint32(d)
	s.uIn, s.uSafe, s.uTold, s.uAsked, s.down.uGiven, v.out = u, u, u, u, u, uint32(u)
	s.up.in, s.up.din, c.acked = in, in, uint32(in)
	s.up.acked, s.up.out, v.in = out, out, uint32(out)
	s.log.putDue = true
	s.settle(w.now)
	w.land(true)
}

// moves are what can happen, and how often.
var moves = []struct {
	weight int
	do     func(w *world)
}{
	{20, (*world).serverSpeaks}, {6, (*world).clientSpeaks},
	{40, (*world).fromServer}, {40, (*world).toServer},
	{40, (*world).toClient}, {40, (*world).fromClient},
	{30, func(w *world) { w.land(w.rnd.IntN(20) > 0) }}, {20, (*world).read},
	{2, (*world).loseFlow}, {1, (*world).loseStream}, {1, (*world).restart},
	{3, (*world).flipCSI}, {4, (*world).pass}, {8, (*world).comeBack}, {8, (*world).goOnSwap},
	{1, func(w *world) { w.s.Ask(w.now, []byte(fmt.Sprintf("<iq type='get' id='ask%d'/>", len(w.log)))) }},
}

func (w *world) step() {
	total := 0
	for _, m := range moves {
		total += m.weight
	}
	n := w.rnd.IntN(total)
	for _, m := range moves {
		if n -= m.weight; n < 0 {
			m.do(w)
			return
		}
	}
}

func (w *world) serverSpeaks() {
	v := w.server
	v.n++
	id := strconv.Itoa(v.n)
	switch w.rnd.IntN(10) {
	case 0, 1:
		from := fmt.Sprintf("c%d@example.com/x", w.rnd.IntN(3))
		v.shown[from] = "p" + id
		v.say("<presence from='" + from + "' id='p" + id + "'/>")
	case 2:
		v.say("<message from='b@example.com/x' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>")
	case 3:
		v.answers["ping"+id] = false
		v.say("<iq type='get' from='example.com' to='a@example.com/m' id='ping" + id + "'><ping xmlns='urn:xmpp:ping'/></iq>")
	case 4:
		v.say("<presence from='a@example.com/m' id='" + awayID + "'/>")
	default:
		v.sent = append(v.sent, id)
		v.say("<message from='b@example.com/x' id='" + id + "'><body>" + strings.Repeat("x", w.rnd.IntN(40)) + "</body></message>")
	}
}

func (w *world) clientSpeaks() {
	c := w.client
	if !c.on || c.flow.dead {
		return
	}
	c.n++
	id := "m" + strconv.Itoa(c.n)
	switch w.rnd.IntN(6) {
	case 0:
		c.say("<presence id='" + id + "'><status>here</status></presence>")
	case 1:
		c.say("<iq type='set' id='" + id + "'><enable xmlns='urn:xmpp:push:0'/></iq>")
	default:
		c.sent = append(c.sent, id)
		c.say("<message to='b@example.com' id='" + id + "'><body>y</body></message>")
	}
}

func take(q *[]string) (string, bool) {
	if len(*q) == 0 {
		return "", false
	}
	raw := (*q)[0]
	*q = (*q)[1:]
	return raw, true
}

func (w *world) fromServer() {
	if w.stream.dead || w.paused {
		return
	}
	if raw, ok := take(&w.stream.down); ok {
		w.note("server→core %s", raw)
		e := element(w.t, raw)
		if strings.HasPrefix(string(e.Attr("id")), "ask") {
			w.s.Skip(w.now)
			return
		}
		w.s.FromServer(w.now, e)
	}
}

func (w *world) toServer() {
	if w.stream.dead {
		return
	}
	if raw, ok := take(&w.stream.up); ok {
		w.server.hear(raw)
	}
}

func (w *world) toClient() {
	if w.client.flow == nil || w.client.flow.dead {
		return
	}
	if raw, ok := take(&w.client.flow.down); ok {
		w.client.hear(raw)
	}
}

func (w *world) fromClient() {
	f := w.client.flow
	if f == nil || f.dead || f != w.flow || !w.client.on {
		return
	}
	if raw, ok := take(&f.up); ok {
		w.note("client→core %s", raw)
		e := element(w.t, raw)
		if e.Child("urn:xmpp:push:0", "enable") != nil {
			w.s.Consume(w.now, []byte("<iq type='result' id='"+string(e.Attr("id"))+"'/>"))
			return
		}
		w.s.FromClient(w.now, e)
	}
}

func (w *world) loseFlow() {
	f := w.client.flow
	if f == nil || f.dead {
		return
	}
	w.note("flow lost")
	f.dead = true
	if f == w.flow && w.rnd.IntN(3) > 0 { // else the core does not know
		w.s.ClientLost(w.now)
	}
}

func (w *world) loseStream() {
	if w.stream.dead || w.paused {
		return
	}
	w.note("stream lost")
	w.stream.dead, w.server.broke = true, true
	w.s.ServerLost(w.now)
}

func (w *world) restart() {
	if w.rnd.IntN(3) == 0 {
		w.crash()
	}
}

func (w *world) flipCSI() {
	c := w.client
	if !c.on || c.flow.dead {
		return
	}
	c.inactive = !c.inactive
	name := "active"
	if c.inactive {
		name = "inactive"
	}
	c.put("<" + name + " xmlns='urn:xmpp:csi:0'/>")
}

// pass lets time pass.
func (w *world) pass() {
	w.now = w.now.Add(time.Duration(w.rnd.IntN(1500)) * time.Millisecond)
	if at := w.s.Next(); !at.IsZero() && !at.After(w.now) {
		w.s.Tick(w.now)
	}
}

// comeBack connects the client anew, if it has no flow.
func (w *world) comeBack() {
	c := w.client
	if !c.flow.dead || w.swap != nil {
		return
	}
	c.on = false
	f := &wire{}
	if w.s.State() != Orphan && w.rnd.IntN(3) > 0 {
		w.note("resume h=%d", c.in)
		w.flow, c.flow = f, f
		if err := w.s.Resume(w.now, c.in); err != nil {
			w.t.Fatalf("resume: %v", err)
		}
		return
	}
	w.note("swap h=%d", c.in)
	w.paused = true
	w.swap = &swapping{flow: f, h: c.in}
	if err := w.s.PrepareSwap(w.now, c.in); err != nil {
		w.t.Fatalf("swap: %v", err)
	}
}

// goOnSwap lets the server answer.
func (w *world) goOnSwap() {
	sw := w.swap
	if sw == nil || !sw.ready {
		return
	}
	w.swap, w.paused = nil, false
	if w.rnd.IntN(4) == 0 {
		w.s.SwapFailed(w.now)
		return
	}
	w.server.broke = true
	stream, h := w.server.resume(sw.to)
	w.note("swapped server h=%d", h)
	w.stream = stream
	w.flow, w.client.flow = sw.flow, sw.flow
	if err := w.s.Swapped(w.now, sw.h, h); err != nil {
		w.t.Fatalf("swapped: %v", err)
	}
}

// settle lets all that is under way arrive, and nothing break.
func (w *world) settle() {
	for range 20000 {
		busy := w.disk.busy || w.disk.fetch != 0 || w.swap != nil || w.client.flow.dead ||
			!w.stream.dead && len(w.stream.up)+len(w.stream.down) > 0 || len(w.client.flow.up)+len(w.client.flow.down) > 0 || !w.client.on ||
			w.s.log.retryAt+w.s.log.noFetch > 0 || w.s.listening() && len(w.s.down.q)+len(w.s.up.pending) > 0
		if !busy {
			return
		}
		w.goOnSwap()
		w.comeBack()
		w.fromServer()
		w.toServer()
		w.toClient()
		w.fromClient()
		w.land(true)
		w.read()
		if w.s.Next().IsZero() || w.rnd.IntN(8) > 0 {
			continue
		}
		w.now = w.now.Add(100 * time.Millisecond)
		w.s.Tick(w.now)
	}
	w.t.Fatal("it does not come to rest")
}

// history runs one and checks what came of it.
func history(t testing.TB, seed uint64, steps int) *world {
	w := newWorld(t, seed)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(w.log[max(0, len(w.log)-400):], "\n"))
		}
	}()
	switch seed % 4 {
	case 1:
		w.policy.Stanzas = 12
	case 2:
		w.policy.AwayDelay = 0
	}
	w.login()
	if seed%3 == 0 {
		w.shift()
	}
	for range steps {
		w.step()
		if t.Failed() {
			return w
		}
	}
	w.note("END")
	w.settle()
	if w.client.inactive {
		w.flipCSI()
	}
	for range 3 { // whatever was refused for want of room comes now
		w.loseFlow()
		w.settle()
	}
	w.check()
	return w
}

func (w *world) check() {
	t := w.t
	if !slices.Equal(w.client.got, w.server.sent) {
		t.Errorf("the client got  %v\nthe server sent %v", w.client.got, w.server.sent)
	}
	if !slices.Equal(w.server.got, w.client.sent) {
		t.Errorf("the server got  %v\nthe client sent %v", w.server.got, w.client.sent)
	}
	for from, id := range w.server.shown {
		if w.client.seen[from] != id {
			t.Errorf("%s is shown as %q, not %q", from, w.client.seen[from], id)
		}
	}
	for id, answered := range w.server.answers {
		if !answered && !w.server.broke { // else the answer may be lost with the stream
			t.Errorf("%s was not answered", id)
		}
	}
}

// seeds says which histories are run: SESSION_HISTORIES of them, from
// SESSION_FIRST on.
func seeds(usual uint64) (first, n uint64) {
	n = usual
	if v, err := strconv.ParseUint(os.Getenv("SESSION_HISTORIES"), 10, 64); err == nil {
		n = v
	}
	first, _ = strconv.ParseUint(os.Getenv("SESSION_FIRST"), 10, 64)
	return first, n
}

// Exactly once and in order, both ways, whatever breaks: wires, the disk, the
// core itself.
func TestTXM5TXM9ExactlyOnceInAnyHistory(t *testing.T) {
	first, n := seeds(1500)
	for seed := first; seed < first+n; seed++ {
		if history(t, seed, 60+int(seed%300)); t.Failed() {
			return
		}
	}
}
