package xmppproxy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

// bodies wants these messages in a text, in this order, each once.
func bodies(t *testing.T, text string, want ...string) {
	t.Helper()
	rest := text
	for _, b := range want {
		_, after, ok := strings.Cut(rest, "<body>"+b+"</body>")
		if !ok {
			t.Fatalf("%s is missing, or not in order, in %q", b, text)
		}
		rest = after
	}
	if n := strings.Count(text, "<body>"); n != len(want) {
		t.Errorf("%d messages, want %d: %q", n, len(want), text)
	}
}

func TestAClientResumesAndGetsWhatCameMeanwhileOnce(t *testing.T) {
	for _, swap := range []bool{false, true} {
		t.Run(fmt.Sprintf("swap=%v", swap), func(t *testing.T) {
			within(t, func(c *Config) { c.Swap = swap }, func(w *world) {
				p, id := w.online("alice", "phone")
				s := w.session("alice@example.com/phone")
				w.says(s, message("m1", "one"))
				bodies(t, p.heard(), "one")
				p.say("<a xmlns='urn:xmpp:sm:3' h='1'/>")
				p.reset()
				w.says(s, message("m2", "two"))
				w.says(s, message("m3", "three"))
				time.Sleep(time.Second)
				p = w.phone("tls")
				p.logsIn("alice")
				p.resumes(id, "1")
				text := p.hears("<resumed xmlns='urn:xmpp:sm:3' previd='" + id + "' h='1'/>")
				bodies(t, text, "two", "three")
				p.say("<a xmlns='urn:xmpp:sm:3' h='3'/>")
				time.Sleep(3 * time.Second)
				if _, waiting, ended := w.snapshot(s); waiting != 0 || ended != "" {
					t.Errorf("the server waits for %d, session ended %q", waiting, ended)
				}
				p.say("<message to='bob@example.com' id='back'/>")
				if got, _, _ := w.snapshot(s); !strings.Contains(got[len(got)-1], "back") {
					t.Errorf("the server got %q", got)
				}
				if n := len(w.proxy.Rows("")); n != 1 {
					t.Errorf("%d sessions", n)
				}
			})
		})
	}
}

func TestAProbeLeavesTheServerOneStream(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		p.reset()
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "0")
		p.hears("<resumed ")
		if len(w.streams) != 2 {
			t.Fatalf("%d streams", len(w.streams))
		}
		select {
		case <-w.streams[1].gone:
		default:
			t.Error("the stream of the login lives on")
		}
		if w.session("alice@example.com/phone").stream != w.streams[0] {
			t.Error("the session has another stream")
		}
	})
}

// T-XM-7: who knows a previd and is somebody else gets nothing, and the owner
// notices nothing.
func TestTXM7AnotherUserResumesNothing(t *testing.T) {
	for name, login := range map[string]string{
		"a name that can be read": auth("bob", "pw"),
		"a name that cannot":      "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='OAUTHBEARER'>" + base64.StdEncoding.EncodeToString([]byte("bob")) + "</auth>",
	} {
		t.Run(name, func(t *testing.T) {
			within(t, nil, func(w *world) {
				alice, id := w.online("alice", "phone")
				p := w.phone("tls")
				p.say(header)
				p.say(login)
				p.say(header)
				p.hears("<success ")
				p.resumes(id, "0")
				p.hears("<failed xmlns='urn:xmpp:sm:3'><item-not-found ")
				w.says(w.session("alice@example.com/phone"), message("m1", "still here"))
				bodies(t, alice.heard(), "still here")
				alice.say("<message to='bob@example.com' id='m2'/>")
				if got, _, ended := w.snapshot(w.session("alice@example.com/phone")); ended != "" || !strings.Contains(got[len(got)-1], "m2") {
					t.Errorf("alice's session: %q %q", ended, got)
				}
				p.binds("desk") // and may go on as bob
			})
		})
	}
}

func TestAResumeEndsTheFlowThatWasThereBefore(t *testing.T) {
	within(t, nil, func(w *world) {
		old, id := w.online("alice", "phone")
		p := w.phone("wss")
		p.say("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>")
		p.say(auth("alice", "pw"))
		p.say("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>")
		p.resumes(id, "0")
		p.hears("<resumed ")
		old.hears("<conflict ", "</stream:stream>")
		if old.end() != "kicked" {
			t.Errorf("the old flow ended %q", old.end())
		}
		w.says(w.session("alice@example.com/phone"), message("m1", "here"))
		bodies(t, p.heard(), "here")
	})
}

func TestANumberThatCannotBeEndsTheStream(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		p.reset()
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "7")
		p.hears("<handled-count-too-high ", "</stream:stream>")
		if p.end() == "" {
			t.Error("the flow lives on")
		}
	})
}

func TestAnUnknownPrevidIsNotFoundAndTheClientBinds(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("tls")
		p.logsIn("alice")
		p.resumes("nobody", "0")
		p.hears("<failed xmlns='urn:xmpp:sm:3'><item-not-found ")
		p.binds("phone")
	})
}

// T-XM-14: a client that lost what it knew logs in anew with its resource: what
// was held is delivered once, after its first presence.
func TestTXM14ANewLoginOfTheDeviceGetsWhatWasHeld(t *testing.T) {
	for name, login := range map[string]string{
		"probe": auth("alice", "pw"),
		"swap":  "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='OAUTHBEARER'>" + base64.StdEncoding.EncodeToString([]byte("alice")) + "</auth>",
	} {
		t.Run(name, func(t *testing.T) {
			within(t, nil, func(w *world) {
				p, _ := w.online("alice", "phone")
				s := w.session("alice@example.com/phone")
				p.reset()
				w.says(s, message("m1", "one"))
				w.says(s, message("m2", "two"))
				time.Sleep(3 * time.Second)
				p = w.phone("tls")
				p.say(header)
				p.say(login)
				p.say(header)
				p.heard()
				p.binds("phone")
				if _, waiting, ended := w.snapshot(s); waiting != 0 || ended == "" {
					t.Errorf("the old session has %d to give to others, ended %q", waiting, ended)
				}
				p.enables()
				bodies(t, p.heard())
				p.say("<presence/>")
				time.Sleep(time.Second)
				bodies(t, p.heard(), "one", "two")
				w.says(w.session("alice@example.com/phone"), message("m3", "three"))
				bodies(t, p.heard(), "three")
				if n := len(w.proxy.Rows("")); n != 1 {
					t.Errorf("%d sessions", n)
				}
			})
		})
	}
}

// T-XM-18: a client that cannot resume and that no push reaches is not kept.
func TestTXM18AClientThatCannotComeBackIsGoneWithItsFlow(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("tls")
		p.logsIn("alice")
		p.binds("phone")
		p.say("<presence/>")
		s := w.session("alice@example.com/phone")
		p.reset()
		time.Sleep(time.Second)
		synctest.Wait()
		if _, _, ended := w.snapshot(s); ended != "clean" {
			t.Errorf("the session at the server: %q", ended)
		}
		if n := len(w.proxy.Rows("")); n != 0 {
			t.Errorf("%d sessions are kept", n)
		}
	})
}

func TestAClientThatSaysGoodbyeIsGoneAtItsServer(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		p.say("</stream:stream>")
		p.hears("</stream:stream>")
		if p.end() != "client-closed" {
			t.Errorf("the flow ended %q", p.end())
		}
		if _, _, ended := w.snapshot(w.session("alice@example.com/phone")); ended != "clean" {
			t.Errorf("the session at the server: %q", ended)
		}
		if records, entries := w.store.Len(); records != 0 || entries != 0 {
			t.Errorf("%d records and %d entries are left", records, entries)
		}
	})
}

func TestASessionWhoseServerIsLostIsResumedThroughTheServer(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		p.reset()
		w.says(s, message("m1", "one"))
		time.Sleep(3 * time.Second)
		w.cut(s)
		synctest.Wait()
		if st := w.proxy.Rows("")[0].State; st != session.Orphan {
			t.Fatalf("state %v", st)
		}
		w.says(s, message("m2", "two"))
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "0")
		bodies(t, p.hears("<resumed "), "one", "two")
	})
}

// T-XM-10: a server that knows the session no more refuses it, and the client is
// told how much of what it sent arrived; what was held follows its login.
func TestTXM10AServerThatForgotTheSessionRefusesItAndNothingIsLost(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		p.say("<r xmlns='urn:xmpp:sm:3'/>")
		p.hears("<a xmlns='urn:xmpp:sm:3' h='1'/>")
		p.reset()
		w.says(s, message("m1", "one"))
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		s.ended = "forgotten"
		w.mu.Unlock()
		w.cut(s)
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "0")
		p.hears("<failed xmlns='urn:xmpp:sm:3' h='1'><item-not-found ")
		p.binds("phone")
		p.enables()
		p.say("<presence/>")
		time.Sleep(time.Second)
		bodies(t, p.heard(), "one")
	})
}

// T-XM-9, but for the kill: what a core wrote down its next life goes on with.
func TestTXM9AfterARestartOfTheCoreNothingIsLostOrDoubled(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		w.says(s, message("m1", "one"))
		bodies(t, p.heard(), "one")
		p.say("<a xmlns='urn:xmpp:sm:3' h='1'/>")
		p.reset()
		w.says(s, message("m2", "two"))
		w.says(s, message("m3", "three"))
		time.Sleep(3 * time.Second)
		w.end()
		if _, _, ended := w.snapshot(s); ended != "" {
			t.Fatalf("the server's session ended %q with the core", ended)
		}
		w.says(s, message("m4", "four"))
		w.start(nil)
		if rows := w.proxy.Rows(""); len(rows) != 1 || rows[0].State != session.Orphan || rows[0].Held != 2 {
			t.Fatalf("restored: %+v", rows)
		}
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "1")
		bodies(t, p.hears("<resumed "), "two", "three", "four")
	})
}

func TestAFlowOfAnEarlierLifeIsToldToComeAgain(t *testing.T) {
	within(t, nil, func(w *world) {
		p := &phone{w: w}
		f, err := w.edge.Open(tunnel.Info{UUID: [16]byte{77}, Service: "xmpp", Transport: "tls", Public: "edge:1", Reopened: true,
			Remote: w.phone("tls").flow.Info().Remote, Since: time.Now()}, p)
		if err != nil {
			t.Fatal(err)
		}
		p.flow = f
		if p.end() != "reconnect" {
			t.Errorf("it ended %q", p.end())
		}
	})
}

func TestAStoreThatFailsLosesNothingThatTheServerWasTold(t *testing.T) {
	within(t, nil, func(w *world) {
		p, id := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		w.store.Fail(errors.New("disk full"))
		p.reset()
		w.says(s, message("m1", "one"))
		time.Sleep(10 * time.Second)
		if _, waiting, _ := w.snapshot(s); waiting != 1 {
			t.Errorf("the server was told that what is nowhere is safe")
		}
		w.store.Fail(nil)
		time.Sleep(10 * time.Second)
		p = w.phone("tls")
		p.logsIn("alice")
		p.resumes(id, "0")
		bodies(t, p.hears("<resumed "), "one")
	})
}

func TestAClientThatReadsSlowlyHoldsUpItsServerAndGetsAll(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		p.mu.Lock()
		p.stuck = true
		p.mu.Unlock()
		s := w.session("alice@example.com/phone")
		big := strings.Repeat("x", 4000)
		var want []string
		for i := range 200 { // 800 KB
			body := fmt.Sprintf("%d-%s", i, big)
			want = append(want, body)
			w.says(s, message(fmt.Sprint(i), body))
		}
		synctest.Wait()
		if left := len(s.stream.out); left < 50 {
			t.Errorf("only %d wait in the server's stream: who holds the rest?", left)
		}
		text := ""
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			p.mu.Lock()
			text += p.text
			owed := p.owed
			p.text, p.owed = "", 0
			p.mu.Unlock()
			p.flow.Consumed(owed)
			if strings.Contains(text, "<r ") {
				p.say(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", strings.Count(text, "</message>")))
			}
		}
		bodies(t, text, want...)
	})
}
