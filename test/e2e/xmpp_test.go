package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/core"
	"sallyport/edge"
	"sallyport/test/xmpp"
	"sallyport/tunnel/unit"
)

// chat is a town whose users chat at a real XMPP server.
type chat struct {
	*Town
	t      *testing.T
	ctx    context.Context
	server *xmpp.Server
	xmpps  string
}

// chatTown starts a town with an XMPP server inside.
func chatTown(t *testing.T, kind string, change func(*core.Config)) *chat {
	t.Helper()
	s := xmpp.Kinds[kind](t, xmpp.ServerConfig{
		Users:   map[string]string{"alice": "secret-a", "bob": "secret-b"},
		Friends: [][2]string{{"alice", "bob"}},
	})
	c := &chat{t: t, server: s}
	l, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	c.xmpps = l.Addr().String()
	c.Town, c.ctx = inTown(t, Config{Users: []string{"alice"},
		Edge: func(cfg *edge.Config) { cfg.Public.XMPPS = c.xmpps; _ = l.Close() },
		Core: func(cfg *core.Config) {
			cfg.XMPP.Domains = []core.XMPPDomainConfig{{Name: s.Domain, Upstream: "xmpp+plain://" + s.Plain}}
			cfg.IM.AwayDelay = unit.Duration{Duration: 300 * time.Millisecond}
			if change != nil {
				change(cfg)
			}
		}})
	return c
}

// client makes a client outside, over "tls" or "wss"; or inside, over "".
func (c *chat) client(user, over string, change ...func(*xmpp.ClientConfig)) *xmpp.Client {
	cfg := xmpp.ClientConfig{
		JID: c.server.JID(user), Password: "secret-" + user[:1], Resource: "phone",
		TLS: &tls.Config{RootCAs: c.roots, ServerName: "localhost"},
	}
	switch over {
	case "tls":
		cfg.URL = "tls://" + c.xmpps
	case "wss":
		cfg.URL = "wss://" + c.HTTPS + "/ws"
	default:
		cfg.URL = "tcp://" + c.server.Plain
	}
	for _, f := range change {
		f(&cfg)
	}
	cl := xmpp.NewClient(cfg)
	c.t.Cleanup(cl.Reset)
	return cl
}

func (c *chat) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// online connects and says so.
func (c *chat) online(cl *xmpp.Client) *xmpp.Client {
	c.t.Helper()
	c.must(cl.Connect(c.ctx))
	c.must(cl.Presence("<status>here</status>"))
	c.must(cl.Ping(c.ctx))
	return cl
}

func (c *chat) says(cl *xmpp.Client, to, body string) {
	c.t.Helper()
	_, err := cl.Message(to, body)
	c.must(err)
}

func (c *chat) hears(cl *xmpp.Client, bodies ...string) {
	c.t.Helper()
	for _, body := range bodies {
		if _, err := cl.ExpectMessage(c.ctx, body); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *chat) sees(cl *xmpp.Client, who, show string) {
	c.t.Helper()
	if _, err := cl.ExpectShow(c.ctx, c.server.JID(who), show); err != nil {
		c.t.Fatal(err)
	}
}

// bodies are those of the messages that came and were not taken, in order.
func bodies(cl *xmpp.Client) (list []string) {
	for _, s := range cl.Inbox() {
		if s.Name == "message" && s.Body() != "" {
			list = append(list, s.Body())
		}
	}
	return list
}

// registration hands over a token of the app.
const registration = "<enable xmlns='urn:xmpp:push:0' jid='push.example.com' node='phone'><x xmlns='jabber:x:data' type='submit'>" +
	"<field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>" +
	"<field var='service'><value>apns</value></field><field var='topic'><value>" + App + "</value></field>" +
	"<field var='device_id'><value>00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0</value></field></x></enable>"

// pushed waits until so many pushes were accepted, on the Message channel.
func (c *chat) pushed(n int) {
	c.t.Helper()
	c.must(c.until(c.ctx, func() bool { return len(c.APNs.Pushes()) >= n }))
	if got := c.APNs.Pushes(); len(got) != n || got[0].PushType != "alert" {
		c.t.Errorf("pushes %v, want %d", got, n)
	}
}

// A client outside chats as if it were inside; while it is away others see so,
// and what was written meanwhile is there when it resumes, in order, once.
func TestAClientOutsideChatsSleepsAndMissesNothing(t *testing.T) {
	for _, kind := range []string{"prosody", "ejabberd"} {
		for _, over := range []string{"tls", "wss"} {
			t.Run(kind+"/"+over, func(t *testing.T) {
				c := chatTown(t, kind, nil)
				bob := c.online(c.client("bob", ""))
				alice := c.online(c.client("alice", over))
				if _, err := alice.Ask(c.ctx, "set", "", registration); err != nil {
					t.Fatal(err)
				}
				c.says(alice, c.server.JID("bob"), "hello")
				c.hears(bob, "hello")
				c.says(bob, c.server.JID("alice"), "hi")
				c.hears(alice, "hi")

				c.must(alice.Inactive())
				c.sees(bob, "alice", "away")
				c.says(bob, c.server.JID("alice"), "asleep 1")
				c.must(bob.Ping(c.ctx))
				c.pushed(1)
				alice.Reset()
				for i := 2; i <= 5; i++ {
					c.says(bob, c.server.JID("alice"), fmt.Sprintf("asleep %d", i))
				}
				c.must(bob.Ping(c.ctx))
				c.must(alice.Resume(c.ctx))
				c.hears(alice, "asleep 5")
				c.must(alice.Ping(c.ctx))
				if got := strings.Join(bodies(alice), ","); got != "asleep 1,asleep 2,asleep 3,asleep 4" {
					t.Errorf("before the last one alice got %q", got)
				}
				c.sees(bob, "alice", "")
				for _, v := range c.APNs.Violations() {
					t.Errorf("Apple's rules: %s", v)
				}
			})
		}
	}
}

// The core is stopped and started while a client is away. Its session goes on
// with the stream of the client's next login, in order, once.
func TestASessionOutlivesARestartOfTheCore(t *testing.T) {
	for _, kind := range []string{"prosody", "ejabberd"} {
		t.Run(kind, func(t *testing.T) {
			c := chatTown(t, kind, nil)
			bob := c.online(c.client("bob", ""))
			alice := c.online(c.client("alice", "tls"))
			alice.Reset()
			c.sees(bob, "alice", "away")
			c.says(bob, c.server.JID("alice"), "before 1")
			c.says(bob, c.server.JID("alice"), "before 2")
			c.must(bob.Ping(c.ctx))
			c.Stop("core")
			c.says(bob, c.server.JID("alice"), "between")
			c.must(bob.Ping(c.ctx))
			c.must(c.StartCore())
			c.must(c.Ready(c.ctx))
			c.must(alice.Resume(c.ctx))
			c.says(bob, c.server.JID("alice"), "after")
			c.hears(alice, "after")
			if got := strings.Join(bodies(alice), ","); got != "before 1,before 2,between" {
				t.Errorf("before the last one alice got %q", got)
			}
		})
	}
}
