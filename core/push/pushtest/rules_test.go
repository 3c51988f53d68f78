package pushtest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
)

// set returns a change of one header; no values take it away.
func set(name string, values ...string) func(*request) {
	return func(r *request) {
		if len(values) == 0 {
			r.header.Del(name)
			return
		}
		r.header[http.CanonicalHeaderKey(name)] = values
	}
}

func all(changes ...func(*request)) func(*request) {
	return func(r *request) {
		for _, c := range changes {
			c(r)
		}
	}
}

func note(r *request) {
	set("apns-push-type", "alert")(r)
	set("apns-topic", bundle)(r)
}

func path(p string) func(*request)   { return func(r *request) { r.path = p } }
func method(m string) func(*request) { return func(r *request) { r.method = m } }
func body(n int) func(*request) {
	return func(r *request) {
		r.body = `{"aps":{},"x":"` + strings.Repeat("x", n-len(`{"aps":{},"x":""}`)) + `"}`
	}
}

// Rules 7 and 11 to 20 of Apple's, each with the one thing that breaks it.
func TestRule7_12_13_14_15_16_17_18_19_20_EachHasItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*request)
		want   string
	}{
		"a right push":               {nil, "200"},
		"method":                     {method(http.MethodPut), "405 MethodNotAllowed"},
		"path":                       {path("/4/device/ab"), "404 BadPath"},
		"path below the token":       {path("/3/device/ab/cd"), "404 BadPath"},
		"no token":                   {path("/3/device/"), "400 MissingDeviceToken"},
		"short token":                {path("/3/device/abcd"), "400 BadDeviceToken"},
		"token of other digits":      {path("/3/device/" + strings.Repeat("zz", 32)), "400 BadDeviceToken"},
		"unknown token":              {path("/3/device/" + strings.Repeat("ab", 32)), "400 BadDeviceToken"},
		"duplicate header":           {set("apns-priority", "10", "10"), "400 DuplicateHeaders"},
		"no provider token":          {set("authorization"), "403 MissingProviderToken"},
		"empty provider token":       {set("authorization", "bearer "), "403 MissingProviderToken"},
		"no push type":               {set("apns-push-type"), "400 InvalidPushType"},
		"unknown push type":          {set("apns-push-type", "ring"), "400 InvalidPushType"},
		"voip on the alert topic":    {set("apns-topic", bundle), "400 InvalidPushType"},
		"alert on the voip topic":    {set("apns-push-type", "alert"), "400 DeviceTokenNotForTopic"},
		"no topic":                   {set("apns-topic"), "400 MissingTopic"},
		"topic that is no bundle id": {set("apns-topic", "phone.voip"), "400 BadTopic"},
		"token of another topic":     {note, "400 DeviceTokenNotForTopic"},
		"expiration in words":        {set("apns-expiration", "soon"), "400 BadExpirationDate"},
		"negative expiration":        {set("apns-expiration", "-1"), "400 BadExpirationDate"},
		"priority":                   {set("apns-priority", "7"), "400 BadPriority"},
		"no priority":                {set("apns-priority"), "200"},
		"background at once":         {all(note, set("apns-push-type", "background")), "400 BadPriority"},
		"background, no priority":    {all(note, set("apns-push-type", "background"), set("apns-priority")), "400 BadPriority"},
		"id in capitals":             {set("apns-id", "123E4567-E89B-12D3-A456-4266554400A0"), "400 BadMessageId"},
		"id without dashes":          {set("apns-id", strings.Repeat("a", 36)), "400 BadMessageId"},
		"collapse id of 64 bytes":    {set("apns-collapse-id", strings.Repeat("c", 64)), "200"},
		"collapse id of 65 bytes":    {set("apns-collapse-id", strings.Repeat("é", 32)+"c"), "400 BadCollapseId"},
		"no payload":                 {func(r *request) { r.body = "" }, "400 PayloadEmpty"},
		"call of 5120 bytes":         {body(5120), "200"},
		"call of 5121 bytes":         {body(5121), "413 PayloadTooLarge"},
		"note of 4097 bytes":         {all(note, body(4097)), "413 PayloadTooLarge"},
		"endless payload":            {body(300_000), "413 PayloadTooLarge"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
				p.want(p.call(p.phone(), c.change), c.want)
				if v := p.sim.Violations(); len(v) != 0 {
					t.Errorf("violations %q", v)
				}
			})
		})
	}
}

// What APNs takes without a word, and a client must not do.
func TestRule14_18_19_29_ViolationsAreFlagged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*request)
		want   string
	}{
		"call without expiration":  {set("apns-expiration"), "without apns-expiration"},
		"seconds that are no time": {set("apns-expiration", "30"), "in the past"},
		"call that is kept":        {set("apns-expiration", "946688460"), "kept for"}, // an hour after the bubble begins
		"payload that is no JSON":  {func(r *request) { r.body = "{" }, "no JSON object"},
		"aps that is no object":    {func(r *request) { r.body = `{"aps":1}` }, "no JSON object"},
		"compressed":               {set("content-encoding", "gzip"), "content-encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
				p.want(p.call(p.phone(), c.change), "200")
				if v := p.sim.Violations(); len(v) != 1 || !strings.Contains(v[0], c.want) {
					t.Errorf("violations %q, want %q", v, c.want)
				}
			})
		})
	}
	inBubble(t, pushtest.APNsConfig{AnyToken: true}, func(t *testing.T, p *provider) {
		p.want(p.call(pushtest.NewToken(), all(note, set("apns-push-type", "background"), set("apns-priority", "5"),
			func(r *request) { r.body = `{"aps":{"alert":"x","content-available":1}}` })), "200")
		if v := p.sim.Violations(); len(v) != 1 || !strings.Contains(v[0], "background push with alert") {
			t.Errorf("violations %q", v)
		}
	})
}

func TestRule8_ProviderToken(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone, now := p.phone(), time.Now()
		bearer := func(alg, kid, team string, iat time.Time) func(*request) {
			return set("authorization", "bearer "+p.sign(alg, kid, team, iat))
		}
		right := p.sign("ES256", p.kid, p.team, now)
		for _, c := range []struct {
			change func(*request)
			want   string
		}{
			{bearer("RS256", p.kid, p.team, now), "403 InvalidProviderToken"},
			{bearer("none", p.kid, p.team, now), "403 InvalidProviderToken"},
			{bearer("ES256", "UNKNOWN", p.team, now), "403 InvalidProviderToken"},
			{bearer("ES256", p.kid, "ZZZZZ99999", now), "403 InvalidProviderToken"},
			{set("authorization", "bearer "+right[:len(right)-4]+"AAAA"), "403 InvalidProviderToken"},
			{set("authorization", "bearer a.b"), "403 InvalidProviderToken"},
			{set("authorization", "bearer !.!.!"), "403 InvalidProviderToken"},
			{bearer("ES256", p.kid, p.team, now.Add(-61*time.Minute)), "403 ExpiredProviderToken"},
			{bearer("ES256", p.kid, p.team, now.Add(61*time.Minute)), "403 ExpiredProviderToken"},
			{bearer("ES256", p.kid, p.team, now.Add(-59*time.Minute)), "200"},
		} {
			p.want(p.call(phone, c.change), c.want)
		}
	})
}

func TestRule9_TokenChangesOnceInTwentyMinutes(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone := p.phone()
		fresh := func() *request {
			return p.call(phone, set("authorization", "bearer "+p.sign("ES256", p.kid, p.team, time.Now())))
		}
		p.want(fresh(), "200")
		time.Sleep(19 * time.Minute)
		p.want(fresh(), "429 TooManyProviderTokenUpdates")
		p.reconnect()
		p.want(fresh(), "200")
		time.Sleep(20 * time.Minute)
		p.want(fresh(), "200")
	})
	inBubble(t, pushtest.APNsConfig{PerIP: true}, func(t *testing.T, p *provider) {
		phone := p.phone()
		p.want(p.call(phone, nil), "200")
		p.reconnect()
		p.want(p.call(phone, set("authorization", "bearer "+p.sign("ES256", p.kid, p.team, time.Now().Add(-time.Minute)))),
			"429 TooManyProviderTokenUpdates")
	})
}

func TestRule10_ConnectionBelongsToItsKey(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone := p.phone()
		p.want(p.call(phone, nil), "200")
		p.use(p.sim.NewKey())
		p.want(p.call(phone, nil), "403 UnrelatedKeyIdInToken")
		p.reconnect()
		p.want(p.call(phone, nil), "200")

		p8, public, err := pushtest.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		p.sim.AddKey("OTHERTEAM", pushtest.Key{Team: "ZZZZZ99999", Public: public})
		p.use(p8, "OTHERTEAM", "ZZZZZ99999")
		p.want(p.call(phone, nil), "403 InvalidProviderToken")
		p.sim.RevokeKey("OTHERTEAM")
		p.reconnect()
		p.want(p.call(phone, nil), "403 InvalidProviderToken")
	})
}

func TestRule10_KeyOfTheOtherEnvironment(t *testing.T) {
	for reason, short := range map[string]bool{"BadEnvironmentKeyIdInToken": false, "BadEnvironmentKeyInToken": true} {
		inBubble(t, pushtest.APNsConfig{ShortReason: short}, func(t *testing.T, p *provider) {
			p8, public, err := pushtest.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			p.sim.AddKey("SANDBOXKEY", pushtest.Key{Team: pushtest.Team, Env: pushtest.Sandbox, Public: public})
			p.use(p8, "SANDBOXKEY", pushtest.Team)
			p.want(p.call(p.phone(), nil), "403 "+reason)
		})
	}
}

func TestRule11_NewTopicNeedsANewConnection(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{AnyToken: true}, func(t *testing.T, p *provider) {
		key := pushtest.Key{Team: p.team, Public: &p.key.PublicKey, Topics: []string{"org.example.other"}}
		p.sim.AddKey(p.kid, key)
		token := pushtest.NewToken()
		p.want(p.call(token, nil), "400 TopicDisallowed")
		key.Topics = append(key.Topics, bundle)
		p.sim.AddKey(p.kid, key)
		p.want(p.call(token, nil), "400 TopicDisallowed")
		p.reconnect()
		p.want(p.call(token, nil), "200")
	})
}

func TestRule16_IDIsEchoedOrMade(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, p *provider) {
		phone := p.phone()
		if a := p.send(p.call(phone, nil)); a.id != "123e4567-e89b-12d3-a456-4266554400a0" {
			t.Errorf("id %q", a.id)
		}
		if a := p.send(p.call(phone, set("apns-id"))); len(a.id) != 36 {
			t.Errorf("id %q", a.id)
		}
	})
}

func TestRule21_TableOfDeviceTokens(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{Environment: pushtest.Sandbox}, func(t *testing.T, p *provider) {
		phone := p.phone()
		p.want(p.call(phone, nil), "200")
		p.sim.Register(phone, pushtest.Device{Topic: bundle + ".voip", Env: pushtest.Production})
		p.want(p.call(phone, nil), "400 BadDeviceToken")
		p.sim.Register(phone, pushtest.Device{Topic: bundle + ".voip", Env: pushtest.Sandbox})
		died := time.Now().Add(-time.Hour - 123*time.Millisecond)
		p.sim.Unregister(phone, died)
		if a := p.send(p.call(phone, nil)); a.status != 410 || a.reason != "Unregistered" || a.timestamp != died.UnixMilli() {
			t.Errorf("answer %+v, want 410 since %d", a, died.UnixMilli())
		}
		p.sim.Register(phone, pushtest.Device{Expired: true})
		p.want(p.call(phone, nil), "410 ExpiredToken")
	})
}
