package push_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
)

var update = flag.Bool("update", false, "write the examples in docs/push.md anew")

// notes are those of the examples.
func exampleNote(event string) push.Note {
	n := push.Note{
		Event: event, FromURI: "sip:carol@example.com", FromName: "Carol", Number: "carol", To: "sip:alice@example.com", Sent: time.Now(),
	}
	switch event {
	case push.EventMessage:
		n.ID, n.Text, n.Conversation, n.Count, n.Badge = "m1", "Lunch at noon?", n.FromURI, 2, 5
	case push.EventRegister:
		n.FromURI, n.FromName, n.Number = "", "", ""
	default:
		n.CallID = "a84b4c76e66710"
	}
	return n
}

// sample sends what an example in docs/push.md is of, and returns what left.
func sample(t *testing.T, o *owner, provider, what, lvl string) push.Notification {
	t.Helper()
	token := map[string]push.Token{push.ProviderFCM: fcmToken(""), push.ProviderWebPush: webToken}[provider]
	if provider == push.ProviderAPNs {
		token = apnsToken(push.KindAlert, "a")
		if what == "voip" {
			token = apnsToken(push.KindVoIP, "v")
		}
	}
	privacy := push.Privacy(lvl)
	switch {
	case provider == push.ProviderWebPush, lvl == "e2e", lvl == "inside":
		token, privacy = o.of(token), push.PrivacyDefault
	case lvl == "default":
		privacy = push.PrivacyDefault
	}
	f := &fake{}
	s, target := level(f, privacy), push.Target{Device: "sip:alice@example.com <urn:uuid:1>", Tokens: []push.Token{token}}
	if what == "voip" {
		now := time.Now()
		wantOutcome(t, s.Call(t.Context(), target, push.Call{
			CallID: "a84b4c76e66710", FromURI: "sip:carol@example.com", FromName: "Carol", Number: "carol",
			To: "sip:alice@example.com", Sent: now, RingUntil: now.Add(13 * time.Second),
		}), push.Accepted)
	} else {
		wantOutcome(t, s.Note(t.Context(), target, exampleNote(what)), push.Accepted)
	}
	n, _ := f.last(t)
	return n
}

var examples = regexp.MustCompile("(?s)<!-- example: (\\S+) (\\S+) (\\S+) -->\n```json\n(.*?)```")

// Each example in docs/push.md is what the service sends, and fits the schema.
func TestTheExamplesInTheDocumentAreWhatIsSent(t *testing.T) {
	const page = "../../docs/push.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	s, o, found := readSchema(t), newOwner(t), 0
	at(t, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), func(t *testing.T) {
		text = examples.ReplaceAllFunc(text, func(whole []byte) []byte {
			found++
			m := examples.FindSubmatch(whole)
			provider, what, lvl, shown := string(m[1]), string(m[2]), string(m[3]), m[4]
			n := sample(t, o, provider, what, lvl)
			got := decode(t, n.Payload)
			if lvl == "inside" {
				got = o.open(t, got["e2e"])
			}
			typed := got
			if provider == push.ProviderFCM {
				typed = undata(got)
			}
			if f := s.fault(s.root, typed, "push"); f != "" {
				t.Errorf("%s %s %s: %s: %s", provider, what, lvl, f, n.Payload)
			}
			if envelope, ok := got["e2e"].(string); ok { // each is another
				got["e2e"] = envelope[:24] + "…"
				inner := o.open(t, envelope)
				if f := s.fault(s.root, inner, "inside"); f != "" {
					t.Errorf("%s %s %s: %s", provider, what, lvl, f)
				}
			}
			want := indent(t, got, n.Payload)
			if *update {
				return fmt.Appendf(nil, "<!-- example: %s %s %s -->\n```json\n%s\n```", provider, what, lvl, want)
			}
			if a, b := blur(want), blur(strings.TrimSpace(string(shown))); a != b {
				t.Errorf("%s %s %s is sent as\n%s\nand shown as\n%s", provider, what, lvl, want, shown)
			}
			return whole
		})
	})
	if found < 12 {
		t.Errorf("%d examples", found)
	}
	if *update {
		if err := os.WriteFile(page, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// blur hides what is another each time: an envelope.
func blur(s string) string {
	return regexp.MustCompile(`"e2e": "[^"]*"`).ReplaceAllString(s, `"e2e": "…"`)
}

// indent shows got, whose keys stand in the order of payload where they do.
func indent(t *testing.T, got map[string]any, payload []byte) string {
	t.Helper()
	sorted, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := got["e2e"].(string); ok {
		sorted = regexp.MustCompile(`"e2e":"[^"]*"`).ReplaceAll(payload, []byte(`"e2e":"`+e+`"`))
	} else if same := decode(t, payload); len(same) == len(got) && same["e2e"] == nil {
		sorted = payload
	}
	var b bytes.Buffer
	if err := json.Indent(&b, sorted, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Whatever is sent, at whatever level and for whomever, fits the schema.
func TestEveryPushFitsTheSchema(t *testing.T) {
	s, o := readSchema(t), newOwner(t)
	for _, lvl := range []push.Privacy{push.PrivacyDefault, push.PrivacyWake, push.PrivacySender, push.PrivacyFull, push.PrivacyE2E} {
		for _, token := range []push.Token{apnsToken(push.KindVoIP, "v"), apnsToken(push.KindAlert, "a"), fcmToken(""), webToken} {
			for _, t2 := range []push.Token{token, o.of(token)} {
				for _, status := range []int{200, 413} {
					f := &fake{answer: func(push.Notification) push.Result { return push.Result{Outcome: push.Accepted, Status: status} }}
					svc, target := level(f, lvl), push.Target{Tokens: []push.Token{t2}, Class: push.ClassSplit}
					svc.Call(t.Context(), target, secretCall)
					for _, event := range []string{push.EventMessage, push.EventMissed, push.EventAnsweredElsewhere, push.EventRegister} {
						svc.Note(t.Context(), target, exampleNote(event))
					}
					for _, n := range f.all() {
						got := decode(t, n.Payload)
						if token.Provider == push.ProviderFCM {
							got = undata(got)
						}
						if fault := s.fault(s.root, got, "push"); fault != "" {
							t.Errorf("%s %q: %s: %s", token.Provider, lvl, fault, n.Payload)
						}
					}
				}
			}
		}
	}
}
