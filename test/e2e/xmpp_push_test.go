package e2e

import (
	"strings"
	"testing"

	"sallyport/test/xmpp"
)

// register hands Apple's tokens over in band (XEP-0357).
func (c *chat) register(ask func(kind, to, inside string) string) {
	c.t.Helper()
	for node, topic := range map[string]string{"alert": App, "voip": App + ".voip"} {
		form := ""
		for _, f := range [][2]string{{"service", "apns"}, {"device_id", Token("alice", node)}, {"topic", topic}} {
			form += "<field var='" + f[0] + "'><value>" + f[1] + "</value></field>"
		}
		ask("set", "", "<enable xmlns='urn:xmpp:push:0' jid='push."+c.server.Domain+"' node='"+node+"'><x xmlns='jabber:x:data' type='submit'>"+form+"</x></enable>")
	}
}

// T-XM-12 and T-XM-13 with a real server behind: what is worth a push is one,
// on its channel, and nothing else is.
func TestAnXMPPClientThatRegisteredIsPushedTo(t *testing.T) {
	c := chatTown(t, "prosody", nil)
	bob := c.online(c.client("bob", ""))
	alice := c.online(c.client("alice", "tls"))
	ask := func(kind, to, inside string) string {
		t.Helper()
		s, err := alice.Ask(c.ctx, kind, to, inside)
		c.must(err)
		if s.Type() != "result" {
			t.Fatalf("%s\nwas answered %s", inside, s.Raw)
		}
		return string(s.Raw)
	}
	if info := ask("get", c.server.JID("alice"), "<query xmlns='http://jabber.org/protocol/disco#info'/>"); !strings.Contains(info, "urn:xmpp:push:0") {
		t.Errorf("the account says %s", info)
	}
	c.register(ask)
	c.must(alice.Inactive())
	c.sees(bob, "alice", "away")

	to := c.server.JID("alice")
	say := func(inside string) {
		t.Helper()
		c.must(bob.Send("<message xmlns='jabber:client' to='" + to + "' type='chat' id='" + xmpp.NewID() + "'>" + inside + "</message>"))
	}
	say("<composing xmlns='http://jabber.org/protocol/chatstates'/>")
	say("<propose xmlns='urn:xmpp:jingle-message:1' id='c1'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose>")
	if p := pushed(t, c.ctx, c.Town, 1); p["channel"] != "voip" || p["call_id"] != "c1" || p["from_uri"] != "xmpp:"+c.server.JID("bob") {
		t.Errorf("the call's push says %v", p)
	}
	say("<retract xmlns='urn:xmpp:jingle-message:1' id='c1'/>")
	if p := pushed(t, c.ctx, c.Town, 2); p["channel"] != "message" || p["event"] != "missed" || p["call_id"] != "c1" {
		t.Errorf("the retracted call's push says %v", p)
	}
	alice.Reset()
	say("<body>one</body>")
	if p := pushed(t, c.ctx, c.Town, 3); p["channel"] != "message" || p["event"] != "message" {
		t.Errorf("the message's push says %v", p)
	}
	c.must(alice.Resume(c.ctx))
	c.hears(alice, "one")
	c.must(bob.Ping(c.ctx))
	if n := len(c.APNs.Pushes()); n != 3 {
		t.Errorf("%d pushes, want 3", n)
	}
	for _, v := range c.APNs.Violations() {
		t.Errorf("Apple's rules: %s", v)
	}
}
