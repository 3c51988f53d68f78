package xmppproxy

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
)

// sasl is a login by a mechanism.
func sasl(mechanism, text string) string {
	return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='" + mechanism + "'>" + base64.StdEncoding.EncodeToString([]byte(text)) + "</auth>"
}

// comes goes as far as the features after a login of a kind.
func (p *phone) comes(login ...string) {
	p.w.t.Helper()
	p.say(header)
	for _, text := range append(login, header) {
		p.say(text)
	}
	p.hears("<success ", "<bind ")
}

const bindPhone = "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>"

// Whose sessions a login may end or resume is said by one name alone, which
// core and server must not read differently.
func TestALoginOfTwoNamesTouchesNobodysSessions(t *testing.T) {
	for name, login := range map[string][]string{
		// Prosody 0.12 takes the second of these.
		"two in one message": {sasl("SCRAM-SHA-1", "n,,n=alice,n=bob,r=abc"), "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"},
		"one after another":  {sasl("SCRAM-SHA-1", "n,,n=bob,r=abc"), auth("alice", "pw"), "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, nil, func(w *world) {
				alice, id := w.online("alice", "phone")
				p := w.phone("tls")
				p.comes(login...)
				p.resumes(id, "0")
				p.hears("<item-not-found ")
				p.binds("phone")
				w.says(w.session("alice@example.com/phone"), message("m1", "still here"))
				bodies(t, alice.hears(), "still here")
				if alice.end() != "" {
					t.Errorf("alice's flow ended %q", alice.end())
				}
			})
		})
	}
}

func TestAServerSpeaksForItsOwnDomainAlone(t *testing.T) {
	other := newServer()
	within(t, func(c *Config) {
		d := other.domain()
		d.Name = "elsewhere.org"
		c.Domains = append(c.Domains, d)
	}, func(w *world) {
		alice, _ := w.online("alice", "phone")
		other.binds = "alice@example.com/phone"
		to := strings.Replace(header, "example.com", "elsewhere.org", 1)
		p := w.phone("tls")
		p.say(to)
		p.say(auth("mallory", "pw"))
		p.say(to)
		p.say(bindPhone)
		p.hears("<internal-server-error ", "</stream:stream>")
		w.says(w.session("alice@example.com/phone"), message("m1", "still here"))
		bodies(t, alice.heard(), "still here")
	})
}

func TestAnElementThatDoesNotEndEndsTheFlow(t *testing.T) {
	for _, transport := range []string{"tls", "wss"} {
		t.Run(transport, func(t *testing.T) {
			within(t, nil, func(w *world) {
				p := w.phone(transport)
				if transport == "tls" {
					p.logsIn("alice")
					p.say(bindPhone)
					p.say("<message to='bob@example.com'>")
				} else {
					open := "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>"
					for _, text := range []string{open, auth("alice", "pw"), open, bindPhone} {
						p.say(text)
					}
				}
				for range 12 { // some of it comes all the time
					if transport == "tls" {
						p.say("<body/>")
					} else if err := p.flow.SendPart([]byte(" ")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(9 * time.Second)
				}
				if p.end() != "" {
					t.Fatalf("it ended early, %q", p.end())
				}
				time.Sleep(13 * time.Second)
				p.hears("<connection-timeout ")
				if p.end() != "policy" {
					t.Errorf("the flow ended %q", p.end())
				}
			})
		})
	}
}

func TestElementsThatEndMayComeInPiecesForEver(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		p.say("<message to='bob@example.com'>")
		for range 10 {
			time.Sleep(time.Minute)
			p.say("</message><message to='bob@example.com'>")
		}
		if p.end() != "" {
			t.Errorf("the flow ended %q", p.end())
		}
		w.streams[0].queued.Store(highWater + 1) // from here on it is the server who does not take it
		p.say("</message><message to='bob@example.com'>")
		time.Sleep(3 * elementWithin)
		if p.end() != "" {
			t.Errorf("a client that was held up: its flow ended %q", p.end())
		}
		w.streams[0].queued.Store(0)
		time.Sleep(elementWithin + time.Second)
		if p.end() == "" {
			t.Error("the flow lives on")
		}
	})
}

// A client that is resumed sends again what was not acknowledged, at once.
func TestWhatAResumedClientSendsAtOnceIsTaken(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		p.reset()
		p = w.phone("tls")
		p.logsIn("alice")
		var once atomic.Bool
		w.closes = func() { // between <resumed/> and the session's own handling of the flow
			if once.Swap(true) {
				return
			}
			for i := range 4 * maxEarly {
				_ = p.flow.Send([]byte(fmt.Sprintf("<message to='bob@example.com' id='n%d'/>", i)))
			}
			_ = p.flow.Send([]byte("<message to='bob@example.com'>" + strings.Repeat("<a/>", maxLoginElement/8)))
			time.Sleep(time.Millisecond)
			_ = p.flow.Send([]byte(strings.Repeat("<a/>", maxLoginElement/8) + "</message>"))
			time.Sleep(time.Millisecond)
		}
		p.resumes(id, "0")
		p.hears("<resumed ")
		time.Sleep(time.Second)
		if got, _, _ := w.snapshot(w.session("alice@example.com/phone")); len(got) != 1+4*maxEarly+1 {
			t.Errorf("the server got %d stanzas", len(got))
		}
		if p.end() != "" {
			t.Errorf("the flow ended %q", p.end())
		}
	})
}

func TestASessionThatEndsWhileItIsResumedLeavesNothingBehind(t *testing.T) {
	within(t, nil, func(w *world) {
		old, id := w.online("alice", "phone")
		p := w.phone("tls")
		p.comes(sasl("OAUTHBEARER", "alice"))
		w.slow = time.Second
		p.resumes(id, "1")
		old.say("</stream:stream>")
		time.Sleep(2 * time.Second)
		if p.end() != "reconnect" {
			t.Errorf("the flow ended %q", p.end())
		}
		for i, st := range w.streams {
			select {
			case <-st.gone:
			default:
				t.Errorf("stream %d lives on", i)
			}
		}
		if n := len(w.proxy.Rows("")); n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestTwoLoginsOfADeviceAtOnceInheritOneAfterTheOther(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		p.reset()
		w.says(w.session("alice@example.com/phone"), message("m1", "one"))
		time.Sleep(3 * time.Second)
		w.slow = time.Second
		a, b := w.phone("tls"), w.phone("tls")
		a.logsIn("alice")
		b.logsIn("alice")
		a.say(bindPhone)
		b.say(bindPhone)
		time.Sleep(5 * time.Second)
		a.hears("<jid>", "<conflict ")
		b.hears("<jid>")
		b.say("<presence/>")
		time.Sleep(time.Second)
		bodies(t, b.heard(), "one")
		if rows := w.proxy.Rows(""); len(rows) != 1 || rows[0].State != session.Active {
			t.Errorf("sessions %+v", rows)
		}
		left := 0
		for _, st := range w.streams {
			select {
			case <-st.gone:
			default:
				left++
			}
		}
		if left != 1 {
			t.Errorf("%d streams are left", left)
		}
	})
}

func TestALoginThatEndsAsTheCoreLeavesLeavesNothingBehind(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("tls")
		p.logsIn("alice")
		w.binding = func() { time.Sleep(time.Minute) }
		p.say(bindPhone)
		w.stop() // the core is gone for its clients before the server answers; its end waits for all it began
	})
}

// hooter counts pushes.
type hooter struct {
	nobody
	pushed atomic.Int32
}

func (*hooter) Pushable(Client) bool                   { return true }
func (h *hooter) Push(Client, *stanza.Element, uint64) { h.pushed.Add(1) }

func TestAClientThatFallsSilentWithMuchUnderWayIsPushed(t *testing.T) {
	within(t, nil, func(w *world) {
		w.end()
		h := &hooter{}
		w.notifier = h
		w.start(nil)
		p, _ := w.online("alice", "phone")
		p.mu.Lock()
		p.stuck = true
		p.mu.Unlock()
		s := w.session("alice@example.com/phone")
		for i := range 100 {
			w.says(s, message(fmt.Sprint(i), strings.Repeat("x", 4000)))
		}
		time.Sleep(10 * time.Second)
		w.says(s, message("last", "are you there?"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := h.pushed.Load(); n != 101 {
			t.Errorf("%d of 101 that it cannot have were pushed", n)
		}
		if left := len(s.stream.out); left != 0 {
			t.Errorf("%d wait in the server's stream", left)
		}
	})
}

func TestASessionThatHoldsNothingMakesRoomFirst(t *testing.T) {
	within(t, func(c *Config) { c.PerUser = 2 }, func(w *world) {
		for _, r := range []string{"one", "two"} {
			p, _ := w.online("alice", r)
			p.reset()
			time.Sleep(time.Second)
		}
		w.says(w.session("alice@example.com/one"), message("m1", "hello"))
		time.Sleep(3 * time.Second)
		w.online("alice", "three")
		rows := w.proxy.Rows("alice@example.com")
		if len(rows) != 2 || rows[0].JID != "alice@example.com/one" {
			t.Errorf("sessions %+v", rows)
		}
	})
}

// A session that was given up does not know the client's numbers any more: an h
// would be taken for what arrived.
func TestASessionThatWasGivenUpTellsNoNumber(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		p.say("<r xmlns='urn:xmpp:sm:3'/>")
		p.reset()
		w.says(s, message("m1", "one"))
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		s.ended = "forgotten"
		w.mu.Unlock()
		w.cut(s)
		for _, want := range []string{"<failed xmlns='urn:xmpp:sm:3' h='1'>", "<failed xmlns='urn:xmpp:sm:3'><item-not-found "} {
			p = w.phone("tls")
			p.logsIn("alice")
			p.resumes(id, "0")
			p.hears(want)
			p.reset()
		}
	})
}

func TestAServerThatFailsAsItIsAskedRefusesNothing(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		p.reset()
		w.says(s, message("m1", "one"))
		time.Sleep(3 * time.Second)
		w.cut(s)
		w.answers = "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "0")
		p.hears("<remote-connection-failed ")
		w.answers = ""
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "0")
		bodies(t, p.hears("<resumed "), "one")
	})
}
