package notify

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"sallyport/core/location"
	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/classify"
)

// FromClient looks at what a client sends. What is for the Notifier is
// consumed and not for the server; the answer may be nil.
func (n *Notifier) FromClient(c Client, e *stanza.Element) (answer []byte, consumed bool) {
	switch {
	case e.Is(stanza.NSClient, "presence"):
		if to := e.Attr("to"); len(to) > 0 && len(e.Attr("type")) == 0 && e.Child(nsMUC, "x") != nil {
			n.named(c, stanza.Unescape(to), true)
		}
	case e.Is(stanza.NSClient, "iq"):
		kind := string(e.Attr("type"))
		if kind != "set" && kind != "get" {
			return nil, false
		}
		to := stanza.Unescape(e.Attr("to"))
		switch bare := classify.Bare(to); {
		case to == "", bare == classify.Bare(c.Bare()) && !strings.Contains(to, "/"):
			return n.account(c, e, kind)
		case bare == n.jid(c):
			return n.service(c, e, kind), true
		}
	}
	return nil, false
}

// jid is where a client registers for pushes.
func (n *Notifier) jid(c Client) string {
	_, domain, _ := strings.Cut(classify.Bare(c.Bare()), "@")
	return n.cfg.PushJID(domain)
}

// account answers what a client asks of its account (XEP-0357 §5, §6).
func (n *Notifier) account(c Client, e *stanza.Element, kind string) (answer []byte, consumed bool) {
	enable, disable := e.Child(nsPush, "enable"), e.Child(nsPush, "disable")
	if kind != "set" || enable == nil && disable == nil {
		return nil, false
	}
	ch := enable
	if ch == nil {
		ch = disable
	}
	in, err := e.Inside(ch)
	if err != nil {
		return nil, false
	}
	jid, node := stanza.Unescape(in.Attr("jid")), stanza.Unescape(in.Attr("node"))
	if classify.Bare(jid) != n.jid(c) {
		n.foreign(c, jid, enable != nil)
		return nil, false
	}
	if enable == nil {
		return n.disable(c, e, node), true
	}
	return n.enable(c, e, node, fields(in)), true
}

// maxWarned bounds the foreign push services that are told of.
const maxWarned = 256

// foreign tells once of a push service that hears nothing: as long as we hold
// the session, the server sees a client that is there.
func (n *Notifier) foreign(c Client, jid string, enabled bool) {
	n.mu.Lock()
	_, said := n.warned[jid]
	if !enabled || said || len(n.warned) >= maxWarned || len(jid) > 1024 {
		n.mu.Unlock()
		return
	}
	n.warned[strings.Clone(jid)] = struct{}{}
	n.mu.Unlock()
	n.log.Warn("a client registers for pushes with another service, which the server will not call while the core holds its session: "+
		"set the client to ours", "service", jid, "ours", n.jid(c))
}

// offer is a token that was registered ad hoc, and waits to be enabled.
type offer struct {
	node  string
	token location.Token
}

// nodeHash is how a node is remembered: clients put tokens there.
func nodeHash(node string) string {
	sum := sha256.Sum256([]byte(node))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// enable takes a registration.
func (n *Notifier) enable(c Client, e *stanza.Element, node string, f map[string]string) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.of(c)
	var had []location.Token
	if d, known := n.loc.Device(s.id); known {
		had = d.Tokens
	}
	hash := nodeHash(node)
	tokens, reason := n.chosen(s, had, node, f)
	if reason != "" {
		return refusal(c, e, "modify", "not-acceptable", reason)
	}
	for _, t := range had { // the device's others, and the newest of each channel
		mine := func(o location.Token) bool {
			return o.Provider == t.Provider && o.App == t.App && o.Kind == t.Kind
		}
		if t.Node != hash && !slices.ContainsFunc(tokens, mine) && len(tokens) < maxTokens {
			tokens = append(tokens, t)
		}
	}
	touched, err := n.loc.Enrol(s.id, tokens)
	if err != nil {
		n.log.Warn("registration for pushes not kept", "device", s.id, "err", err)
		return refusal(c, e, "wait", "resource-constraint", "")
	}
	n.moved(touched[1:])
	return n.keep(c, e, touched, result(c, e, ""))
}

// maxTokens is what core/location keeps of a device.
const maxTokens = 4

// chosen are the tokens that a registration means: those of a node known
// already, or the one that its fields say.
func (n *Notifier) chosen(s *state, had []location.Token, node string, f map[string]string) (tokens []location.Token, reason string) {
	hash := nodeHash(node)
	if f["device_id"] == "" {
		if i := slices.IndexFunc(s.offers, func(o offer) bool { return o.node == node }); i >= 0 {
			return []location.Token{s.offers[i].token}, ""
		}
		for _, t := range had {
			if t.Node == hash {
				tokens = append(tokens, t)
			}
		}
		if len(tokens) > 0 {
			return tokens, ""
		}
	}
	t, reason := n.tokenOf(node, f)
	t.Node = hash
	return []location.Token{t}, reason
}

// providers are the names that clients have for push services: MongooseIM's
// `service`, and the `pushModule` of fpush.
var providers = map[string]struct {
	provider string
	sandbox  bool
}{
	"apns": {provider: "apns"}, "apns.dev": {"apns", true}, "iosprod": {provider: "apns"}, "iossandbox": {"apns", true},
	"fcm": {provider: "fcm"}, "gcm": {provider: "fcm"},
	"webpush": {provider: "webpush"}, "unifiedpush": {provider: "webpush"},
}

// tokenOf reads a token from publish options, MongooseIM's by name. Without a
// `device_id` the node is the token.
func (n *Notifier) tokenOf(node string, f map[string]string) (t location.Token, reason string) {
	name := f["service"]
	if name == "" {
		name = f["pushModule"]
	}
	p, known := providers[strings.ToLower(name)]
	if !known {
		return t, "name the push service in the publish option \"service\": apns, fcm or webpush"
	}
	t = location.Token{Provider: p.provider, Value: f["device_id"], Sandbox: p.sandbox || f["mode"] == "dev"}
	if t.Value == "" {
		t.Value = node
	}
	t.App = f["topic"]
	if t.Provider == "apns" {
		t.Kind = "alert"
		if id, voip := strings.CutSuffix(t.App, ".voip"); voip {
			t.App, t.Kind = id, "voip"
		}
	}
	if t.Provider == "webpush" {
		t.Key, t.Auth = f["p256dh"], f["auth"]
	}
	return n.checked(t)
}

// checked completes a token with the app that it is for, or says what is wrong
// with it.
func (n *Notifier) checked(t location.Token) (_ location.Token, reason string) {
	switch {
	case t.Value == "":
		return t, "give the token in the publish option \"device_id\""
	case strings.ContainsFunc(t.Value, func(r rune) bool { return r <= ' ' || r > '~' }):
		return t, "the token has characters that no token has"
	case t.Provider == "webpush":
		if reason := badSubscription(t); reason != "" {
			return t, reason
		}
	}
	if t.App == "" {
		t.App = n.apps.Sole(t.Provider)
	}
	app, reason, ok := n.apps.Fit(wakeToken(&t))
	if !ok {
		return t, reason
	}
	t.App = app
	return t, ""
}

// badSubscription says what is wrong with a subscription of Web Push (RFC 8030,
// RFC 8291 §3).
func badSubscription(t location.Token) string {
	if u, err := url.Parse(t.Value); err != nil || u.Scheme != "https" || u.Host == "" {
		return "the endpoint of a Web Push subscription is an https address"
	}
	for _, k := range [...]struct {
		name, value string
		size        int
	}{{"p256dh", t.Key, 65}, {"auth", t.Auth, 16}} {
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.value, "="))
		if err != nil || len(raw) != k.size {
			return "the publish option \"" + k.name + "\" is no key of a Web Push subscription"
		}
	}
	return ""
}

// disable takes back a registration, or all if no node is named.
func (n *Notifier) disable(c Client, e *stanza.Element, node string) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.of(c)
	s.offers = slices.DeleteFunc(s.offers, func(o offer) bool { return node == "" || o.node == node })
	d, known := n.loc.Device(s.id)
	if !known {
		return result(c, e, "")
	}
	hash := nodeHash(node)
	left := slices.DeleteFunc(d.Tokens, func(t location.Token) bool { return node == "" || t.Node == hash })
	touched, err := n.loc.Enrol(s.id, left)
	if err != nil {
		return refusal(c, e, "wait", "resource-constraint", "")
	}
	return n.keep(c, e, touched, result(c, e, ""))
}
