package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The proxy core: RFC 3261 §16, RFC 4320, RFC 6026.

func TestPX1_NonInviteWithoutAnswerNeverGets408(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		w.pbx.say(w.asks("PUBLISH", "sip:alice@example.com", "m")...)
		ph.hears("PUBLISH")
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		w.pbx.hears("MESSAGE")
		pass(3500*time.Millisecond - 1)
		w.pbx.silence()
		ph.silence()
		pass(1)
		w.pbx.hears("SIP/2.0 100")
		ph.hears("SIP/2.0 100")
		pass(time.Minute)
		w.pbx.silence()
		ph.silence()
	})
}

func TestPX1_ALateAnswerToANonInviteIsNotForwarded(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.pbx.say(w.asks("PUBLISH", "sip:alice@example.com", "m")...)
		m := ph.hears("PUBLISH")
		pass(answerWithin)
		w.pbx.hears("SIP/2.0 100")
		ph.say(reply(m, 200)...)
		w.pbx.silence()
	})
}

func TestPX2_WhatNoProxyForwards(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		hop := func(req []string, v string) []string { return with(req, "Max-Forwards", v) }
		ph.say(hop(ph.asks("MESSAGE", "sip:carol@example.com"), "0")...)
		ph.hears("SIP/2.0 483")
		ph.say(hop(ph.asks("OPTIONS", "sip:carol@example.com"), "0")...)
		ph.hears("SIP/2.0 200")
		w.pbx.say(hop(w.asks("OPTIONS", "sip:alice@example.com", "o"), "0")...)
		w.pbx.hears("SIP/2.0 200")
		w.pbx.say(hop(w.asks("MESSAGE", "sip:alice@example.com", "m"), "0")...)
		w.pbx.hears("SIP/2.0 483")
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com", "Proxy-Require: gin, privacy")...)
		refused := ph.hears("SIP/2.0 420")
		if got := strings.Join(header(refused, "Unsupported"), ", "); got != "gin, privacy" {
			t.Errorf("Unsupported %q", got)
		}
		ph.silence()
		ph.say(without(ph.asks("FROBNICATE", "sip:carol@example.com"), "Max-Forwards")...)
		req := w.pbx.hears("FROBNICATE")
		if got := first(req, "Max-Forwards"); got != "70" {
			t.Errorf("Max-Forwards %q where there was none, want 70", got)
		}
		w.pbx.say(reply(req, 299)...)
		ph.hears("SIP/2.0 299")
	})
}

func TestPX2_ALoopIsSeen(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ph.say(ph.asks("MESSAGE", "sip:alice@example.com")...)
		req := w.pbx.hears("MESSAGE")
		// The PBX sends it back as it came.
		back := strings.Split(strings.TrimSpace(req), "\r\n")
		back = append([]string{back[0], "Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKback"}, without(back[1:], "Content-Length")...)
		w.pbx.say(back...)
		w.pbx.hears("SIP/2.0 482")
		// A spiral, with another Request-URI, is none.
		back = with(back, "Via", "SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKspiral")
		back = append([]string{"MESSAGE sip:" + w.token(ph) + "@" + advertise + " SIP/2.0"}, strings.Split(strings.Join(back, "\r\n"), "\r\n")[1:]...)
		w.pbx.say(back...)
		ph.say(reply(ph.hears("MESSAGE"), 200)...)
		w.pbx.hears("SIP/2.0 200")
		w.pbx.say(reply(req, 200)...)
		ph.hears("SIP/2.0 200")
	})
}

func TestPX3_TimerC(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		c := w.calls("call-1")
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		pass(3 * time.Minute)
		w.pbx.silence() // more than 3 min
		ph.say(reply(inv, 183)...)
		c.hears("SIP/2.0 183") // and again from here
		pass(timerC - time.Second)
		w.pbx.silence()
		pass(time.Second)
		ph.hangsUp(inv)
		c.ends(487)
	})
}

func TestPX3_TimerCTowardsThePBX(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		inv := w.pbx.hears("INVITE sip:carol@example.com")
		w.pbx.say(reply(inv, 180)...)
		ph.hears("SIP/2.0 180")
		pass(timerC)
		w.pbx.say(reply(w.pbx.hears("CANCEL"), 200)...)
		pass(64 * 500 * time.Millisecond) // the 487 never comes
		ph.hears("SIP/2.0 408")
		ph.say(inviteOf(out, "ACK")...)
	})
}

func TestPX4_TheBestAnswerIsForwarded(t *testing.T) {
	for _, c := range []struct{ a, b, want int }{
		{486, 404, 486}, {404, 486, 404}, {486, 302, 302}, {500, 486, 486}, {486, 401, 401}, {486, 415, 415},
		{503, 503, 500}, {503, 480, 480}, {486, 603, 603}, {600, 302, 600}, {487, 486, 487},
	} {
		t.Run(fmt.Sprint(c.a, " ", c.b), func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				one, two := w.phone("alice", "tls").awake(), w.phone("alice2", "wss").awake()
				call := w.calls("call-1")
				first, second := one.hears("INVITE"), two.hears("INVITE")
				two.say(reply(second, 180)...)
				call.hears("SIP/2.0 180")
				one.refuses(first, c.a)
				w.pbx.silence()
				if c.a >= 600 {
					two.hears("CANCEL")
				}
				two.refuses(second, c.b)
				call.ends(c.want)
			})
		})
	}
}

func TestPX4_ChallengesOfAllBranchesAreCollected(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		one, two := w.phone("alice", "tls").awake(), w.phone("alice2", "wss").awake()
		c := w.calls("call-1")
		one.say(reply(one.hears("INVITE"), 407, `Proxy-Authenticate: Digest realm="a", algorithm=SHA-256`, `Proxy-Authenticate: Digest realm="a", algorithm=MD5`)...)
		two.say(reply(two.hears("INVITE"), 401, `WWW-Authenticate: Digest realm="b"`)...)
		m := c.hears("SIP/2.0 40")
		if p := header(m, "Proxy-Authenticate"); len(p) != 2 || !strings.Contains(p[0], "SHA-256") || len(header(m, "WWW-Authenticate")) != 1 {
			t.Errorf("the caller is asked\n%s", m)
		}
		w.pbx.say(inviteOf(c.invite, "ACK")...)
		synctest.Wait()
	})
}

func TestPX5_CancelThatFitsNothing(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		c := w.invites("sip:alice@example.com", "call-1")
		ph.refuses(ph.rings("call-1"), 486)
		for _, start := range []string{"SIP/2.0 100", "SIP/2.0 180", "SIP/2.0 486"} {
			c.hears(start)
		}
		w.pbx.say(inviteOf(c.invite, "CANCEL")...)
		w.pbx.hears("SIP/2.0 200") // too late, and matched
		w.pbx.say(inviteOf(c.invite, "ACK")...)
		w.pbx.say(inviteOf(c.invite, "CANCEL")...)
		w.pbx.hears("SIP/2.0 481")
		ph.say(inviteOf(ph.dials("sip:carol@example.com", "never"), "CANCEL")...)
		ph.hears("SIP/2.0 481")
		w.pbx.silence()
		ph.silence()
	})
}

func TestPX5_ACancelIsTheInvitesTwin(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		inv := w.pbx.hears("INVITE")
		ph.say(inviteOf(out, "CANCEL", `Reason: SIP;cause=200;text="elsewhere"`)...)
		ph.hears("SIP/2.0 200")
		w.pbx.silence() // no 1xx yet
		w.pbx.say(reply(inv, 100)...)
		cancel := w.pbx.hears("CANCEL sip:carol@example.com SIP/2.0")
		if v := header(cancel, "Via"); len(v) != 1 || v[0] != first(inv, "Via") {
			t.Errorf("Via %q, want %q", v, first(inv, "Via"))
		}
		for _, name := range []string{"From", "To", "Call-ID"} {
			if first(cancel, name) != first(inv, name) {
				t.Errorf("%s %q, want %q", name, first(cancel, name), first(inv, name))
			}
		}
		if first(cancel, "CSeq") != "1 CANCEL" || !strings.Contains(first(cancel, "Reason"), "cause=200") {
			t.Errorf("CSeq %q, Reason %q", first(cancel, "CSeq"), first(cancel, "Reason"))
		}
		w.pbx.say(reply(cancel, 200)...)
		w.pbx.say(reply(inv, 487)...)
		w.pbx.hears("ACK")
		ph.hears("SIP/2.0 487")
		ph.say(inviteOf(out, "ACK")...)
	})
}

func TestPX7_StraysAreNotForwardedAndRepeated2xxAre(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		c := w.calls("call-1")
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.say(with(reply(inv, 200), "Via", "SIP/2.0/TLS "+public+";branch=z9hG4bKmadeup")...)
		w.pbx.silence()
		for range 3 {
			ph.answers(inv)
			c.hears("SIP/2.0 200")
		}
		ph.say(reply(inv, 180)...) // too late
		w.pbx.silence()
	})
}

func TestPX7_APBXThatCannotBeReached(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.pbxDown.Store(true)
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		w.pbx.hears("MESSAGE")
		w.pbx.conn.Close()
		synctest.Wait()
		if got := ph.hears("SIP/2.0 503"); first(got, "Retry-After") == "" { // ours, since no server is left
			t.Error("503 without Retry-After")
		}
		for _, req := range [][]string{ph.asks("MESSAGE", "sip:carol@example.com"), ph.register("Expires: 0"), ph.dials("sip:carol@example.com", "out")} {
			ph.say(req...)
			if strings.HasPrefix(req[0], "INVITE") {
				ph.hears("SIP/2.0 100")
			}
			if got := ph.hears("SIP/2.0 503"); first(got, "Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		}
	})
}

// A PBX would leave us alone for as long as one phone asks it to.
func TestPX4_AClients503IsNotOurs(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ok := w.dialog(ph)
		for method, req := range map[string][]string{
			"PUBLISH": w.asks("PUBLISH", "sip:alice@example.com", "pub-1"), "INFO": dialogRequest("INFO", ok),
		} {
			w.pbx.say(req...)
			ph.say(reply(ph.hears(method), 503, "Retry-After: 3600")...)
			if got := w.pbx.hears("SIP/2.0 500"); first(got, "Retry-After") != "" {
				t.Errorf("Retry-After: %s", first(got, "Retry-After"))
			}
		}
	})
}

func TestARepeatedRequestIsAnsweredAlikeAndForwardedOnce(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		pbx := w.datagrams("10.0.0.9:5060")
		msg := with(w.asks("MESSAGE", "sip:alice@example.com", "m"), "Via", "SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKm")
		pbx.say(msg...)
		pbx.say(msg...)
		m := ph.hears("MESSAGE")
		ph.silence()
		ph.say(reply(m, 200)...)
		ok := pbx.hears("SIP/2.0 200")
		pbx.say(msg...)
		if again := pbx.hears("SIP/2.0 200"); again != ok {
			t.Errorf("the answer was %q, and is %q now", ok, again)
		}
		ph.silence()
	})
}

func TestARequestOfAnOldClientIsToldFromItsOthers(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		for range 2 { // RFC 3261 §17.2.3: without the magic cookie
			ph.say(with(ph.asks("MESSAGE", "sip:carol@example.com"), "Via", "SIP/2.0/TLS 192.0.2.7;branch=1")...)
		}
		for range 2 {
			w.pbx.say(reply(w.pbx.hears("MESSAGE"), 200)...)
			ph.hears("SIP/2.0 200")
		}
	})
}
