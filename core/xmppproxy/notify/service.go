package notify

import (
	"slices"
	"strings"

	"sallyport/core/location"
	"sallyport/core/stanza"
)

// commands are those of iNPUTmice's p2: they register a token, which XEP-0357
// then enables by the node that they answer.
var commands = []struct{ node, name, provider string }{
	{"register-push-apns", "Register with Apple's push service", "apns"},
	{"register-push-fcm", "Register with Google's push service", "fcm"},
	{"unregister-push", "Take a registration back", ""},
}

// service answers what a client asks of the push service.
func (n *Notifier) service(c Client, e *stanza.Element, kind string) []byte {
	for i := range e.Children {
		ch := &e.Children[i]
		switch {
		case kind == "set" && ch.Is(nsCommands, "command"):
			return n.command(c, e, ch)
		case kind == "get" && ch.Is(nsInfo, "query"):
			return result(c, e, "<query xmlns='"+nsInfo+"'><identity category='pubsub' type='push'/><identity category='automation' type='command-list'/>"+
				"<feature var='"+nsInfo+"'/><feature var='"+nsItems+"'/><feature var='"+nsPush+"'/><feature var='"+nsCommands+"'/></query>")
		case kind == "get" && ch.Is(nsItems, "query"):
			return result(c, e, n.items(c, e, ch))
		case kind == "get" && ch.Is("urn:xmpp:ping", "ping"):
			return result(c, e, "")
		}
	}
	return refusal(c, e, "cancel", "service-unavailable", "")
}

// items lists the commands (XEP-0050 §2.2).
func (n *Notifier) items(c Client, e *stanza.Element, ch *stanza.Child) string {
	q, err := e.Inside(ch)
	if err != nil || string(q.Attr("node")) != nsCommands {
		return "<query xmlns='" + nsItems + "'/>"
	}
	list := "<query xmlns='" + nsItems + "' node='" + nsCommands + "'>"
	for _, cmd := range commands {
		list += "<item jid='" + escaped(n.jid(c)) + "' node='" + cmd.node + "' name='" + escaped(cmd.name) + "'/>"
	}
	return list + "</query>"
}

// maxOffers bounds the tokens that a client registered and did not enable.
const maxOffers = 4

// command runs one in a single step.
func (n *Notifier) command(c Client, e *stanza.Element, ch *stanza.Child) []byte {
	in, err := e.Inside(ch)
	if err != nil {
		return refusal(c, e, "modify", "bad-request", "")
	}
	name := string(in.Attr("node"))
	i := slices.IndexFunc(commands, func(cmd struct{ node, name, provider string }) bool { return cmd.node == name })
	f := fields(in)
	switch {
	case i < 0:
		return refusal(c, e, "cancel", "item-not-found", "")
	case f["muc"] != "":
		return refusal(c, e, "cancel", "feature-not-implemented", "rooms need no registration: the core holds what they send")
	case string(in.Attr("action")) == "cancel":
		return result(c, e, "<command xmlns='"+nsCommands+"' node='"+name+"' sessionid='1' status='canceled'/>")
	case commands[i].provider == "":
		return n.unregister(c, e, name)
	}
	t, reason := n.checked(location.Token{Provider: commands[i].provider, Kind: map[string]string{"apns": "alert"}[commands[i].provider], Value: f["token"]})
	if reason != "" {
		return refusal(c, e, "modify", "not-acceptable", reason)
	}
	o := offer{node: nodeHash("node " + t.Provider + " " + t.App + " " + t.Value), token: t}
	o.token.Node = nodeHash(o.node)
	n.mu.Lock()
	s := n.of(c)
	s.offers = slices.DeleteFunc(s.offers, func(old offer) bool { return old.node == o.node })
	if len(s.offers) >= maxOffers {
		s.offers = slices.Delete(s.offers, 0, 1)
	}
	s.offers = append(s.offers, o)
	n.mu.Unlock()
	return result(c, e, completed(name, [2]string{"jid", n.jid(c)}, [2]string{"node", o.node}, [2]string{"secret", nodeHash("secret " + t.Value)}))
}

// unregister forgets what a client registered.
func (n *Notifier) unregister(c Client, e *stanza.Element, name string) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.of(c)
	s.offers = nil
	done := result(c, e, completed(name))
	if _, known := n.loc.Device(s.id); !known {
		return done
	}
	touched, err := n.loc.Enrol(s.id, nil)
	if err != nil {
		return refusal(c, e, "wait", "resource-constraint", "")
	}
	return n.keep(c, e, touched, done)
}

// completed is the answer to a command that is done (XEP-0050 §3.4).
func completed(node string, values ...[2]string) string {
	var b strings.Builder
	b.WriteString("<command xmlns='" + nsCommands + "' node='" + node + "' sessionid='1' status='completed'>")
	if len(values) > 0 {
		b.WriteString("<x xmlns='" + nsData + "' type='result'>")
		for _, v := range values {
			b.WriteString("<field var='" + v[0] + "'><value>" + escaped(v[1]) + "</value></field>")
		}
		b.WriteString("</x>")
	}
	return b.String() + "</command>"
}
