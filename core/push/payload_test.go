package push_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sallyport/core/push"
)

func TestPayloadOfACall(t *testing.T) {
	f := &fake{}
	c := carol
	c.Video = true
	c.Sent = time.UnixMilli(1_700_000_000_123)
	c.RingUntil = time.Now().Add(time.Minute).Truncate(time.Millisecond)
	wantOutcome(t, service(f).Call(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindVoIP, "v")}, Class: "split"}, c), push.Accepted)
	n, got := f.last(t)
	want := map[string]any{
		"aps": map[string]any{}, "v": 1.0, "channel": "voip", "event": "call",
		"call_id": "a84b4c76e66710", "uuid": push.CallUUID("a84b4c76e66710"),
		"from_uri": "sip:carol@example.com", "from_name": "Carol", "number": "carol", "to": "sip:bob@example.com",
		"video": true, "sent_at": 1_700_000_000_123.0, "ring_until": float64(c.RingUntil.UnixMilli()),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !n.Expiration.IsZero() || n.Priority != 10 || !n.Urgent || n.App != bundle {
		t.Errorf("notification %+v", n)
	}
	if !strings.HasPrefix(string(n.Payload), `{"aps":{},"v":1,"channel":"voip","event":"call","call_id":`) {
		t.Errorf("order of keys: %s", n.Payload)
	}
}

func TestPayloadOfACallSaysFalseAndEmpty(t *testing.T) {
	f := &fake{}
	service(f).Call(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindVoIP, "v")}, Class: "split"}, push.Call{CallID: "x"})
	_, got := f.last(t)
	for key, want := range map[string]any{"video": false, "from_name": "", "from_uri": "", "number": "", "to": ""} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %v, want %v", key, v, want)
		}
	}
	if got["ring_until"].(float64)-got["sent_at"].(float64) != 13_000 {
		t.Errorf("rings from %v to %v", got["sent_at"], got["ring_until"])
	}
}

// RFC 9562 Appendix A.4 gives the vector for the DNS namespace; ours is the
// URL namespace, whose vector is that of the common implementations.
func TestCallUUIDIsVersion5(t *testing.T) {
	if got, want := push.CallUUID("http://www.example.com/"), "fcde3c85-2270-590f-9e7c-ee003d65e0e2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestP26_NoteShowsNobody(t *testing.T) {
	note := push.Note{
		CallID: "c1", FromURI: "sip:carol.sekrit@example.com", FromName: "Carol Sekrit",
		Number: "555123", To: "sip:bob@example.com",
	}
	for event, title := range map[string]string{
		push.EventMissed:            "Missed call",
		push.EventAnsweredElsewhere: "Call answered on another device",
		push.EventMessage:           "New message",
	} {
		f := &fake{}
		note.Event = event
		wantOutcome(t, service(f).Note(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindAlert, "a")}}, note), push.Accepted)
		n, got := f.last(t)
		for _, secret := range []string{"Sekrit", "sekrit", "555123"} {
			if strings.Contains(string(n.Payload), secret) || strings.Contains(n.CollapseID, secret) {
				t.Errorf("%s shows %q: %s", event, secret, n.Payload)
			}
		}
		aps := got["aps"].(map[string]any)
		if d := cmp.Diff(map[string]any{"title": title, "title-loc-key": title}, aps["alert"]); d != "" {
			t.Error(d)
		}
		if aps["mutable-content"] != 1.0 || got["channel"] != "message" || got["event"] != event ||
			got["call_id"] != "c1" || got["uuid"] != push.CallUUID("c1") || got["to"] != note.To {
			t.Errorf("payload %s", n.Payload)
		}
		if n.CollapseID == "" || len(n.CollapseID) > 64 || n.Urgent || n.Priority != 10 {
			t.Errorf("notification %+v", n)
		}
		if left := time.Until(n.Expiration); left < 23*time.Hour || left > 24*time.Hour {
			t.Errorf("kept for %v", left)
		}
	}
}

func TestP27_HostileNamesSurvive(t *testing.T) {
	for name, want := range map[string]string{
		"\"\\😀\x00":                       "\"\\😀\x00",
		"\xff\xfeCarol":                   "\ufffd\ufffdCarol",
		"</script>&<b>":                   "</script>&<b>",
		"\u2028\u2029\x7f\x1b[31m":        "\u2028\u2029\x7f\x1b[31m",
		`{"aps":{"alert":"injected"}}`:    `{"aps":{"alert":"injected"}}`,
		"line\r\nbreak":                   "line\r\nbreak",
		"\u202egnp.exe":                   "\u202egnp.exe",
		strings.Repeat("é", 100) + "\xc3": strings.Repeat("é", 100) + "\ufffd",
	} {
		f := &fake{}
		c := carol
		c.FromName = name
		wantOutcome(t, service(f).Call(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindVoIP, "v")}}, c), push.Accepted)
		if _, got := f.last(t); got["from_name"] != want {
			t.Errorf("name %q arrives as %q", name, got["from_name"])
		}
	}
}

func TestP25_LongNamesAreCutNotRefused(t *testing.T) {
	long := map[string]func(*push.Call){
		"name":                    func(c *push.Call) { c.FromName = strings.Repeat("n", 60_000) },
		"name of emoji":           func(c *push.Call) { c.FromName = strings.Repeat("😀", 20_000) },
		"name of quotes":          func(c *push.Call) { c.FromName = strings.Repeat("\x00", 20_000) },
		"name of broken UTF-8":    func(c *push.Call) { c.FromName = strings.Repeat("\xff", 20_000) },
		"URI":                     func(c *push.Call) { c.FromURI = "sip:" + strings.Repeat("u", 60_000) + "@example.com" },
		"number":                  func(c *push.Call) { c.Number = strings.Repeat("1", 60_000) },
		"Call-ID":                 func(c *push.Call) { c.CallID = strings.Repeat("i", 60_000) },
		"AOR":                     func(c *push.Call) { c.To = "sip:" + strings.Repeat("t", 60_000) + "@example.com" },
		"all that a stranger may": func(c *push.Call) { c.FromName, c.FromURI, c.Number, c.CallID = huge, huge, huge, huge },
	}
	for name, change := range long {
		for provider, limit := range map[string]int{push.ProviderAPNs: push.MaxVoIP, push.ProviderFCM: push.MaxMessage} {
			f := &fake{}
			c := carol
			change(&c)
			token := apnsToken(push.KindVoIP, "v")
			if provider == push.ProviderFCM {
				token = fcmToken("")
			}
			wantOutcome(t, service(f).Call(t.Context(), push.Target{Tokens: []push.Token{token}}, c), push.Accepted)
			n, got := f.last(t)
			if len(n.Payload) > limit || len(n.Payload) < limit-len(c.CallID)-12 {
				t.Errorf("%s, %s: %d bytes, limit %d", name, provider, len(n.Payload), limit)
			}
			if got["uuid"] != push.CallUUID(c.CallID) {
				t.Errorf("%s: uuid %v", name, got["uuid"])
			}
			if id, ok := got["call_id"]; ok && id != c.CallID {
				t.Errorf("%s: half a Call-ID", name)
			}
		}
	}
}

var huge = strings.Repeat("h", 60_000)

func TestP24_TooLargeIsResentWithoutContent(t *testing.T) {
	f := &fake{}
	f.answer = func(n push.Notification) push.Result {
		if strings.Contains(string(n.Payload), "Carol") {
			return push.Result{Outcome: push.Refused, Status: 413, Reason: "PayloadTooLarge"}
		}
		return push.Result{Outcome: push.Accepted, Status: 200}
	}
	wantOutcome(t, service(f).Call(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindVoIP, "v")}}, carol), push.Accepted)
	all := f.all()
	if len(all) != 2 || all[0].ID != all[1].ID {
		t.Fatalf("sent %d", len(all))
	}
	if _, got := f.last(t); got["uuid"] != push.CallUUID(carol.CallID) || got["call_id"] != carol.CallID || got["from_uri"] != nil {
		t.Errorf("payload %v", got)
	}
}

func FuzzPayload(f *testing.F) {
	f.Add("a84b4c76e66710", "Carol", "sip:carol@example.com", "carol", "sip:bob@example.com")
	f.Add("\xff\x00", "\"\\", strings.Repeat("😀", 2000), "<>&", strings.Repeat("\x01", 3000))
	sender := &fake{}
	s := service(sender)
	token := []push.Token{apnsToken(push.KindVoIP, "v")}
	f.Fuzz(func(t *testing.T, id, name, uri, number, to string) {
		s.Call(t.Context(), push.Target{Tokens: token}, push.Call{CallID: id, FromName: name, FromURI: uri, Number: number, To: to})
		sender.mu.Lock()
		n := sender.sent[0]
		sender.sent = nil
		sender.mu.Unlock()
		if len(n.Payload) > push.MaxVoIP || !utf8.Valid(n.Payload) || !json.Valid(n.Payload) {
			t.Fatalf("payload of %d bytes: %q", len(n.Payload), n.Payload)
		}
		if got := decode(t, n.Payload); len(name) < 100 && len(id)+len(to) < 500 && got["from_name"] == nil {
			t.Fatalf("the name is gone: %q", n.Payload)
		}
	})
}

func TestANoteThatAsksToRegisterShowsNothingAndNeverGoesByVoIP(t *testing.T) {
	f := &fake{}
	s := push.New(push.Config{Enabled: true}, apps(f), nil, nil)
	both := []push.Token{apnsToken(push.KindVoIP, "v"), apnsToken(push.KindAlert, "a")}
	note := push.Note{Event: push.EventRegister, To: "sip:alice@example.com", Sent: time.UnixMilli(1000)}
	wantOutcome(t, s.Note(t.Context(), push.Target{Tokens: both}, note), push.Accepted)
	n := f.all()[0]
	want := `{"aps":{"content-available":1},"v":1,"channel":"message","event":"register","to":"sip:alice@example.com","sent_at":1000}`
	if string(n.Payload) != want || !n.Background || n.Priority != 5 || n.Channel != push.Message || n.Token.Kind != push.KindAlert {
		t.Errorf("%s, %+v", n.Payload, n)
	}
	for _, class := range []string{"", push.ClassSingle} {
		r := s.Note(t.Context(), push.Target{Tokens: both[:1], Class: class}, note)
		if r.Outcome != push.NoRoute || len(f.all()) != 1 {
			t.Errorf("%+v, %d pushes", r, len(f.all()))
		}
	}
}
