package pushtest_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push/pushtest"
)

// RFC 8030 §5, RFC 8292 and RFC 8291: each case breaks one rule and sees it
// noticed.
func TestWebPushRefuses(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{}, func(t *testing.T, a *appServer) {
		sub := a.subscribe()
		other := newVAPID(t)
		header := func(name, value string) func(*webNote) {
			return func(n *webNote) { n.header.Set(name, value) }
		}
		claims := func(change func(*token)) func(*webNote) { return header("Authorization", a.vapid(a.key, change)) }
		for name, tc := range map[string]struct {
			change func(*webNote)
			want   string // status and the start of the reason
		}{
			"a right one":                      {nil, "201"},
			"GET":                              {func(n *webNote) { n.method, n.body = http.MethodGet, nil }, "405"},
			"no such subscription":             {func(n *webNote) { n.url += "x" }, "404"},
			"no Authorization":                 {func(n *webNote) { n.header.Del("Authorization") }, "401"},
			"the scheme of the drafts":         {header("Authorization", "WebPush x.y.z"), "401"},
			"another application server":       {header("Authorization", a.vapid(other, nil)), "403 the subscription is bound"},
			"a key that did not sign":          {header("Authorization", strings.Split(a.vapid(other, nil), " k=")[0]+" k="+publicKey(t, a.key)), "403 Authorization: t: signed"},
			"a key that is none":               {header("Authorization", "vapid t=a.b.c, k=AAAA"), "403 Authorization: k"},
			"a token that is none":             {header("Authorization", "vapid t=a.b.c, k="+publicKey(t, a.key)), "403 Authorization: t: no JWT"},
			"another algorithm":                {claims(func(c *token) { c.Alg = "ES384" }), "403 Authorization: t: alg"},
			"another audience":                 {claims(func(c *token) { c.Aud = "https://push.example.com" }), "403 Authorization: t: aud"},
			"an audience with a path":          {claims(func(c *token) { c.Aud += "/" }), "403 Authorization: t: aud"},
			"expired":                          {claims(func(c *token) { c.Exp = time.Now().Unix() }), "403 Authorization: t: exp has"},
			"24 hours":                         {claims(func(c *token) { c.Exp = time.Now().Add(24 * time.Hour).Unix() }), "201"},
			"more than 24 hours":               {claims(func(c *token) { c.Exp = time.Now().Add(24*time.Hour + time.Second).Unix() }), "403 Authorization: t: exp is"},
			"a sub that is no URL":             {claims(func(c *token) { c.Sub = "ops@example.com" }), "403 Authorization: t: sub"},
			"no TTL":                           {func(n *webNote) { n.header.Del("TTL") }, "400 TTL"},
			"a negative TTL":                   {header("TTL", "-1"), "400 TTL"},
			"a TTL with a unit":                {header("TTL", "60s"), "400 TTL"},
			"a TTL beyond 31 bits":             {header("TTL", "2147483648"), "400 TTL"},
			"TTL 0":                            {header("TTL", "0"), "201"},
			"two TTLs":                         {func(n *webNote) { n.header.Add("TTL", "61") }, "400 Ttl"},
			"an unknown urgency":               {header("Urgency", "urgent"), "400 Urgency"},
			"a topic of 32":                    {header("Topic", strings.Repeat("a", 32)), "201"},
			"a topic of 33":                    {header("Topic", strings.Repeat("a", 33)), "400 Topic"},
			"a topic beyond base64url":         {header("Topic", "a+b"), "400 Topic"},
			"another content coding":           {header("Content-Encoding", "aesgcm"), "400 Content-Encoding"},
			"no content coding":                {func(n *webNote) { n.header.Del("Content-Encoding") }, "400 Content-Encoding"},
			"no content":                       {func(n *webNote) { n.body = nil; n.header.Del("Content-Encoding") }, "201"},
			"4096 bytes":                       {func(n *webNote) { n.body = seal(t, sub, "x", 4096-86-16) }, "201"},
			"4097 bytes":                       {func(n *webNote) { n.body = seal(t, sub, "x", 4096-86-15) }, "413"},
			"far more than a service can read": {func(n *webNote) { n.body = make([]byte, 70<<10) }, "413"},
		} {
			n := a.message(sub, "content", tc.change)
			status, _, body := a.send(n)
			if got := fmt.Sprint(status, " ", body); !strings.HasPrefix(got, tc.want) {
				t.Errorf("%s: %q, want %q", name, got, tc.want)
			}
		}
		a.violated("")
	})
}

func TestWebPushAcceptsAndOpens(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{MaxTTL: 30 * time.Second}, func(t *testing.T, a *appServer) {
		var shown []string
		a.sim.OnPush = func(m pushtest.WebPushMessage) { shown = append(shown, m.String()) }
		sub := a.subscribe()
		status, header, _ := a.send(a.message(sub, "a secret", func(n *webNote) { n.body = seal(t, sub, "a secret", 200) }))
		if status != http.StatusCreated || !strings.HasPrefix(header.Get("Location"), a.sim.URL()+"/message/") || header.Get("TTL") != "30" {
			t.Errorf("%d %v", status, header)
		}
		m := a.sim.Accepted()[0]
		if string(m.Plain) != "a secret" || m.Key != publicKey(t, a.key) || m.Subject != "mailto:ops@example.com" || m.Urgency != "high" {
			t.Errorf("%+v", m)
		}
		synctest.Wait()
		if line := strings.Join(shown, ""); len(shown) != 1 || strings.Contains(line, "a secret") || strings.Contains(line, sub.Endpoint) {
			t.Errorf("lines %q", shown)
		}
		free, err := a.sim.NewSubscription("")
		if err != nil {
			t.Fatal(err)
		}
		if status, _, _ := a.send(a.message(free, "anyone", func(n *webNote) { n.header.Del("Authorization") })); status != http.StatusCreated {
			t.Errorf("unbound subscription, nobody's message: %d", status)
		}
		a.violated("")
	})
}

func TestWebPushNoticesWhatOnlyTheUserAgentSees(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *appServer, sub pushtest.Subscription, n *webNote)
		want   string
	}{
		"sealed for another": {func(a *appServer, _ pushtest.Subscription, n *webNote) {
			n.body = seal(a.t, a.subscribe(), "x", 9)
		}, "not sealed for this subscription"},
		"changed":            {func(_ *appServer, _ pushtest.Subscription, n *webNote) { n.body[len(n.body)-1] ^= 1 }, "changed on the way"},
		"cut":                {func(_ *appServer, _ pushtest.Subscription, n *webNote) { n.body = n.body[:90] }, "too short"},
		"no delimiter":       {func(a *appServer, s pushtest.Subscription, n *webNote) { n.body = seal(a.t, s, "x", 1) }, "no delimiter"},
		"another key id":     {func(_ *appServer, _ pushtest.Subscription, n *webNote) { n.body[20] = 4 }, "key id of 4 bytes"},
		"no point as key id": {func(_ *appServer, _ pushtest.Subscription, n *webNote) { n.body[30] ^= 1 }, "key id:"},
		"two records":        {func(_ *appServer, _ pushtest.Subscription, n *webNote) { n.body[18], n.body[19] = 0, 18 }, "one record"},
		"nobody to turn to": {func(a *appServer, _ pushtest.Subscription, n *webNote) {
			n.header.Set("Authorization", a.vapid(a.key, func(c *token) { c.Sub = "" }))
		}, "without sub"},
		"nothing of the kind": {func(*appServer, pushtest.Subscription, *webNote) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			withWebPush(t, pushtest.WebPushConfig{}, func(t *testing.T, a *appServer) {
				sub := a.subscribe()
				n := a.message(sub, "content", nil)
				tc.change(a, sub, n)
				if status, _, body := a.send(n); status != http.StatusCreated {
					t.Errorf("%d %s", status, body)
				}
				a.violated(tc.want)
			})
		})
	}
}

// RFC 8291 Appendix A.
func TestWebPushOpensTheExampleOfTheRFC(t *testing.T) {
	private, _ := b64.DecodeString("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")
	auth, _ := b64.DecodeString("BTBZMqHH6r4Tts7J_aSIgg")
	body, _ := b64.DecodeString("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	key, err := ecdh.P256().NewPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := pushtest.OpenWebPush(key, auth, body)
	if err != nil || string(plain) != "When I grow up, I want to be a watermelon" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestWebPushSubscriptionsEnd(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{}, func(t *testing.T, a *appServer) {
		for _, want := range []int{http.StatusNotFound, http.StatusGone} {
			sub := a.subscribe()
			a.sim.Unsubscribe(sub.Endpoint, want)
			if status, _, _ := a.send(a.message(sub, "", nil)); status != want {
				t.Errorf("%d, want %d", status, want)
			}
		}
	})
}

func TestWebPushStoresByTopicAndTTL(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{}, func(t *testing.T, a *appServer) {
		sub := a.subscribe()
		a.sim.SetOffline(sub.Endpoint, true)
		for _, m := range []struct{ text, ttl, topic string }{
			{"now or never", "0", ""}, {"short", "10", ""}, {"old", "60", "chat"}, {"plain", "60", ""}, {"new", "60", "chat"},
		} {
			a.send(a.message(sub, m.text, func(n *webNote) {
				n.header.Set("TTL", m.ttl)
				if m.topic != "" {
					n.header.Set("Topic", m.topic)
				}
			}))
		}
		time.Sleep(10 * time.Second)
		a.sim.SetOffline(sub.Endpoint, false)
		a.send(a.message(sub, "later", nil))
		var got []string
		for _, m := range a.sim.Delivered(sub.Endpoint) {
			got = append(got, string(m.Plain))
		}
		if !slices.Equal(got, []string{"plain", "new", "later"}) {
			t.Errorf("received %q", got)
		}
	})
}

func TestWebPushLimitsAndMetersRetries(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{PerMinute: 2}, func(t *testing.T, a *appServer) {
		sub := a.subscribe()
		send := func(text string) int {
			status, header, _ := a.send(a.message(sub, text, nil))
			if status == http.StatusTooManyRequests && header.Get("Retry-After") != "40" {
				t.Errorf("Retry-After %q, want 40", header.Get("Retry-After"))
			}
			return status
		}
		send("one")
		send("two")
		time.Sleep(20 * time.Second)
		if status := send("three"); status != http.StatusTooManyRequests {
			t.Errorf("third in a minute: %d", status)
		}
		time.Sleep(40 * time.Second)
		if status := send("three"); status != http.StatusCreated {
			t.Errorf("in the next minute: %d", status)
		}
		a.violated("")
		sub = a.subscribe()
		a.sim.Inject(pushtest.Fault{Status: 503, RetryAfter: 30})
		send("four")
		time.Sleep(29 * time.Second)
		send("four")
		a.violated("too soon")
	})
}

func TestWebPushFaults(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{GoAwayAfter: 100}, func(t *testing.T, a *appServer) {
		sub := a.subscribe()
		a.sim.Inject(pushtest.Fault{Location: "https://10.0.0.1/inside"})
		status, header, _ := a.send(a.message(sub, "redirected", nil))
		if status != http.StatusTemporaryRedirect || header.Get("Location") != "https://10.0.0.1/inside" {
			t.Errorf("redirect: %d %v", status, header)
		}
		a.sim.Inject(pushtest.Fault{Status: 503, Delivered: true})
		if status, _, _ := a.send(a.message(sub, "twice", nil)); status != 503 || len(a.sim.Delivered(sub.Endpoint)) != 1 {
			t.Errorf("delivered anyway: %d", status)
		}
		a.sim.Inject(pushtest.Fault{HTML: true})
		if status, header, _ := a.send(a.message(sub, "page", nil)); status != 502 || !strings.HasPrefix(header.Get("Content-Type"), "text/html") {
			t.Errorf("page: %d", status)
		}
		a.sim.Inject(pushtest.Fault{Reset: true})
		if _, _, _, err := a.try(a.message(sub, "reset", nil)); err == nil {
			t.Error("reset: no error")
		}
		a.sim.Inject(pushtest.Fault{Drop: true})
		if _, _, _, err := a.try(a.message(sub, "dropped", nil)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drop: %v", err)
		}
		a.sim.BlackHole()
		if _, _, _, err := a.try(a.message(sub, "lost", nil)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("black hole: %v", err)
		}
		a.sim.Disconnect()
		synctest.Wait()
		if status, _, _ := a.send(a.message(sub, "found", nil)); status != 201 {
			t.Errorf("after a disconnect: %d", status)
		}
	})
}

func TestWebPushSubscriptionIsWhatABrowserGives(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{}, func(t *testing.T, a *appServer) {
		sub := a.subscribe()
		text, err := json.Marshal(sub)
		want := fmt.Sprintf(`{"endpoint":%q,"keys":{"auth":%q,"p256dh":%q}}`, sub.Endpoint, sub.Auth, sub.P256dh)
		if err != nil || string(text) != want {
			t.Errorf("%s, %v; want %s", text, err, want)
		}
		if _, err := a.sim.NewSubscription("AAAA"); err == nil {
			t.Error("a key that is none was taken")
		}
	})
	if _, err := pushtest.NewWebPush(pushtest.WebPushConfig{}).NewSubscription(""); err == nil {
		t.Error("a subscription without an address")
	}
}

func FuzzOpenWebPush(f *testing.F) {
	key, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(make([]byte, 110))
	f.Add([]byte("short"))
	body := append(make([]byte, 20), 65)
	f.Add(append(append(body, key.PublicKey().Bytes()...), make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		plain, err := pushtest.OpenWebPush(key, make([]byte, 16), body)
		if err == nil && len(plain) > len(body)-86-16 {
			t.Errorf("%d bytes from %d", len(plain), len(body))
		}
	})
}

func FuzzVAPID(f *testing.F) {
	f.Add("vapid t=a.b.c, k=AAAA")
	f.Add(`vapid k="BA", t="e30.e30.AAAA"`)
	f.Fuzz(func(t *testing.T, field string) {
		if pushtest.AcceptsVAPID(field, "https://localhost", time.Now()) {
			t.Errorf("%q was accepted, and nobody signed it", field)
		}
	})
}
