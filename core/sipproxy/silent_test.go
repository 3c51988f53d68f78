package sipproxy

import (
	"sync"
	"testing"
	"time"

	"sallyport/tunnel"
)

// A phone is silent when its flow may be dead: B20, and the row "silent" of
// the table of states.

func TestSilentByClientStateIsPushedAtOnceAndInvitedToo(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		w.proxy.cfg.PushInForeground = false
		for _, ph := range phones {
			ph.awake()
		}
		ph := phones[0]
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: inactive")...)
		ph.hears("SIP/2.0 200")
		c := w.calls("call-1")
		w.pushed(1) // the one that said so, and at once
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		for _, other := range phones[1:] {
			other.hears("INVITE")
		}
		c.answered(ph)
	})
}

func TestClientStateCountsOnAnyRequestAndIsTakenBack(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.proxy.cfg.PushInForeground = false
		ph := w.phone("alice", "wss").connects()
		ph.registers("Client-State: inactive")
		c := w.calls("call-1")
		w.pushed(1)
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		ph.say(ph.register("Client-State: active")...) // answered by the core
		ph.hears("SIP/2.0 200")
		c = w.calls("call-2")
		ph.refuses(ph.rings("call-2"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		w.pushed(1)
	})
}

// The phone hangs up a call and its network at once, and is called again: its
// flow ends after the core has looked and before the INVITE is made for it.
func TestAFlowThatEndsRightAfterTheLookIsWaitedForLikeOneThatEndedBefore(t *testing.T) {
	for _, foreground := range []bool{true, false} { // whether a push is out beside the INVITE
		inTown(t, func(t *testing.T, w *town) {
			w.proxy.cfg.PushInForeground = foreground
			ph := w.phone("alice", "tls").awake()
			var once sync.Once
			w.pushes.onCan = func() {
				once.Do(func() {
					for _, f := range w.proxy.flows.All("sip") {
						w.proxy.Closed(f, tunnel.CloseReset, "")
						f.Close(tunnel.CloseReset, "")
					}
				})
			}
			c := w.calls("call-1")
			w.pushed(1)
			fresh := *ph
			fresh.wakes()
			inv := fresh.rings("call-1")
			c.hears("SIP/2.0 180")
			fresh.answers(inv)
			c.answered(&fresh)
			w.pushed(1)
		})
	}
}

func TestClientStateDoesNotReachThePBX(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.say(ph.register("Client-State: active")...)
		if req := w.pbx.hears("REGISTER"); first(req, "Client-State") != "" {
			t.Error("Client-State went to the PBX")
		}
	})
}

func TestB20_ANewFlowBefore18xTakesOver(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		for name, said := range map[string]int{"abandoned": 0, "cancelled": 100} {
			old := phones[0].awake()
			old.fallsSilent()
			c := w.calls(name)
			stale := old.hears("INVITE")
			if said != 0 {
				old.say(reply(stale, said)...)
			}
			fresh := *old
			fresh.wakes()
			if said != 0 {
				old.say(reply(old.hears("CANCEL"), 200)...)
			} else {
				old.silence()
			}
			inv := fresh.rings(name)
			c.hears("SIP/2.0 180")
			if said != 0 {
				old.say(reply(stale, 487)...)
				old.hears("ACK")
			}
			fresh.answers(inv)
			c.answered(&fresh)
			w.pbx.silence()
			old.sleeps()
			fresh.sleeps()
		}
		w.pushed(2)
	})
}

func TestB20_WhatAnEndedBranchSaysDoesNotCount(t *testing.T) {
	for _, status := range []int{482, 408, 486, 603, 0} {
		inTown(t, func(t *testing.T, w *town) {
			old := w.phone("alice", "wss").awake()
			old.fallsSilent()
			c := w.calls("call-1")
			stale := old.hears("INVITE")
			fresh := *old
			fresh.wakes()
			inv := fresh.hears("INVITE")
			if status == 0 {
				old.sleeps() // a transport error
			} else {
				old.say(reply(stale, status)...)
				old.hears("ACK")
			}
			w.pbx.silence()
			fresh.say(reply(inv, 180)...)
			c.hears("SIP/2.0 180")
			fresh.answers(inv)
			c.answered(&fresh)
		})
	}
}

func TestB20_A2xxOfAnEndedBranchIsAnAnswer(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		old := w.phone("alice", "wss").awake()
		old.fallsSilent()
		c := w.calls("call-1")
		stale := old.hears("INVITE")
		fresh := *old
		fresh.wakes()
		inv := fresh.rings("call-1")
		c.hears("SIP/2.0 180")
		old.answers(stale)
		c.hears("SIP/2.0 200")
		fresh.hangsUp(inv)
	})
}

func TestB20_After18xTheBranchStays(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		old := phones[0].awake()
		old.fallsSilent()
		c := w.calls("call-1")
		inv := old.rings("call-1")
		c.hears("SIP/2.0 180")
		fresh := *old
		fresh.wakes()
		fresh.silence()
		old.silence()
		old.answers(inv)
		c.hears("SIP/2.0 200")
	})
}

func TestB20_ARefreshOnTheSameFlowBringsNoSecondInvite(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		ph.fallsSilent()
		c := w.calls("call-1")
		inv := ph.hears("INVITE")
		ph.say(ph.register()...)
		ph.hears("SIP/2.0 200")
		ph.silence()
		ph.say(reply(inv, 486)...)
		ph.hears("ACK")
		c.ends(486)
	})
}

func TestAPhoneThatSaysNothingFor2sIsSilentAndPushed(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		w.proxy.cfg.PushInForeground = false
		old := phones[0].awake()
		c := w.calls("call-1")
		old.hears("INVITE")
		pass(2*time.Second - time.Millisecond)
		w.pushed(0)
		pass(time.Millisecond)
		w.pushed(1)
		if got := w.proxy.State(w.loc.Lookup("sip:alice@example.com")[0]); got.String() != "silent" {
			t.Errorf("the phone is %v", got)
		}
		fresh := *old
		fresh.wakes()
		inv := fresh.rings("call-1")
		c.hears("SIP/2.0 180")
		fresh.answers(inv)
		c.answered(&fresh)
		steps, _, _ := w.steps("call-1")
		if steps != "invite state invite_out state push_sent push_accepted invite_out ringing answered" {
			t.Errorf("trace %q", steps)
		}
	})
}

func TestAPhoneThatSays100Within2sIsNotSilent(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.proxy.cfg.PushInForeground = false
		ph := w.phone("alice", "tls").awake()
		c := w.calls("call-1")
		inv := ph.hears("INVITE")
		ph.say(reply(inv, 100)...)
		pass(20 * time.Second) // and no window ends it
		w.pushed(0)
		w.pbx.silence()
		ph.refuses(inv, 486)
		c.ends(486)
	})
}

func TestB16_ASilentPhoneThatNeverAnswersEndsAtTheWindow(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.awake()
			ph.fallsSilent()
		}
		start := time.Now()
		c := w.calls("call-1")
		pass(13 * time.Second)
		c.ends(480)
		if took := time.Since(start); took != 13*time.Second {
			t.Errorf("480 after %v, want 13s", took)
		}
		w.pushed(len(phones), []string{"missed", "missed"}[:len(phones)]...)
	})
}

func TestAPhoneIsHeardAgain(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.proxy.cfg.PushInForeground = false
		ph := w.phone("alice", "wss").awake()
		ph.fallsSilent()
		ph.hearsAgain()
		c := w.calls("call-1")
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		w.pushed(0)
	})
}

func TestSilentPhonesAreTheLastThatAreAsked(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		a, b := w.phone("alice", "tls").awake(), w.phone("alice2", "wss")
		pass(time.Second)
		b.awake()
		b.fallsSilent()
		w.pbx.say(w.asks("OPTIONS", "sip:alice@example.com", "o1")...)
		a.say(reply(a.hears("OPTIONS"), 200, "X-From: the phone")...)
		if first(w.pbx.hears("SIP/2.0 200"), "X-From") == "" {
			t.Error("the phone that looks was not asked")
		}
	})
}
