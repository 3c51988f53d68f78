package notify_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"sallyport/core/location"
	"sallyport/core/stanza"
	"sallyport/core/wake"
	"sallyport/core/xmppproxy/notify"
)

const errorsNS = "urn:ietf:params:xml:ns:xmpp-stanzas"

// refused checks that a request is answered with an error.
func (w *town) refused(c *client, text, condition string) string {
	w.t.Helper()
	a := w.ask(c, text)
	ch := a.Child(stanza.NSClient, "error")
	if ch == nil {
		w.t.Fatalf("%s\nwas answered %s", text, a.Raw)
	}
	e, err := a.Inside(ch)
	if err != nil || e.Child(errorsNS, condition) == nil {
		w.t.Errorf("%s\nwas refused %s, want %s", text, a.Raw, condition)
	}
	return e.Text(1000)
}

func (w *town) tokens(c *client) []location.Token {
	d, _ := w.loc.Device(notify.Device(c))
	return d.Tokens
}

// XEP-0357 §5 with the publish options of MongooseIM.
func TestB1_AClientRegistersInBand(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		if w.Pushable(c) {
			t.Error("pushable before it registered")
		}
		a := w.ask(c, enable("node", options("service", "apns", "device_id", alertToken, "topic", bundle, "mode", "dev", "silent", "false", "priority", "high")))
		if string(a.Attr("type")) != "result" || string(a.Attr("id")) != "e1" || string(a.Attr("to")) != c.jid || len(a.Children) != 0 {
			t.Errorf("answered %s", a.Raw)
		}
		got := w.tokens(c)
		if len(got) != 1 || got[0].Provider != "apns" || got[0].Kind != "alert" || got[0].App != bundle || got[0].Value != alertToken || !got[0].Sandbox {
			t.Fatalf("kept %+v", got)
		}
		if !w.Pushable(c) {
			t.Error("not pushable")
		}
		w.granted(c, enable("calls", options("service", "apns", "device_id", voipToken, "topic", bundle+".voip")))
		w.granted(c, enable("node", options("service", "apns", "device_id", strings.ReplaceAll(alertToken, "a", "c"), "topic", bundle)))
		if got = w.tokens(c); len(got) != 2 || got[0].Kind+got[1].Kind != "alertvoip" || got[0].Value == alertToken || got[1].Value != voipToken {
			t.Errorf("with a new token for one channel: %+v", got)
		}
		for _, tok := range got {
			if strings.Contains(tok.Node, "node") || tok.Node == "" {
				t.Errorf("the node is kept as %q", tok.Node)
			}
		}
		if d, _ := w.loc.Device(notify.Device(c)); d.ID.String() != "xmpp:alice@example.com phone" {
			t.Errorf("the device is %q", d.ID.String())
		}
		time.Sleep(2 * time.Second)
		if all, _ := w.store.Load(t.Context()); len(all) != 1 {
			t.Errorf("%d devices are stored", len(all))
		}
	})
}

// fpush's dialect: the node is the token.
func TestB1_TheNodeMayBeTheToken(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		w.granted(c, enable(alertToken, options("pushModule", "iosProd")))
		if got := w.tokens(c); len(got) != 1 || got[0].Value != alertToken || got[0].App != bundle || strings.Contains(got[0].Node, alertToken) {
			t.Errorf("kept %+v", got)
		}
	})
}

func TestB12_ABrowserRegistersItsSubscription(t *testing.T) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256dh := base64.URLEncoding.EncodeToString(key.PublicKey().Bytes())
	auth := base64.RawURLEncoding.EncodeToString(make([]byte, 16))
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/web"}
		good := []string{"service", "unifiedpush", "device_id", "https://push.example.org/x", "p256dh", p256dh, "auth", auth}
		w.granted(c, enable("n", options(good...)))
		if got := w.tokens(c); len(got) != 1 || got[0].Provider != "webpush" || got[0].Key != p256dh || got[0].Auth != auth {
			t.Errorf("kept %+v", got)
		}
		for i, bad := range map[int]string{3: "http://push.example.org/x", 5: p256dh[2:], 7: "short"} {
			form := append([]string(nil), good...)
			form[i] = bad
			w.refused(c, enable("n", options(form...)), "not-acceptable")
		}
	})
}

func TestWhatCannotBePushedToIsRefusedWithItsReason(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		for form, word := range map[string]string{
			options("device_id", alertToken):                                                     "service",
			options("service", "hms", "device_id", alertToken):                                   "service",
			options("service", "apns", "device_id", alertToken, "topic", "org.other"):            "push.app",
			options("service", "fcm", "device_id", alertToken):                                   "push.app",
			options("service", "apns", "device_id", "a b", "topic", bundle):                      "characters",
			options("service", "apns", "device_id", strings.Repeat("a", 4096)+" ", "x"+"y", "z"): "push.app",
		} {
			if reason := w.refused(c, enable("a b", form), "not-acceptable"); !strings.Contains(reason, word) && word != "push.app" {
				t.Errorf("%s is refused with %q", form, reason)
			}
		}
		if w.tokens(c) != nil {
			t.Errorf("kept %+v", w.tokens(c))
		}
	})
}

func TestB29_WhatIsDisabledIsForgottenAtOnce(t *testing.T) {
	disable := func(node string) string {
		return `<iq type='set' id='d' to='alice@example.com'><disable xmlns='urn:xmpp:push:0' jid='push.example.com'` + node + `/></iq>`
	}
	inTown(t, notify.Config{}, func(w *town) {
		c := w.registered("alice@example.com/phone")
		w.granted(c, disable(" node='calls'"))
		if got := w.tokens(c); len(got) != 1 || got[0].Value != alertToken {
			t.Errorf("left are %+v", got)
		}
		w.granted(c, disable(" node='another'"))
		w.granted(c, disable(""))
		if _, known := w.loc.Device(notify.Device(c)); known || w.Pushable(c) {
			t.Error("the device is known")
		}
		w.granted(c, disable(""))
	})
}

func TestAForeignPushServiceIsLeftToTheServerAndToldOfOnce(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		for range 3 {
			text := strings.Replace(enable("n", ""), "push.example.com", "push.other.org", 1)
			if _, consumed := w.FromClient(c, parse(t, text)); consumed {
				t.Error("kept from the server")
			}
			w.FromClient(c, parse(t, strings.ReplaceAll(text, "enable", "disable")))
		}
		if n := w.log.count("push.other.org"); n != 1 {
			t.Errorf("told %d times:\n%s", n, &w.log.text)
		}
		for _, text := range []string{
			`<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>`,
			`<iq type='set' id='1' to='bob@example.com'><enable xmlns='urn:xmpp:push:0' jid='push.example.com' node='x'/></iq>`,
			`<iq type='result' id='1' to='push.example.com'/>`,
			`<message to='push.example.com'><body>x</body></message>`,
		} {
			if _, consumed := w.FromClient(c, parse(t, text)); consumed {
				t.Errorf("kept from the server: %s", text)
			}
		}
	})
}

func command(node string, pairs ...string) string {
	return `<iq type='set' id='c' to='push.example.com'><command xmlns='http://jabber.org/protocol/commands' action='execute' node='` + node + `'>` +
		options(pairs...) + `</command></iq>`
}

// The dialect of p2, which Conversations speaks.
func TestB1_ATokenIsRegisteredAdHocAndThenEnabled(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		a := w.ask(c, command("register-push-apns", "token", alertToken, "device-id", "d1"))
		if string(a.Attr("from")) != "push.example.com" {
			t.Errorf("answered %s", a.Raw)
		}
		values := strings.NewReplacer("<value>", " ", "</value>", " ").Replace(string(a.Raw))
		words := strings.Fields(values)
		if len(words) < 7 || !strings.Contains(string(a.Raw), `status='completed'`) || strings.Contains(string(a.Raw), alertToken) {
			t.Fatalf("answered %s", a.Raw)
		}
		field := func(name string) string {
			_, rest, _ := strings.Cut(string(a.Raw), "var='"+name+"'><value>")
			value, _, _ := strings.Cut(rest, "<")
			return value
		}
		if field("jid") != "push.example.com" || field("node") == "" || field("secret") == "" {
			t.Fatalf("answered %s", a.Raw)
		}
		if w.Pushable(c) {
			t.Error("pushable before it is enabled")
		}
		node, secret := field("node"), field("secret")
		w.granted(c, enable(node, options("secret", secret)))
		if got := w.tokens(c); len(got) != 1 || got[0].Value != alertToken || !w.Pushable(c) {
			t.Fatalf("kept %+v", got)
		}
		// After a restart the node alone is enough.
		w.Ended(c)
		w.granted(c, enable(node, options("secret", secret)))
		if got := w.tokens(c); len(got) != 1 || got[0].Value != alertToken {
			t.Errorf("kept %+v", got)
		}
		w.refused(c, enable("unknown", options("secret", secret)), "not-acceptable")
		w.refused(c, command("register-push-fcm", "token", "x"), "not-acceptable") // there is no such app
		w.refused(c, command("register-push-apns", "token", alertToken, "muc", "tea@muc.example.com"), "feature-not-implemented")
		w.refused(c, command("other"), "item-not-found")
		w.granted(c, command("unregister-push"))
		if w.Pushable(c) {
			t.Error("pushable after it took the registration back")
		}
		for range 20 {
			w.granted(c, command("register-push-apns", "token", alertToken))
		}
	})
}

func TestThePushServiceSaysWhatItIs(t *testing.T) {
	inTown(t, notify.Config{PushJID: func(domain string) string { return "pubsub." + domain }}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		get := func(inside string) string { return `<iq type='get' id='1' to='pubsub.example.com'>` + inside + `</iq>` }
		if a := w.ask(c, get(`<query xmlns='http://jabber.org/protocol/disco#info'/>`)); !strings.Contains(string(a.Raw), `var='urn:xmpp:push:0'`) {
			t.Errorf("info: %s", a.Raw)
		}
		if a := w.ask(c, get(`<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>`)); strings.Count(string(a.Raw), "<item ") != 3 {
			t.Errorf("items: %s", a.Raw)
		}
		w.refused(c, get(`<query xmlns='jabber:iq:version'/>`), "service-unavailable")
	})
}

// B.2: disco#info of the own bare JID says that pushes can be registered for.
func TestB2_TheAccountSaysThatItTakesRegistrations(t *testing.T) {
	inTown(t, notify.Config{}, func(w *town) {
		c := &client{jid: "alice@example.com/phone"}
		info := func(from, inside string) string {
			return `<iq type='result' id='1'` + from + `><query xmlns='http://jabber.org/protocol/disco#info'>` + inside + `</query></iq>`
		}
		const identity, feature = `<identity category='account' type='registered'/>`, `<feature xmlns='http://jabber.org/protocol/disco#info' var='urn:xmpp:push:0'/>`
		own := ` from='alice@example.com' to='alice@example.com/phone'`
		got := w.FromServer(c, parse(t, info(own, identity)))
		if got == nil || string(got.Raw) != info(own, identity+feature) {
			t.Fatalf("became %+v", got)
		}
		if w.FromServer(c, parse(t, strings.ReplaceAll(info("", ""), "></query>", "/>"))) == nil {
			t.Error("an empty answer is left alone")
		}
		for _, text := range []string{
			info(own, identity+feature), info(` from='example.com'`, identity), info(` from='alice@example.com/desk'`, identity),
			info(` from='bob@example.com'`, identity), strings.Replace(info(own, identity), "<query", "<query node='x'", 1),
			strings.Replace(info(own, identity), "result", "error", 1), text("1", "x"),
		} {
			if w.FromServer(c, parse(t, text)) != nil {
				t.Errorf("changed: %s", text)
			}
		}
	})
}

// FuzzFromClient: whatever a client sends is taken, or answered with one element.
func FuzzFromClient(f *testing.F) {
	for _, s := range []string{
		enable("n", options("service", "apns", "device_id", alertToken, "topic", bundle)),
		command("register-push-apns", "token", "x&amp;'"), `<iq type='get' id="'" to='push.example.com'/>`,
		`<presence to='a@b/c'><x xmlns='http://jabber.org/protocol/muc'/></presence>`,
		`<iq type='set' id='1'><disable xmlns='urn:xmpp:push:0' jid='push.example.com'/></iq>`,
	} {
		f.Add([]byte(s))
	}
	n := notify.New(notify.Config{}, notify.Deps{Location: location.New(location.Config{}, &location.Memory{}, nil), Apps: anyApp{}})
	f.Fuzz(func(t *testing.T, text []byte) {
		frames := stanza.NewFrames(stanza.Limits{})
		frames.Feed(text)
		_, e, err := frames.Next()
		if err != nil || e == nil {
			return
		}
		c := &client{jid: "alice@example.com/'<&>"}
		answer, consumed := n.FromClient(c, e)
		set := e.Is(stanza.NSClient, "iq") && string(e.Attr("type")) == "set" // may have to be written down first
		if !consumed && answer != nil || consumed && answer == nil && !set {
			t.Fatalf("%q: consumed %v, answered %q", text, consumed, answer)
		}
		if answer != nil {
			parse(t, string(answer))
		}
		if out := n.FromServer(c, e); out != nil {
			parse(t, string(out.Raw))
		}
		n.Ended(c)
	})
}

// anyApp fits every token.
type anyApp struct{ notify.Apps }

func (anyApp) Sole(string) string { return bundle }

// Fit implements notify.Apps.
func (anyApp) Fit(wake.Token) (app, reason string, ok bool) { return bundle, "", true }

// Returned implements notify.Apps.
func (anyApp) Returned(string) {}
