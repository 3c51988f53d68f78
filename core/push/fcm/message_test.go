package fcm_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// A call wakes the phone at once or never, and replaces no other.
func TestACallIsDataOfHighPriorityThatIsNotKept(t *testing.T) {
	g := newGoogle(t, pushtest.FCMConfig{})
	n := ring(g.phone())
	n.Conversation, n.Passive = "c", true // which no call is
	wantOutcome(t, g.client(g.config()).Send(callContext(t), n), push.Accepted)
	got := g.Accepted()[0]
	if got.Priority != "high" || got.TTLText != "0s" || got.CollapseKey != "" || got.Notification {
		t.Errorf("sent %s", got)
	}
	if len(got.Data) != len(n.Data) || got.Data["call_id"] != n.Data["call_id"] {
		t.Errorf("data %v, want %v", got.Data, n.Data)
	}
	g.clean()
}

func TestANoteIsKeptUntilItsExpiration(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		for name, want := range map[string]struct {
			change                  func(*push.Notification)
			priority, ttl, collapse string
		}{
			"note":             {func(*push.Notification) {}, "high", "3600s", ""},
			"of a talk":        {func(n *push.Notification) { n.Conversation, n.CollapseID = "talk", "talk" }, "high", "3600s", ""},
			"in quiet hours":   {func(n *push.Notification) { n.Passive = true }, "normal", "3600s", ""},
			"to register":      {func(n *push.Notification) { n.Background = true }, "normal", "3600s", "register"},
			"never to be kept": {func(n *push.Notification) { n.Expiration = time.Time{} }, "high", "0s", ""},
			"expired":          {func(n *push.Notification) { n.Expiration = time.Now().Add(-time.Minute) }, "high", "0s", ""},
			"a part of second": {func(n *push.Notification) { n.Expiration = time.Now().Add(1500 * time.Millisecond) }, "high", "1s", ""},
			"kept too long":    {func(n *push.Notification) { n.Expiration = time.Now().Add(40 * 24 * time.Hour) }, "high", "2419200s", ""},
		} {
			n := tell(g.phone())
			want.change(&n)
			wantOutcome(t, c.Send(t.Context(), n), push.Accepted)
			all := g.Accepted()
			got := all[len(all)-1]
			if got.Priority != want.priority || got.TTLText != want.ttl || got.CollapseKey != want.collapse || got.Notification {
				t.Errorf("%s: sent %s", name, got)
			}
		}
		g.clean()
	})
}

func TestP25_WhatFCMWouldRefuseNeverLeaves(t *testing.T) {
	g := newGoogle(t, pushtest.FCMConfig{AnyToken: true})
	c := g.client(g.config())
	good := g.phone()
	fill := func(n int) map[string]string { return map[string]string{"x": strings.Repeat("x", n-1)} }
	for name, change := range map[string]func(*push.Notification){
		"no token":          func(n *push.Notification) { n.Token.Value = "" },
		"spaces in a token": func(n *push.Notification) { n.Token.Value = "a b" },
		"a token of lines":  func(n *push.Notification) { n.Token.Value = "a\r\nb" },
		"a long token":      func(n *push.Notification) { n.Token.Value = strings.Repeat("x", 4097) },
		"no data":           func(n *push.Notification) { n.Data = nil },
		"4097 bytes":        func(n *push.Notification) { n.Data = fill(4097) },
		"from":              func(n *push.Notification) { n.Data["from"] = "x" },
		"google.x":          func(n *push.Notification) { n.Data["google.x"] = "x" },
		"gcm.x":             func(n *push.Notification) { n.Data["gcm.x"] = "x" },
		"message_type":      func(n *push.Notification) { n.Data["message_type"] = "x" },
	} {
		n := ring(good)
		change(&n)
		r := c.Send(callContext(t), n)
		if r.Outcome != push.Refused || r.Retry != 0 || r.Suspect || !strings.HasSuffix(r.Reason, "(not sent)") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if opened, _ := g.Connections(); opened != 0 {
		t.Errorf("%d connections", opened)
	}
	n := ring(good)
	n.Data = map[string]string{"from_name": "\"\\<\u2028\U0001F600", "x": "\x00"} // P27
	wantOutcome(t, c.Send(callContext(t), n), push.Accepted)
	if got := g.Accepted()[0].Data; got["from_name"] != n.Data["from_name"] || got["x"] != "\x00" {
		t.Errorf("arrived as %q", got)
	}
	g.clean()
}
