package notify_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/core/wake"
	"sallyport/core/xmppproxy/notify"
	"sallyport/core/xmppproxy/session"
)

func chat(id, inside string) string {
	return `<message from='bob@example.com/desk' to='alice@example.com/phone' type='chat' id='` + id + `'>` + inside + `</message>`
}

func text(id, body string) string { return chat(id, `<body>`+body+`</body>`) }

const (
	propose = `<propose xmlns='urn:xmpp:jingle-message:1' id='c1'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='video'/></propose>`
	retract = `<retract xmlns='urn:xmpp:jingle-message:1' id='c1'/>`
	taken   = `<message from='alice@example.com/desk' to='alice@example.com' type='chat'><accept xmlns='urn:xmpp:jingle-message:1' id='c1'/></message>`
)

func TestTXM12_AProposalIsOneVoIPPushAtOnceAndARetractedOneIsMissed(t *testing.T) {
	inTown(t, notify.Config{DesktopActive: 5 * time.Minute}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		c.busy() // rings all the same
		w.Away(c)
		start := time.Now()
		w.waits(c, chat("1", propose))
		w.waits(c, chat("1", propose))
		calls := w.pushed("voip")
		if len(calls) != 1 || len(w.pushed("message")) != 0 {
			t.Fatalf("pushed %+v", w.pushed(""))
		}
		if at := w.apple.Pushes()[0].At; at.Sub(start) > 200*time.Millisecond {
			t.Errorf("pushed after %v", at.Sub(start))
		}
		if p := calls[0]; p.Event != "call" || p.CallID != "c1" || p.FromURI != "xmpp:bob@example.com" || p.To != "xmpp:alice@example.com" || !p.Video {
			t.Errorf("the push says %+v", p)
		}
		w.waits(c, chat("2", retract))
		w.wantPushes(1, 1)
		if p := w.pushed("message"); len(p) > 0 && (p[0].Event != "missed" || p[0].CallID != "c1") {
			t.Errorf("the note says %+v", p[0])
		}
		w.waits(c, chat("2", retract))
		w.wantPushes(1, 1)
	})
}

func TestTXM12_ACallTakenElsewhereIsSaidWhereItRings(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		w.Away(c)
		w.waits(c, taken) // of a call that nobody told of
		w.wantPushes(0, 0)
		w.waits(c, chat("1", propose))
		w.waits(c, taken)
		w.wantPushes(1, 1)
		if p := w.pushed("message"); len(p) > 0 && (p[0].Event != "answered_elsewhere" || p[0].CallID != "c1") {
			t.Errorf("the note says %+v", p[0])
		}
	})
}

// held is a waker whose VoIP pushes have not left yet.
type held struct {
	stopped int
	done    func(wake.Result)
	noted   []string
}

func (*held) CanNote(wake.Device) bool                           { return true }
func (*held) Registered(string, string)                          {}
func (h *held) Note(_ wake.Device, n wake.Note, _ wake.Observer) { h.noted = append(h.noted, n.Event) }
func (h *held) Announce(_ wake.Device, _ wake.Call, _ wake.Observer, done func(wake.Result)) func() {
	h.done = done
	return func() { h.stopped++ }
}

func TestTXM12_APushThatHasNotLeftIsTakenBack(t *testing.T) {
	for name, c := range map[string]struct {
		over   string      // what ends the call, "" for its client's return
		before wake.Result // what becomes of the push, before that if it has an outcome…
		after  wake.Result // …else after
		noted  string
	}{
		"taken, and it never left":       {over: taken, after: wake.Result{Outcome: "provider_down"}},
		"taken, and it left at last":     {over: taken, after: wake.Result{Outcome: wake.Accepted}, noted: "answered_elsewhere"},
		"taken, and it had been refused": {over: taken, before: wake.Result{Outcome: "refused"}},
		"taken, and it had left":         {over: taken, before: wake.Result{Outcome: wake.Accepted}, noted: "answered_elsewhere"},
		"retracted, and it never left":   {over: chat("2", retract), after: wake.Result{Outcome: "provider_down"}, noted: "missed"},
		"its client is back":             {after: wake.Result{Outcome: "provider_down"}},
	} {
		h := &held{}
		loc := location.New(location.Config{}, &location.Memory{}, nil)
		n := notify.New(notify.Config{}, notify.Deps{Location: loc, Waker: h, Apps: anyApp{}})
		phone := &client{jid: "alice@example.com/phone"}
		n.FromClient(phone, parse(t, enable("n", options("service", "fcm", "device_id", "x"))))
		n.Push(phone, parse(t, chat("1", propose)), 1)
		if c.before.Outcome != "" {
			h.done(c.before)
		}
		if c.over == "" {
			n.Active(phone)
		} else {
			n.Push(phone, parse(t, c.over), 2)
		}
		if c.before.Outcome == "" {
			h.done(c.after)
		}
		if got := strings.Join(h.noted, " "); h.stopped != 1 || got != c.noted {
			t.Errorf("%s: taken back %d times, noted %q, want %q", name, h.stopped, got, c.noted)
		}
	}
}

func TestTXM13_WhatIsNothingToReadPushesNothing(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		w.Away(c)
		for _, s := range []string{
			`<presence from='bob@example.com/desk'><show>away</show></presence>`,
			chat("1", `<composing xmlns='http://jabber.org/protocol/chatstates'/>`),
			chat("2", `<received xmlns='urn:xmpp:receipts' id='x'/>`),
			chat("3", `<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>`),
		} {
			w.waits(c, s)
		}
		time.Sleep(time.Minute)
		w.wantPushes(0, 0)
		w.waits(c, chat("4", `<body>I sent you an OMEMO message</body><encrypted xmlns='eu.siacs.conversations.axolotl'><header/><payload>b</payload></encrypted>`))
		w.wantPushes(1, 0)
		if p := w.pushed("message"); len(p) > 0 && (p[0].Text != "" || p[0].FromURI != "xmpp:bob@example.com" || p[0].APS.Badge != 1) {
			t.Errorf("the push says %+v", p[0])
		}
	})
}

func TestB6_AMessageIsPushedOnceForItsLifeAndTheBadgeCounts(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		w.Away(c)
		w.waits(c, text("1", "one"))
		w.waits(c, text("1", "one"))
		w.waits(c, `<message from='alice@example.com' to='alice@example.com/phone'><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>`+
			strings.Replace(text("1", "one"), "<message", "<message xmlns='jabber:client'", 1)+`</forwarded></received></message>`)
		time.Sleep(time.Minute)
		w.wantPushes(1, 0)
		w.waits(c, strings.Replace(text("2", "two"), "bob@", "carol@", 1))
		time.Sleep(time.Minute)
		if p := w.pushed("message"); len(p) != 2 || p[0].Text != "one" || p[0].APS.Badge != 1 || p[1].APS.Badge != 2 || p[1].FromURI != "xmpp:carol@example.com" {
			t.Errorf("pushed %+v", p)
		}
		w.Active(c)
		w.Away(c)
		w.waits(c, text("1", "one")) // a copy from elsewhere, late
		time.Sleep(time.Minute)
		w.wantPushes(2, 0)
		w.waits(c, text("3", "three"))
		if p := w.pushed("message"); len(p) != 3 || p[2].APS.Badge != 1 {
			t.Errorf("after it was back: %+v", p)
		}
		w.Active(c)
		time.Sleep(11 * time.Minute)
		w.Away(c)
		w.waits(c, text("1", "one")) // an id used again
		w.wantPushes(4, 0)
	})
}

func TestTXM20_OneActiveClientSparesTheOtherForNSecondsAndNoLonger(t *testing.T) {
	inTown(t, notify.Config{DesktopActive: 300 * time.Second}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		w.Away(c)
		c.busy()
		w.waits(c, text("1", "one"))
		w.waits(c, text("2", "two"))
		time.Sleep(200 * time.Second)
		c.busy() // the user goes on at the desk
		time.Sleep(299 * time.Second)
		w.wantPushes(0, 0)
		time.Sleep(2 * time.Second)
		if p := w.pushed("message"); len(p) != 1 || p[0].Count != 2 || p[0].Text != "two" {
			t.Errorf("pushed %+v, want one for both", p)
		}
		w.waits(c, text("3", "three")) // nobody is at the desk
		time.Sleep(time.Minute)
		if p := w.pushed("message"); len(p) != 2 {
			t.Errorf("pushed %+v", p)
		}
		c.busy()
		w.waits(c, text("4", "four"))
		w.Active(c) // and reads
		w.Away(c)
		time.Sleep(time.Hour)
		w.wantPushes(2, 0)
		c.busy()
		w.waits(c, text("5", "five"))
		w.Ended(c)
		time.Sleep(time.Hour)
		w.wantPushes(2, 0)
	})
	inTown(t, notify.Config{}, func(w *town) { // desktop_active = "0s"
		c := w.registered("alice@example.com/phone")
		c.busy()
		w.Away(c)
		w.waits(c, text("1", "one"))
		w.wantPushes(1, 0)
	})
}

// Two resources that were parked share a token: they are one device.
func TestB6_OneDeviceHasOnePushThoughTwoResourcesAreParked(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		old, c := w.registered("alice@example.com/phone.1"), w.registered("alice@example.com/phone.2")
		if w.Pushable(old) || !w.Pushable(c) {
			t.Errorf("pushable: the old resource %v, the new one %v", w.Pushable(old), w.Pushable(c))
		}
		for _, one := range []*client{old, c} {
			w.Away(one)
			w.waits(one, text("1", "one"))
			w.waits(one, chat("2", propose))
		}
		w.wantPushes(1, 1)
	})
}

func TestWordsOfARoomAreItsOccupantsAndOwnOnesAreNone(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		say := func(id, nick string) string {
			return `<message from='tea@muc.example.com/` + nick + `' to='alice@example.com/phone' type='groupchat' id='` + id + `'><body>hi</body></message>`
		}
		if _, consumed := w.FromClient(c, parse(t, `<presence to='tea@muc.example.com/Ali'><x xmlns='http://jabber.org/protocol/muc'/></presence>`)); consumed {
			t.Error("a presence was kept from the server")
		}
		w.Away(c)
		w.waits(c, say("1", "Ali"))
		w.wantPushes(0, 0)
		w.FromServer(c, parse(t, `<presence from='tea@muc.example.com/Ally'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>`))
		w.waits(c, say("2", "Ally"))
		w.wantPushes(0, 0)
		w.waits(c, say("3", "Bob"))
		if p := w.pushed("message"); len(p) != 1 || p[0].FromName != "Bob" || p[0].FromURI != "xmpp:tea@muc.example.com/Bob" {
			t.Errorf("pushed %+v", p)
		}
		w.FromServer(c, parse(t, `<presence type='unavailable' from='tea@muc.example.com/Ally'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>`))
		time.Sleep(time.Minute)
		w.waits(c, say("4", "Ally")) // it is somebody else's name now
		w.wantPushes(2, 0)
	})
}

// A call that the server kept for the next login is over: no app is woken by it.
func TestACallOfLongAgoDoesNotRing(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		w.Away(c)
		call := func(id string, ago time.Duration) string {
			return `<message from='bob@example.com/desk' to='alice@example.com' type='chat' id='` + id + `'><propose xmlns='urn:xmpp:jingle-message:1' id='` + id +
				`'/><delay xmlns='urn:xmpp:delay' from='example.com' stamp='` + time.Now().Add(-ago).UTC().Format(time.RFC3339) + `'/></message>`
		}
		w.waits(c, call("c1", 10*time.Minute))
		w.wantPushes(0, 0)
		w.waits(c, call("c2", 5*time.Second))
		w.wantPushes(0, 1)
	})
}

// T-XM-10, T-XM-11, at this level.
func TestAnAlertShowsNobody(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		w.Away(c)
		w.Alert(c, session.Relogin)
		synctest.Wait()
		w.Alert(c, session.Full)
		time.Sleep(time.Minute)
		p := w.pushed("message")
		if len(p) != 2 || p[0].Event != "register" || p[1].Event != "message" || p[1].Text+p[1].FromURI+p[1].FromName != "" {
			t.Errorf("pushed %+v", p)
		}
		w.Alert(&client{jid: "bob@example.com/x"}, session.Relogin)
		time.Sleep(time.Minute)
		w.wantPushes(2, 0)
	})
}
