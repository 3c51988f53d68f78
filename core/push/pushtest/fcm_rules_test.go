package pushtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
)

// Each subtest breaks one of FCM's rules and sees it noticed; the numbers are
// those of facts/push.md §7.2.
func TestFCMRule01_OAuthAssertion(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		for name, tc := range map[string]struct {
			change func(*claim)
			want   string
		}{
			"another algorithm":     {func(c *claim) { c.Alg = "RS512" }, "invalid_grant"},
			"an unknown key":        {func(c *claim) { c.Kid = "0123" }, "invalid_grant"},
			"another account":       {func(c *claim) { c.Iss = "else@example.com" }, "invalid_grant"},
			"another audience":      {func(c *claim) { c.Aud = "https://example.com/token" }, "invalid_grant"},
			"no scope":              {func(c *claim) { c.Scope = "" }, "invalid_scope"},
			"a scope of its own":    {func(c *claim) { c.Scope = "https://www.googleapis.com/auth/calendar" }, "invalid_scope"},
			"more than an hour":     {func(c *claim) { c.Exp++ }, "invalid_grant"},
			"over before it begins": {func(c *claim) { c.Exp = c.Iat - 1 }, "invalid_grant"},
			"of an hour ago":        {func(c *claim) { c.Iat -= 3900; c.Exp -= 3900 }, "invalid_grant"},
			"of the hour to come":   {func(c *claim) { c.Iat += 301; c.Exp += 301 }, "invalid_grant"},
		} {
			if token, fault := p.grant(jwtBearer, p.assertion(tc.change)); token != "" || fault != tc.want {
				t.Errorf("assertion with %s: token %q, error %q, want %q", name, token, fault, tc.want)
			}
		}
		good := p.assertion(nil)
		if _, fault := p.grant("client_credentials", good); fault != "unsupported_grant_type" {
			t.Errorf("another grant type: %q", fault)
		}
		if _, fault := p.grant(jwtBearer, good[:len(good)-8]+"AAAAAAAA"); fault != "invalid_grant" {
			t.Errorf("a wrong signature: %q", fault)
		}
		if token, fault := p.grant(jwtBearer, p.assertion(func(c *claim) { c.Aud = "https://oauth2.googleapis.com/token" })); token == "" {
			t.Errorf("Google's own audience: %q", fault)
		}
	})
}

func TestFCMRule01_AccessTokensExpire(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{})
		want := func(when string, status int) {
			t.Helper()
			if a := p.send(call(phone)); a.status != status {
				t.Errorf("%s: %d %s, want %d", when, a.status, a.text, status)
			}
		}
		time.Sleep(time.Hour - time.Second)
		want("within the hour", http.StatusOK)
		time.Sleep(time.Second)
		want("after the hour", http.StatusUnauthorized)
		p.login()
		want("with a new token", http.StatusOK)
		p.sim.ExpireTokens()
		if a := p.send(call(phone)); a.code != "UNAUTHENTICATED" || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("tokens withdrawn: %+v", a)
		}
		p.access = ""
		want("without a token", http.StatusUnauthorized)
		p.sim.RevokeKey()
		if _, fault := p.grant(jwtBearer, p.assertion(nil)); fault != "invalid_grant" {
			t.Errorf("revoked key: %q", fault)
		}
		if n := p.sim.TokenRequests(); n != 3 {
			t.Errorf("%d requests for access tokens, want 3", n)
		}
	})
}

func TestFCMRule02_OtherPathsAreAPage(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		for _, path := range []string{"/fcm/send", "/batch", "/v1/projects/sallyport-sim/messages", "/"} {
			status, header, text := p.post(p.sim.URL()+path, "application/json", call(p.phone(pushtest.FCMApp{})))
			if status != http.StatusNotFound || !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.Contains(text, "Error 404") {
				t.Errorf("%s: %d %s", path, status, text)
			}
		}
	})
}

func TestFCMRules03To06_TheMessage(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{})
		data := func(kv string) []string { return []string{`{"v":"1","event":"call"}`, kv} }
		ttl := func(s string) []string { return []string{`"ttl":"0s"`, `"ttl":` + s} }
		const bad, badShape, argument = "400 INVALID_ARGUMENT", " BadRequest", " INVALID_ARGUMENT"
		for name, tc := range map[string]struct {
			change []string
			want   string // status, google.rpc's status, FCM's error code and BadRequest where there are field violations
		}{
			"3 a right one":                  {nil, "200 "},
			"3 no JSON":                      {[]string{"{", "["}, bad + badShape},
			"3 unknown field":                {[]string{`"token"`, `"to":"x","token"`}, bad + badShape},
			"3 unknown Android field":        {[]string{`"ttl"`, `"tt":"x","ttl"`}, bad + badShape},
			"3 no target":                    {[]string{`"token":"` + phone + `",`, ``}, bad + argument + badShape},
			"3 two targets":                  {[]string{`"token"`, `"topic":"x","token"`}, bad + badShape},
			"3 bad token":                    {[]string{phone, "short"}, bad + argument},
			"3 unknown token":                {[]string{phone, pushtest.NewFCMToken()}, bad + argument},
			"3 number in data":               {data(`{"v":1}`), bad + badShape},
			"3 null in data":                 {data(`{"v":null}`), bad + badShape},
			"3 reserved key from":            {data(`{"from":"x"}`), bad + argument + badShape},
			"3 reserved key gcm":             {data(`{"gcm.n":"x"}`), bad + argument + badShape},
			"3 reserved key google":          {data(`{"google.c":"x"}`), bad + argument + badShape},
			"3 camel case":                   {[]string{`"ttl"`, `"collapseKey":"k","ttl"`}, "200 "},
			"4 4096 bytes":                   {data(`{"k":"` + strings.Repeat("x", 4095) + `"}`), "200 "},
			"4 4097 bytes":                   {data(`{"k":"` + strings.Repeat("x", 4096) + `"}`), bad + argument + badShape},
			"4 far too large":                {data(`{"k":"` + strings.Repeat("x", 70<<10) + `"}`), bad + badShape},
			"5 ttl without unit":             {ttl(`"10"`), bad + badShape},
			"5 ttl as number":                {ttl(`10`), bad + badShape},
			"5 ttl in minutes":               {ttl(`"1m"`), bad + badShape},
			"5 negative ttl":                 {ttl(`"-1s"`), bad + badShape},
			"5 four weeks":                   {ttl(`"2419200s"`), "200 "},
			"5 more than four weeks":         {ttl(`"2419201s"`), bad + argument + badShape},
			"5 fraction":                     {ttl(`"0.5s"`), "200 "},
			"6 priority of another spelling": {[]string{`"high"`, `"High"`}, bad + badShape},
			"6 priority as number":           {[]string{`"high"`, `10`}, bad + badShape},
			"6 priority in capitals":         {[]string{`"high"`, `"HIGH"`}, "200 "},
		} {
			a := p.send(call(phone, tc.change...))
			got := fmt.Sprint(a.status, " ", a.code)
			if a.reason != "" {
				got += " " + a.reason
			}
			if a.badRequest {
				got += badShape
			}
			if got != tc.want {
				t.Errorf("%s: %q (%s), want %q", name, got, a.text, tc.want)
			}
		}
	})
}

func TestFCMRule07_TokensOfOthers(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		gone, other := p.phone(pushtest.FCMApp{}), p.phone(pushtest.FCMApp{Project: "another-project"})
		p.sim.Unregister(gone)
		if a := p.send(call(gone)); a.status != 404 || a.reason != "UNREGISTERED" || a.badRequest {
			t.Errorf("app removed: %+v", a)
		}
		if a := p.send(call(other)); a.status != 403 || a.reason != "SENDER_ID_MISMATCH" {
			t.Errorf("another project's token: %+v", a)
		}
		status, header, text := p.post(p.sim.URL()+"/v1/projects/nobody/messages:send", "application/json", call(other))
		if a := fcmAnswer(status, header, text); a.status != 404 || a.code != "NOT_FOUND" || a.reason != "" {
			t.Errorf("another project's path: %+v", a)
		}
	})
}

func TestFCMRule15_TokensExpireAfter270Days(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		phone := p.phone(pushtest.FCMApp{LastSeen: time.Now().Add(time.Minute - 270*24*time.Hour)})
		if a := p.send(call(phone)); a.status != 200 {
			t.Errorf("before: %+v", a)
		}
		time.Sleep(time.Minute)
		if a := p.send(call(phone)); a.reason != "UNREGISTERED" {
			t.Errorf("after: %+v", a)
		}
	})
}
