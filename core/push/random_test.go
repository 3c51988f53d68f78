package push_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"sallyport/core/push"
)

// mine is a Sender of one app that answers whatever comes.
type mine struct {
	provider, id string
	sent         *[]delivered
}

// delivered is a push and the app whose sender got it.
type delivered struct {
	push.Notification
	provider, app string
}

func (m mine) Send(_ context.Context, n push.Notification) push.Result {
	*m.sent = append(*m.sent, delivered{n, m.provider, m.id})
	return push.Result{Outcome: push.Accepted, Status: 200}
}

// randomDevice has up to four tokens of any provider, app, kind and state.
func randomDevice(rnd *rand.Rand) push.Target {
	t := push.Target{Class: []string{"split", "single", "", "odd"}[rnd.IntN(4)]}
	for i := range rnd.IntN(5) {
		token := push.Token{
			Provider: []string{push.ProviderAPNs, push.ProviderAPNs, push.ProviderFCM, push.ProviderWebPush, "acme"}[rnd.IntN(5)],
			Kind:     []string{push.KindVoIP, push.KindAlert, ""}[rnd.IntN(3)],
			App:      []string{bundle, bundle, "org.example.other", "org.stranger"}[rnd.IntN(4)],
			Value:    "token-" + strconv.Itoa(i),
			Dead:     rnd.IntN(4) == 0, Sandbox: rnd.IntN(2) == 0,
			Registered: time.Unix(int64(rnd.IntN(1000)), 0),
		}
		if rnd.IntN(4) == 0 {
			token.Suspects, token.Suspected = 1+rnd.IntN(9), time.Now().Add(-time.Duration(rnd.IntN(90))*time.Minute)
		}
		if rnd.IntN(10) == 0 {
			token.Value = ""
		}
		t.Tokens = append(t.Tokens, token)
	}
	return t
}

func ofApple(t push.Token, kind string) bool {
	return t.Provider == push.ProviderAPNs && (t.Kind == push.KindVoIP) == (kind == push.KindVoIP)
}

// twoChannels says whether Apple's tokens of a device are of two channels.
func twoChannels(t push.Target) bool {
	has := func(kind string) bool {
		return slices.ContainsFunc(t.Tokens, func(o push.Token) bool { return ofApple(o, kind) })
	}
	return t.Class == "split" || t.Class != "single" && has(push.KindVoIP) && has(push.KindAlert)
}

// never is called with every push that 10,000 random devices get for a call, a
// message and a registration that is wanted.
func never(t *testing.T, check func(t *testing.T, device push.Target, event string, d delivered)) {
	t.Helper()
	var sent []delivered
	apps := []push.App{}
	for _, a := range []push.App{
		{ID: bundle, Provider: push.ProviderAPNs}, {ID: "org.example.other", Provider: push.ProviderAPNs},
		{ID: bundle, Provider: push.ProviderFCM}, {ID: "web", Provider: push.ProviderWebPush},
	} {
		a.Sender = mine{a.Provider, a.ID, &sent}
		apps = append(apps, a)
	}
	s := push.New(push.Config{Enabled: true}, apps, nil, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 10_000 {
		device := randomDevice(rnd)
		for _, event := range []string{"call", push.EventMessage, push.EventRegister} {
			sent = sent[:0]
			var r push.Result
			if event == "call" {
				r = s.Call(t.Context(), device, carol)
			} else {
				r = s.Note(t.Context(), device, push.Note{Event: event})
			}
			if len(sent) > 1 || (r.Outcome == push.Accepted) != (len(sent) == 1) {
				t.Fatalf("%d pushes, outcome %s", len(sent), r.Outcome)
			}
			for _, d := range sent {
				check(t, device, event, d)
				seen[event+d.provider+string(d.Channel)]++
			}
		}
	}
	// Every way that the table has was taken.
	for _, way := range []string{"callapnsvoip", "callapnsmessage", "callfcmvoip", "callwebpushvoip", "messageapnsmessage", "messageapnsvoip",
		"messagefcmmessage", "messagewebpushmessage", "registerapnsmessage", "registerfcmmessage", "registerwebpushmessage"} {
		if seen[way] < 50 {
			t.Errorf("%s: %d times, so little is proved", way, seen[way])
		}
	}
}

func TestP2_ChannelsAreNeverCrossedForTenThousandDevices(t *testing.T) {
	never(t, func(t *testing.T, device push.Target, event string, d delivered) {
		switch {
		case d.Token.Provider != d.provider, d.provider == push.ProviderAPNs && d.Token.App != d.app, !slices.Contains(device.Tokens, d.Token):
			t.Fatalf("a token of %s (%s) went to %s (%s)", d.Token.Provider, d.Token.App, d.provider, d.app)
		case d.Token.Dead || d.Token.Value == "":
			t.Fatal("a dead token was pushed to (B19)")
		case d.Urgent != (event == "call") || d.Background != (event == push.EventRegister):
			t.Fatalf("%s: urgent %v, background %v", event, d.Urgent, d.Background)
		case event == push.EventRegister && d.Channel == push.VoIP:
			t.Fatal("a registration was asked for by VoIP, where the phone must ring")
		case d.provider == push.ProviderAPNs && !ofApple(d.Token, map[push.Channel]string{push.VoIP: push.KindVoIP, push.Message: push.KindAlert}[d.Channel]):
			t.Fatalf("a %q token by the %s channel", d.Token.Kind, d.Channel)
		case d.provider != push.ProviderAPNs && (d.Channel == push.VoIP) != (event == "call"):
			t.Fatalf("%s by %s at %s", event, d.Channel, d.provider)
		case d.provider == push.ProviderAPNs && twoChannels(device) && (d.Channel == push.VoIP) != (event == "call"):
			t.Fatalf("%s by %s to a device of two channels: %+v (B19)", event, d.Channel, device)
		}
	})
}

func TestP3_ADeviceOfOneChannelGetsBothByVoIP(t *testing.T) {
	never(t, func(t *testing.T, device push.Target, event string, d delivered) {
		gave := slices.ContainsFunc(device.Tokens, func(o push.Token) bool { return ofApple(o, push.KindVoIP) })
		if d.provider != push.ProviderAPNs || device.Class != "single" || !gave || event == push.EventRegister {
			return
		}
		if d.Channel != push.VoIP || event != "call" && !d.Expiration.IsZero() {
			t.Fatalf("%s by %s, kept until %v", event, d.Channel, d.Expiration)
		}
	})
}
