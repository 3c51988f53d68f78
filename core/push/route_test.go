package push_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
)

// The channel table: which token a call and a note take.
func TestB8_B19_ChannelTable(t *testing.T) {
	voip, alert := apnsToken(push.KindVoIP, "v"), apnsToken(push.KindAlert, "a")
	deadVoIP, deadAlert := voip, alert
	deadVoIP.Dead, deadAlert.Dead = true, true
	foreign := voip
	foreign.Param = "OTHERTEAM0." + bundle + ".voip"
	fcm := fcmToken("")
	web := push.Token{Provider: push.ProviderWebPush, Value: "https://push.example.com/x"}
	for name, c := range map[string]struct {
		class      string
		tokens     []push.Token
		call, note string // channel:kind of token, "" for no route
	}{
		"two channels":                          {"split", []push.Token{voip, alert}, "voip:voip", "message:alert"},
		"two channels, whatever the order":      {"split", []push.Token{alert, voip}, "voip:voip", "message:alert"},
		"two tokens, class not declared":        {"", []push.Token{alert, voip}, "voip:voip", "message:alert"},
		"two tokens, class unheard of":          {"triple", []push.Token{alert, voip}, "voip:voip", "message:alert"},
		"two channels, VoIP token dead":         {"split", []push.Token{deadVoIP, alert}, "", "message:alert"},
		"two channels, VoIP token forgotten":    {"split", []push.Token{alert}, "", "message:alert"},
		"undeclared, VoIP token dead":           {"", []push.Token{deadVoIP, alert}, "", "message:alert"},
		"two channels, alert token dead":        {"split", []push.Token{voip, deadAlert}, "voip:voip", ""},
		"undeclared, alert token dead":          {"", []push.Token{voip, deadAlert}, "voip:voip", ""},
		"one channel":                           {"single", []push.Token{voip}, "voip:voip", "voip:voip"},
		"one channel, two tokens":               {"single", []push.Token{alert, voip}, "voip:voip", "voip:voip"},
		"one channel, two tokens, VoIP dead":    {"single", []push.Token{alert, deadVoIP}, "", ""},
		"one VoIP token, class not declared":    {"", []push.Token{voip}, "voip:voip", "voip:voip"},
		"one alert token, class not declared":   {"", []push.Token{alert}, "message:alert", "message:alert"},
		"Android, one token for both":           {"", []push.Token{fcm}, "voip:", "message:"},
		"Android that says split":               {"split", []push.Token{fcm}, "voip:", "message:"},
		"web page":                              {"", []push.Token{web}, "voip:", "message:"},
		"VoIP token of an app that is not ours": {"split", []push.Token{foreign, alert}, "", "message:alert"},
		"no token":                              {"split", nil, "", ""},
		"token without a value":                 {"", []push.Token{{Provider: "apns", Param: team + "." + bundle}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			s := service(f)
			show := func(r push.Result) string {
				if r.Outcome != push.Accepted {
					if r.Outcome != push.NoRoute || r.Reason == "" {
						t.Errorf("result %+v has no reason", r)
					}
					return ""
				}
				if n, _ := f.last(t); n.Channel != r.Channel {
					t.Errorf("sent by %s, reported as %s", n.Channel, r.Channel)
				}
				return string(r.Channel) + ":" + r.Token.Kind
			}
			if got := show(s.Call(t.Context(), push.Target{Tokens: c.tokens, Class: c.class}, carol)); got != c.call {
				t.Errorf("call went %q, want %q", got, c.call)
			}
			if got := show(s.Note(t.Context(), push.Target{Tokens: c.tokens, Class: c.class}, push.Note{Event: push.EventMissed})); got != c.note {
				t.Errorf("note went %q, want %q", got, c.note)
			}
			if c.class == "" && s.CanCall(push.Target{Tokens: c.tokens}) != (c.call != "") {
				t.Errorf("CanCall %v", s.CanCall(push.Target{Tokens: c.tokens}))
			}
			if c.class == "" && s.CanNote(push.Target{Tokens: c.tokens}) != (c.note != "") {
				t.Errorf("CanNote %v", s.CanNote(push.Target{Tokens: c.tokens}))
			}
		})
	}
}

func TestMatchingATokenToAnApp(t *testing.T) {
	for name, c := range map[string]struct {
		token  push.Token
		app    string
		reason string // part of it, where nothing fits
	}{
		"RFC 8599":               {push.Token{Provider: "apns", Param: team + "." + bundle}, bundle, ""},
		"voip suffix":            {push.Token{Provider: "apns", Param: team + "." + bundle + ".voip"}, bundle, ""},
		"remote suffix":          {push.Token{Provider: "apns", Param: team + "." + bundle + ".remote"}, bundle, ""},
		"both suffixes":          {push.Token{Provider: "apns", Param: team + "." + bundle + ".voip&remote"}, bundle, ""},
		"both, the other way":    {push.Token{Provider: "apns", Param: team + "." + bundle + ".remote&voip"}, bundle, ""},
		"second app of the team": {push.Token{Provider: "apns", Param: team + ".org.example.other"}, "org.example.other", ""},
		"sandbox, the same app":  {push.Token{Provider: "apns", Param: team + "." + bundle, Sandbox: true}, bundle, ""},
		"services in capitals":   {push.Token{Provider: "apns", Param: team + "." + bundle + ".VoIP&Remote"}, bundle, ""},
		"no team":                {push.Token{Provider: "apns", Param: bundle + ".voip"}, bundle, ""},
		"older than RFC 8599":    {push.Token{Provider: "apns", App: bundle, Param: bundle + ".voip.prod"}, bundle, ""},
		"an app below ours":      {push.Token{Provider: "apns", App: bundle + ".beta", Param: bundle + ".beta"}, "", "fits pn-param"},
		"another team, app told": {push.Token{Provider: "apns", App: bundle, Param: "ZZZZZ99999." + bundle}, "", "is not team_id"},
		"id known already":       {push.Token{Provider: "apns", App: bundle}, bundle, ""},
		"one suffix only goes":   {push.Token{Provider: "apns", Param: team + "." + bundle + ".voip.voip"}, "", "fits pn-param"},
		"another team":           {push.Token{Provider: "apns", Param: "ZZZZZ99999." + bundle}, "", `team "ZZZZZ99999" is not team_id "ABCDE12345"`},
		"another app":            {push.Token{Provider: "apns", Param: team + ".org.stranger"}, "", `"apns" fits pn-param "ABCDE12345.org.stranger"`},
		"another case":           {push.Token{Provider: "apns", Param: team + ".ORG.example.phone"}, "", "fits pn-param"},
		"no param":               {push.Token{Provider: "apns"}, "", `fits pn-param ""`},
		"a dot alone":            {push.Token{Provider: "apns", Param: "."}, "", "fits pn-param"},
		"project":                {push.Token{Provider: "fcm", Param: "example-project"}, bundle, ""},
		"package where no param": {push.Token{Provider: "fcm", App: bundle}, bundle, ""},
		"another project":        {push.Token{Provider: "fcm", Param: "else"}, "", `"fcm" fits pn-param "else"`},
		"web":                    {push.Token{Provider: "webpush"}, "web", ""},
		"provider unheard of":    {push.Token{Provider: "acme"}, "", `"acme" is not one of`},
		"no provider":            {push.Token{}, "", `"" is not one of`},
	} {
		t.Run(name, func(t *testing.T) {
			app, reason, ok := service(&fake{}).Fit(c.token)
			if app != c.app || ok != (c.app != "") || !strings.Contains(reason, c.reason) || ok != (reason == "") {
				t.Errorf("fits %q (%v, %q), want %q (%q)", app, ok, reason, c.app, c.reason)
			}
		})
	}
}

func FuzzFit(f *testing.F) {
	f.Add("apns", team+"."+bundle+".voip&remote", bundle)
	f.Add("fcm", "example-project", "")
	s := service(&fake{})
	f.Fuzz(func(t *testing.T, provider, param, app string) {
		id, reason, ok := s.Fit(push.Token{Provider: provider, Param: param, App: app})
		if ok != (reason == "") || ok != (id != "") || len(reason) > 1000 {
			t.Fatalf("%q %q %v", id, reason, ok)
		}
		if ok && provider == push.ProviderAPNs && !strings.Contains(param+app, id) {
			t.Fatalf("%q of %q fits %q", param, app, id)
		}
	})
}

func TestTokenThatFitsNothingIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	s := push.New(push.Config{Enabled: true}, nil, slog.New(slog.NewTextHandler(&log, nil)), nil)
	token := push.Token{Provider: "apns", Param: team + "." + bundle, Value: "secret-token-value-1234567"}
	for range 5 {
		s.Fit(token)
		s.Call(t.Context(), push.Target{Tokens: []push.Token{token}}, carol)
	}
	if n := strings.Count(log.String(), "push token fits no app"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, log.String())
	}
	for i := range 10_000 {
		token.Param = strings.Repeat("x", i)
		s.Fit(token)
	}
	if log.Len() > 200_000 {
		t.Errorf("a stranger wrote %d bytes of log", log.Len())
	}
	if strings.Contains(log.String(), token.Value) {
		t.Error("log shows the token")
	}
}

func TestNewestTokenWins(t *testing.T) {
	f := &fake{}
	older, newer := apnsToken(push.KindVoIP, "old"), apnsToken(push.KindVoIP, "new")
	older.Registered = time.Now().Add(-time.Hour)
	newer.Registered = time.Now()
	for _, tokens := range [][]push.Token{{older, newer}, {newer, older}} {
		if r := service(f).Call(t.Context(), push.Target{Tokens: tokens}, carol); r.Token != newer {
			t.Errorf("went to the token of %v", r.Token.Registered)
		}
	}
}
