package sipmsg

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// linphoneContact is how an iOS Linphone registers with both its tokens.
const linphoneContact = `<sip:alice@192.0.2.9:51000;transport=tls;pn-provider=apns.dev;pn-param=ABCDE12345.org.example.phone.voip&remote;` +
	`pn-prid=AABB:voip&CCDD:remote;pn-timeout=0;pn-silent=1;pn-msg-str=IM_MSG;pn-call-str=IC_MSG;pn-call-remote-push-interval=5>;` +
	`+sip.instance="<urn:uuid:00000000-0000-0000-0000-0000dead0001>";expires=3600`

func TestPN19_PushParametersOfBothDialects(t *testing.T) {
	voip, alert := PushToken{"voip", "org.example.phone", "AABB"}, PushToken{"alert", "org.example.phone", "CCDD"}
	for name, tt := range map[string]struct {
		params string
		want   PushParams
	}{
		"none": {"", PushParams{}},
		"RFC 8599 apns": {";pn-provider=apns;pn-param=TEAM.org.example.phone;pn-prid=CCDD",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone", Tokens: []PushToken{alert}}},
		"RFC 8599 apns, VoIP token alone (iOS 12)": {";pn-provider=apns;pn-param=TEAM.org.example.phone.voip;pn-prid=AABB",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone.voip", Tokens: []PushToken{voip}, Class: "single"}},
		"Linphone, two tokens": {";pn-provider=apns;pn-param=TEAM.org.example.phone.voip&remote;pn-prid=AABB:voip&CCDD:remote",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone.voip&remote", Tokens: []PushToken{voip, alert}, Class: "split"}},
		"Linphone, the other order": {";pn-provider=apns;pn-param=TEAM.org.example.phone.remote&voip;pn-prid=CCDD:remote&AABB:voip",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone.remote&voip", Tokens: []PushToken{voip, alert}, Class: "split"}},
		"Linphone, services left out of pn-prid": {";pn-provider=apns;pn-param=TEAM.org.example.phone.remote&voip;pn-prid=CCDD&AABB",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone.remote&voip", Tokens: []PushToken{voip, alert}, Class: "split"}},
		"Linphone, escaped": {";PN-Provider=APNS.dev;PN-Param=TEAM.org.example.phone.voip%26remote;PN-Prid=AABB%3Avoip%26CCDD%3aremote",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone.voip&remote", Tokens: []PushToken{voip, alert}, Class: "split", Sandbox: true}},
		"remote alone": {";pn-provider=apns;pn-param=TEAM.org.example.phone.remote;pn-prid=CCDD:remote",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone.remote", Tokens: []PushToken{alert}}},
		"fcm keeps the colon of its token": {";pn-provider=fcm;pn-param=project-1;pn-prid=fid:APA91b_x-Y",
			PushParams{Provider: "fcm", Param: "project-1", Tokens: []PushToken{{"alert", "project-1", "fid:APA91b_x-Y"}}}},
		"webpush has no param": {";pn-provider=webpush;pn-prid=https%3A%2F%2Fpush.example%2Fa%3Fb%26c",
			PushParams{Provider: "webpush", Tokens: []PushToken{{"alert", "", "https://push.example/a?b&c"}}}},
		"PN-7 query for all":         {";pn-provider", PushParams{Query: true}},
		"PN-7 query for one":         {";pn-provider=fcm", PushParams{Provider: "fcm", Query: true}},
		"PN-8 an empty prid is none": {";pn-provider=apns;pn-param=TEAM.a.b;pn-prid=", PushParams{Provider: "apns", Param: "TEAM.a.b", Query: true}},
		"older than RFC 8599": {";app-id=org.example.phone.voip.dev;pn-type=apple;pn-tok=AABB",
			PushParams{Provider: "apns", Param: "org.example.phone.voip.dev", Tokens: []PushToken{voip}, Class: "single", Sandbox: true}},
		"older, firebase": {";app-id=123;pn-type=firebase;pn-tok=x:y",
			PushParams{Provider: "fcm", Param: "123", Tokens: []PushToken{{"alert", "123", "x:y"}}}},
		"three tokens are none": {";pn-provider=apns;pn-param=T.a;pn-prid=1:voip&2:remote&3:voip", PushParams{Provider: "apns", Param: "T.a"}},
		"two tokens for one channel": {";pn-provider=apns;pn-param=TEAM.org.example.phone.voip;pn-prid=AABB:voip&EE:voip",
			PushParams{Provider: "apns", Param: "TEAM.org.example.phone.voip", Tokens: []PushToken{{"voip", "org.example.phone", "AABB"}}, Class: "single"}},
		"an overlong token is none": {";pn-provider=fcm;pn-param=p;pn-prid=" + strings.Repeat("x", maxTokenValue+1),
			PushParams{Provider: "fcm", Param: "p"}},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := ParseURI("sip:alice@192.0.2.9" + tt.params)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, ParsePush(u.Params)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPN16_PushParametersAreTakenOff(t *testing.T) {
	cs, f := Contacts(mustParse(t, register(linphoneContact)))
	if f != nil {
		t.Fatal(f)
	}
	if got, want := cs[0].URI.WithoutPush().String(), "sip:alice@192.0.2.9:51000;transport=tls"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if cs[0].Raw != linphoneContact {
		t.Errorf("the contact as sent is lost: %s", cs[0].Raw)
	}
	u, _ := ParseURI("sip:a@h;PN-Tok=1;App-Id=2;x;pn-;pnx=1")
	if got := u.WithoutPush().String(); got != "sip:a@h;x;pn-;pnx=1" {
		t.Errorf("got %s", got)
	}
}

func TestTokensDoNotReachALog(t *testing.T) {
	u, _ := ParseURI("sip:a@h;pn-provider=fcm;pn-param=p;pn-prid=SECRET")
	p := ParsePush(u.Params)
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "push", p, "token", p.Tokens[0])
	if strings.Contains(b.String(), "SECRET") {
		t.Error(b.String())
	}
}

func FuzzPushParams(f *testing.F) {
	f.Add("apns", "TEAM.a.b.voip&remote", "1:voip&2:remote")
	f.Add("apns.dev", "%26", "%3A%26%00")
	f.Add("fcm", "p", "x:y")
	f.Fuzz(func(t *testing.T, provider, param, prid string) {
		raw := fmt.Sprintf("sip:a@h;pn-provider=%s;pn-param=%s;pn-prid=%s", provider, param, prid)
		u, err := ParseURI(raw)
		if err != nil {
			return
		}
		p := ParsePush(u.Params)
		if len(p.Tokens) > maxTokens || len(p.Param) > maxPushParam {
			t.Errorf("bounds: %+v", p)
		}
		for _, token := range p.Tokens {
			if token.Value == "" || len(token.Value) > maxTokenValue || strings.ContainsAny(token.Value, "\r\n\x00") {
				t.Errorf("token %q", token.Value)
			}
		}
		if again := ParsePush(u.WithoutPush().Params); len(again.Tokens) > 0 || again.Provider != "" || again.Query {
			t.Errorf("push parameters stay in %s", u.WithoutPush())
		}
	})
}
