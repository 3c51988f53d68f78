package interop

import (
	"context"
	"testing"
	"time"
)

// client is what all clients have in common for a story.
type client struct {
	// Their words for what happens. Over is the end of an answered call, missed
	// that of one that was not, heard that the callee rings.
	registered, ringing, up, over, missed, heard string

	expect         func(context.Context, string) Event
	answer, hangup func()
	call           func(to string)
}

func baresipOf(s *System) client {
	b := s.Baresip("bob", "")
	return client{
		registered: "REGISTER_OK", ringing: "CALL_INCOMING", up: "CALL_ESTABLISHED", over: "CALL_CLOSED",
		missed: "CALL_CLOSED", heard: "CALL_RINGING", expect: b.Expect,
		answer: func() { b.Do("accept", "") }, hangup: func() { b.Do("hangup", "") },
		call: func(to string) { b.Do("dial", to) },
	}
}

func linphoneOf(s *System) client {
	l := s.Linphone("bob", "")
	return client{
		registered: "LinphoneRegistrationOk", ringing: "LinphoneCallIncomingReceived", up: "LinphoneCallStreamsRunning",
		over: "LinphoneCallEnd", missed: "LinphoneCallEnd", heard: "LinphoneCallOutgoingRinging", expect: l.Expect,
		answer: func() { l.Do("answer") }, hangup: func() { l.Do("terminate") },
		call: func(to string) { l.Do("call " + to) },
	}
}

func webPhone(w *WebPhone) client {
	return client{
		registered: "registered", ringing: "incoming", up: "confirmed", over: "ended",
		missed: "failed", heard: "progress", expect: w.Expect,
		answer: func() { w.Tell("answer") }, hangup: func() { w.Tell("hangup") }, call: w.Call,
	}
}

// eachClient tells a story once with each real client as bob, who is registered
// when it begins.
func eachClient(t *testing.T, story func(*testing.T, context.Context, *System, client)) {
	for _, kind := range []struct {
		name, edge string
		start      func(*System) client
	}{
		{"baresip", "127.0.0.1", baresipOf},
		{"Linphone", "localhost", linphoneOf},
		{"JsSIP", "127.0.0.1", func(s *System) client { return webPhone(s.JsSIP("bob", nil)) }},
		{"SIP.js", "127.0.0.1", func(s *System) client { return webPhone(s.SIPJS("bob", nil)) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := StartSystemAs(t, kind.edge)
			ctx := within(t, 25*time.Second)
			bob := kind.start(s)
			bob.expect(ctx, bob.registered)
			story(t, ctx, s, bob)
		})
	}
}
