package webpush_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/aes128gcm"
	"sallyport/core/push/pushtest"
)

// What a call and each kind of note look like to the push service.
func TestPushesAsTheyGoOnTheWire(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		token := s.subscribe(c.VAPID())
		note := func(change func(*push.Notification)) push.Notification {
			n := tell(token)
			n.CollapseID = "0f8fad5b-d9cb-469f-a165-70867728950e"
			if change != nil {
				change(&n)
			}
			return n
		}
		for name, step := range map[string]struct {
			n            push.Notification
			ttl, urgency string
			topic        bool
		}{
			"a call": {ring(token), "13", "high", false},
			"a call that barely rings": {func() push.Notification {
				n := ring(token)
				n.Expiration = time.Now().Add(1999 * time.Millisecond)
				return n
			}(), "1", "high", false},
			"a call of unknown end":  {func() push.Notification { n := ring(token); n.Expiration = time.Time{}; return n }(), "0", "high", false},
			"a missed call":          {note(nil), "3600", "high", true},
			"a message":              {note(func(n *push.Notification) { n.Conversation = "c" }), "3600", "high", true},
			"in quiet hours":         {note(func(n *push.Notification) { n.Passive = true }), "3600", "low", true},
			"a wish for a REGISTER":  {note(func(n *push.Notification) { n.Background, n.Priority = true, 5 }), "3600", "normal", true},
			"one that may not wait":  {note(func(n *push.Notification) { n.Expiration = time.Time{} }), "0", "high", true},
			"one that is over":       {note(func(n *push.Notification) { n.Expiration = time.Now().Add(-time.Hour) }), "0", "high", true},
			"one kept for very long": {note(func(n *push.Notification) { n.Expiration = time.Now().Add(9000 * time.Hour) }), "2419200", "high", true},
		} {
			before := len(s.Pushes())
			wantOutcome(t, c.Send(t.Context(), step.n), push.Accepted)
			all := s.Pushes()
			if len(all) != before+1 {
				t.Fatalf("%s: %d requests", name, len(all)-before)
			}
			m := all[before]
			if m.TTLText != step.ttl || m.Urgency != step.urgency || (len(m.Topic) == 32) != step.topic {
				t.Errorf("%s: TTL %s, urgency %s, topic %q; want %s, %s, topic %v", name, m.TTLText, m.Urgency, m.Topic, step.ttl, step.urgency, step.topic)
			}
			if string(m.Plain) != string(step.n.Payload) {
				t.Errorf("%s: the device reads %q (%s), want %q", name, m.Plain, m.Sealed, step.n.Payload)
			}
			if m.Key != c.VAPID() || m.Subject != "mailto:ops@example.com" {
				t.Errorf("%s: signed by %s for %s", name, m.Key, m.Subject)
			}
			if left := time.Until(m.Expires); left <= 0 || left > 24*time.Hour {
				t.Errorf("%s: the VAPID token ends in %v", name, left)
			}
		}
		s.clean()
	})
}

// RFC 8599: without a key of the device's, the push says nothing at all.
// Nor is anything sent in clear for a key that is no key.
func TestWithoutAKeyThereIsNoBody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		whole := s.subscribe(c.VAPID())
		noAuth, noKey, bad := whole, whole, whole
		noAuth.Auth, noKey.Key, bad.Key = "", "", strings.Repeat("A", 87)
		for _, token := range []push.Token{s.keyless(c.VAPID()), noAuth, noKey, bad} {
			wantOutcome(t, c.Send(t.Context(), ring(token)), push.Accepted)
		}
		for _, m := range s.Accepted() {
			if len(m.Body) != 0 {
				t.Errorf("a body of %d bytes", len(m.Body))
			}
		}
		s.clean()
	})
}

// Topics are of one conversation: a later message replaces an earlier one that
// waits, and none of another. Only the last is read when the device is back.
func TestALaterNoteReplacesTheWaitingOne(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		token := s.subscribe(c.VAPID())
		s.SetOffline(token.Value, true)
		for _, text := range []string{"carol 1", "carol 2", "dave 1", "carol 3"} {
			n := tell(token)
			n.Payload, n.Conversation = []byte(text), strings.Fields(text)[0]
			wantOutcome(t, c.Send(t.Context(), n), push.Accepted)
		}
		s.SetOffline(token.Value, false)
		got := map[string]bool{}
		for _, m := range s.Delivered(token.Value) {
			got[string(m.Plain)] = true
		}
		if len(got) != 2 || !got["dave 1"] || !got["carol 3"] {
			t.Errorf("read %v, want dave 1 and carol 3", got)
		}
	})
}

// One token introduces us to a push service for half its life, and none to two
// services.
func TestTheVAPIDTokenIsKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.service("a.example", pushtest.WebPushConfig{}), w.service("b.example", pushtest.WebPushConfig{})
		c := w.client(w.config(), nil, nil)
		ta, tb := a.subscribe(c.VAPID()), b.subscribe(c.VAPID())
		var ends []time.Time
		for range 14 { // over 13 hours
			wantOutcome(t, c.Send(t.Context(), tell(ta)), push.Accepted)
			wantOutcome(t, c.Send(t.Context(), ring(tb)), push.Accepted)
			all := a.Accepted()
			if end := all[len(all)-1].Expires; len(ends) == 0 || !end.Equal(ends[len(ends)-1]) {
				ends = append(ends, end)
			}
			time.Sleep(time.Hour)
		}
		if len(ends) != 3 {
			t.Errorf("%d tokens in 13 hours, want 3: %v", len(ends), ends)
		}
		a.clean()
		b.clean()
	})
}

// P24: what is too large for one record, or for the push service, is sent once
// more without content, and 4096 octets are not exceeded.
func TestP24_WhatIsTooLargeIsResentWithoutContent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.service("push.example", pushtest.WebPushConfig{MaxBody: 1000})
		c := w.client(w.config(), nil, nil)
		token := s.subscribe(c.VAPID())
		svc := push.New(push.Config{Enabled: true}, []push.App{{ID: app, Provider: push.ProviderWebPush, Sender: c}}, nil, nil)
		call := push.Call{CallID: "c1", To: "sip:bob@example.com", FromName: strings.Repeat("x", 1200), RingUntil: time.Now().Add(13 * time.Second)}
		wantOutcome(t, svc.Call(t.Context(), push.Target{Tokens: []push.Token{token}}, call), push.Accepted)
		all := s.Pushes()
		if len(all) != 2 || all[0].Status != 413 || all[1].Status != 201 {
			t.Fatalf("%v", all)
		}
		if text := string(all[1].Plain); strings.Contains(text, "xxx") || !strings.Contains(text, `"c1"`) {
			t.Errorf("the second payload is %s", text)
		}
		if all[1].TTLText != "10" {
			t.Errorf("TTL %s, want what is of use of the ring time", all[1].TTLText)
		}
		n := ring(token)
		n.Payload = make([]byte, aes128gcm.MaxPlain+1)
		if r := c.Send(t.Context(), n); r.Outcome != push.Refused || r.Status != 413 || len(s.Pushes()) != 2 {
			t.Errorf("a payload of more than a record: %+v, %d requests", r, len(s.Pushes()))
		}
	})
}
