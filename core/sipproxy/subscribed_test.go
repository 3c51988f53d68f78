package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What a phone that sleeps has subscribed to (T-SM-6; RFC 6665).

// subscribes is a phone's SUBSCRIBE that the PBX accepts.
func (ph *phone) subscribes(callID, event string) *watched {
	ph.w.t.Helper()
	ph.say(with(append(ph.asks("SUBSCRIBE", "sip:carol@example.com", "Event: "+event, "Expires: 3600"),
		"Contact: <"+ph.uri()+ph.push+">"), "Call-ID", callID)...)
	req := ph.w.pbx.hears("SUBSCRIBE sip:carol@example.com")
	ph.w.pbx.say(with(reply(req, 200, "Contact: <sip:carol@10.0.0.9>", "Expires: 3600"), "To", "<sip:carol@example.com>;tag=pbx")...)
	ph.hears("SIP/2.0 200")
	return &watched{w: ph.w, ph: ph, ok: req, event: event}
}

// watched is a subscription, as the PBX has it.
type watched struct {
	w     *town
	ph    *phone
	ok    string // the SUBSCRIBE
	event string
	seq   int // of the newest NOTIFY
}

// notify is the PBX's next NOTIFY in the dialog.
func (s *watched) notify(kind, body string, extra ...string) []string {
	s.seq++
	lines := append([]string{
		"NOTIFY " + strings.Trim(first(s.ok, "Contact"), "<>") + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bK%s-%d", first(s.ok, "Call-ID"), s.seq), "Max-Forwards: 69",
		"From: <sip:carol@example.com>;tag=pbx", "To: " + first(s.ok, "From"), "Call-ID: " + first(s.ok, "Call-ID"),
		fmt.Sprintf("CSeq: %d NOTIFY", s.seq), "Event: " + s.event, "Subscription-State: active;expires=3000",
	}, extra...)
	for _, rr := range header(s.ok, "Record-Route") {
		lines = append(lines, "Route: "+rr)
	}
	if body != "" {
		lines = append(lines, "Content-Type: "+kind, "", body)
	}
	return lines
}

// tells sends a NOTIFY for which the PBX hears 200 at once.
func (s *watched) tells(kind, body string, extra ...string) {
	s.w.t.Helper()
	s.w.pbx.say(s.notify(kind, body, extra...)...)
	s.w.pbx.hears("SIP/2.0 200")
}

// hears takes a NOTIFY as the phone hears it, and answers it.
func (s *watched) hears(seq int, body string) {
	s.w.t.Helper()
	m := s.ph.hearsOf(first(s.ok, "Call-ID"), "NOTIFY "+s.ph.uri()+" SIP/2.0")
	if got := first(m, "CSeq"); got != fmt.Sprintf("%d NOTIFY", seq) || bodyOf(m) != body {
		s.w.t.Errorf("%s heard CSeq %s and %q, want %d and %q", s.ph.user, got, bodyOf(m), seq, body)
	}
	if len(header(m, "Via")) != 1 || len(header(m, "Route")) != 0 {
		s.w.t.Errorf("the NOTIFY is\n%s", m)
	}
	s.ph.say(reply(m, 200)...)
}

func TestTSM6_TheNewestOfEachSubscriptionIsDeliveredOnReturn(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		one, two := ph.subscribes("sub-1", "presence"), ph.subscribes("sub-2", "presence")
		w.pbx.say(one.notify(pidf, "first")...)
		one.hears(1, "first")
		w.pbx.hears("SIP/2.0 200")
		ph.sleeps()
		pass(10 * time.Second)
		one.tells(pidf, "second")
		two.tells(pidf, "other")
		one.tells(pidf, "third")
		one.tells(pidf, "", "Subscription-State: terminated;reason=timeout")
		w.pushed(0)
		ph.connects().registers()
		two.hears(1, "other")
		one.hears(3, "third")
		one.hears(4, "")
		w.pbx.say(two.notify(pidf, "fourth")...)
		two.hears(2, "fourth")
		w.pbx.hears("SIP/2.0 200")
		w.pbx.silence()
	})
}

const (
	pidf = "application/pidf+xml"
	diff = "application/pidf-diff+xml"
)

func diffOf(version int) string {
	return fmt.Sprintf(`<p:pidf-diff xmlns:p="urn:ietf:params:xml:ns:pidf-diff" version="%d"/>`, version)
}

func TestTSM6_WhatBuildsOnOneAnotherIsKeptInOrderUpToABound(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		one, two := ph.subscribes("sub-1", "presence"), ph.subscribes("sub-2", "presence")
		ph.sleeps()
		pass(10 * time.Second)
		one.tells(diff, diffOf(1))
		one.tells(pidf, "all")
		for i := range 2 {
			one.tells(diff, diffOf(3+i))
		}
		for i := range maxChain + 1 {
			two.tells(diff, diffOf(i))
		}
		ph.connects().registers()
		one.hears(2, "all")
		one.hears(3, diffOf(3))
		one.hears(4, diffOf(4))
		two.hears(maxChain+1, diffOf(maxChain))
		ph.silence()
	})
}

// A NOTIFY whose flow dies under it comes behind newer ones; told later than
// these, the client would refuse it, and the PBX end the subscription.
func TestTSM6_ANotifyWhoseFlowDiesUnderItIsTakenToo(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		one, two := ph.subscribes("sub-1", "presence"), ph.subscribes("sub-2", "presence")
		w.pbx.say(one.notify(pidf, "first")...)
		ph.hears("NOTIFY")
		w.pbx.say(two.notify(diff, diffOf(1))...)
		ph.hears("NOTIFY")
		ph.sleeps()
		w.pbx.hears("SIP/2.0 200")
		w.pbx.hears("SIP/2.0 200")
		one.tells(pidf, "second")
		older := two.notify(diff, diffOf(2))
		two.tells(diff, diffOf(3))
		w.pbx.say(older...)
		w.pbx.hears("SIP/2.0 200")
		one.seq = 0
		w.pbx.say(with(one.notify(pidf, "late"), "Via", "SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKlate")...)
		w.pbx.hears("SIP/2.0 200")
		ph.connects().registers()
		one.hears(2, "second")
		for i := range 3 {
			two.hears(i+1, diffOf(i+1))
		}
		ph.silence()
	})
}

func TestTSM6_ASilentPhoneIsNotTold(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		sub := ph.subscribes("sub-1", "presence")
		ph.inactive(true)
		sub.tells(pidf, "a")
		sub.tells(pidf, "b")
		ph.silence()
		ph.inactive(false)
		sub.hears(2, "b")
	})
}

func TestTSM6_ATransferIsNotKeptBack(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		sub := ph.subscribes("sub-1", "refer")
		ph.inactive(true)
		w.pbx.say(sub.notify("message/sipfrag", "SIP/2.0 200 OK")...)
		sub.hears(1, "SIP/2.0 200 OK")
		w.pbx.hears("SIP/2.0 200")
	})
}

func TestTSM6_WhatIsKeptOfSubscriptionsIsBounded(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		sub := ph.subscribes("sub-1", "presence")
		ph.sleeps()
		pass(10 * time.Second)
		for i := range maxSubscribed {
			w.pbx.say(with(sub.notify(pidf, "x"), "Call-ID", fmt.Sprint("sub-", i))...)
			w.pbx.hears("SIP/2.0 200")
		}
		sub.tells(pidf, "y") // the place of its own
		for _, more := range [][]string{
			with(sub.notify(pidf, "z"), "Call-ID", "another"),
			sub.notify(pidf, strings.Repeat("x", maxStateSize-2<<10)), // and its headers
		} {
			w.pbx.say(more...)
			pass(13 * time.Second)
			w.pbx.hears("SIP/2.0 100")
			w.pbx.hears("SIP/2.0 480")
		}
		if n := len(w.proxy.notes.of[ph.id()]); n != maxSubscribed {
			t.Errorf("%d are kept, want %d", n, maxSubscribed)
		}
		for i := range 2 * maxPackages {
			w.pbx.say(w.asks("NOTIFY", "sip:alice@example.com", fmt.Sprint("n", i), fmt.Sprint("Event: package-", i))...)
			w.pbx.hears("SIP/2.0 200")
		}
		if n := len(w.proxy.notes.of[ph.id()]); n != maxSubscribed+maxPackages {
			t.Errorf("%d are kept with unsolicited ones, want %d", n, maxSubscribed+maxPackages)
		}
		ph.connects().registers()
		if w.proxy.notes.size != 0 {
			t.Errorf("%d bytes are counted where nothing is kept", w.proxy.notes.size)
		}
	})
}
