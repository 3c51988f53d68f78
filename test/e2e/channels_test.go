package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corepush "sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/fcm"
	"sallyport/core/push/pushtest"
	"sallyport/core/push/webpush"
)

// providers are the three push services, with a sender for each.
type providers struct {
	apns    *pushtest.APNs
	fcm     *pushtest.FCM
	webpush *pushtest.WebPush
	team    string
	service *corepush.Service
}

// serving waits until a service serves.
func serving(t *testing.T, serve func(context.Context, net.Listener) error, ready <-chan struct{}) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		ok(t, <-done)
	})
	<-ready
	return l.Addr().String()
}

func allProviders(t *testing.T) *providers {
	t.Helper()
	p := &providers{
		apns: pushtest.NewAPNs(pushtest.APNsConfig{}), fcm: pushtest.NewFCM(pushtest.FCMConfig{}),
		webpush: pushtest.NewWebPush(pushtest.WebPushConfig{}),
	}
	serving(t, p.apns.Serve, p.apns.Ready())
	serving(t, p.fcm.Serve, p.fcm.Ready())
	origin := serving(t, p.webpush.Serve, p.webpush.Ready())

	caFile, keyFile, keyID, team, err := p.apns.WriteFiles(t.TempDir())
	ok(t, err)
	p.team = team
	apple := must[*apns.Client](t)(apns.New(apns.Config{
		BundleID: App, TeamID: team, KeyID: keyID, KeyFile: keyFile, Endpoint: p.apns.URL(), CAFile: caFile,
	}, nil, nil))
	caFile, account, err := p.fcm.WriteFiles(t.TempDir())
	ok(t, err)
	google := must[*fcm.Client](t)(fcm.New(fcm.Config{Package: App, ServiceAccount: account, Endpoint: p.fcm.URL(), CAFile: caFile}, nil, nil))
	dir := t.TempDir()
	key, _, err := webpush.GenerateKey()
	ok(t, err)
	caFile, keyFile = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "vapid.pem")
	ok(t, os.WriteFile(caFile, p.webpush.CA(), 0o600))
	ok(t, os.WriteFile(keyFile, key, 0o600))
	web := must[*webpush.Client](t)(webpush.New(webpush.Config{
		App: App, KeyFile: keyFile, Subject: "mailto:ops@example.com", CAFile: caFile, Allow: []string{origin},
	}, nil, nil))

	p.service = corepush.New(corepush.Config{Enabled: true}, []corepush.App{
		{ID: App, Provider: corepush.ProviderAPNs, TeamID: team, Sender: apple, Run: apple.Run},
		{ID: App, Provider: corepush.ProviderFCM, Project: google.Project(), Sender: google, Run: google.Run},
		{ID: App, Provider: corepush.ProviderWebPush, Sender: web, Run: web.Run},
	}, nil, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		ok(t, <-done)
	})
	return p
}

// device draws a device of a provider, makes its tokens known there, and says
// how each push to it must look, "" for none.
func (p *providers) device(t *testing.T, rng *rand.Rand, i int) (d corepush.Target, call, note string) {
	t.Helper()
	d = corepush.Target{Device: fmt.Sprintf("sip:user%d@example.com instance", i)}
	apple := func(kind string) corepush.Token {
		value := hex.EncodeToString([]byte(fmt.Sprintf("%-32s", fmt.Sprint(kind, " ", i))))
		topic := App
		if kind == corepush.KindVoIP {
			topic += ".voip"
		}
		p.apns.Register(value, pushtest.Device{Topic: topic})
		return corepush.Token{Provider: corepush.ProviderAPNs, Kind: kind, App: App, Param: p.team + "." + App, Value: value, Dead: rng.IntN(5) == 0}
	}
	unless := func(dead bool, what string) string {
		if dead {
			return ""
		}
		return what
	}
	switch rng.IntN(5) {
	case 0:
		voip, alert := apple(corepush.KindVoIP), apple(corepush.KindAlert)
		d.Tokens = []corepush.Token{voip, alert}
		if rng.IntN(2) == 0 {
			d.Tokens, d.Class = []corepush.Token{alert, voip}, corepush.ClassSplit
		}
		return d, unless(voip.Dead, "voip "+App+".voip voip"), unless(alert.Dead, "alert "+App+" message")
	case 1: // one channel for both
		voip := apple(corepush.KindVoIP)
		d.Tokens, d.Class = []corepush.Token{voip}, corepush.ClassSingle
		return d, unless(voip.Dead, "voip "+App+".voip voip"), unless(voip.Dead, "voip "+App+".voip message")
	case 2: // an app of two channels that gave one token
		alert := apple(corepush.KindAlert)
		d.Tokens, d.Class = []corepush.Token{alert}, corepush.ClassSplit
		return d, "", unless(alert.Dead, "alert "+App+" message")
	case 3:
		token := pushtest.NewFCMToken()
		p.fcm.Register(token, pushtest.FCMApp{})
		d.Tokens = []corepush.Token{{Provider: corepush.ProviderFCM, Kind: corepush.KindAlert, Param: pushtest.DefaultProject, Value: token}}
		return d, "fcm high at once voip", "fcm high kept message"
	default:
		sub := must[pushtest.Subscription](t)(p.webpush.NewSubscription(""))
		d.Tokens = []corepush.Token{{
			Provider: corepush.ProviderWebPush, Kind: corepush.KindAlert, Value: sub.Endpoint, Key: sub.P256dh, Auth: sub.Auth,
		}}
		return d, "webpush high voip", "webpush high message"
	}
}

// saw tells how the pushes to a device looked to its provider.
func (p *providers) saw(d corepush.Target) (seen []string) {
	has := func(value string) bool {
		for _, t := range d.Tokens {
			if t.Value == value {
				return true
			}
		}
		return false
	}
	channel := func(text string) string {
		switch {
		case strings.Contains(text, `"channel":"voip"`):
			return "voip"
		case strings.Contains(text, `"channel":"message"`):
			return "message"
		}
		return "no channel"
	}
	for _, m := range p.apns.Pushes() {
		if has(m.Token) {
			seen = append(seen, m.PushType+" "+m.Topic+" "+channel(string(m.Payload)))
		}
	}
	for _, m := range p.fcm.Pushes() {
		if has(m.Token) {
			kept := "kept"
			if m.TTLText == "0s" {
				kept = "at once"
			}
			seen = append(seen, "fcm "+m.Priority+" "+kept+" "+channel(string(m.Body)))
		}
	}
	for _, m := range p.webpush.Pushes() {
		if has(m.Endpoint) {
			seen = append(seen, "webpush "+m.Urgency+" "+channel(string(m.Plain)))
		}
	}
	return seen
}

// The 10,000 devices of core/push are judged by what the senders get; these are
// fewer, and judged by what the providers got.
func TestP2_OnTheWireChannelsAreNeverCrossed(t *testing.T) {
	p := allProviders(t)
	rng := rand.New(rand.NewPCG(8599, 2))
	for i := range 200 {
		d, call, note := p.device(t, rng, i)
		now := time.Now()
		called := p.service.Call(t.Context(), d, corepush.Call{
			CallID: fmt.Sprintf("call-%d", i), FromURI: "sip:carol@example.com", To: "sip:bob@example.com", Sent: now, RingUntil: now.Add(13 * time.Second),
		})
		noted := p.service.Note(t.Context(), d, corepush.Note{
			Event: corepush.EventMessage, ID: fmt.Sprint(i), Conversation: "sip:carol@example.com", FromURI: "sip:carol@example.com", To: "sip:bob@example.com", Sent: now,
		})
		var want []string
		for _, w := range []struct {
			what string
			res  corepush.Result
		}{{call, called}, {note, noted}} {
			if (w.what != "") != (w.res.Outcome == corepush.Accepted) {
				t.Errorf("%v: %q became %+v", d.Tokens, w.what, w.res)
			}
			if w.what != "" {
				want = append(want, w.what)
			}
		}
		if got := p.saw(d); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%v, class %q: the providers saw %q, want %q", d.Tokens, d.Class, got, want)
		}
	}
	if v := p.fcm.Violations(); len(v) > 0 {
		t.Errorf("FCM's rules broken: %q", v)
	}
	if v := p.webpush.Violations(); len(v) > 0 {
		t.Errorf("WebPush's rules broken: %q", v)
	}
	if v := p.apns.Violations(); len(v) > 0 {
		t.Errorf("Apple's rules broken: %q", v)
	}
}
