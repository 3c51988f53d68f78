package xmpp

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// The driver is shown against the servers themselves before it is believed
// about anything between.

func TestDirect(t *testing.T) {
	eachServer(t, ServerConfig{Friends: [][2]string{{"alice", "bob"}}}, func(t *testing.T, s *Server) {
		for _, story := range []struct {
			name string
			tell func(*testing.T, *Server)
		}{
			{"login over each transport", directLogin},
			{"a wrong password is refused", directWrongPassword},
			{"a session is resumed after a reset", directResumed},
			{"friends see each other", directFriends},
			{"channel binding is not offered", func(t *testing.T, s *Server) { offersPlus(t, s, false) }},
			{"a session of nobody is not resumed", directNotResumed}, // restarts the server
		} {
			t.Run(story.name, func(t *testing.T) { story.tell(t, s) })
		}
	})
}

func TestDirectChannelBindingIsOfferedWhereAskedFor(t *testing.T) {
	eachServer(t, ServerConfig{ChannelBinding: true}, func(t *testing.T, s *Server) { offersPlus(t, s, true) })
}

func directLogin(t *testing.T, s *Server) {
	ctx := within(t, 30*time.Second)
	alice := connected(t, ctx, s.client(t, "alice", "tcp://"+s.Plain))
	for _, url := range []string{"tcp://" + s.Plain, "starttls://" + s.Plain, "tls://" + s.TLS, s.WS, s.WSS} {
		for _, mechanism := range []string{"SCRAM-SHA-1", "PLAIN"} {
			bob := connected(t, ctx, s.client(t, "bob", url, func(c *ClientConfig) { c.Mechanism = mechanism }))
			must(t, bob.Acked(ctx))
			body := "via <" + url + "> & " + mechanism
			got[string](t)(bob.Message(alice.JID(), body))
			m := got[*Stanza](t)(alice.ExpectMessage(ctx, body))
			if m.From() != bob.JID() {
				t.Fatalf("from %s, want %s", m.From(), bob.JID())
			}
			got[string](t)(alice.Message(bob.JID(), body))
			got[*Stanza](t)(bob.ExpectMessage(ctx, body))
			bob.Close(ctx)
		}
	}
}

func directWrongPassword(t *testing.T, s *Server) {
	for _, mechanism := range []string{"SCRAM-SHA-1", "PLAIN"} {
		c := s.client(t, "alice", "tls://"+s.TLS, func(c *ClientConfig) { c.Password, c.Mechanism = "wrong", mechanism })
		err := c.Connect(within(t, 20*time.Second))
		if refused := (*AuthError)(nil); !errors.As(err, &refused) || refused.Condition != "not-authorized" {
			t.Fatalf("got %v", err)
		}
	}
}

func directResumed(t *testing.T, s *Server) {
	ctx := within(t, 30*time.Second)
	alice := connected(t, ctx, s.client(t, "alice", "tls://"+s.TLS))
	bob := connected(t, ctx, s.client(t, "bob", s.WSS))
	id, _ := bob.SM()
	got[string](t)(alice.Message(bob.JID(), "one"))
	got[*Stanza](t)(bob.ExpectMessage(ctx, "one"))
	bob.Reset()
	got[string](t)(alice.Message(bob.JID(), "two"))
	must(t, alice.Acked(ctx))
	got[string](t)(bob.Message(alice.JID(), "while away"))
	must(t, bob.Resume(ctx))
	got[*Stanza](t)(bob.ExpectMessage(ctx, "two"))
	got[*Stanza](t)(alice.ExpectMessage(ctx, "while away"))
	must(t, bob.Ping(ctx))
	if now, _ := bob.SM(); now != id {
		t.Errorf("session %s became %s", id, now)
	}
	for _, m := range bob.Inbox() {
		if m.Name == "message" {
			t.Errorf("twice: %s", m.Raw)
		}
	}
}

func directNotResumed(t *testing.T, s *Server) {
	ctx := within(t, 30*time.Second)
	bob := connected(t, ctx, s.client(t, "bob", "tls://"+s.TLS))
	s.End()
	got[error](t)(bob.Ended(ctx), nil)
	s.Start(t)
	err := bob.Resume(ctx)
	if failed := (*NotResumed)(nil); !errors.As(err, &failed) || !strings.Contains(err.Error(), "item-not-found") {
		t.Fatalf("got %v", err)
	}
	must(t, bob.Bind(ctx))
	must(t, bob.Ping(ctx))
}

func directFriends(t *testing.T, s *Server) {
	ctx := within(t, 30*time.Second)
	alice := connected(t, ctx, s.client(t, "alice", "tls://"+s.TLS))
	bob := connected(t, ctx, s.client(t, "bob", s.WS))
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), ""))
	must(t, bob.Presence("<show>dnd</show>"))
	got[*Stanza](t)(alice.ExpectShow(ctx, bob.JID(), "dnd"))
	must(t, alice.Inactive())
	must(t, alice.Active())
	must(t, alice.Carbons(ctx))
}

func offersPlus(t *testing.T, s *Server, want bool) {
	c, err := dial(within(t, 20*time.Second), "starttls://"+s.Plain, s.Domain, s.trust())
	must(t, err)
	defer c.reset()
	features, err := c.open()
	must(t, err)
	if offered := strings.Contains(string(features.Raw), "-PLUS<"); offered != want {
		t.Errorf("-PLUS offered: %t, want %t: %s", offered, want, features.Raw)
	}
}
