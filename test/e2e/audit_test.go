package e2e

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport/core/admin"
	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
)

// TestP28_LogAndAuditHoldNoTokenAndNoBody lets phones of all three providers be
// called, miss a call, refuse a push and die, with the core's log at debug, and
// looks for what may not be in it. Each push is a row of the audit.
func TestP28_LogAndAuditHoldNoTokenAndNoBody(t *testing.T) {
	var text syncBuffer
	cfg := window(time.Second)
	cfg.FCM, cfg.WebPush = true, true
	cfg.Log = slog.New(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	town, ctx := inTown(t, cfg)
	s := &scene{Town: town, t: t, ctx: ctx, domain: Domain, transport: phone.TLS}

	k, droid := newReader(t), pushtest.NewFCMToken()
	s.FCM.Register(droid, pushtest.FCMApp{})
	sub := must[pushtest.Subscription](t)(s.WebPush.NewSubscription(s.VAPID))
	secrets := map[string]string{
		"a VoIP token": Token("bob", "voip"), "an alert token": Token("bob", "alert"), "Google's token": droid, "the end of Google's token": droid[strings.IndexByte(droid, ':')+1:],
		"a subscription": sub.Endpoint[strings.LastIndexByte(sub.Endpoint, '/')+1:], "a page's key": sub.P256dh, "a page's secret": sub.Auth,
		"a key and a secret": k.params(), "a secret": k.params()[strings.LastIndexByte(k.params(), '=')+1:],
		"an alert": "title-loc-key", "a payload": `\"channel\"`, "an envelope": `\"e2e\"`, "a provider token": "eyJ", "a private key": "PRIVATE KEY",
		"an access token": "Bearer ", "a VAPID header": "vapid t=",
		"a caller": "Alice Sekrit", "an AOR": "bob@" + Domain, "another AOR": "alice@" + Domain, "push parameters": "pn-prid",
	}
	alice := s.new("alice", func(c *phone.Config) { c.DisplayName = "Alice Sekrit" })
	s.registers(alice, "alice")
	apple := ";pn-provider=apns;pn-param=" + s.TeamID + "." + App + ".voip&remote;pn-prid=" + Token("bob", "voip") + ":voip&" + Token("bob", "alert") + ":remote"
	google := ";pn-provider=fcm;pn-param=" + pushtest.DefaultProject + ";pn-prid=" + strings.ReplaceAll(droid, ":", "%3A")
	for _, push := range []phone.Push{phone.Raw(apple + k.params()), phone.Raw(google + k.params()), phone.WebPush(sub.Endpoint, sub.P256dh, sub.Auth)} {
		p := s.new("bob")
		s.registersAs(p, phone.Registration{Push: push, RegID: 1})
		s.sleeps(p)
	}
	s.ends(s.call(alice, "bob"), 480) // a call, and a missed one, for each
	s.until("six pushes", func() bool {
		return len(s.APNs.Accepted()) >= 2 && len(s.FCM.Accepted()) >= 2 && len(s.WebPush.Accepted()) >= 2
	})
	var answer admin.PushTestAnswer
	s.post("/api/v1/push/test", admin.PushTestRequest{AOR: s.uri("bob")}, &answer)
	for _, r := range answer.Results {
		if r.Outcome != "accepted" || len(r.Ways) != 2 || len(r.Ways[0].Facts) < 2 {
			t.Errorf("push test %+v", r)
		}
	}
	s.APNs.Inject(pushtest.Fault{Count: 1, Status: 413, Reason: "PayloadTooLarge"})
	s.APNs.Unregister(Token("bob", "voip"), time.Now())
	s.FCM.Unregister(droid)
	s.ends(s.call(alice, "bob"), 480)

	log := text.String()
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"half":"core"`) {
			continue
		}
		for what, secret := range secrets {
			if strings.Contains(line, secret) {
				t.Errorf("%s is in the log: %s", what, line)
			}
		}
	}
	for _, app := range []string{"apns", "fcm", "webpush"} {
		if n := strings.Count(log, `"audit":true`); n < 10 || !strings.Contains(log, `"provider":"`+app+`"`) {
			t.Errorf("%d rows, none of %s", n, app)
		}
	}
}
