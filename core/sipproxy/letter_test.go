package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/core/im"
)

// Messages for phones that sleep (T-SM-1 to T-SM-5 of the facts on messages,
// B5, B7, B10, B21).

// texts is a MESSAGE of a sender that the PBX brings.
func (w *town) texts(to, from, callID string, seq int, text string, extra ...string) []string {
	req := with(with(w.asks("MESSAGE", to, callID, extra...), "From", "<sip:"+from+"@example.com>;tag=tag-"+from), "CSeq", fmt.Sprint(seq, " MESSAGE"))
	if !strings.Contains(strings.Join(extra, "\n"), "Content-Type:") {
		req = append(req, "Content-Type: text/plain")
	}
	return append(req, "", text)
}

// reads takes a MESSAGE down the phone's flow and answers it.
func (ph *phone) reads(text string) (message string) {
	ph.w.t.Helper()
	m := ph.hears("MESSAGE " + ph.uri() + " SIP/2.0")
	if !strings.HasSuffix(m, "\r\n\r\n"+text) {
		ph.w.t.Errorf("%s reads %q, want %q", ph.user, m, text)
	}
	ph.say(reply(m, 200)...)
	return m
}

func TestTSM1_AMessageForASleepingPhoneIs202AndOnePushOnMessage(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		start := time.Now()
		w.pbx.say(w.texts("sip:"+w.token(ph)+"@"+advertise, "carol", "m1", 1, "hello", "Expires: 600")...)
		w.pbx.hears("SIP/2.0 202")
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("202 after %v", took)
		}
		w.pushed(0, "message")
		n := w.pushes.notes[0]
		if n.FromURI != "sip:carol@example.com" || n.Conversation != n.FromURI || n.To != ph.aor() || n.Text != "hello" || n.ID == "" ||
			!n.Expires.Equal(start.Add(10*time.Minute)) {
			t.Errorf("the push says %+v", n)
		}
		pass(time.Minute)
		w.pushed(0, "message")
		ph.wakes()
		m := ph.reads("hello")
		if first(m, "Call-ID") != "m1" || first(m, "CSeq") != "1 MESSAGE" || first(m, "From") != "<sip:carol@example.com>;tag=tag-carol" ||
			len(header(m, "Via")) != 1 || first(m, "Date") != start.UTC().Format("Mon, 02 Jan 2006 15:04:05")+" GMT" {
			t.Errorf("alice hears\n%s", m)
		}
		ph.sleeps()
		ph.wakes()
		ph.silence()
		w.pbx.silence()
	})
}

func TestTSM1_WhatIsNoNewsIsNotPushed(t *testing.T) {
	const composing = `<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"><state>active</state></isComposing>`
	cpim := func(kind string) string {
		return "From: <sip:carol@example.com>\r\nTo: <sip:alice@example.com>\r\n\r\nContent-Type: " + kind + "\r\n\r\nx"
	}
	for name, c := range map[string]struct {
		extra []string
		body  string
		comes bool
	}{
		"typing":           {[]string{"Content-Type: application/im-iscomposing+xml; charset=utf-8"}, composing, false},
		"typing, wrapped":  {[]string{"Content-Type: message/cpim"}, cpim("application/im-iscomposing+xml"), false},
		"receipt":          {[]string{"Content-Type: message/imdn+xml"}, "<imdn/>", true},
		"receipt, wrapped": {[]string{"Content-Type: message/CPIM"}, cpim("message/imdn+xml"), true},
		"not urgent":       {[]string{"Priority: non-urgent"}, "read it when you like", true},
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				ph := w.phone("alice", "tls").asleep()
				w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, c.body, c.extra...)...)
				w.pbx.hears("SIP/2.0 202")
				w.pushed(0)
				ph.wakes()
				if c.comes {
					ph.reads(c.body)
				}
				ph.silence()
			})
		})
	}
}

func TestTSM1_AMessageInADialogIsNotPushed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ok := w.dialog(ph)
		w.pushed(1)
		ph.sleeps()
		pass(10 * time.Second)
		w.pbx.say(dialogRequest("MESSAGE", ok)...)
		ph.wakes()
		ph.say(reply(ph.hears("MESSAGE"), 200)...)
		w.pbx.hears("SIP/2.0 200")
		w.pushed(1)
	})
}

// hears202 takes the answers of the PBX's messages, all of them 202.
func (w *town) hears202(n int) {
	w.t.Helper()
	for range n {
		w.pbx.hears("SIP/2.0 202")
	}
}

func TestTSM2_TenMessagesOfTwoSendersComeInOrderAndOnce(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		for i := range 10 {
			w.pbx.say(w.texts("sip:"+w.token(ph)+"@"+advertise, []string{"carol", "dave"}[i%2], fmt.Sprint("m", i), 1, fmt.Sprint("text ", i))...)
		}
		w.hears202(10)
		ph.wakes()
		for i := range 3 {
			ph.reads(fmt.Sprint("text ", i))
		}
		lost := ph.hears("MESSAGE") // the fourth: the phone shows it, but its 200 is lost with the flow
		ph.silence()                // and the fifth waits for that
		ph.sleeps()
		ph.wakes()
		again := ph.reads("text 3")
		for _, name := range []string{"Call-ID", "CSeq", "From"} {
			if first(lost, name) != first(again, name) {
				t.Errorf("%s %q, the second time %q: the app cannot know it", name, first(lost, name), first(again, name))
			}
		}
		if first(lost, "Via") == first(again, "Via") {
			t.Error("the second has the branch of the first")
		}
		for i := 4; i < 10; i++ {
			ph.reads(fmt.Sprint("text ", i))
		}
		ph.silence()
		ph.sleeps()
		ph.wakes()
		ph.silence()
		if !w.im.Empty() {
			t.Error("something is held still")
		}
	})
}

func TestTSM3_TwoMessagesWithOneCallIDAreTwo(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m", 1, "one")...)
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m", 2, "two")...)
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m", 2, "two")...) // sent again in a transaction of its own
		w.pbx.say(w.texts("sip:alice@example.com", "dave", "m", 2, "three")...)
		w.hears202(4)
		ph.wakes()
		ph.reads("one")
		ph.reads("two")
		ph.reads("three")
		ph.silence()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m", 1, "one")...) // whose sender missed the 202
		w.hears202(1)
		ph.silence()
	})
}

func TestTSM4_WhatHasExpiredIsNotDelivered(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "lunch?", "Expires: 60")...)
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m2", 1, "dinner?", "Expires: 3600")...)
		w.hears202(2)
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m3", 1, "now?", "Expires: 0")...)
		w.pbx.hears("SIP/2.0 480")
		pass(time.Minute)
		ph.wakes()
		ph.reads("dinner?")
		ph.silence()
	})
}

func TestTSM4_WhatNobodyFetchesEndsByItself(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "hello")...)
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m2", 1, "lunch?", "Expires: 60")...)
		w.hears202(2)
		pass(3 * time.Minute)
		if n := w.im.Held(ph.id().String()); n != 1 {
			t.Errorf("%d are held, want the one that has not expired", n)
		}
		pass(7 * 24 * time.Hour)
		if !w.im.Empty() {
			t.Error("a message is held longer than im.keep")
		}
	})
}

func TestB21_ARestartLosesNoHeldMessage(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		for i := range 3 {
			w.pbx.say(w.texts("sip:alice@example.com", "carol", fmt.Sprint("m", i), 1, fmt.Sprint("text ", i))...)
		}
		w.hears202(3)
		w.restart()
		ph.wakes()
		for i := range 3 {
			ph.reads(fmt.Sprint("text ", i))
		}
		ph.silence()
	})
}

func TestR15_FiftyMessagesWhileAsleepComeInOrderAndAreOneConversation(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.limits = im.Config{}
		w.restart()
		ph := w.phone("alice", "tls").asleep()
		for i := range 50 {
			w.pbx.write(message(w.texts("sip:alice@example.com", "carol", fmt.Sprint("m", i), 1, fmt.Sprint("text ", i))...))
		}
		w.hears202(50)
		for _, n := range w.pushes.notes {
			if n.Conversation != "sip:carol@example.com" || n.Event != "message" {
				t.Fatalf("a push says %+v: it is merged with no other", n)
			}
		}
		ph.wakes()
		for i := range 50 {
			ph.reads(fmt.Sprint("text ", i))
		}
		ph.silence()
	})
}

func TestR16_AMessageWhileACallWakesThePhoneNeedsNoWakeOfItsOwn(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		c := w.calls("call-1")
		w.pushed(1)
		w.pbx.say(w.texts("sip:"+w.token(ph)+"@"+advertise, "dave", "m1", 1, "pick up!")...)
		w.pbx.hears("SIP/2.0 202")
		w.pushed(1, "message") // which is dropped if the phone comes first: core/push
		ph.wakes()
		var inv string
		for range 2 {
			switch m := ph.hears(""); {
			case strings.HasPrefix(m, "INVITE"):
				inv = m
			default:
				if !strings.HasSuffix(m, "pick up!") {
					t.Errorf("alice hears %q", m)
				}
				ph.say(reply(m, 200)...)
			}
		}
		ph.refuses(inv, 486)
		c.ends(486)
		ph.silence()
		w.pushed(1, "message")
	})
}

func TestB7_ASilentPhoneIsNotTrusted(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		ph.fallsSilent()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "one")...)
		w.pbx.hears("SIP/2.0 202")
		w.pushed(0, "message")
		ph.silence()
		ph.hearsAgain()
		ph.reads("one")
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: inactive")...)
		ph.hears("SIP/2.0 200")
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m2", 1, "two")...)
		w.pbx.hears("SIP/2.0 202")
		w.pushed(0, "message", "message")
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: active")...)
		ph.hears("SIP/2.0 200")
		ph.reads("two")
		ph.silence()
	})
}

func TestB5_TheSenderHearsTheClientsOwnAnswer(t *testing.T) {
	for _, status := range []int{200, 202, 404, 486, 603} {
		inTown(t, func(t *testing.T, w *town) {
			ph := w.phone("alice", "tls").awake()
			w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "one")...)
			m := ph.hears("MESSAGE")
			pass(time.Second)
			w.pbx.silence()
			ph.say(reply(m, status)...)
			w.pbx.hears(fmt.Sprint("SIP/2.0 ", status))
			w.pushed(0)
			ph.sleeps()
			ph.wakes()
			ph.silence()
		})
	}
}

func TestB7_WithoutAnAnswerIn5sAMessageIsHeldAndPushed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "one")...)
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m2", 1, "two")...)
		m := ph.hears("MESSAGE")
		ph.silence() // the second waits its turn
		pass(5*time.Second - time.Millisecond)
		w.pbx.hears("SIP/2.0 100")
		w.pbx.hears("SIP/2.0 100")
		w.pbx.silence()
		pass(time.Millisecond)
		w.hears202(2)
		w.pushed(0, "message", "message")
		ph.say(reply(m, 200)...) // after all
		ph.reads("two")
		ph.silence()
		w.pbx.silence()
	})
}

func TestB7_AFlowThatEndsUnderAMessageLosesNothing(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		for i := range 3 {
			w.pbx.say(w.texts("sip:alice@example.com", "carol", fmt.Sprint("m", i), 1, fmt.Sprint("text ", i))...)
		}
		ph.hears("MESSAGE")
		ph.sleeps()
		w.hears202(3)
		w.pushed(0, "message", "message", "message")
		ph.wakes()
		for i := range 3 {
			ph.reads(fmt.Sprint("text ", i))
		}
		ph.silence()
	})
}

// A client that says "not now" is asked again, and not without end.
func TestAClientThatDoesNotTakeAMessageIsLeftAloneForAWhile(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "one")...)
		ph.say(reply(ph.hears("MESSAGE"), 480)...)
		w.pbx.hears("SIP/2.0 202")
		w.pushed(0) // it looks
		ph.silence()
		pass(5 * time.Second)
		ph.say(reply(ph.hears("MESSAGE"), 503)...)
		ph.silence()
		pass(9 * time.Second)
		ph.silence()
		pass(time.Second)
		ph.reads("one")
		ph.silence()
	})
}

func TestAHeldMessageThatIsRefusedIsDropped(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "one")...)
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m2", 1, "two")...)
		w.hears202(2)
		ph.wakes()
		ph.say(reply(ph.hears("MESSAGE"), 415)...)
		ph.reads("two")
		ph.sleeps()
		ph.wakes()
		ph.silence()
	})
}
