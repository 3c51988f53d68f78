package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/core/stanza"
)

// world is a server, a client, a disk and a session between them, over wires
// that break. All random choices come from one seed.
type world struct {
	t   testing.TB
	rnd *rand.Rand
	now time.Time

	policy Policy
	s      *Session
	server *modelServer
	client *modelClient
	disk   disk

	flow, stream *wire // as Out sees them
	paused       bool  // the stream is not read
	swap         *swapping
	log          []string
	said         []string // what else Out was told
}

// wire is a connection: two queues that are lost together.
type wire struct {
	up, down []string // towards the server, towards the client
	dead     bool
}

// swapping is a client that waits on a fresh flow.
type swapping struct {
	flow  *wire
	h     uint32
	ready bool
	to    uint32
}

// disk keeps what was written. What is under way may be on it or not.
type disk struct {
	record  []byte
	entries []Entry
	pos     uint64
	putting []byte
	adding  []byte
	busy    bool
	fetch   uint64
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), now: time.Unix(1_800_000_000, 0)}
	w.policy = Policy{Stanzas: 2000, Bytes: 4 << 20, Keep: time.Hour * 100, ResumeMax: time.Hour * 50, AwayDelay: 10 * time.Second}
	w.server, w.client = &modelServer{w: w}, &modelClient{w: w}
	return w
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// ToClient and the rest of Out.
func (w *world) ToClient(p []byte) {
	w.note("core→client %s", p)
	if w.flow != nil && !w.flow.dead {
		w.flow.down = append(w.flow.down, string(p))
	}
}

func (w *world) ToServer(p []byte) {
	w.note("core→server %s", p)
	if w.stream != nil && !w.stream.dead {
		w.stream.up = append(w.stream.up, string(p))
	}
}

func (w *world) Put(b []byte)    { w.begin(); w.disk.putting = slices.Clone(b) }
func (w *world) Append(b []byte) { w.begin(); w.disk.adding = slices.Clone(b) }

func (w *world) begin() {
	if w.disk.busy {
		w.t.Fatalf("two writes at once")
	}
	w.note("write")
	w.disk.busy = true
}

func (w *world) Trim(upTo uint64) {
	w.note("trim %d", upTo)
	w.disk.entries = slices.DeleteFunc(w.disk.entries, func(e Entry) bool { return e.Pos <= upTo })
}

func (w *world) Fetch(from uint64) {
	if w.disk.fetch != 0 {
		w.t.Fatalf("two reads at once")
	}
	w.note("fetch %d", from)
	w.disk.fetch = from
}

func (w *world) Remove() { w.note("remove"); w.disk = disk{} }
func (w *world) Push(e *stanza.Element, _ uint64) {
	w.note("push %s", e.Raw)
	w.said = append(w.said, "push "+string(e.Attr("id")))
}
func (w *world) Alert(a Alert) {
	w.note("alert %d", a)
	w.said = append(w.said, fmt.Sprintf("alert %d", a))
}
func (w *world) Changed(s State) { w.note("state %s", s); w.said = append(w.said, s.String()) }
func (w *world) SwapReady(_ string, h uint32) {
	w.note("swap ready h=%d", h)
	w.swap.ready, w.swap.to = true, h
}

func (w *world) CloseServer(clean bool) {
	w.note("close server clean=%t", clean)
	w.said = append(w.said, fmt.Sprintf("close server %t", clean))
	if !clean || w.server.reads(w.stream) {
		w.stream.dead = true
	}
	w.server.lost(clean)
}

func (w *world) CloseClient(e []byte) {
	w.note("close client %s", e)
	w.said = append(w.said, "close client "+string(e))
	if w.flow != nil {
		w.flow.dead = true
	}
}

// land ends the write under way; it may fail, with or without having written.
func (w *world) land(ok bool) {
	d := &w.disk
	if !d.busy {
		return
	}
	var err error
	wrote := ok || w.rnd.IntN(2) == 0
	if !ok {
		err = errors.New("disk")
	}
	pos := uint64(0)
	if wrote {
		pos = d.commit(w.rnd)
	}
	d.busy, d.putting, d.adding = false, nil, nil
	w.note("written %d %v", pos, err)
	w.s.Stored(w.now, pos, err)
}

func (d *disk) commit(rnd *rand.Rand) uint64 {
	if d.putting != nil {
		d.record = d.putting
		return 0
	}
	d.pos += 1 + rnd.Uint64N(3)
	d.entries = append(d.entries, Entry{d.pos, d.adding})
	return d.pos
}

// read ends the fetch under way.
func (w *world) read() {
	d := &w.disk
	if d.fetch == 0 {
		return
	}
	var got []Entry
	for _, e := range d.entries {
		if e.Pos >= d.fetch && len(got) < 1+w.rnd.IntN(3) {
			got = append(got, Entry{e.Pos, slices.Clone(e.Data)})
		}
	}
	d.fetch = 0
	w.s.Fetched(w.now, got, nil)
}

// crash is a kill -9 of the core.
func (w *world) crash() {
	w.note("CRASH")
	d := &w.disk
	if d.busy && w.rnd.IntN(2) == 0 {
		d.commit(w.rnd)
	}
	d.busy, d.putting, d.adding, d.fetch = false, nil, nil, 0
	w.s = nil
	w.paused, w.swap = false, nil
	if w.flow != nil {
		w.flow.dead = true
	}
	w.stream.dead = true
	w.server.lost(false)
	s, err := Restore(w.now, &w.policy, w, d.record, func(each func(uint64, []byte) bool) error {
		for _, e := range d.entries {
			if !each(e.Pos, e.Data) {
				break
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatalf("restore: %v", err)
	}
	w.s = s
}

func element(t testing.TB, raw string) *stanza.Element {
	e, err := Parse([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return e
}

// modelServer keeps one session with XEP-0198.
type modelServer struct {
	w       *world
	in      uint32   // from the core
	out     uint32   // acknowledged by the core
	queue   []string // not acknowledged
	got     []string // ids of the client's messages
	answers map[string]bool
	sent    []string          // ids of messages to the client
	shown   map[string]string // presence by contact, as sent last
	n       int
	broke   bool // a stream was lost
	absent  bool // the client sent no presence yet
	kept    []string
}

func (v *modelServer) reads(wire *wire) bool { return v.w.stream == wire }

func (v *modelServer) lost(bool) { v.broke = true }

// say sends a stanza to the client's session.
func (v *modelServer) say(raw string) {
	if v.absent {
		v.kept = append(v.kept, raw)
		return
	}
	v.queue = append(v.queue, raw)
	if st := v.w.stream; !st.dead {
		st.down = append(st.down, raw)
		if v.w.rnd.IntN(2) == 0 {
			st.down = append(st.down, string(requestAck))
		}
	}
}

// hear takes what the core sent.
func (v *modelServer) hear(raw string) {
	e := element(v.w.t, raw)
	switch string(e.Local) {
	case "r":
		v.w.stream.down = append(v.w.stream.down, string(ackOf(uint64(v.in))))
	case "a":
		v.ack(e)
	case "enable":
		v.in = 0
		v.w.stream.down = append(v.w.stream.down, "<enabled xmlns='urn:xmpp:sm:3' id='up-2' resume='true' max='86400'/>")
	case "message", "iq", "presence":
		v.in++
		if string(e.Local) == "presence" && v.absent {
			v.absent = false
			for _, raw := range v.kept {
				v.say(raw)
			}
			v.kept = nil
		}
		switch id := string(e.Attr("id")); {
		case string(e.Local) == "message":
			v.got = append(v.got, id)
		case string(e.Attr("type")) == "result":
			v.answers[id] = true
		case strings.HasPrefix(id, "ask"):
			v.say("<iq type='result' from='example.com' to='a@example.com/m' id='" + id + "'/>")
		}
	}
}

func (v *modelServer) ack(e *stanza.Element) {
	h, _ := strconv.ParseUint(string(e.Attr("h")), 10, 32)
	v.ackTo(uint32(h))
}

func (v *modelServer) ackTo(h uint32) {
	n := h - v.out
	if n > uint32(len(v.queue)) {
		v.w.t.Fatalf("core acknowledges %d, server sent %d", h, v.out+uint32(len(v.queue)))
	}
	v.queue, v.out = v.queue[n:], h
}

// resume hands the session to a fresh stream.
func (v *modelServer) resume(h uint32) (*wire, uint32) {
	v.w.stream.dead = true
	v.ackTo(h)
	return &wire{down: slices.Clone(v.queue)}, v.in
}

// modelClient is a client with XEP-0198.
type modelClient struct {
	w        *world
	flow     *wire
	in       uint32
	acked    uint32 // by the core
	queue    []string
	got      []string
	sent     []string
	seen     map[string]string // presence by contact
	on       bool              // counting
	inactive bool
	n        int
}

func (c *modelClient) say(raw string) {
	c.queue = append(c.queue, raw)
	c.put(raw)
	if c.w.rnd.IntN(3) == 0 {
		c.put(string(requestAck))
	}
}

func (c *modelClient) put(raw string) {
	if c.flow != nil && !c.flow.dead && c.on {
		c.flow.up = append(c.flow.up, raw)
	}
}

func (c *modelClient) hear(raw string) {
	e := element(c.w.t, raw)
	switch string(e.Local) {
	case "r":
		c.flow.up = append(c.flow.up, string(ackOf(uint64(c.in))))
	case "a":
		c.ack(e)
	case "enabled":
		c.on = true
	case "resumed":
		c.ack(e)
		c.on, c.inactive = true, false
		for _, raw := range c.queue {
			c.put(raw)
		}
	case "message", "iq", "presence":
		c.in++
		id := string(e.Attr("id"))
		switch {
		case e.Child("http://jabber.org/protocol/chatstates", "composing") != nil:
		case string(e.Local) == "message":
			c.got = append(c.got, id)
		case string(e.Local) == "presence":
			if id == awayID {
				c.w.t.Fatalf("the client got an injected presence")
			}
			c.seen[string(e.Attr("from"))] = id
		case string(e.Attr("type")) == "get":
			c.say("<iq type='result' to='example.com' id='" + id + "'/>")
		}
	}
}

func (c *modelClient) ack(e *stanza.Element) {
	h, _ := strconv.ParseUint(string(e.Attr("h")), 10, 32)
	n := uint32(h) - c.acked
	if n > uint32(len(c.queue)) {
		c.w.t.Fatalf("core acknowledges %d, client sent %d", h, c.acked+uint32(len(c.queue)))
	}
	c.queue, c.acked = c.queue[n:], uint32(h)
}
