package push_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/core/push"
	"sallyport/core/push/aes128gcm"
)

// owner is a device that gave a key.
type owner struct {
	key  *ecdh.PrivateKey
	auth []byte
}

func newOwner(t testing.TB) *owner {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, aes128gcm.AuthLen)
	_, _ = rand.Read(auth)
	return &owner{key, auth}
}

func (o *owner) of(token push.Token) push.Token {
	token.Key = base64.RawURLEncoding.EncodeToString(o.key.PublicKey().Bytes())
	token.Auth = base64.RawURLEncoding.EncodeToString(o.auth)
	return token
}

// open returns what an envelope holds.
func (o *owner) open(t testing.TB, envelope any) map[string]any {
	t.Helper()
	text, _ := envelope.(string)
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || text == "" {
		t.Fatalf("no envelope: %q, %v", text, err)
	}
	plain, err := aes128gcm.Open(body, o.key, o.auth)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(plain, &m); err != nil {
		t.Fatalf("%v: %q", err, plain)
	}
	return m
}

// at makes a service whose apps are at one level of privacy.
func level(f *fake, p push.Privacy) *push.Service {
	all := apps(f)
	for i := range all {
		all[i].Privacy = p
	}
	return push.New(push.Config{Enabled: true, Secret: []byte("secret")}, all, nil, nil)
}

var (
	webToken = push.Token{Provider: push.ProviderWebPush, Value: "https://push.example/abcdef"}

	secretCall = push.Call{
		CallID: "c1", FromURI: "sip:+4930555@example.com", FromName: "Carol Sekrit", Number: "+4930555", To: bob, Video: true,
	}
	secretNote = push.Note{
		Event: push.EventMessage, FromURI: "sip:+4930555@example.com", FromName: "Carol Sekrit", Number: "+4930555",
		Text: "meet at noon", To: bob, Conversation: "sip:+4930555@example.com", Count: 3, Badge: 7, ID: "m1",
	}
)

// wire is all that leaves for a provider.
func wire(n push.Notification) string {
	return fmt.Sprintf("%s %v %s %s", n.Payload, n.Data, n.CollapseID, n.Conversation)
}

func shows(n push.Notification) (who, text bool) {
	all := wire(n)
	for _, s := range []string{"Sekrit", "30555"} {
		who = who || strings.Contains(all, s)
	}
	return who, strings.Contains(all, "noon")
}

func TestP26_LevelsShowWhatTheySayAndNoMore(t *testing.T) {
	for _, c := range []struct {
		level           push.Privacy
		key             bool
		call, note, txt bool // caller of a call, writer and text of a note
	}{
		{level: push.PrivacyDefault, call: true},
		{level: push.PrivacyDefault, key: true},
		{level: push.PrivacyWake, call: true},
		{level: push.PrivacyWake, key: true, call: true},
		{level: push.PrivacySender, call: true, note: true},
		{level: push.PrivacyFull, call: true, note: true, txt: true},
		{level: push.PrivacyE2E},
		{level: push.PrivacyE2E, key: true},
	} {
		for _, token := range []push.Token{apnsToken(push.KindVoIP, "v"), fcmToken("")} {
			t.Run(fmt.Sprintf("%s %q, key %v", token.Provider, c.level, c.key), func(t *testing.T) {
				f, o := &fake{}, newOwner(t)
				tokens := []push.Token{token}
				if token.Provider == push.ProviderAPNs {
					tokens = append(tokens, apnsToken(push.KindAlert, "a"))
				}
				if c.key {
					for i := range tokens {
						tokens[i] = o.of(tokens[i])
					}
				}
				s := level(f, c.level)
				wantOutcome(t, s.Call(t.Context(), push.Target{Tokens: tokens}, secretCall), push.Accepted)
				wantOutcome(t, s.Note(t.Context(), push.Target{Tokens: tokens}, secretNote), push.Accepted)
				call, note := f.all()[0], f.all()[1]
				if who, _ := shows(call); who != c.call {
					t.Errorf("call shows its caller: %v: %s", who, wire(call))
				}
				if who, text := shows(note); who != c.note || text != c.txt {
					t.Errorf("note shows its writer: %v, its text: %v: %s", who, text, wire(note))
				}
			})
		}
	}
}

func TestP26_AnEnvelopeHoldsAllForTheDeviceAlone(t *testing.T) {
	for _, token := range []push.Token{apnsToken(push.KindVoIP, "v"), fcmToken("")} {
		f, o := &fake{}, newOwner(t)
		s := level(f, push.PrivacyDefault)
		wantOutcome(t, s.Call(t.Context(), push.Target{Tokens: []push.Token{o.of(token)}}, secretCall), push.Accepted)
		_, clear := f.last(t)
		inner := o.open(t, clear["e2e"])
		for key, want := range map[string]any{
			"from_name": "Carol Sekrit", "number": "+4930555", "from_uri": "sip:+4930555@example.com", "to": bob, "video": true,
		} {
			if inner[key] != want || clear[key] != nil {
				t.Errorf("%s: %s is %v inside and %v outside", token.Provider, key, inner[key], clear[key])
			}
		}
		for _, key := range []string{"v", "channel", "event", "call_id", "uuid", "sent_at", "ring_until"} {
			if clear[key] == nil || fmt.Sprint(inner[key]) != fmt.Sprint(clear[key]) && token.Provider != push.ProviderFCM {
				t.Errorf("%s: %s is %v inside and %v outside", token.Provider, key, inner[key], clear[key])
			}
		}
		if inner["aps"] != nil || inner["e2e"] != nil {
			t.Errorf("%s: inside is %v", token.Provider, inner)
		}
	}
	f, o := &fake{}, newOwner(t)
	s := level(f, push.PrivacyE2E)
	wantOutcome(t, s.Note(t.Context(), push.Target{Tokens: []push.Token{o.of(apnsToken(push.KindAlert, "a"))}}, secretNote), push.Accepted)
	_, clear := f.last(t)
	inner := o.open(t, clear["e2e"])
	if inner["text"] != "meet at noon" || inner["count"] != 3.0 || clear["count"] != nil || clear["to"] != nil {
		t.Errorf("inside %v, outside %v", inner, clear)
	}
}

func TestP26_ABadKeyIsNoneAndShowsNothing(t *testing.T) {
	for name, key := range map[string][2]string{
		"no secret":  {newOwner(t).of(push.Token{}).Key, ""},
		"short":      {"AAAA", newOwner(t).of(push.Token{}).Auth},
		"no point":   {base64.RawURLEncoding.EncodeToString(append([]byte{4}, make([]byte, 64)...)), newOwner(t).of(push.Token{}).Auth},
		"not base64": {strings.Repeat("!", 87), newOwner(t).of(push.Token{}).Auth},
	} {
		f := &fake{}
		token := apnsToken(push.KindAlert, "a")
		token.Key, token.Auth = key[0], key[1]
		wantOutcome(t, level(f, push.PrivacyDefault).Note(t.Context(), push.Target{Tokens: []push.Token{token}}, secretNote), push.Accepted)
		n, clear := f.last(t)
		if who, text := shows(n); who || text || clear["e2e"] != nil || clear["to"] != bob {
			t.Errorf("%s: %s", name, n.Payload)
		}
	}
}

// What WebPush carries is sealed by its sender, so that it is made whole.
func TestP26_WebPushGetsTheWholeForADeviceWithAKey(t *testing.T) {
	f, o := &fake{}, newOwner(t)
	s := level(f, push.PrivacyDefault)
	wantOutcome(t, s.Note(t.Context(), push.Target{Tokens: []push.Token{o.of(webToken)}}, secretNote), push.Accepted)
	n, got := f.last(t)
	if got["text"] != "meet at noon" || got["from_name"] != "Carol Sekrit" || got["aps"] != nil || got["e2e"] != nil {
		t.Errorf("payload %s", n.Payload)
	}
	wantOutcome(t, s.Note(t.Context(), push.Target{Tokens: []push.Token{webToken}}, secretNote), push.Accepted)
	n, _ = f.last(t)
	if who, text := shows(n); who || text {
		t.Errorf("payload %s", n.Payload)
	}
}

func TestAnAlertShowsWhoAndWhatWhereTheLevelDoes(t *testing.T) {
	for lvl, want := range map[push.Privacy]map[string]any{
		push.PrivacyWake:   {"title": "New message", "title-loc-key": "New message"},
		push.PrivacySender: {"title": "New message", "title-loc-key": "New message", "subtitle": "Carol Sekrit"},
		push.PrivacyFull:   {"title": "New message", "title-loc-key": "New message", "subtitle": "Carol Sekrit", "body": "meet at noon"},
	} {
		f := &fake{}
		level(f, lvl).Note(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindAlert, "a")}}, secretNote)
		n, got := f.last(t)
		aps := got["aps"].(map[string]any)
		if d := cmp.Diff(want, aps["alert"]); d != "" {
			t.Errorf("%s: %s", lvl, d)
		}
		if aps["badge"] != 7.0 || got["count"] != 3.0 || aps["thread-id"] != n.Conversation || got["conversation"] != n.Conversation {
			t.Errorf("%s: %s", lvl, n.Payload)
		}
		if n.CollapseID != n.Conversation || len(n.Conversation) != 43 || got["id"] != n.ID {
			t.Errorf("%s: %+v", lvl, n)
		}
	}
}

// A number has few digits: whoever could compute the name of a conversation
// would find the number by trying all.
func TestP26_TheNameOfAConversationTellsNobodyWhichItIs(t *testing.T) {
	name := func(secret, to, conversation string) string {
		f := &fake{}
		n := secretNote
		n.To, n.Conversation = to, conversation
		s := push.New(push.Config{Enabled: true, Secret: []byte(secret)}, apps(f), nil, nil)
		s.Note(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindAlert, "a")}}, n)
		return f.all()[0].CollapseID
	}
	first := name("one", bob, "sip:carol@example.com")
	if first != name("one", bob, "sip:carol@example.com") {
		t.Error("the same conversation has two names")
	}
	for _, other := range []string{
		name("two", bob, "sip:carol@example.com"), name("one", "sip:dave@example.com", "sip:carol@example.com"), name("one", bob, "sip:eve@example.com"),
	} {
		if other == first {
			t.Error("two conversations, or cores with different secrets, have one name")
		}
	}
}

func TestP30_APassiveNoteDoesNotLightTheScreen(t *testing.T) {
	f := &fake{}
	s := quietService(f, push.QuietRule{AOR: "*", Notes: push.MannerPassive})
	wantOutcome(t, s.Note(t.Context(), bobs(), push.Note{Event: push.EventMessage, To: bob}), push.Accepted)
	n, got := f.last(t)
	aps := got["aps"].(map[string]any)
	if aps["interruption-level"] != "passive" || aps["sound"] != nil || !n.Passive || n.Priority != 5 || n.Background {
		t.Errorf("%s, %+v", n.Payload, n)
	}
}

func TestP24_WhatIsTooLargeIsSentOnceMoreWithoutContent(t *testing.T) {
	for _, token := range []push.Token{apnsToken(push.KindAlert, "a"), fcmToken(""), webToken} {
		for _, keyed := range []bool{false, true} {
			o := newOwner(t)
			f := &fake{answer: func(push.Notification) push.Result {
				return push.Result{Outcome: push.Refused, Status: 413, Reason: "PayloadTooLarge"}
			}}
			if keyed {
				token = o.of(token)
			}
			r := level(f, push.PrivacyDefault).Note(t.Context(), push.Target{Tokens: []push.Token{token}}, secretNote)
			wantOutcome(t, r, push.Refused)
			all := f.all()
			if len(all) != 2 || all[0].ID != all[1].ID {
				t.Fatalf("%s, key %v: sent %d times", token.Provider, keyed, len(all))
			}
			got := decode(t, all[1].Payload)
			if who, text := shows(all[1]); who || text || got["e2e"] != nil || got["id"] != all[1].ID {
				t.Errorf("%s, key %v: %s", token.Provider, keyed, wire(all[1]))
			}
		}
	}
}

func TestP25_EveryFormKeepsItsLimit(t *testing.T) {
	o := newOwner(t)
	limits := map[string]int{push.ProviderAPNs: push.MaxMessage, push.ProviderFCM: push.MaxMessage, push.ProviderWebPush: push.MaxWebPush}
	for _, text := range []string{strings.Repeat("😀", 20_000), strings.Repeat("\x00", 20_000), huge} {
		for _, field := range []func(n *push.Note){
			func(n *push.Note) { n.Text = text },
			func(n *push.Note) { n.FromName = text },
			func(n *push.Note) {
				n.Text, n.FromName, n.FromURI, n.Number, n.CallID, n.To = text, text, text, text, text, text
			},
		} {
			n := secretNote
			field(&n)
			for _, lvl := range []push.Privacy{push.PrivacyFull, push.PrivacyE2E} {
				for _, token := range []push.Token{apnsToken(push.KindAlert, "a"), fcmToken(""), webToken} {
					f := &fake{}
					wantOutcome(t, level(f, lvl).Note(t.Context(), push.Target{Tokens: []push.Token{o.of(token)}}, n), push.Accepted)
					sent, got := f.last(t)
					if size := len(sent.Payload); size > limits[token.Provider] || size < limits[token.Provider]-256 {
						t.Errorf("%s %s: %d bytes", token.Provider, lvl, size)
					}
					if token.Provider == push.ProviderFCM {
						if d := cmp.Diff(got, anyOf(sent.Data)); d != "" {
							t.Error(d)
						}
					}
					if lvl == push.PrivacyE2E && token.Provider != push.ProviderWebPush {
						if inner := o.open(t, got["e2e"]); inner["event"] != "message" {
							t.Errorf("inside: %v", inner)
						}
					}
				}
			}
		}
	}
}

func anyOf(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func FuzzEnvelope(f *testing.F) {
	f.Add("c1", "Carol", "meet at noon", "sip:bob@example.com")
	f.Add(strings.Repeat("i", 6000), "\"\\\x00", strings.Repeat("😀", 2000), "\xff")
	o := newOwner(f)
	fk := &fake{}
	s := level(fk, push.PrivacyE2E)
	tokens := push.Target{Tokens: []push.Token{o.of(apnsToken(push.KindAlert, "a"))}}
	sent := time.Now()
	f.Fuzz(func(t *testing.T, id, name, text, to string) {
		fk.mu.Lock()
		fk.sent = nil
		fk.mu.Unlock()
		s.Note(t.Context(), tokens, push.Note{Event: push.EventMessage, CallID: id, FromName: name, Text: text, To: to, Sent: sent})
		n, clear := fk.last(t)
		if len(n.Payload) > push.MaxMessage {
			t.Fatalf("%d bytes", len(n.Payload))
		}
		inner := o.open(t, clear["e2e"])
		if len(id) < 100 && len(to) < 100 && len(name) < 100 && inner["from_name"] != strings.ToValidUTF8(name, "\ufffd") &&
			inner["from_name"] == nil {
			t.Fatalf("the name is gone: %v", inner)
		}
	})
}
