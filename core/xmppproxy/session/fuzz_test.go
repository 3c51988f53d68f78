package session

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
	"time"
)

// whole checks what always holds.
func (s *Session) whole(t testing.TB) {
	d := &s.down
	if d.sent > d.assigned || d.assigned > len(d.q) || d.onDisk > d.given || d.given > len(d.q) {
		t.Fatalf("sent %d assigned %d on disk %d given %d of %d", d.sent, d.assigned, d.onDisk, d.given, len(d.q))
	}
	size := 0
	for i, it := range d.q {
		size += int(it.size)
		if i < d.onDisk && it.pos == 0 || i >= d.onDisk && it.raw == nil {
			t.Fatalf("item %d of %d (on disk %d) is nowhere", i, len(d.q), d.onDisk)
		}
	}
	for _, it := range d.waiting {
		size += int(it.size)
	}
	if size != d.bytes {
		t.Fatalf("%d bytes, counted %d", size, d.bytes)
	}
	if len(d.q) > takingMore*s.policy.Stanzas {
		t.Fatalf("holds %d", len(d.q))
	}
}

// hostile are elements of which a fuzzer makes others.
var hostile = []string{
	"<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='1'/>",
	"<a xmlns='urn:xmpp:sm:3' h='4294967295'/>", "<a xmlns='urn:xmpp:sm:3'/>", "<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
	"<enabled xmlns='urn:xmpp:sm:3' id='x' resume='1' max='4294967295'/>", "<failed xmlns='urn:xmpp:sm:3'/>",
	inactive, active, "<presence/>", "<presence type='unavailable'/>", "<presence from='a@b/c' id='sallyport-away'/>",
	"<message id='1'><body>x</body></message>", "<message from='x@y'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
	"<message from='x@y'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'><item/></items></event></message>",
	"<iq type='get' from='x@y' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "<iq type='get' from='x@y' id='1'><q xmlns='z'/></iq>",
	"<iq type='result' id='1'/>", "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
}

// FuzzInputs does to a session whatever can be done, in any order: it stays
// whole and bounded, and a restart makes the same of its journal.
func FuzzInputs(f *testing.F) {
	f.Add([]byte{0, 6, 20, 0, 21, 13, 40, 21}, "<x/>")
	f.Add(bytes.Repeat([]byte{13, 20, 21, 16, 22, 24, 25, 21, 21, 26}, 20), "<message/>")
	f.Fuzz(func(t *testing.T, moves []byte, extra string) {
		w := newWorld(t, 1)
		w.policy = Policy{Stanzas: 20, Bytes: 4 << 10, Keep: time.Hour, ResumeMax: time.Minute, AwayDelay: time.Second, Undercount: len(extra)%2 == 1}
		w.flow, w.stream, w.swap = &wire{}, &wire{}, &swapping{}
		w.server.answers = map[string]bool{}
		w.s = New(w.now, Config{ID: "i", JID: "a@b/c", ServerSM: true, Pushable: len(moves)%2 == 0}, &w.policy, w)
		for i, m := range moves[:min(len(moves), 2000)] {
			w.abuse(int(m), uint32(i), extra)
			if w.s == nil {
				return
			}
			w.s.whole(t)
		}
	})
}

// abuse does one thing to the session.
func (w *world) abuse(m int, n uint32, extra string) {
	s, now := w.s, w.now
	h := uint32(m>>6) * n
	switch side := m & 0x1f; {
	case side < len(hostile):
		e, err := Parse([]byte(hostile[side]))
		if m&0x20 != 0 {
			e, err = Parse([]byte(extra))
		}
		if err != nil {
			return
		}
		if m&0x40 != 0 {
			s.FromServer(now, e)
		} else {
			s.FromClient(now, e)
		}
	case side == 20:
		s.ClientLost(now)
	case side == 21:
		w.land(m&0x40 == 0)
	case side == 22:
		_ = s.Resume(now, h)
	case side == 23:
		if s.PrepareSwap(now, h) == nil {
			_ = s.Swapped(now, h, uint32(m>>5))
		}
	case side == 24:
		s.ServerLost(now)
	case side == 25:
		w.now = now.Add(time.Duration(m) * 100 * time.Millisecond)
		s.Tick(w.now)
	case side == 26:
		w.read()
	case side == 27:
		s.Consume(now, []byte("<iq type='result' id='x'/>"))
		s.Ask(now, []byte("<iq type='get' id='y'/>"))
		s.Skip(now)
	case side == 28:
		s.Retire(now)
	case side == 29:
		if s.State() == Retired {
			s.Relogin(now, Config{ID: "j", JID: "a@b/c", ServerSM: m&0x40 != 0})
		}
	case side == 30 && w.disk.record != nil:
		w.crash()
	case side == 31:
		s.Refused(now)
		s.ClientClosed(now)
	}
}

// FuzzRestore reads records and entries that anybody may have written.
func FuzzRestore(f *testing.F) {
	w := story(f)
	w.serverSays(msg("1"), msg("2"))
	w.s.ClientLost(w.now)
	w.drain()
	w.later(time.Minute)
	for _, e := range w.disk.entries {
		f.Add(w.disk.record, e.Data)
	}
	f.Add([]byte{recordVersion}, binary.AppendUvarint([]byte{entryVersion}, any62))
	f.Fuzz(func(t *testing.T, rec, ent []byte) {
		if r, err := decodeRecord(rec); err == nil {
			again, err := decodeRecord(r.encode())
			if err != nil || !reflect.DeepEqual(r, again) {
				t.Fatalf("%+v became %+v: %v", r, again, err)
			}
		}
		if e, err := decodeEntry(ent); err == nil {
			again, err := decodeEntry(e.encode())
			if err != nil || !reflect.DeepEqual(e, again) {
				t.Fatalf("%+v became %+v: %v", e, again, err)
			}
		}
		w := newWorld(t, 1)
		w.flow, w.stream, w.swap = &wire{}, &wire{}, &swapping{}
		s, err := Restore(w.now, &w.policy, w, rec, func(each func(uint64, []byte) bool) error {
			_ = each(1, ent) && each(2, ent)
			return nil
		})
		if err != nil {
			return
		}
		w.s, w.disk.entries = s, []Entry{{1, ent}, {2, ent}}
		if s.PrepareSwap(w.now, 3) == nil {
			w.stream = &wire{}
			_ = s.Swapped(w.now, 3, 3)
		}
		for range 5 {
			w.land(true)
			w.read()
			w.s.whole(t)
		}
	})
}

func TestARecordThatIsNotOursIsRefused(t *testing.T) {
	for _, b := range []string{"", "\x00", "\x01", strings.Repeat("\xff", 40)} {
		if _, err := Restore(time.Now(), &Policy{}, nil, []byte(b), nil); err == nil {
			t.Errorf("%q was taken", b)
		}
	}
}
