package session

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"sallyport/core/stanza"
)

// nobody is an Out that does nothing, and a disk that is there at once.
type nobody struct {
	put, added bool
	pos        uint64
}

func (o *nobody) ToClient([]byte)              {}
func (o *nobody) ToServer([]byte)              {}
func (o *nobody) Put([]byte)                   { o.put = true }
func (o *nobody) Append([]byte)                { o.added = true }
func (o *nobody) Trim(uint64)                  {}
func (o *nobody) Fetch(uint64)                 {}
func (o *nobody) Remove()                      {}
func (o *nobody) Push(*stanza.Element, uint64) {}
func (o *nobody) Alert(Alert)                  {}
func (o *nobody) Changed(State)                {}
func (o *nobody) SwapReady(string, uint32)     {}
func (o *nobody) CloseServer(bool)             {}
func (o *nobody) CloseClient([]byte)           {}

func (o *nobody) land(now time.Time, s *Session) {
	for o.put || o.added {
		o.pos++
		o.put, o.added = false, false
		s.Stored(now, o.pos, nil)
	}
}

func benchSession(b *testing.B, p *Policy, o *nobody) (*Session, time.Time) {
	now := time.Unix(1_800_000_000, 0)
	s := New(now, Config{ID: strings.Repeat("0123456789abcdef", 2), JID: "alice@example.com/phone.1234", ServerSM: true, Pushable: true}, p, o)
	s.FromServer(now, element(b, "<enabled xmlns='urn:xmpp:sm:3' id='g2gCbQAAAAVhbGljZWgDYgAABnBiAAk' resume='true' max='300'/>"))
	s.FromClient(now, element(b, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"))
	o.land(now, s)
	s.FromClient(now, element(b, "<presence><status>here</status><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://conversations.im' ver='yVgXpxnBP3UnLzYHWUXSJj6DQ7o='/><x xmlns='vcard-temp:x:update'><photo>8a7d6f6f6cbb7c4e6c5a7f6d1e2b3c4d5e6f7a8b</photo></x></presence>"))
	return s, now
}

var benchPolicy = Policy{Stanzas: 2000, Bytes: 4 << 20, Keep: time.Hour, ResumeMax: time.Hour, AwayDelay: time.Second}

// BenchmarkParked is the memory of a session whose client is away, with ten
// messages that wait. Goal: 3 KiB.
func BenchmarkParked(b *testing.B) {
	const n = 2000
	m := element(b, strings.Replace(msg("x"), "hi", strings.Repeat("x", 300), 1))
	for range b.N {
		keep := make([]*Session, n)
		before := heap()
		for i := range keep {
			o := new(nobody)
			s, now := benchSession(b, &benchPolicy, o)
			s.ClientLost(now)
			for range 10 {
				s.FromServer(now, m)
				o.land(now, s)
			}
			s.Tick(now.Add(2 * time.Second))
			o.land(now, s)
			keep[i] = s
		}
		b.ReportMetric(float64(heap()-before)/n, "B/session")
		runtime.KeepAlive(keep)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkStanza is a chat message from the server to a client that listens,
// with an acknowledgement each tenth.
func BenchmarkStanza(b *testing.B) {
	o := new(nobody)
	s, now := benchSession(b, &benchPolicy, o)
	m := element(b, strings.Replace(msg("x"), "hi", strings.Repeat("x", 300), 1))
	h := uint32(0)
	acks := make([]*stanza.Element, 0, 1000)
	for i := 1; i <= 1000; i++ {
		acks = append(acks, element(b, fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", i*10)))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s.FromServer(now, m)
		if h++; h%10 == 0 {
			s.FromClient(now, acks[h/10-1])
		}
		if h == 10000 {
			h = 0
			s.down.acked, s.askedFor = 0, 0
		}
	}
}
